"""How much this node keeps for others: exact sums, and limits on them.

A chunk counts once in all, and once for each owner that leases it. Against limits it counts with what is kept
about it: leaf hashes, a 128th of its length, and 4 KiB for leases. So tiny chunks are not free.
"""

from collections import Counter
from collections.abc import Callable

from kernel.errors import StoreFull
from lucid.v1 import chunk_pb2

OVERHEAD_BYTES = 4096
RESERVE_BYTES = 16 << 20


class HostingQuota:
    """Sums over all holdings.

    Args:
        limit_bytes: for all owners together; 0: no limit of its own.
        owner_limit_bytes: for each owner; 0: none.
        get_room: how many bytes there is room for on the disk; the last 16 MiB are not for others.

    Attributes:
        held_bytes: length of all held chunks.
        chunks: how many.
    """

    def __init__(
        self,
        limit_bytes: int = 0,
        owner_limit_bytes: int = 0,
        get_room: Callable[[], int] | None = None,
    ) -> None:
        self._get_room = get_room
        self._limit_bytes = limit_bytes
        self._owner_limit_bytes = owner_limit_bytes
        self.held_bytes = 0
        self.chunks = 0
        self._owner_bytes: Counter[bytes] = Counter()
        self._owner_chunks: Counter[bytes] = Counter()

    def owner_bytes(self, owner: bytes) -> int:
        """Length of all chunks that are held for an owner."""
        return self._owner_bytes[owner]

    def free_bytes(self) -> int | None:
        """What may still be taken in all; None: no limit."""
        if not self._limit_bytes:
            return None
        return max(0, self._limit_bytes - self._charged(self.held_bytes, self.chunks))

    def check(self, holding: chunk_pb2.Holding | None, owner: bytes, size_bytes: int) -> None:
        """Checks that a chunk may be taken for an owner.

        Args:
            holding: what is known of the chunk already.
            owner: who brings it.
            size_bytes: length of the chunk.

        Raises:
            StoreFull: a limit would be passed.
        """
        leased = _owners(holding)
        for_owner = self._charged(self._owner_bytes[owner] + size_bytes, self._owner_chunks[owner] + 1)
        if self._owner_limit_bytes and owner not in leased and for_owner > self._owner_limit_bytes:
            raise _full(f"this node keeps at most {self._owner_limit_bytes} bytes for one owner")
        for_all = self._charged(self.held_bytes + size_bytes, self.chunks + 1)
        if not leased and self._get_room is not None and size_bytes + RESERVE_BYTES > self._get_room():
            raise _full("this node has no room left for others")
        if self._limit_bytes and not leased and for_all > self._limit_bytes:
            raise _full(f"this node keeps at most {self._limit_bytes} bytes for others")

    def replace(self, before: chunk_pb2.Holding | None, after: chunk_pb2.Holding | None) -> None:
        """Counts what changed about one chunk."""
        for holding, sign in ((before, -1), (after, 1)):
            owners = _owners(holding)
            if holding is None or not owners:
                continue
            self.held_bytes += sign * holding.size_bytes
            self.chunks += sign
            for owner in owners:
                self._owner_bytes[owner] += sign * holding.size_bytes
                self._owner_chunks[owner] += sign
                if not self._owner_chunks[owner]:
                    del self._owner_bytes[owner], self._owner_chunks[owner]

    @staticmethod
    def _charged(size_bytes: int, chunks: int) -> int:
        return size_bytes + size_bytes // 128 + chunks * OVERHEAD_BYTES


def _owners(holding: chunk_pb2.Holding | None) -> list[bytes]:
    return [] if holding is None else sorted({each.owner for each in holding.leases})


def _full(message: str) -> StoreFull:
    return StoreFull(message, hint="ask another node, or its operator to raise the hosting quota")
