"""Reading a recording back.

Every chunk is checked against the chunk ID that was signed, then decrypted; several at a time. What stands
behind the last sealed chunk comes from the live frames. A recording may be read while it grows.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kernel.chunk_id import compute_blob_id
from kernel.errors import InvalidRecord, LucidError, NotFound, Reason, StoreDamaged, StoreError, Unavailable
from lucid.v1 import data_pb2, session_pb2
from session.access import RecorderKeys, load_secret
from session.catalog import Catalog
from session.encryptor import HEADER_BYTES, ChunkFlag, decode_header, decrypt_chunk
from session.healing import Healer
from session.live_tail import decrypt_frame, derive_frame_key, list_tails
from session.ports import SessionPorts, Sink

FOLLOW_EVERY_S = 0.1
MAX_FINDINGS = 1000

OnProgress = Callable[[int, int], None]
IsRunning = Callable[[bytes], bool]


class Reader:
    """Reads sessions."""

    def __init__(
        self,
        ports: SessionPorts,
        keys: RecorderKeys,
        catalog: Catalog,
        healer: Healer,
        parallel: int,
        is_running: IsRunning,
    ) -> None:
        """`parallel`: chunks in memory at once. `is_running` tells if a session is being recorded now."""
        self._ports = ports
        self._keys = keys
        self._catalog = catalog
        self._healer = healer
        self._parallel = parallel
        self._is_running = is_running

    async def get(
        self, session_id: bytes, sink: Sink, *, partial: bool, follow: bool, on_progress: OnProgress
    ) -> data_pb2.GetDone:
        """Writes the plaintext of a session into `sink`.

        Args:
            session_id: the session.
            sink: where it goes.
            partial: leave out what is damaged, as zeros where the sink has random access, and report it.
            follow: go on while it is being recorded.
            on_progress: called with plaintext bytes done and known so far.

        Raises:
            InvalidRecord: damaged, and not `partial`.
            StoreDamaged: missing, and not `partial`.
            Unavailable: missing here, and whoever may have it does not give it just now; and not `partial`.
            Locked: this device has no key that reads it.
        """
        self._catalog.row(session_id)
        secret = await load_secret(self._ports.journal, self._keys, session_id)
        copier = Copier(self._ports, self._catalog, self._healer, session_id, secret, sink, partial=partial)
        while True:
            running = self._is_running(session_id)
            row = self._catalog.row(session_id)
            await copier.copy_chunks(row.chunk_count, self._parallel, row.plaintext_bytes, on_progress)
            await copier.copy_frames()
            on_progress(copier.offset, max(copier.offset, row.plaintext_bytes))
            if not follow or not running:
                break
            await self._ports.clock.sleep(FOLLOW_EVERY_S)
        return data_pb2.GetDone(plaintext_bytes=copier.offset, findings=copier.findings)


@dataclass(slots=True)
class _Given:
    """What the frames of a chunk that is not sealed have given so far."""

    journal_bytes: int = 0
    frames: int = 0
    plaintext_bytes: int = 0


class Copier:
    """Copies one session into a sink, remembering how far it came.

    Attributes:
        offset: plaintext bytes so far.
        findings: what was left out because it is damaged.
        healed: what was damaged here, and was mended.
    """

    def __init__(
        self,
        ports: SessionPorts,
        catalog: Catalog,
        healer: Healer,
        session_id: bytes,
        secret: bytes | None,
        sink: Sink,
        *,
        partial: bool,
    ) -> None:
        """Without a `secret` chunks are only checked against their IDs, and nothing is written."""
        self._ports = ports
        self._catalog = catalog
        self._healer = healer
        self._session_id = session_id
        self._secret = secret
        self._sink = sink
        self._partial = partial
        self._next_index = 0
        self._given: dict[int, _Given] = {}
        self.offset = 0
        self.findings: list[data_pb2.Finding] = []
        self.healed: list[data_pb2.Finding] = []

    async def copy_chunks(self, count: int, parallel: int, total: int, on_progress: OnProgress) -> None:
        """Copies sealed chunks up to `count`, at most `parallel` in memory, in order."""
        reading: deque[asyncio.Task[None]] = deque()
        previous: asyncio.Task[None] | None = None
        try:
            while self._next_index < count or reading:
                if self._next_index < count and len(reading) < parallel:
                    previous = self._start_chunk(previous)
                    reading.append(previous)
                    continue
                await reading[0]
                reading.popleft()
                on_progress(self.offset, total)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    def _start_chunk(self, previous: asyncio.Task[None] | None) -> asyncio.Task[None]:
        index = self._next_index
        self._next_index += 1
        skip, offset = self._given.pop(index, _Given()).plaintext_bytes, self.offset
        try:
            entry = self._catalog.chunk(self._session_id, index)
        except StoreDamaged as error:
            self._report(index, error)
            entry = session_pb2.ChunkEntry(index=index, plaintext_bytes=skip)
        self.offset += entry.plaintext_bytes - skip
        after = None if self._sink.random_access else previous
        return asyncio.create_task(self._copy_chunk(entry, skip, offset, after))

    async def _copy_chunk(
        self, entry: session_pb2.ChunkEntry, skip: int, offset: int, after: Awaitable[None] | None
    ) -> None:
        plaintext: bytes | memoryview = b""
        if entry.chunk_id:
            try:
                plaintext = await self._read_chunk(entry)
            except (InvalidRecord, StoreError, Unavailable) as error:
                self._report(entry.index, error)
        if after is not None:
            await after
        await self._sink.write(offset, plaintext[skip:])

    async def _read_chunk(self, entry: session_pb2.ChunkEntry) -> bytes | memoryview:
        try:
            header = await self._ports.blobs.read(entry.chunk_id, 0, HEADER_BYTES)
            ciphertext = await self._ports.blobs.read(entry.chunk_id, HEADER_BYTES)
            return await self._open_chunk(entry, header, ciphertext)
        except (InvalidRecord, StoreError, NotFound) as error:
            if isinstance(error, InvalidRecord) and error.reason != Reason.WRONG_HASH:
                raise  # it is what was signed: no copy is better
            may_miss = self._catalog.row(self._session_id).HasField("adopted")
            healed = await self._healer.heal(self._session_id, entry, may_miss=may_miss)
            if healed is None:
                if isinstance(error, NotFound):
                    raise StoreDamaged(f"chunk {entry.index} is missing") from error
                raise
        blob, finding = healed
        if finding is not None and len(self.healed) < MAX_FINDINGS:
            self.healed.append(finding)
        return await self._open_chunk(entry, blob[:HEADER_BYTES], blob[HEADER_BYTES:])

    async def _open_chunk(
        self, entry: session_pb2.ChunkEntry, header: bytes, ciphertext: bytes
    ) -> bytes | memoryview:
        if self._secret is None:
            await self._ports.offload.run(check_chunk, entry.index, entry.chunk_id, header, ciphertext)
            told = decode_header(header)
            if (told.session_id, told.index, told.flags) != (self._session_id, entry.index, entry.flags):
                raise InvalidRecord(Reason.NOT_CONSISTENT, "the index tells of another chunk")
            return b""
        plaintext, flags = await self._ports.offload.run(
            open_chunk, self._secret, self._session_id, entry.index, entry.chunk_id, header, ciphertext
        )
        if len(plaintext) != entry.plaintext_bytes or flags != ChunkFlag(entry.flags):
            raise InvalidRecord(Reason.NOT_CONSISTENT, "the index tells of another chunk")
        return plaintext

    async def copy_frames(self) -> None:
        """Copies the live frames behind the sealed chunks, as far as they were not copied before."""
        if self._secret is None:
            return
        key = derive_frame_key(self._secret, self._session_id)
        tails = list_tails(self._ports.journal, self._session_id, self._next_index)
        for expected, (index, stream) in enumerate(tails, self._next_index):
            given = self._given.setdefault(index, _Given())
            journal_bytes = self._ports.journal.size(stream)
            if journal_bytes == given.journal_bytes:
                continue
            try:
                contents = await self._ports.journal.read(stream)
            except StoreError as error:
                self._report(index, error)
                continue
            if index != expected or self._catalog.row(self._session_id).chunk_count > index:
                return  # sealed meanwhile: the chunk has it
            given.journal_bytes = journal_bytes
            for what in contents.damaged:
                self._report(index, StoreDamaged(f"live frames are damaged: {what}"))
            fresh = [(number, frame) for number, frame in contents.records if number >= given.frames]
            await self._copy_tail(key, index, fresh, given)

    async def _copy_tail(
        self, key: bytes, index: int, frames: list[tuple[int, bytes]], given: _Given
    ) -> None:
        for number, frame in frames:
            given.frames = number + 1
            try:
                piece = decrypt_frame(key, self._session_id, index, number, frame)
            except InvalidRecord as error:
                self._report(index, error)
                continue
            await self._sink.write(self.offset, piece)
            self.offset += len(piece)
            given.plaintext_bytes += len(piece)

    def _report(self, index: int, error: LucidError) -> None:
        if not self._partial:
            raise error
        finding = data_pb2.Finding(has_index=True, index=index, what=str(error))
        if finding not in self.findings and len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)


def check_chunk(index: int, chunk_id: bytes, header: bytes, ciphertext: bytes) -> None:
    """Checks the blob `header` ‖ `ciphertext` against its chunk ID.

    Raises:
        InvalidRecord: the blob is another one.
    """
    if compute_blob_id(ciphertext, header) != chunk_id:
        raise InvalidRecord(Reason.WRONG_HASH, f"chunk {index} is not what was signed")


def open_chunk(
    secret: bytes, session_id: bytes, index: int, chunk_id: bytes, header: bytes, ciphertext: bytes
) -> tuple[bytes | memoryview, ChunkFlag]:
    """Checks a blob against its chunk ID and decrypts it: the work that needs a processor.

    Raises:
        InvalidRecord: the blob is damaged or not this chunk.
    """
    check_chunk(index, chunk_id, header, ciphertext)
    return decrypt_chunk(secret, session_id, index, header, ciphertext)
