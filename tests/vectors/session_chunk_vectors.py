"""Golden bytes of a recorded session: its chunks, and the trees over them.

Everything is drawn from fixed secrets; only the compressed content of chunks depends on the version of zstd.
"""

import struct
from typing import Any

import zstandard
from blake3 import blake3

from kernel import aead, merkle
from kernel.chunk_id import compute_blob_id, compute_chunk_leaves
from kernel.domains import Label
from kernel.kdf import derive
from kernel.padding import compute_padded_bytes
from session import encryptor
from session.encryptor import ChunkFlag, ChunkHeader
from session.merkle_builder import build_session_tree
from session.preset import MAX_CHUNK_BYTES

Case = dict[str, Any]

SECRET = bytes(range(0x20, 0x40))
SESSION = bytes.fromhex("0f1e2d3c4b5a4978a6b5c4d3e2f10213")

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


def refuse_inner(name: str, inner: bytes, reason: str, commitment: bytes = b"") -> Case:
    """A chunk 0 whose seal is right around an inner part, or a commitment, that is not."""
    key = derive(SECRET, Label.CHUNK, SESSION, bytes(4))
    commitment = commitment or derive(key, Label.CHUNK_COMMITMENT)
    header = ChunkHeader(ChunkFlag(0), SESSION, 0, draw(name), commitment).encode()
    blob = header + aead.encrypt(key, draw(name), inner, header)
    return {"name": name, "blob": blob.hex(), "reason": reason}


def make_inner(codec: int, content: bytes, plaintext_bytes: int) -> bytes:
    """An inner part, padded as it must be."""
    used = struct.pack(">BII", codec, len(content), plaintext_bytes) + content
    return used.ljust(compute_padded_bytes(len(used)), b"\0")


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
        refuse_inner("another commitment under the seal", inner, "NOT_DECRYPTABLE", bytes(32)),
        refuse_inner("codec 2", make_inner(2, good, size), "MALFORMED"),
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
        "padded": [[size, compute_padded_bytes(size)] for size in sizes],
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
    smaller = hexes(merkle.compute_inclusion_proof(leaves[:4], 1))
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
            {"name": name, "leaf": leaf, "index": index, "count": count, "proof": proof, "root": root}
            for name, leaf, index, count, proof, root in (
                ("another leaf", leaves[5].hex(), 6, 8, path, roots[8]),
                ("another index", leaves[6].hex(), 7, 8, path, roots[8]),
                ("index beyond the count", leaves[6].hex(), 8, 8, path, roots[8]),
                ("too short", leaves[6].hex(), 6, 8, path[:-1], roots[8]),
                ("too long", leaves[6].hex(), 6, 8, [*path, path[0]], roots[8]),
                ("another order", leaves[6].hex(), 6, 8, turned, roots[8]),
                ("a hash of 31 bytes", leaves[6].hex(), 6, 8, [path[0][:-2], *path[1:]], roots[8]),
                ("root of a smaller tree", leaves[1].hex(), 1, 8, smaller, roots[4]),
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
