"""Proof that 4 KiB stand at their place in a session of 100 GiB.

The chunk is real (its bytes are hashed), the other chunk IDs of the session are made up: a tree does not see
the difference. Whoever verifies holds a signed session root with its count, and is given the 4 KiB, the
place, both paths, and the chunk's length and root.
"""

import hashlib
from dataclasses import dataclass, replace
from time import perf_counter

from benchmarks.measures import Figure, Report, Summary, Verdict, compute_percentile, format_value
from benchmarks.process import BenchmarkError
from kernel.chunk_id import LEAF_BYTES, compute_chunk_id, compute_chunk_leaves
from kernel.merkle import HASH_BYTES, compute_inclusion_proof, compute_leaf, compute_root, is_included
from session.merkle_builder import build_session_tree

SESSION_BYTES = 100 << 30
CHUNK_BYTES = 8 << 20
BLOB_BYTES = CHUNK_BYTES + (256 << 10)
"""Of a chunk that does not compress: Padmé pads its ciphertext to the next 256 KiB."""

INTEGERS_BYTES = 4 * 8
"""Chunk index, chunk count, leaf index, length of the chunk; 8 bytes each."""

CHUNK_INDEX, LEAF_INDEX = 7_654, 1_234
RUNS = 5_000
BOUND_MS = 0.1


@dataclass(frozen=True)
class _Proof:
    leaf: bytes
    leaf_index: int
    blob_bytes: int
    chunk_root: bytes
    chunk_path: list[bytes]
    chunk_index: int
    session_path: list[bytes]

    @property
    def size_bytes(self) -> int:
        hashes = 1 + len(self.chunk_path) + len(self.session_path)
        return INTEGERS_BYTES + hashes * HASH_BYTES


def _is_proven(proof: _Proof, session_root: bytes, count: int) -> bool:
    leaves = -(-proof.blob_bytes // LEAF_BYTES)
    if not is_included(
        compute_leaf(proof.leaf), proof.leaf_index, leaves, proof.chunk_path, proof.chunk_root
    ):
        return False
    chunk_id = compute_chunk_id([proof.chunk_root], proof.blob_bytes)
    return is_included(compute_leaf(chunk_id), proof.chunk_index, count, proof.session_path, session_root)


def measure_proof(report: Report) -> Figure:
    """The figure: the size of the proof and the time to verify it."""
    report("proof: building the trees")
    blob = hashlib.shake_256(b"lucid benchmark chunk").digest(BLOB_BYTES)
    leaves = compute_chunk_leaves(blob)
    count = SESSION_BYTES // CHUNK_BYTES
    chunk_ids = [index.to_bytes(HASH_BYTES, "big") for index in range(count)]
    chunk_ids[CHUNK_INDEX] = compute_chunk_id(leaves, BLOB_BYTES)
    session_root = build_session_tree(chunk_ids).root()
    start = LEAF_INDEX * LEAF_BYTES
    proof = _Proof(
        leaf=blob[start : start + LEAF_BYTES],
        leaf_index=LEAF_INDEX,
        blob_bytes=BLOB_BYTES,
        chunk_root=compute_root(leaves),
        chunk_path=compute_inclusion_proof(leaves, LEAF_INDEX),
        chunk_index=CHUNK_INDEX,
        session_path=compute_inclusion_proof([compute_leaf(chunk_id) for chunk_id in chunk_ids], CHUNK_INDEX),
    )
    forged = replace(proof, leaf=bytes([proof.leaf[0] ^ 1]) + proof.leaf[1:])
    if not _is_proven(proof, session_root, count) or _is_proven(forged, session_root, count):
        raise BenchmarkError("the proof does not prove")
    report("proof: verifying")
    times_ms = [_measure_verification_ms(proof, session_root, count) for _ in range(RUNS)]
    return _describe(proof, len(leaves), count, times_ms)


def _measure_verification_ms(proof: _Proof, session_root: bytes, count: int) -> float:
    start = perf_counter()
    _is_proven(proof, session_root, count)
    return (perf_counter() - start) * 1000


def _describe(proof: _Proof, leaves: int, count: int, times_ms: list[float]) -> Figure:
    summary = Summary.of(times_ms)
    row = {
        "session GiB": SESSION_BYTES >> 30,
        "chunks": count,
        "leaves of the chunk": leaves,
        "proof bytes": proof.size_bytes,
        "with the 4 KiB": proof.size_bytes + len(proof.leaf),
        "verify ms": summary.median,
        "p99 ms": compute_percentile(times_ms, 99),
    }
    verdict = Verdict(
        f"verified in less than {BOUND_MS} ms",
        f"{format_value(summary.median)} ms",
        summary.median < BOUND_MS,
    )
    hashes = len(proof.chunk_path) + len(proof.session_path)
    notes = [
        f"{hashes} path hashes and the chunk's root of {HASH_BYTES} bytes each, four integers of 8 bytes.",
        f"Verification from the 4 KiB up to the session root, in Python; median of {RUNS:,} runs.",
    ]
    return Figure("proof", "Proof of 4 KiB in a session of 100 GiB", [dict(row)], [verdict], notes)
