"""Writes the golden bytes of one recorded session: `python tests/vectors/make_session_vectors.py`.

Everything is drawn from fixed secrets, so the files come out the same each time; only the compressed content
of chunks depends on the version of the zstd library. What the files hold: tests/vectors/FORMAT.md.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rfc8785
import zstandard
from blake3 import blake3

from kernel import aead, merkle
from kernel.domains import NETWORKS, Domain, Label, Network
from kernel.kdf import derive
from kernel.signing import SigningKey
from lucid.v1 import identity_pb2, session_pb2
from session import checkpoint, control_policy, encryptor, live_tail, manifest
from session.access import MAX_ENCRYPTED_BYTES, encrypt_message
from session.encryptor import ChunkFlag, ChunkHeader
from session.merkle_builder import build_session_tree, compute_blob_id, compute_chunk_leaves
from session.preset import MAX_CHUNK_BYTES

Case = dict[str, Any]

NETWORK = NETWORKS["dev"]
SECRET = bytes(range(0x20, 0x40))
SESSION = bytes.fromhex("0f1e2d3c4b5a4978a6b5c4d3e2f10213")
DEVICE = SigningKey.from_seed(bytes(range(0x40, 0x60)))
OWNER = SigningKey.from_seed(bytes(range(0x60, 0x80)))
STARTED_NS = 1_795_000_000_123_456_789

TEXT = b"All work and no play makes a dull vector.\n"
PIECES = [
    [TEXT * 60, TEXT * 40],
    [blake3(b"noise").digest(12_000), blake3(b"more noise").digest(5_000)],
    [b"after the gap\r\n"],
]
"""What the live source said, by chunk and frame."""
FLAGS = [ChunkFlag(0), ChunkFlag(0), ChunkFlag.GAP | ChunkFlag.TIMED, ChunkFlag.FINAL]


def draw(what: str, size_bytes: int = aead.NONCE_BYTES) -> bytes:
    """Bytes that look random and are always the same."""
    return blake3(b"session vectors: " + what.encode()).digest(size_bytes)


def encode(message: identity_pb2.Signed) -> str:
    """A signed payload as hex of its message."""
    return message.SerializeToString(deterministic=True).hex()


def make_chunk(name: str, index: int, flags: ChunkFlag, plaintext: bytes) -> Case:
    """A chunk with all that it is made of."""
    chunk = encryptor.encrypt_chunk(SECRET, SESSION, index, flags, draw(name), plaintext)
    blob = chunk.header + chunk.ciphertext
    key = derive(SECRET, Label.CHUNK, SESSION, index.to_bytes(4, "big"))
    return {
        "name": name,
        "index": index,
        "flags": int(flags),
        "nonce": draw(name).hex(),
        "chunk_key": key.hex(),
        "commitment": derive(key, Label.CHUNK_COMMITMENT).hex(),
        "codec": aead.decrypt(key, draw(name), chunk.ciphertext, chunk.header)[0],
        "plaintext": plaintext.hex(),
        "blob": blob.hex(),
        "chunk_id": compute_blob_id(blob).hex(),
    }


def make_chunks() -> list[Case]:
    """The four chunks of the session."""
    plaintexts = [b"".join(pieces) for pieces in PIECES] + [b""]
    return [
        make_chunk(name, index, FLAGS[index], plaintexts[index])
        for index, name in enumerate(("text", "noise", "gap", "final"))
    ]


def refuse_inner(name: str, inner: bytes, reason: str) -> Case:
    """A chunk 0 whose seal is right around an inner part that is not."""
    key = derive(SECRET, Label.CHUNK, SESSION, bytes(4))
    header = ChunkHeader(ChunkFlag(0), SESSION, 0, draw(name), derive(key, Label.CHUNK_COMMITMENT)).encode()
    blob = header + aead.encrypt(key, draw(name), inner, header)
    return {"name": name, "blob": blob.hex(), "reason": reason}


def make_inner(codec: int, content: bytes, plaintext_bytes: int) -> bytes:
    """An inner part, padded as it must be."""
    used = struct.pack(">BII", codec, len(content), plaintext_bytes) + content
    return used.ljust(encryptor.compute_padded_bytes(len(used)), b"\0")


def make_refused_chunks() -> list[Case]:
    """What must not open as chunk 0 of the session. `of`: which chunk was changed, and how."""

    def change(name: str, reason: str, *edits: tuple[int, str], length: int | None = None) -> Case:
        case: Case = {"name": name, "of": "text", "edits": edits, "reason": reason}
        return case if length is None else {**case, "length": length}

    size, good = len(TEXT), zstandard.ZstdCompressor(level=3).compress(TEXT)
    no_size = zstandard.ZstdCompressor(level=3, write_content_size=False).compress(TEXT)
    inner = make_inner(0, TEXT, size)
    bomb = zstandard.ZstdCompressor(level=3).compress(bytes(MAX_CHUNK_BYTES + 1))
    return [
        change("empty", "MALFORMED", length=0),
        change("shorter than its header", "MALFORMED", length=83),
        change("magic", "MALFORMED", (0, "4d")),
        change("version 2", "WRONG_VERSION", (4, "02")),
        change("unknown flag", "MALFORMED", (5, "08")),
        change("reserved", "MALFORMED", (7, "01")),
        change("another session", "WRONG_SESSION", (8, "00")),
        change("another index", "WRONG_INDEX", (27, "01")),
        change("too large", "TOO_LARGE", length=encryptor.MAX_BLOB_BYTES + 1),
        change("nonce", "NOT_DECRYPTABLE", (28, "00")),
        change("flags changed", "NOT_DECRYPTABLE", (5, "01")),
        change("commitment", "NOT_DECRYPTABLE", (52, "00")),
        change("nothing but a header", "MALFORMED", length=84),
        change("shorter than its tag", "MALFORMED", length=99),
        change("ciphertext", "NOT_DECRYPTABLE", (5000, "00")),
        change("cut", "NOT_DECRYPTABLE", length=16_000),
        change("one byte more", "NOT_DECRYPTABLE", length=encryptor.HEADER_BYTES + 16384 + 17),
        {"name": "chunk 1 in place of chunk 0", "of": "noise", "edits": [], "reason": "WRONG_INDEX"},
        refuse_inner("no inner header", b"\0" * 8, "MALFORMED"),
        refuse_inner("plaintext beyond 16 MiB", make_inner(1, bomb, MAX_CHUNK_BYTES + 1), "TOO_LARGE"),
        refuse_inner("no padding", struct.pack(">BII", 0, size, size) + TEXT, "MALFORMED"),
        refuse_inner("padding is not zero", inner[:-1] + b"\1", "MALFORMED"),
        refuse_inner("padded too far", inner + bytes(1024), "MALFORMED"),
        refuse_inner(
            "content beyond the end", struct.pack(">BII", 0, 1 << 20, size) + inner[9:], "MALFORMED"
        ),
        refuse_inner("codec 2", make_inner(2, TEXT, size), "MALFORMED"),
        refuse_inner("raw with another length", make_inner(0, TEXT, size - 1), "MALFORMED"),
        refuse_inner("zstd frame of another length", make_inner(1, good, size - 1), "MALFORMED"),
        refuse_inner("zstd frame without its length", make_inner(1, no_size, size), "MALFORMED"),
        refuse_inner("zstd frame and more", make_inner(1, good + b"\0", size), "MALFORMED"),
        refuse_inner("zstd frame cut", make_inner(1, good[:-1], size), "MALFORMED"),
        refuse_inner("no zstd frame", make_inner(1, TEXT, size), "MALFORMED"),
    ]


def build_chunk() -> Case:
    """chunk.json."""
    sizes = [
        0,
        1,
        16384,
        16385,
        17408,
        17409,
        65536,
        65537,
        1_000_000,
        8 << 20,
        (8 << 20) + 9,
        (16 << 20) + 9,
    ]
    last = make_chunk("last index, all flags", 2**32 - 1, ChunkFlag(7), TEXT)
    return {
        "secret": SECRET.hex(),
        "session_id": SESSION.hex(),
        "padded": [[size, encryptor.compute_padded_bytes(size)] for size in sizes],
        "valid": [*make_chunks(), last],
        "refused": make_refused_chunks(),
    }


LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]


def build_merkle() -> Case:
    """merkle.json."""
    leaves = [merkle.compute_leaf(bytes.fromhex(data)) for data in LEAVES]
    roots = [merkle.compute_root(leaves[:count]).hex() for count in range(len(leaves) + 1)]

    def hexes(hashes: list[bytes]) -> list[str]:
        return [item.hex() for item in hashes]

    inclusion = [
        {
            "index": index,
            "count": count,
            "proof": hexes(merkle.compute_inclusion_proof(leaves[:count], index)),
        }
        for count in range(1, len(leaves) + 1)
        for index in range(count)
    ]
    consistency = [
        {"old": old, "new": new, "proof": hexes(merkle.compute_consistency_proof(leaves[:new], old))}
        for new in range(len(leaves) + 1)
        for old in range(new + 1)
    ]
    path, chain = inclusion[-2]["proof"], merkle.compute_consistency_proof(leaves[:7], 3)
    assert isinstance(path, list)
    turned = [*path[1:], path[0]]
    blob = bytes.fromhex(make_chunks()[1]["blob"])
    chunk_leaves, chunk_ids = (
        compute_chunk_leaves(blob),
        [bytes.fromhex(c["chunk_id"]) for c in make_chunks()],
    )
    return {
        "leaf_data": LEAVES,
        "leaves": hexes(leaves),
        "roots": roots,
        "inclusion": inclusion,
        "consistency": consistency,
        "refused_inclusion": [
            {"name": name, "leaf": leaf, "index": index, "count": count, "proof": proof, "root": roots[8]}
            for name, leaf, index, count, proof in (
                ("another leaf", leaves[5].hex(), 6, 8, path),
                ("another index", leaves[6].hex(), 7, 8, path),
                ("index beyond the count", leaves[6].hex(), 8, 8, path),
                ("too short", leaves[6].hex(), 6, 8, path[:-1]),
                ("too long", leaves[6].hex(), 6, 8, [*path, path[0]]),
                ("another order", leaves[6].hex(), 6, 8, turned),
                ("a hash of 31 bytes", leaves[6].hex(), 6, 8, [path[0][:-2], *path[1:]]),
            )
        ],
        "refused_consistency": [
            {
                "name": name,
                "old": old,
                "new": new,
                "old_root": roots[root],
                "new_root": roots[7],
                "proof": proof,
            }
            for name, old, new, root, proof in (
                ("another old root", 3, 7, 2, hexes(chain)),
                ("another old count", 2, 7, 3, hexes(chain)),
                ("another new count", 3, 9, 3, hexes(chain)),
                ("old is larger", 7, 3, 3, hexes(chain)),
                ("too short", 3, 7, 3, hexes(chain[:-1])),
                ("too long", 3, 7, 3, hexes([*chain, chain[0]])),
                ("no proof", 3, 7, 3, []),
                ("equal counts, other roots", 7, 7, 3, []),
                ("nothing before, with a proof", 0, 7, 0, hexes(chain)),
            )
        ],
        "chunk": {
            "blob": "noise",
            "blob_bytes": len(blob),
            "leaves": hexes(chunk_leaves),
            "root": merkle.compute_root(chunk_leaves).hex(),
            "chunk_id": compute_blob_id(blob).hex(),
            "proofs": [
                hexes(merkle.compute_inclusion_proof(chunk_leaves, i)) for i in range(len(chunk_leaves))
            ],
        },
        "session": {
            "chunk_ids": hexes(chunk_ids),
            "roots": [
                build_session_tree(chunk_ids[:count]).root().hex() for count in range(len(chunk_ids) + 1)
            ],
        },
    }


def make_frames() -> list[list[bytes]]:
    """The encrypted frames, by chunk."""
    key = live_tail.derive_frame_key(SECRET, SESSION)
    return [
        [
            live_tail.encrypt_frame(key, SESSION, index, number, draw(f"frame {index} {number}"), piece)
            for number, piece in enumerate(pieces)
        ]
        for index, pieces in enumerate(PIECES)
    ]


def digest_tail(counts: dict[int, int]) -> tuple[int, bytes]:
    """Bytes and hash of a tail that has so many frames of these chunks."""
    digests = []
    for index, count in counts.items():
        hasher, frames = blake3(), make_frames()[index][:count]
        for frame in frames:
            checkpoint.hash_frame(hasher, frame)
        digests.append((index, sum(map(len, frames)), hasher.digest()))
    return sum(size for _, size, _ in digests), checkpoint.compute_tail_hash(digests)


TAILS: list[dict[int, int]] = [{0: 2}, {1: 1}, {1: 2, 2: 1}, {}, {}]
COUNTS = [0, 1, 1, 3, 4]
"""What the five checkpoints cover: frames by chunk, and sealed chunks."""


def build_frame() -> Case:
    """frame.json."""
    key, frames = live_tail.derive_frame_key(SECRET, SESSION), make_frames()
    first = frames[0][0]
    return {
        "secret": SECRET.hex(),
        "session_id": SESSION.hex(),
        "frame_key": key.hex(),
        "valid": [
            {"index": index, "number": number, "piece": piece.hex(), "frame": frames[index][number].hex()}
            for index, pieces in enumerate(PIECES)
            for number, piece in enumerate(pieces)
        ],
        "tails": [
            {
                "frames": list(map(list, tail.items())),
                "tail_bytes": digest_tail(tail)[0],
                "tail_hash": digest_tail(tail)[1].hex(),
            }
            for tail in TAILS
        ],
        "refused": [
            {"name": name, "index": index, "number": number, "frame": frame.hex(), "reason": reason}
            for name, index, number, frame, reason in (
                ("another chunk", 1, 0, first, "NOT_DECRYPTABLE"),
                ("another number", 0, 1, first, "NOT_DECRYPTABLE"),
                ("changed", 0, 0, first[:-1] + bytes([first[-1] ^ 1]), "NOT_DECRYPTABLE"),
                ("cut", 0, 0, first[:-1], "NOT_DECRYPTABLE"),
                ("shorter than nonce and tag", 0, 0, first[:39], "MALFORMED"),
                ("empty", 0, 0, b"", "MALFORMED"),
            )
        ],
    }


def make_checkpoints() -> list[identity_pb2.Signed]:
    """The honest series."""
    series: list[identity_pb2.Signed] = []
    for sequence in range(len(COUNTS)):
        previous = checkpoint.compute_checkpoint_hash(series[-1].payload) if series else b""
        series.append(sign_checkpoint(sequence, previous))
    return series


def sign_checkpoint(
    sequence: int,
    previous: bytes,
    signer: SigningKey = DEVICE,
    domain: Domain = Domain.CHECKPOINT,
    network: Network = NETWORK,
    **lie: Any,
) -> identity_pb2.Signed:
    """Checkpoint number `sequence`, honest but for `lie`."""
    ids = [bytes.fromhex(chunk["chunk_id"]) for chunk in make_chunks()]
    tail_bytes, tail_hash = digest_tail(TAILS[sequence])
    fields: Case = {
        "session_id": SESSION,
        "sequence": sequence,
        "chunk_count": COUNTS[sequence],
        "root": build_session_tree(ids[: COUNTS[sequence]]).root(),
        "tail_bytes": tail_bytes,
        "tail_hash": tail_hash,
        "time_ns": STARTED_NS + sequence * 5_000_000_000,
        "previous": previous,
    }
    message = session_pb2.Checkpoint(**{**fields, **lie})
    return signer.sign(domain, network, message.SerializeToString(deterministic=True))


def build_checkpoint() -> Case:
    """checkpoint.json."""
    honest = make_checkpoints()
    ids = [chunk["chunk_id"] for chunk in make_chunks()]
    hashes = [checkpoint.compute_checkpoint_hash(signed.payload) for signed in honest]
    smaller = sign_checkpoint(3, hashes[2], chunk_count=0, root=merkle.EMPTY_ROOT)
    unsigned = identity_pb2.Signed.FromString(honest[0].SerializeToString())
    unsigned.signature = unsigned.signature[:-1] + bytes([unsigned.signature[-1] ^ 1])
    short = identity_pb2.Signed(payload=honest[0].payload, public_key=b"x", signature=honest[0].signature)
    stranger = sign_checkpoint(0, b"", OWNER)
    other_net = sign_checkpoint(0, b"", network=Network("other", bytes(32)))
    no_message = DEVICE.sign(Domain.CHECKPOINT, NETWORK, b"\xff\xff")

    def case(name: str, reason: str, *series: identity_pb2.Signed, chunk_ids: list[str] = ids) -> Case:
        return {"name": name, "series": list(map(encode, series)), "chunk_ids": chunk_ids, "reason": reason}

    return {
        "network_id": NETWORK.id.hex(),
        "fork_version": NETWORK.fork_version,
        "device": DEVICE.public_key.hex(),
        "session_id": SESSION.hex(),
        "chunk_ids": ids,
        "series": [
            {
                "signed": encode(signed),
                "hash": hashes[sequence].hex(),
                "chunk_count": COUNTS[sequence],
                "tail": sequence,
            }
            for sequence, signed in enumerate(honest)
        ],
        "refused": [
            case("public key of one byte", "MALFORMED", short),
            case("another signer", "WRONG_SIGNER", stranger),
            case("signature changed", "BAD_SIGNATURE", unsigned),
            case("another domain", "BAD_SIGNATURE", sign_checkpoint(0, b"", domain=Domain.POLICY)),
            case("another network", "BAD_SIGNATURE", other_net),
            case("no message", "MALFORMED", no_message),
            case("another session", "WRONG_SESSION", sign_checkpoint(0, b"", session_id=bytes(16))),
            case("root of 31 bytes", "MALFORMED", sign_checkpoint(0, b"", root=bytes(31))),
            case("tail hash of 33 bytes", "MALFORMED", sign_checkpoint(0, b"", tail_hash=bytes(33))),
            case("first is not number 0", "NOT_CONSISTENT", honest[1]),
            case("first names one before", "NOT_CONSISTENT", sign_checkpoint(0, bytes(32))),
            case("one is missing", "NOT_CONSISTENT", honest[0], honest[2]),
            case("one twice", "NOT_CONSISTENT", honest[0], honest[0]),
            case("two in another order", "NOT_CONSISTENT", honest[0], honest[2], honest[1]),
            case("fork", "NOT_CONSISTENT", honest[0], sign_checkpoint(1, bytes(32))),
            case("fewer chunks than before", "NOT_CONSISTENT", *honest[:3], smaller),
            case("more chunks than there are", "NOT_CONSISTENT", *honest, chunk_ids=ids[:3]),
            case("chunks swapped", "NOT_CONSISTENT", *honest, chunk_ids=[ids[1], ids[0], *ids[2:]]),
            case("another root", "NOT_CONSISTENT", sign_checkpoint(0, b"", root=bytes(32))),
        ],
    }


METADATA = session_pb2.Metadata(
    name="nightly build",
    tags=["ci", "Größe"],
    kind=session_pb2.SOURCE_KIND_TERMINAL,
    command=["make", "all"],
    user="ann",
    host="builder",
    tty="/dev/pts/3",
    columns=80,
    rows=24,
    uid=1000,
    term="xterm-256color",
)
ENDING = session_pb2.Ending(ended_ns=STARTED_NS + 21_000_000_000, exit_status=2, has_exit_status=True)
MESSAGES = {"metadata": (Label.METADATA, METADATA), "ending": (Label.ENDING, ENDING)}


def encrypt_named(name: str) -> bytes:
    """Metadata or ending of the session, encrypted."""
    label, message = MESSAGES[name]
    return encrypt_message(SECRET, label, SESSION, draw(name), message)


def build_metadata() -> Case:
    """metadata.json."""
    key = derive(SECRET, Label.METADATA, SESSION)
    good = encrypt_named("metadata")

    def lie(name: str, reason: str, padded: bytes) -> Case:
        nonce = draw(name)
        return {
            "name": name,
            "encrypted": (nonce + aead.encrypt(key, nonce, padded, SESSION)).hex(),
            "reason": reason,
        }

    return {
        "secret": SECRET.hex(),
        "session_id": SESSION.hex(),
        "valid": [
            {
                "label": label,
                "key": derive(SECRET, label, SESSION).hex(),
                "nonce": draw(name).hex(),
                "message": message.SerializeToString(deterministic=True).hex(),
                "encrypted": encrypt_named(name).hex(),
                "hash": blake3(encrypt_named(name)).hexdigest(),
            }
            for name, (label, message) in MESSAGES.items()
        ],
        "max_bytes": MAX_ENCRYPTED_BYTES,
        # All as metadata.
        "refused": [
            {"name": "a nonce alone", "encrypted": good[:24].hex(), "reason": "MALFORMED"},
            {"name": "shorter than its tag", "encrypted": good[:39].hex(), "reason": "MALFORMED"},
            {"name": "cut", "encrypted": good[:-1].hex(), "reason": "NOT_DECRYPTABLE"},
            {"name": "the ending", "encrypted": encrypt_named("ending").hex(), "reason": "NOT_DECRYPTABLE"},
            lie("no length", "MALFORMED", b"\0\0\0"),
            lie("length beyond the end", "MALFORMED", struct.pack(">I", 253) + bytes(252)),
            lie("no message", "MALFORMED", struct.pack(">I", 2) + b"\xff\xff" + bytes(250)),
        ],
    }


def make_policy() -> bytes:
    """The session's control policy."""
    return control_policy.ControlPolicy(SESSION, ("input", "clipboard"), False, 1_900_000_000).encode()


