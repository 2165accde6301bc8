"""One store of blobs, two who need them: nothing is removed that the other one still needs."""

from collections.abc import Callable, Sequence

from kernel.ports import Blobs


class PinnedBlobs:
    """`Blobs` for one of the two.

    Args:
        blobs: the store.
        is_pinned: tells whether the other one needs a blob. What it lets go later it removes itself.
    """

    def __init__(self, blobs: Blobs, is_pinned: Callable[[bytes], bool]) -> None:
        self._blobs = blobs
        self._is_pinned = is_pinned

    async def put(self, blob_id: bytes, parts: Sequence[bytes]) -> None:
        """See `Blobs.put`."""
        await self._blobs.put(blob_id, parts)

    async def read(self, blob_id: bytes, offset: int = 0, size_bytes: int | None = None) -> bytes:
        """See `Blobs.read`."""
        return await self._blobs.read(blob_id, offset, size_bytes)

    async def settle(self, blob_id: bytes) -> None:
        """See `Blobs.settle`."""
        await self._blobs.settle(blob_id)

    def size(self, blob_id: bytes) -> int | None:
        """See `Blobs.size`."""
        return self._blobs.size(blob_id)

    async def remove(self, blob_ids: Sequence[bytes]) -> None:
        """See `Blobs.remove`; pinned ones stay."""
        await self._blobs.remove([blob_id for blob_id in blob_ids if not self._is_pinned(blob_id)])

    def ids(self) -> list[bytes]:
        """See `Blobs.ids`; pinned ones are left out, since this one cannot remove them."""
        return [blob_id for blob_id in self._blobs.ids() if not self._is_pinned(blob_id)]

    def used_bytes(self) -> int:
        """See `Blobs.used_bytes`."""
        return self._blobs.used_bytes()
