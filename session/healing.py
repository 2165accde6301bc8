"""Chunks that are missing or damaged here, brought back from whoever keeps a copy.

A blob under a chunk ID is never overwritten, so the damaged one is removed before the right one is stored. A
kill between the two leaves no blob, and the next reader brings it back again. What was checked is handed on
even if the disk does not take it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from kernel.chunk_id import compute_blob_id
from kernel.errors import NotFound, StoreError, Unavailable
from lucid.v1 import data_pb2, session_pb2
from session.ports import SessionPorts

OnHealed = Callable[[bytes, data_pb2.Finding], Awaitable[None]]


class Healer:
    """Brings chunks back."""

    def __init__(self, ports: SessionPorts, on_healed: OnHealed) -> None:
        """`on_healed` is told the session, and what was wrong with it."""
        self._ports = ports
        self._on_healed = on_healed
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    async def heal(
        self, session_id: bytes, entry: session_pb2.ChunkEntry, *, may_miss: bool
    ) -> tuple[bytes, data_pb2.Finding | None] | None:
        """The right blob of a chunk whose blob here is not, and what there is to say about it.

        Args:
            session_id: the session.
            entry: the chunk.
            may_miss: the session came from another node, and its chunks only come when they are read: a
                missing one is nothing to speak of.

        Returns:
            None if nobody has it.

        Raises:
            Unavailable: somebody may have it, and does not give it just now.
        """
        lock = self._locks.get(entry.chunk_id)
        if lock is None:
            lock = self._locks[entry.chunk_id] = asyncio.Lock()
        async with lock:
            blob = await self._read(entry)
            if blob is not None and await self._is_right(entry, blob):
                return blob, _describe(entry, "it was damaged here and has just been mended")
            state = "missing" if blob is None else "damaged"
            try:
                fetched = await self._ports.fetch.fetch(
                    session_id, entry.index, entry.chunk_id, entry.stored_bytes
                )
            except Unavailable as error:
                what = f"chunk {entry.index} is {state} here and cannot be fetched just now: {error}"
                raise Unavailable(what, hint=error.hint) from error
            if fetched is None or not await self._is_right(entry, fetched.blob):
                return None
            failure = await self._store(entry, fetched.blob)
        if may_miss and blob is None and not failure:
            return fetched.blob, None
        finding = _describe(entry, f"it was {state} here and was brought back from {fetched.source}{failure}")
        await self._on_healed(session_id, finding)
        return fetched.blob, finding

    async def _read(self, entry: session_pb2.ChunkEntry) -> bytes | None:
        try:
            return await self._ports.blobs.read(entry.chunk_id)
        except NotFound:
            return None
        except StoreError:
            return b""

    async def _is_right(self, entry: session_pb2.ChunkEntry, blob: bytes) -> bool:
        if len(blob) != entry.stored_bytes:
            return False
        return await self._ports.offload.run(compute_blob_id, blob) == entry.chunk_id

    async def _store(self, entry: session_pb2.ChunkEntry, blob: bytes) -> str:
        """Puts the right blob into the place of the wrong one; what failed, in words."""
        try:
            await self._ports.blobs.remove([entry.chunk_id])
            await self._ports.blobs.put(entry.chunk_id, [blob])
        except StoreError as error:
            return f", but could not be stored: {error}"
        if await self._is_right(entry, await self._read(entry) or b""):
            return ""
        return ", but could not be stored: the bad blob is also kept for others"


def _describe(entry: session_pb2.ChunkEntry, what: str) -> data_pb2.Finding:
    return data_pb2.Finding(has_index=True, index=entry.index, what=what, healed=True)
