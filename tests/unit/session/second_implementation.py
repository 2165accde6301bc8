"""A second reader of recordings, written from docs/spec/01 to 05 alone.

It shares no code with the project: Protocol Buffers, HKDF, trees and canonical JSON are its own.
"""

import hashlib
import hmac
import json
import re
import struct
from collections.abc import Sequence
from typing import Any

import zstandard
from blake3 import blake3
from nacl import bindings
from nacl.exceptions import BadSignatureError, CryptoError

MAX_CHUNK = 16 << 20


class Refused(Exception):
    """Why bytes were refused."""


def refuse_if(bad: object, reason: str) -> None:
    if bad:
        raise Refused(reason)


# Spec 01: key derivation, encryption, signatures.


def hash_of(*parts: bytes) -> bytes:
    return blake3(b"".join(parts)).digest()


def hkdf(secret: bytes, label: str, context: bytes = b"") -> bytes:
    prk = hmac.new(bytes(64), secret, hashlib.blake2b).digest()
    info = bytes([len(label)]) + label.encode() + context
    return hmac.new(prk, info + b"\x01", hashlib.blake2b).digest()[:32]


def open_aead(key: bytes, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
    refuse_if(len(ciphertext) < 16, "MALFORMED")
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, associated, nonce, key)
    except CryptoError:
        raise Refused("NOT_DECRYPTABLE") from None


