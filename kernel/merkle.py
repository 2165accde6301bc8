"""Merkle trees shaped as in RFC 6962 section 2.1, over BLAKE3.

    leaf  = BLAKE3(0x00 ‖ data)
    node  = BLAKE3(0x01 ‖ left ‖ right)
    empty = BLAKE3("")

A tree of n > 1 leaves splits at the largest power of two below n. Hashing level by level, with an odd last
node promoted as it is, gives the same tree. A root binds no length: whoever signs a root signs its count too.

Proofs are lists of 32-byte hashes: inclusion as in RFC 9162 section 2.1.3, consistency as in 2.1.4.
"""

from collections.abc import Iterable, Sequence

from blake3 import blake3

HASH_BYTES = 32
EMPTY_ROOT: bytes = blake3(b"").digest()


def compute_leaf(data: bytes) -> bytes:
    """Hash of a leaf."""
    return blake3(b"\x00" + data).digest()


def compute_node(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return blake3(b"\x01" + left + right).digest()


def compute_root(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes; `EMPTY_ROOT` for none."""
    if not leaves:
        return EMPTY_ROOT
    level = list(leaves)
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        pairs = iter(level)
        level = [blake3(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=False)]
        level += odd
    return level[0]


class Frontier:
    """A tree that only grows, kept as the roots of its perfect subtrees: at most 32 hashes for 2^32 leaves.

    Attributes:
        count: number of leaves so far.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self.count = 0
        self._subtrees: list[bytes] = []
        for leaf in leaves:
            self.append(leaf)

    def append(self, leaf: bytes) -> None:
        """Adds one leaf hash at the end."""
        node = leaf
        complete = self.count
        while complete & 1:
            node = compute_node(self._subtrees.pop(), node)
            complete >>= 1
        self._subtrees.append(node)
        self.count += 1

    def root(self) -> bytes:
        """Root over all leaves so far."""
        if not self._subtrees:
            return EMPTY_ROOT
        root = self._subtrees[-1]
        for subtree in reversed(self._subtrees[:-1]):
            root = compute_node(subtree, root)
        return root

    def copy(self) -> "Frontier":
        """An independent frontier over the same leaves."""
        twin = Frontier()
        twin.count, twin._subtrees = self.count, list(self._subtrees)
        return twin


def compute_inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Sibling hashes from the leaf at `index` up to the root.

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    proof = []
    level = list(leaves)
    while len(level) > 1:
        sibling = index ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        odd = level[-1:] if len(level) % 2 else []
        pairs = iter(level)
        level = [compute_node(left, right) for left, right in zip(pairs, pairs, strict=False)] + odd
        index >>= 1
    return proof


def is_included(leaf: bytes, index: int, count: int, proof: Sequence[bytes], root: bytes) -> bool:
    """True if `leaf` stands at `index` of the tree with `count` leaves and this root (RFC 9162, 2.1.3.2)."""
    return compute_proven_root(leaf, index, count, proof) == root


def compute_proven_root(leaf: bytes, index: int, count: int, proof: Sequence[bytes]) -> bytes | None:
    """The root of the one tree with `count` leaves in which `proof` leads from `leaf` at `index` to the root.

    Returns:
        None if a proof of this leaf has another length.
    """
    if not 0 <= index < count:
        return None
    node, last = leaf, count - 1
    for sibling in proof:
        if last == 0 or len(sibling) != HASH_BYTES:
            return None
        if index & 1 or index == last:
            node = compute_node(sibling, node)
            while not index & 1 and index:
                index >>= 1
                last >>= 1
        else:
            node = compute_node(node, sibling)
        index >>= 1
        last >>= 1
    return node if last == 0 else None


def compute_consistency_proof(leaves: Sequence[bytes], old_count: int) -> list[bytes]:
    """Hashes that show that the tree over `leaves` extends the one over the first `old_count` of them.

    Raises:
        IndexError: `old_count` is not within 0…len(leaves).
    """
    if not 0 <= old_count <= len(leaves):
        raise IndexError(f"{old_count} of {len(leaves)} leaves")
    if old_count in (0, len(leaves)):
        return []
    return _subproof(leaves, old_count, whole=True)


def _subproof(leaves: Sequence[bytes], old_count: int, *, whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 9162, 2.1.4.1; `whole`: the old tree is the one that the verifier knows the root of."""
    if old_count == len(leaves):
        return [] if whole else [compute_root(leaves)]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if old_count <= split:
        return [*_subproof(leaves[:split], old_count, whole=whole), compute_root(leaves[split:])]
    return [*_subproof(leaves[split:], old_count - split, whole=False), compute_root(leaves[:split])]


def is_consistent(
    old_count: int, new_count: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """True if the new tree begins with the leaves of the old one (RFC 9162, 2.1.4.2)."""
    if not 0 <= old_count <= new_count or any(len(node) != HASH_BYTES for node in proof):
        return False
    if old_count == 0 and old_root != EMPTY_ROOT:
        return False
    if old_count == new_count:
        return not proof and old_root == new_root
    if old_count == 0:
        return not proof
    nodes = list(proof)
    if old_count & (old_count - 1) == 0:
        nodes.insert(0, old_root)
    if not nodes:
        return False
    index, last = old_count - 1, new_count - 1
    while index & 1:
        index >>= 1
        last >>= 1
    old = new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if index & 1 or index == last:
            old, new = compute_node(node, old), compute_node(node, new)
            while not index & 1 and index:
                index >>= 1
                last >>= 1
        else:
            new = compute_node(new, node)
        index >>= 1
        last >>= 1
    return last == 0 and old == old_root and new == new_root
