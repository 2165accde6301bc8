"""Chunks on their way into the store: encoded side by side, committed in index order, several at a time.

A slot is taken before a chunk's plaintext is handed over and given back when its blob is durable, so memory
is bounded and a slow disk slows the source. After the first failure nothing more is taken and nothing
behind the failed chunk is committed; blobs that were stored out of order are removed.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

from kernel import aead
from kernel.chunk_id import compute_blob_id
from kernel.errors import LucidError, StoreError
from lucid.v1 import session_pb2
from session.encryptor import ChunkFlag, EncryptedChunk, encrypt_chunk
from session.ports import SessionPorts

Commit = Callable[[list[session_pb2.ChunkEntry]], Awaitable[None]]


class SealPipeline:
    """The chunks of one recording that are not committed yet.

    Attributes:
        failure: what went wrong with the first chunk that could not be committed.
    """

    def __init__(
        self,
        ports: SessionPorts,
        slots: asyncio.Semaphore,
        secret: bytes,
        session_id: bytes,
        commit: Commit,
    ) -> None:
        """`slots` bounds the chunks in memory, over all recordings; `commit` makes them part of theirs."""
        self._ports = ports
        self._slots = slots
        self._secret = secret
        self._session_id = session_id
        self._commit = commit
        self._encoding: deque[asyncio.Task[session_pb2.ChunkEntry]] = deque()
        self._committer: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None

    async def reserve(self) -> None:
        """Waits for room for one more chunk; `submit` must follow, or `give_back`."""
        self._raise_failure()
        await self._slots.acquire()
        if self.failure is not None:
            self._slots.release()
            self._raise_failure()

    def give_back(self) -> None:
        """Returns a reserved slot unused."""
        self._slots.release()

    def submit(self, index: int, plaintext: bytes, flags: ChunkFlag, lost_bytes: int = 0) -> None:
        """Starts to encode the chunk `index`; they must come in order, one per reserved slot."""
        nonce = self._ports.entropy.draw(aead.NONCE_BYTES)
        entry = session_pb2.ChunkEntry(
            index=index, flags=flags, plaintext_bytes=len(plaintext), lost_bytes=lost_bytes
        )
        self._encoding.append(asyncio.create_task(self._seal(entry, plaintext, nonce)))
        if self._committer is None:
            self._committer = asyncio.create_task(self._commit_in_order())

    async def drain(self) -> None:
        """Returns when all that was submitted is committed.

        Raises:
            LucidError: what went wrong with the first chunk that could not be.
        """
        if self._committer is not None:
            await asyncio.shield(self._committer)
        self._raise_failure()

    async def _seal(
        self, entry: session_pb2.ChunkEntry, plaintext: bytes, nonce: bytes
    ) -> session_pb2.ChunkEntry:
        try:
            flags = ChunkFlag(entry.flags)
            chunk, chunk_id = await self._ports.offload.run(
                seal_chunk, self._secret, self._session_id, entry.index, flags, nonce, plaintext
            )
            del plaintext
            entry.chunk_id, entry.stored_bytes = chunk_id, chunk.size_bytes
            await self._ports.blobs.put(chunk_id, [chunk.header, chunk.ciphertext])
        finally:
            self._slots.release()
        return entry

    async def _commit_in_order(self) -> None:
        """Runs while there are chunks; takes along all that are ready behind the first one."""
        try:
            while self._encoding:
                ready = [await self._encoding[0]]
                self._encoding.popleft()
                while self._encoding and self._encoding[0].done() and not self._encoding[0].exception():
                    ready.append(self._encoding.popleft().result())
                await self._commit(ready)
        except BaseException as error:  # raised again to whoever reserves or drains next
            self.failure = _describe(error)
            await self._discard()
        finally:
            self._committer = None

    async def _discard(self) -> None:
        """Removes the blobs of chunks that will never be committed."""
        results = await asyncio.gather(*self._encoding, return_exceptions=True)
        self._encoding.clear()
        orphans = [entry.chunk_id for entry in results if isinstance(entry, session_pb2.ChunkEntry)]
        with suppress(LucidError):  # what stays is swept at the next start
            await self._ports.blobs.remove(orphans)

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise self.failure


def _describe(error: BaseException) -> BaseException:
    """What went wrong, as an error that callers expect."""
    if isinstance(error, LucidError) or not isinstance(error, Exception | asyncio.CancelledError):
        return error
    return StoreError(f"a chunk could not be stored: {error!r}")


def seal_chunk(
    secret: bytes, session_id: bytes, index: int, flags: ChunkFlag, nonce: bytes, plaintext: bytes
) -> tuple[EncryptedChunk, bytes]:
    """A chunk, encrypted, and its ID: the work on a chunk that needs a processor."""
    chunk = encrypt_chunk(secret, session_id, index, flags, nonce, plaintext)
    return chunk, compute_blob_id(chunk.ciphertext, chunk.header)
