"""Who holds chunks that are not here: those of a session that was restored, or that this node has lost.

All connected peers are asked at once, for a group of chunks. What they say is a hint and no more: whoever
says that it holds a chunk gets a lease without the bytes, and must answer that nothing is missing.
"""

import asyncio
from collections.abc import Collection, Sequence

from dht.ports import OwnChunk, Peer, Peers, list_connected
from kernel.errors import LucidError
from lucid.v1 import chunk_pb2

Group = tuple[bytes, int]
"""Session ID, and number of the group in it."""


class HolderSearch:
    """Asks, and remembers what was said until peers come or go."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._found: dict[Group, dict[bytes, set[bytes]]] = {}

    def get(self, group: Group) -> dict[bytes, set[bytes]] | None:
        """Devices that hold the chunks of a group, by chunk ID; None if nobody was asked yet."""
        return self._found.get(group)

    async def ask(self, group: Group, chunks: Sequence[OwnChunk]) -> None:
        """Asks all connected peers; silence counts as a no."""
        found: dict[bytes, set[bytes]] = {chunk.chunk_id: set() for chunk in chunks}
        async with asyncio.TaskGroup() as tasks:
            for peer in list_connected(self._peers):
                tasks.create_task(_ask(peer, chunks, found))
        self._found[group] = found

    def forget_all(self) -> None:
        """Peers came or went."""
        self._found.clear()

    def disbelieve(self, group: Group, chunk_id: bytes, devices: Collection[bytes]) -> None:
        """These do not hold the chunk, whatever they said."""
        self._found.get(group, {}).get(chunk_id, set()).difference_update(devices)


async def _ask(peer: Peer, chunks: Sequence[OwnChunk], found: dict[bytes, set[bytes]]) -> None:
    request = chunk_pb2.HasChunksRequest(chunk_ids=[chunk.chunk_id for chunk in chunks])
    try:
        response = await peer.has_chunks(request)
    except LucidError:
        return
    for chunk, size_bytes in zip(chunks, response.sizes, strict=False):
        if size_bytes == chunk.size_bytes:
            found[chunk.chunk_id].add(peer.identity.device)
