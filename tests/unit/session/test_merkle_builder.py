"""Chunk IDs and session roots."""

import random

import pytest
from blake3 import blake3

from kernel.chunk_id import LEAF_BYTES, compute_blob_id, compute_chunk_id, compute_chunk_leaves
from kernel.merkle import compute_inclusion_proof, compute_leaf, compute_root, is_included
from session.merkle_builder import build_session_tree

BLOB = random.Random(1).randbytes(5 * LEAF_BYTES + 77)


@pytest.mark.parametrize("size", [0, 1, LEAF_BYTES - 1, LEAF_BYTES, LEAF_BYTES + 1, len(BLOB)])
def test_leaves_are_those_of_the_definition(size: int) -> None:
    blob = BLOB[:size]
    expected = [compute_leaf(blob[start : start + LEAF_BYTES]) for start in range(0, size, LEAF_BYTES)]
    assert compute_chunk_leaves(blob) == expected
    assert compute_chunk_leaves(blob[84:], blob[:84]) == expected


def test_chunk_id_binds_the_length() -> None:
    leaves = compute_chunk_leaves(BLOB)
    assert compute_blob_id(BLOB) == compute_chunk_id(leaves, len(BLOB))
    assert compute_chunk_id(leaves, len(BLOB)) != compute_chunk_id(leaves, len(BLOB) + 1)
    assert compute_blob_id(BLOB[84:], BLOB[:84]) == compute_blob_id(BLOB)
    expected = blake3(b"lucid chunk" + len(BLOB).to_bytes(8, "big") + compute_root(leaves)).digest()
    assert compute_blob_id(BLOB) == expected


def test_one_leaf_proves_itself_under_the_session_root() -> None:
    chunk_ids = [bytes([i]) * 32 for i in range(5)] + [compute_blob_id(BLOB)]
    tree = build_session_tree(chunk_ids)
    assert tree.count == 6
    leaves = compute_chunk_leaves(BLOB)
    in_chunk = compute_inclusion_proof(leaves, 2)
    in_session = compute_inclusion_proof([compute_leaf(chunk_id) for chunk_id in chunk_ids], 5)
    leaf = compute_leaf(BLOB[2 * LEAF_BYTES : 3 * LEAF_BYTES])
    assert is_included(leaf, 2, len(leaves), in_chunk, compute_root(leaves))
    chunk_id = compute_chunk_id(leaves, len(BLOB))
    assert is_included(compute_leaf(chunk_id), 5, 6, in_session, tree.root())
