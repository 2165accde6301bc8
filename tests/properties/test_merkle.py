"""The Merkle tree against a direct transcription of the definition in RFC 6962, section 2.1."""

from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.merkle import (
    EMPTY_ROOT,
    Frontier,
    compute_consistency_proof,
    compute_inclusion_proof,
    compute_leaf,
    compute_root,
    is_consistent,
    is_included,
)

counts = st.integers(0, 70)


def mth(entries: list[bytes]) -> bytes:
    if not entries:
        return blake3(b"").digest()
    if len(entries) == 1:
        return blake3(b"\x00" + entries[0]).digest()
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return blake3(b"\x01" + mth(entries[:split]) + mth(entries[split:])).digest()


def entries(count: int) -> list[bytes]:
    return [b"entry %d" % i for i in range(count)]


@given(counts)
def test_root_is_that_of_the_rfc(count: int) -> None:
    leaves = [compute_leaf(entry) for entry in entries(count)]
    assert compute_root(leaves) == mth(entries(count)) == Frontier(leaves).root()


@given(counts.filter(bool), st.data())
def test_inclusion(count: int, data: st.DataObject) -> None:
    leaves = [compute_leaf(entry) for entry in entries(count)]
    index = data.draw(st.integers(0, count - 1))
    proof = compute_inclusion_proof(leaves, index)
    root = compute_root(leaves)
    assert is_included(leaves[index], index, count, proof, root)
    other = data.draw(st.integers(-1, count + 1).filter(lambda i: i != index))
    assert not is_included(leaves[index], other, count, proof, root)
    assert not is_included(compute_leaf(b"other"), index, count, proof, root)
    assert not is_included(leaves[index], index, count, [*proof, root], root)
    assert not proof or not is_included(leaves[index], index, count, proof[:-1], root)


@settings(max_examples=300)
@given(counts, st.data())
def test_consistency(new_count: int, data: st.DataObject) -> None:
    old_count = data.draw(st.integers(0, new_count))
    leaves = [compute_leaf(entry) for entry in entries(new_count)]
    old_root, new_root = compute_root(leaves[:old_count]), compute_root(leaves)
    proof = compute_consistency_proof(leaves, old_count)
    assert is_consistent(old_count, new_count, old_root, new_root, proof)
    forged = compute_root([compute_leaf(b"forged"), *leaves[1:old_count]]) if old_count else new_root
    if forged != old_root:
        assert not is_consistent(old_count, new_count, forged, new_root, proof)
    assert not is_consistent(old_count, new_count, old_root, compute_leaf(b"x"), proof) or old_count == 0
    assert not is_consistent(old_count, new_count, old_root, new_root, [*proof, new_root])


def test_empty_and_single() -> None:
    assert compute_root([]) == Frontier().root() == EMPTY_ROOT
    leaf = compute_leaf(b"a")
    assert compute_root([leaf]) == leaf
    assert is_included(leaf, 0, 1, [], leaf)
    assert not is_included(leaf, 0, 0, [], leaf)


def test_of_nothing_there_is_one_tree() -> None:
    assert is_consistent(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    assert not is_consistent(0, 0, EMPTY_ROOT, bytes(32), [])
    assert not is_consistent(0, 1, bytes(32), EMPTY_ROOT, [])


def test_copy_of_a_frontier_grows_alone() -> None:
    frontier = Frontier([compute_leaf(b"a")])
    twin = frontier.copy()
    twin.append(compute_leaf(b"b"))
    assert (frontier.count, twin.count) == (1, 2)
    assert frontier.root() == compute_leaf(b"a")