def decode_proto(data: bytes) -> dict[int, Any]:
    """Fields by number, the last one of each; integers and byte strings."""
    fields: dict[int, Any] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            refuse_if(at >= len(data) or shift > 63, "MALFORMED")
            value |= (data[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 0x80:
                return value

    while at < len(data):
        tag = varint()
        refuse_if(tag >> 3 == 0 or tag & 7 not in (0, 2), "MALFORMED")
        value: Any = varint()
        if tag & 7 == 2:
            refuse_if(at + value > len(data), "MALFORMED")
            value, at = data[at : at + value], at + value
        fields[tag >> 3] = value
    return fields


def open_signed(signed: bytes, domain: str, network: bytes, fork: int, signer: bytes) -> bytes:
    fields = decode_proto(signed)
    payload, key, signature = fields.get(1, b""), fields.get(2, b""), fields.get(3, b"")
    refuse_if(len(key) != 32 or len(signature) != 64, "MALFORMED")
    refuse_if(key != signer, "WRONG_SIGNER")
    name = domain.encode()
    digest = hash_of(bytes([len(name)]), name, network, struct.pack(">I", fork), payload)
    try:
        bindings.crypto_sign_open(signature + digest, key)
    except BadSignatureError:
        raise Refused("BAD_SIGNATURE") from None
    assert isinstance(payload, bytes)
    return payload


# Spec 02: chunks.


def padme(size: int) -> int:
    size = max(size, 16384)
    exponent = size.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-size // step) * step


MAX_BLOB = 84 + padme(MAX_CHUNK + 9) + 16


def open_chunk(secret: bytes, session_id: bytes, index: int, blob: bytes) -> tuple[bytes, int]:
    refuse_if(len(blob) < 84, "MALFORMED")
    magic, version, flags, reserved, whose, number, nonce, commitment = struct.unpack(
        ">4sBBH16sI24s32s", blob[:84]
    )
    refuse_if(magic != b"LUCK", "MALFORMED")
    refuse_if(version != 1, "WRONG_VERSION")
    refuse_if(flags > 7 or reserved, "MALFORMED")
    refuse_if(whose != session_id, "WRONG_SESSION")
    refuse_if(number != index, "WRONG_INDEX")
    refuse_if(len(blob) > MAX_BLOB, "TOO_LARGE")
    key = hkdf(secret, "lucid chunk", session_id + struct.pack(">I", index))
    refuse_if(hkdf(key, "lucid chunk-commitment") != commitment, "NOT_DECRYPTABLE")
    return unpack(open_aead(key, nonce, blob[84:], blob[:84])), flags


def unpack(inner: bytes) -> bytes:
    refuse_if(len(inner) < 9, "MALFORMED")
    codec, content_size, size = struct.unpack(">BII", inner[:9])
    end = 9 + content_size
    refuse_if(size > MAX_CHUNK, "TOO_LARGE")
    refuse_if(end > len(inner) or len(inner) != padme(end) or any(inner[end:]), "MALFORMED")
    content = inner[9:end]
    if codec == 0:
        refuse_if(content_size != size, "MALFORMED")
        return content
    refuse_if(codec != 1, "MALFORMED")
    try:
        refuse_if(zstandard.get_frame_parameters(content).content_size != size, "MALFORMED")
        stream = zstandard.ZstdDecompressor().decompressobj()
        plaintext = stream.decompress(content)
    except zstandard.ZstdError:
        raise Refused("MALFORMED") from None
    refuse_if(not stream.eof or stream.unused_data or len(plaintext) != size, "MALFORMED")
    return plaintext


# Spec 03: trees, by the recursive definition of RFC 6962.


def leaf_hash(data: bytes) -> bytes:
    return hash_of(b"\x00", data)


def split_of(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


def root_of(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) < 2:
        return leaves[0] if leaves else hash_of(b"")
    split = split_of(len(leaves))
    return hash_of(b"\x01", root_of(leaves[:split]), root_of(leaves[split:]))


def chunk_leaves(blob: bytes) -> list[bytes]:
    return [leaf_hash(blob[start : start + 4096]) for start in range(0, len(blob), 4096)]


def chunk_id_of(root: bytes, size: int) -> bytes:
    return hash_of(b"lucid chunk", struct.pack(">Q", size), root)


def climb(node: bytes, index: int, count: int, proof: list[bytes]) -> bytes:
    """Root from a leaf and its siblings, from the leaf up; consumes `proof`."""
    if count == 1:
        return node
    split = split_of(count)
    left = index < split
    below = climb(node, index, split, proof) if left else climb(node, index - split, count - split, proof)
    refuse_if(not proof, "proof too short")
    sibling = proof.pop(0)
    refuse_if(len(sibling) != 32, "no hash")
    return hash_of(b"\x01", below, sibling) if left else hash_of(b"\x01", sibling, below)


def is_included(leaf: bytes, index: int, count: int, proof: list[bytes], root: bytes) -> bool:
    rest = list(proof)
    try:
        return 0 <= index < count and climb(leaf, index, count, rest) == root and not rest
    except Refused:
        return False


def join(old: int, new: int, known: bytes | None, proof: list[bytes]) -> tuple[bytes, bytes]:
    """Old and new root of a subtree; `known`: the old root, while the old tree is a whole subtree."""
    if old == new:
        if known is not None:
            return known, known
        refuse_if(not proof, "proof too short")
        node = proof.pop(0)
        refuse_if(len(node) != 32, "no hash")
        return node, node
    split = split_of(new)
    if old <= split:
        before, after = join(old, split, known, proof)
        refuse_if(not proof or len(proof[0]) != 32, "proof too short")
        return before, hash_of(b"\x01", after, proof.pop(0))
    before, after = join(old - split, new - split, None, proof)
    refuse_if(not proof or len(proof[0]) != 32, "proof too short")
    left = proof.pop(0)
    return hash_of(b"\x01", left, before), hash_of(b"\x01", left, after)


def is_consistent(old: int, new: int, old_root: bytes, new_root: bytes, proof: list[bytes]) -> bool:
    if not 0 <= old <= new:
        return False
    if old == 0:
        return not proof and old_root == hash_of(b"")
    rest = list(proof)
    try:
        return join(old, new, old_root, rest) == (old_root, new_root) and not rest
    except Refused:
        return False


# Spec 04: documents and what only readers learn.


def refuse_fraction(text: str) -> float:
    raise ValueError(text)


def parse_canonical(document: bytes, keys: str, max_bytes: int) -> dict[str, Any]:
    refuse_if(len(document) > max_bytes, "TOO_LARGE")
    parsed: Any
    try:
        parsed = json.loads(document, parse_float=refuse_fraction)
        canonical = json.dumps(parsed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except ValueError:
        raise Refused("MALFORMED") from None
    refuse_if(canonical != document or not isinstance(parsed, dict), "MALFORMED")
    refuse_if(set(parsed) != set(keys.split()), "MALFORMED")
    refuse_if(type(parsed["version"]) is not int or parsed["version"] != 1, "WRONG_VERSION")
    return dict(parsed)


def is_hex(value: object, size: int) -> bool:
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{2 * size}}}", value) is not None


def is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def open_policy(document: bytes) -> dict[str, Any]:
    policy = parse_canonical(
        document, "version session_id default allows records_input retain_until_s", 65_536
    )
    known = {"clipboard", "file_transfer", "input", "microphone", "printing", "usb"}
    refuse_if(not is_hex(policy["session_id"], 16) or policy["default"] != "deny", "MALFORMED")
    refuse_if(not isinstance(policy["allows"], list) or set(policy["allows"]) - known, "MALFORMED")
    refuse_if(type(policy["records_input"]) is not bool, "MALFORMED")
    refuse_if(not is_count(policy["retain_until_s"]), "MALFORMED")
    return policy


HASHES = "network root policy_hash metadata_hash ending_hash checkpoint_hash"
COUNTS = "started_ms chunk_count checkpoint_count"
CODEC = {
    "cipher": "xchacha20poly1305",
    "compression": "zstd-3",
    "hash": "blake3",
    "leaf_bytes": 4096,
    "padding": "padme",
}


def open_manifest(document: bytes) -> dict[str, Any]:
    keys = f"version session_id recorder participants codec gaps {HASHES} {COUNTS}"
    manifest = parse_canonical(document, keys, 1 << 20)
    people, gaps = manifest["participants"], manifest["gaps"]
    refuse_if(
        not is_hex(manifest["session_id"], 16) or not isinstance(manifest["recorder"], str), "MALFORMED"
    )
    refuse_if(not all(is_hex(manifest[key], 32) for key in HASHES.split()), "MALFORMED")
    refuse_if(not all(is_count(manifest[key]) for key in COUNTS.split()), "MALFORMED")
    refuse_if(not isinstance(people, dict) or set(people) != {"device", "owner", "session"}, "MALFORMED")
    refuse_if(not all(is_hex(key, 32) for key in people.values()), "MALFORMED")
    refuse_if(manifest["codec"] != CODEC or not isinstance(gaps, list), "MALFORMED")
    refuse_if(not all(is_count(gap) and gap < manifest["chunk_count"] for gap in gaps), "MALFORMED")
    return manifest


def open_message(secret: bytes, label: str, session_id: bytes, encrypted: bytes) -> bytes:
    refuse_if(not 24 < len(encrypted) <= 131_072, "MALFORMED")
    padded = open_aead(hkdf(secret, label, session_id), encrypted[:24], encrypted[24:], session_id)
    size = int.from_bytes(padded[:4], "big")
    refuse_if(len(padded) < 4 or size > len(padded) - 4, "MALFORMED")
    message = padded[4 : 4 + size]
    decode_proto(message)
    return message


# Spec 05: frames and checkpoints.


def open_frame(secret: bytes, session_id: bytes, index: int, number: int, frame: bytes) -> bytes:
    place = session_id + struct.pack(">IQ", index, number)
    return open_aead(hkdf(secret, "lucid frame", session_id), frame[:24], frame[24:], place)


def tail_of(frames: dict[int, list[bytes]]) -> tuple[int, bytes]:
    stated, total = b"", 0
    for index, records in sorted(frames.items()):
        size = sum(map(len, records))
        told = b"".join(struct.pack(">I", len(record)) + record for record in records)
        stated += struct.pack(">IQ", index, size) + hash_of(told)
        total += size
    return total, hash_of(stated)


def check_series(series: list[bytes], ids: list[bytes], vectors: Any) -> list[dict[int, Any]]:
    network, device = bytes.fromhex(vectors["network_id"]), bytes.fromhex(vectors["device"])
    accepted: list[dict[int, Any]] = []
    previous, count = b"", 0
    for signed in series:
        refuse_if(len(decode_proto(signed).get(1, b"")) > 1024, "TOO_LARGE")
        payload = open_signed(signed, "lucid checkpoint", network, vectors["fork_version"], device)
        fields = decode_proto(payload)
        refuse_if(fields.get(1) != bytes.fromhex(vectors["session_id"]), "WRONG_SESSION")
        refuse_if(len(fields.get(4, b"")) != 32 or len(fields.get(6, b"")) != 32, "MALFORMED")
        refuse_if(fields.get(2, 0) != len(accepted) or fields.get(8, b"") != previous, "NOT_CONSISTENT")
        refuse_if(not count <= fields.get(3, 0) <= len(ids), "NOT_CONSISTENT")
        count = fields.get(3, 0)
        refuse_if(root_of([leaf_hash(chunk) for chunk in ids[:count]]) != fields[4], "NOT_CONSISTENT")
        previous = hash_of(payload)
        accepted.append(fields)
    return accepted