def make_manifest() -> bytes:
    """The session's manifest."""
    ids = [bytes.fromhex(chunk["chunk_id"]) for chunk in make_chunks()]
    return manifest.Manifest(
        session_id=SESSION,
        network=NETWORK.id,
        recorder="lucid-node/1",
        device=DEVICE.public_key,
        owner=OWNER.public_key,
        session_key=SigningKey.from_seed(derive(SECRET, Label.SESSION, SESSION)).public_key,
        started_ms=STARTED_NS // 1_000_000,
        chunk_count=len(ids),
        root=build_session_tree(ids).root(),
        gaps=(2,),
        policy_hash=control_policy.compute_policy_hash(make_policy()),
        metadata_hash=blake3(encrypt_named("metadata")).digest(),
        ending_hash=blake3(encrypt_named("ending")).digest(),
        checkpoint_hash=checkpoint.compute_checkpoint_hash(make_checkpoints()[-1].payload),
        checkpoint_count=len(COUNTS),
    ).encode()


def refuse_documents(document: bytes, max_bytes: int, lies: list[tuple[str, object]]) -> list[Case]:
    """What no reader of canonical JSON may take, and documents with one value that lies."""
    parsed = json.loads(document)
    without = {key: value for key, value in parsed.items() if key != "session_id"}
    raw = {
        "spaces": json.dumps(parsed, sort_keys=True).encode(),
        "keys in another order": json.dumps(dict(reversed(parsed.items())), separators=(",", ":")).encode(),
        "a newline behind": document + b"\n",
        "a byte order mark": b"\xef\xbb\xbf" + document,
        "a key twice": document[:-1] + b',"version":1}',
        "version as 1.0": document.replace(b'"version":1', b'"version":1.0'),
        "an escape that is not needed": document.replace(b'"version"', b'"\\u0076ersion"'),
        "no JSON": document[:-1],
        "no UTF-8": document[:-2] + b'\xff"}',
        "an array": b"[]",
        "nothing": b"",
        "a key is missing": rfc8785.dumps(without),
        "an unknown key": rfc8785.dumps({**parsed, "zz": 1}),
    }
    cases = [{"name": name, "document": text.hex(), "reason": "MALFORMED"} for name, text in raw.items()]
    for version in (2, 0, True, "1"):
        text = rfc8785.dumps({**parsed, "version": version})
        cases.append({"name": f"version {version!r}", "document": text.hex(), "reason": "WRONG_VERSION"})
    for key, value in lies:
        text = rfc8785.dumps({**parsed, key: value})  # type: ignore[dict-item]
        cases.append({"name": f"{key} = {value!r}", "document": text.hex(), "reason": "MALFORMED"})
    # So many spaces.
    return [*cases, {"name": "too large", "spaces": max_bytes + 1, "reason": "TOO_LARGE"}]


