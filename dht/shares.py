"""Who brings which bytes of a blob that comes from several sources. Pure.

Whoever is free takes what nobody brings; if there is nothing, a part of the greatest share that another has
still to bring, by what both have brought so far. So a fast source takes over from a slow one, and each source
streams long ranges. The last frames of a share are brought by two, and who is first counts.
"""

from dataclasses import dataclass

from dht.transfer import FRAME_BYTES
from kernel.chunk_id import LEAF_BYTES

SMALLEST_SPLIT_BYTES = 2 * FRAME_BYTES


@dataclass(slots=True)
class Share:
    """Bytes that one source is to bring.

    Attributes:
        position: next byte it brings.
        end: where it may stop; comes nearer when another source takes over.
        doubled: does another source bring the rest, too?
    """

    position: int
    end: int
    doubled: bool = False


class Shares:
    """The shares of one blob.

    Attributes:
        missing: leaves that nobody has brought yet.
        brought: useful bytes by source.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._free = [(0, size_bytes)]
        self._held: dict[bytes, Share] = {}
        self._leaves = bytearray(-(-size_bytes // LEAF_BYTES))
        self.missing = len(self._leaves)
        self.brought: dict[bytes, float] = {}

    def expect(self, source: bytes, size_bytes: float) -> None:
        """Counts a source as if it had brought so much: what it did for other blobs."""
        self.brought[source] = self.brought.get(source, 0.0) + size_bytes

    def assign(self, source: bytes) -> Share | None:
        """What a source without a share is to bring next; None if there is nothing for it now."""
        share: Share | None = None
        while self._free and share is None:
            start, end = self._free.pop()
            share = self._trim(start, end)
        if share is None:
            share = self._take_over(source)
        if share is not None:
            self._held[source] = share
        return share

    def bring(self, source: bytes, size_bytes: int) -> int:
        """The next bytes of a source's share have come, whole leaves; returns how many were missing."""
        share = self._held[source]
        first, after = share.position // LEAF_BYTES, -(-(share.position + size_bytes) // LEAF_BYTES)
        fresh = self._leaves[first:after].count(0)
        self._leaves[first:after] = b"\x01" * (after - first)
        self.missing -= fresh
        share.position += size_bytes
        self.expect(source, fresh * LEAF_BYTES)
        return fresh * LEAF_BYTES

    def give_back(self, source: bytes) -> None:
        """A source has ended its share, or failed: what is left of it is anybody's."""
        share = self._held.pop(source)
        if share.position < share.end:
            self._free.append((share.position, share.end))

    def _trim(self, start: int, end: int) -> Share | None:
        """The part of a range that is still missing, if any: a double may have brought its ends."""
        first, after = start // LEAF_BYTES, -(-end // LEAF_BYTES)
        while first < after and self._leaves[first]:
            first += 1
        while first < after and self._leaves[after - 1]:
            after -= 1
        return Share(first * LEAF_BYTES, min(after * LEAF_BYTES, end)) if first < after else None

    def _take_over(self, source: bytes) -> Share | None:
        victim, share = max(
            ((other, held) for other, held in self._held.items() if not held.doubled),
            key=lambda pair: (pair[1].end - pair[1].position, pair[0]),
            default=(b"", None),
        )
        if share is None or share.position >= share.end:
            return None
        left = share.end - share.position
        if left < SMALLEST_SPLIT_BYTES:
            share.doubled = True
            return Share(share.position, share.end, doubled=True)
        own = self.brought.get(source, 0.0) + FRAME_BYTES
        other = self.brought.get(victim, 0.0) + FRAME_BYTES
        kept = max(FRAME_BYTES, int(left * other / (own + other)))
        # Whole leaves, counted from the start of the blob.
        split = min((share.position + kept) // LEAF_BYTES * LEAF_BYTES, share.end - LEAF_BYTES)
        split = -(-split // LEAF_BYTES) * LEAF_BYTES
        taken = Share(split, share.end)
        share.end = split
        return taken
