"""A second reader of proof bundles, written from docs/spec/13 and 14; it shares no code with the project."""

import struct
from typing import Any

from tests.unit.session.second_implementation import (
    chunk_id_of,
    chunk_leaves,
    decode_proto,
    hash_of,
    hkdf,
    is_included,
    leaf_hash,
    open_aead,
    open_manifest,
    open_policy,
    open_signed,
    refuse_if,
    root_of,
    unpack,
)

NETWORK = hash_of(b"lucid network dev")


def read_cbor(data: bytes) -> Any:
    """Deterministic CBOR, of the few kinds that a bundle has."""
    at = items = 0

    def head() -> tuple[int, int]:
        nonlocal at
        refuse_if(at >= len(data), "MALFORMED")
        kind, info = data[at] >> 5, data[at] & 31
        at += 1
        if info < 24:
            return kind, info
        refuse_if(info > 27, "MALFORMED")
        size = 1 << (info - 24)
        refuse_if(at + size > len(data), "MALFORMED")
        value = int.from_bytes(data[at : at + size], "big")
        at += size
        refuse_if(value < (24, 1 << 8, 1 << 16, 1 << 32)[info - 24], "MALFORMED")
        return kind, value

    def item(depth: int) -> Any:
        nonlocal at, items
        items += 1
        refuse_if(items > 16_384 or depth > 4, "TOO_LARGE")
        kind, value = head()
        if kind == 0:
            return value
        if kind in (2, 3):
            refuse_if(at + value > len(data), "MALFORMED")
            at += value
            piece = data[at - value : at]
            return piece if kind == 2 else piece.decode("ascii")
        if kind == 4:
            return [item(depth + 1) for _ in range(value)]
        refuse_if(kind != 5, "MALFORMED")
        found, last = {}, b""
        for _ in range(value):
            start = at
            key = item(depth + 1)
            refuse_if(data[start:at] <= last, "MALFORMED")
            last = data[start:at]
            found[key] = item(depth + 1)
        return found

    document = item(0)
    refuse_if(at != len(data), "MALFORMED")
    return document


def message(document: Any, domain: str, signer: bytes | None = None) -> bytes:
    """The payload of an array of payload, key and signature."""
    refuse_if(not isinstance(document, list) or [type(one) for one in document] != [bytes] * 3, "MALFORMED")
    signed = b"".join(
        bytes([number << 3 | 2]) + varint(len(part)) + part for number, part in enumerate(document, 1)
    )
    return open_signed(signed, domain, NETWORK, 0, document[1] if signer is None else signer)


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def expect(fields: Any, known: str, optional: str = "") -> None:
    names = set(known.split())
    refuse_if(not isinstance(fields, dict) or not names <= set(fields), "MALFORMED")
    refuse_if(set(fields) - names - set(optional.split()), "MALFORMED")


def hashes(path: bytes) -> list[bytes]:
    refuse_if(len(path) % 32, "MALFORMED")
    return [path[at : at + 32] for at in range(0, len(path), 32)]


def grants_of(payload: bytes, device: bytes, time_s: int) -> bytes:
    """The owner who lets the device record. The list may name other devices, so fields are read in order."""
    refuse_if(decode_proto(payload).get(1) is None, "MALFORMED")
    at, allowed = 0, False
    while at < len(payload):
        number, kind, at = payload[at] >> 3, payload[at] & 7, at + 1
        size = shift = 0
        while True:
            size, shift, at = size | (payload[at] & 127) << shift, shift + 7, at + 1
            if payload[at - 1] < 128:
                break
        if kind == 2:
            grant = decode_proto(payload[at : at + size]) if number == 3 else {}
            at += size
            until = grant.get(3, 0)
            allowed |= grant.get(1) == device and 1 in grant.get(2, b"") and (not until or time_s < until)
    refuse_if(not allowed, "WRONG_SIGNER")
    owner = decode_proto(payload)[1]
    assert isinstance(owner, bytes)
    return owner