def build_policy() -> Case:
    """policy.json."""
    lies: list[tuple[str, object]] = [
        ("session_id", "00"),
        ("session_id", SESSION.hex().upper()),
        ("default", "allow"),
        ("allows", ["everything"]),
        ("allows", "input"),
        ("records_input", 1),
        ("retain_until_s", -1),
        ("retain_until_s", True),
        ("retain_until_s", "0"),
        ("retain_until_s", 0.5),
    ]
    return build_document(make_policy(), Domain.POLICY, control_policy.MAX_POLICY_BYTES, lies)


def build_manifest() -> Case:
    """manifest.json."""
    people = json.loads(make_manifest())["participants"]
    lies: list[tuple[str, object]] = [
        ("session_id", "00"),
        ("root", "00"),
        ("root", "AB" * 32),
        ("root", None),
        ("network", 1),
        ("chunk_count", -1),
        ("chunk_count", True),
        ("chunk_count", 2),
        ("checkpoint_count", "5"),
        ("gaps", [4]),
        ("gaps", ["2"]),
        ("gaps", 2),
        ("codec", {**manifest.CODEC, "hash": "md5"}),
        ("codec", {**manifest.CODEC, "leaf_bytes": 1024}),
        ("participants", {key: people[key] for key in ("device", "owner")}),
        ("participants", {**people, "x": ""}),
        ("recorder", 1),
        ("started_ms", 0.5),
    ]
    return build_document(make_manifest(), Domain.MANIFEST, manifest.MAX_MANIFEST_BYTES, lies)


def build_document(document: bytes, domain: Domain, max_bytes: int, lies: list[tuple[str, object]]) -> Case:
    """A document, its hash, its signature, and what must be refused in its place."""
    return {
        "network_id": NETWORK.id.hex(),
        "fork_version": NETWORK.fork_version,
        "domain": domain,
        "device": DEVICE.public_key.hex(),
        "document": document.decode(),
        "hash": blake3(document).hexdigest(),
        "signed": encode(DEVICE.sign(domain, NETWORK, document)),
        "max_bytes": max_bytes,
        "refused": refuse_documents(document, max_bytes, lies),
    }


BUILDERS: dict[str, Callable[[], Case]] = {
    "chunk.json": build_chunk,
    "merkle.json": build_merkle,
    "frame.json": build_frame,
    "checkpoint.json": build_checkpoint,
    "metadata.json": build_metadata,
    "policy.json": build_policy,
    "manifest.json": build_manifest,
}


def render(document: Case) -> str:
    """The text of a file."""
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    for name, build in BUILDERS.items():
        (Path(__file__).parent / name).write_text(render(build()))
