"""One blob, from whoever has it: this node, or one connected peer after the other."""

from collections.abc import Callable

from dht.bandwidth import Pace
from dht.ports import Peers, list_connected
from dht.transfer import PartialChunk, get_chunk
from kernel.chunk_id import compute_blob_id
from kernel.errors import LucidError, NotFound, PeerFault, Unavailable
from kernel.ports import Blobs


class BlobSource:
    """Fetches blobs; nothing that it fetches is kept."""

    def __init__(self, blobs: Blobs, peers: Peers, pace: Pace, on_fault: Callable[[PeerFault], None]) -> None:
        """`pace`: limits on speed and silence; `on_fault` is told of peers that sent what is wrong."""
        self._blobs = blobs
        self._peers = peers
        self._pace = pace
        self._on_fault = on_fault

    async def fetch(self, chunk_id: bytes, size_bytes: int) -> bytes:
        """The blob, right byte by byte.

        Raises:
            Unavailable: nobody who can be asked has it.
        """
        if self._blobs.size(chunk_id) == size_bytes:
            try:
                blob = await self._blobs.read(chunk_id)
                if compute_blob_id(blob) == chunk_id:
                    return blob
            except NotFound:
                pass
        partial = PartialChunk()
        for peer in list_connected(self._peers):
            try:
                return await get_chunk(peer, chunk_id, max_bytes=size_bytes, partial=partial, pace=self._pace)
            except PeerFault as error:
                self._on_fault(error)
            except LucidError:
                continue
        raise Unavailable(
            f"no peer gives chunk {chunk_id.hex()}", hint="Try again when more of the peers are there."
        )