def open_bundle(data: bytes) -> dict[str, Any]:
    """What a bundle says, if it holds."""
    refuse_if(len(data) > 64 << 20, "TOO_LARGE")
    bundle = read_cbor(data)
    expect(
        bundle,
        "format version network session policy grants checkpoint attestations",
        "manifest chunk",
    )
    refuse_if(bundle["format"] != "lucid bundle" or type(bundle["version"]) is not int, "MALFORMED")
    refuse_if(bundle["version"] != 0 or bundle["network"] != NETWORK, "WRONG_VERSION")
    refuse_if(len(bundle["attestations"]) > 64, "TOO_LARGE")
    session, device = bundle["session"], bundle["policy"][1]
    policy = message(bundle["policy"], "lucid policy")
    refuse_if(open_policy(policy)["session_id"] != session.hex(), "WRONG_SESSION")
    payload = message(bundle["checkpoint"], "lucid checkpoint", device)
    checkpoint = decode_proto(payload)
    refuse_if(checkpoint.get(1) != session, "WRONG_SESSION")
    grants = message(bundle["grants"], "lucid grant-list")
    owner = grants_of(grants, device, checkpoint[7] // 10**9)
    refuse_if(owner != bundle["grants"][1], "WRONG_SIGNER")
    if "manifest" in bundle:
        check_manifest(bundle, policy, payload, checkpoint, owner)
    witnesses = check_attestations(bundle, payload)
    told: dict[str, Any] = {"owner": owner, "device": device, "witnesses": witnesses}
    if "chunk" in bundle:
        told |= check_chunk(bundle["chunk"], session, checkpoint)
    return told


def check_manifest(
    bundle: Any, policy: bytes, payload: bytes, checkpoint: dict[int, Any], owner: bytes
) -> None:
    device = bundle["policy"][1]
    manifest = open_manifest(message(bundle["manifest"], "lucid manifest", device))
    people = manifest["participants"]
    pairs = (
        (manifest["session_id"], bundle["session"].hex()),
        (manifest["network"], NETWORK.hex()),
        (people["device"], device.hex()),
        (people["owner"], owner.hex()),
        (manifest["chunk_count"], checkpoint.get(3, 0)),
        (manifest["root"], checkpoint[4].hex()),
        (manifest["policy_hash"], hash_of(policy).hex()),
        (manifest["checkpoint_hash"], hash_of(payload).hex()),
        (manifest["checkpoint_count"], checkpoint.get(2, 0) + 1),
    )
    refuse_if(any(left != right for left, right in pairs), "NOT_CONSISTENT")


def check_attestations(bundle: Any, payload: bytes) -> dict[bytes, int]:
    witnesses: dict[bytes, int] = {}
    last = b""
    for one in bundle["attestations"]:
        attestation = decode_proto(message(one, "lucid attestation"))
        refuse_if(attestation.get(3) != bundle["session"], "WRONG_SESSION")
        refuse_if(attestation.get(1) != hash_of(payload), "WRONG_HASH")
        refuse_if(one[1] <= last, "MALFORMED")
        last = one[1]
        witnesses[last] = attestation[2]
    return witnesses


def check_chunk(chunk: Any, session: bytes, checkpoint: dict[int, Any]) -> dict[str, Any]:
    revealed = "blob" in chunk
    optional = "" if revealed else "first leaves"
    expect(chunk, "index size root path " + ("blob key" if revealed else "header"), optional)
    index, size, root = chunk["index"], chunk["size"], chunk["root"]
    path = hashes(chunk["path"])
    leaf = leaf_hash(chunk_id_of(root, size))
    refuse_if(not is_included(leaf, index, checkpoint.get(3, 0), path, checkpoint[4]), "WRONG_HASH")
    if revealed:
        blob = chunk["blob"]
        refuse_if(len(blob) != size or root_of(chunk_leaves(blob)) != root, "WRONG_HASH")
    else:
        shown = [(0, chunk["header"]), *enumerate(chunk.get("leaves", []), chunk.get("first", 0))]
        for number, (data, proof) in shown:
            refuse_if(len(data) != min(4096, size - number * 4096), "WRONG_HASH")
            count = -(-size // 4096)
            refuse_if(not is_included(leaf_hash(data), number, count, hashes(proof), root), "WRONG_HASH")
        blob = chunk["header"][0]
    magic, version, _, _, whose, number, nonce, commitment = struct.unpack(">4sBBH16sI24s32s", blob[:84])
    refuse_if((magic, version, whose, number) != (b"LUCK", 1, session, index), "WRONG_SESSION")
    if not revealed:
        return {"chunk": index}
    refuse_if(hkdf(chunk["key"], "lucid chunk-commitment") != commitment, "NOT_DECRYPTABLE")
    return {"chunk": index, "plaintext": unpack(open_aead(chunk["key"], nonce, blob[84:], blob[:84]))}
