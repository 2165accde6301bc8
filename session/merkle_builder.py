"""From chunk IDs to the session root: the tree whose leaves are chunk IDs. Format: docs/spec/03-merkle.md."""

from collections.abc import Iterable

from kernel.merkle import Frontier, compute_leaf


def build_session_tree(chunk_ids: Iterable[bytes]) -> Frontier:
    """The session's tree over chunk IDs; its `root()` is the session root, its `count` the chunk count."""
    return Frontier(compute_leaf(chunk_id) for chunk_id in chunk_ids)
