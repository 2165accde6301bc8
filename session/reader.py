"""Reading a recording back, and checking it.

Every chunk is checked against the chunk ID that was signed, then decrypted; several at a time. What stands
behind the last sealed chunk comes from the live frames. A recording may be read while it grows.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from blake3 import blake3

from kernel.domains import Domain
from kernel.errors import InvalidRecord, LucidError, NotFound, Reason, StoreDamaged
from kernel.signing import verify_signed
from lucid.v1 import control_pb2, data_pb2, session_pb2
from session.access import RecorderKeys, open_secret
from session.catalog import Catalog
from session.checkpoint import CheckpointSeries, compute_checkpoint_hash
from session.control_policy import compute_policy_hash, decode_policy
from session.encryptor import ChunkFlag, decrypt_chunk
from session.live_tail import decrypt_frame, derive_frame_key, find_tail_damage, list_tails
from session.manifest import MAX_GAPS, decode_manifest
from session.merkle_builder import compute_blob_id
from session.ports import SessionPorts, Sink

CHECKPOINTS_AT_ONCE = 1000
FOLLOW_EVERY_S = 0.1

OnProgress = Callable[[int, int], None]
IsRunning = Callable[[bytes], bool]


class NullSink:
    """Takes everything and keeps nothing."""

    random_access = True

    async def write(self, offset: int, data: bytes) -> None:
        """Forgets `data`."""


class Reader:
    """Reads and verifies sessions."""

    def __init__(
        self,
        ports: SessionPorts,
        keys: RecorderKeys,
        catalog: Catalog,
        parallel: int,
        is_running: IsRunning,
    ) -> None:
        """`parallel`: chunks in memory at once. `is_running` tells if a session is being recorded now."""
        self._ports = ports
        self._keys = keys
        self._catalog = catalog
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
            Locked: this device has no key that reads it.
        """
        row = self._catalog.row(session_id)
        copier = _Copier(self._ports, self._catalog, session_id, open_secret(self._keys, row.opened), sink)
        copier.partial = partial
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

    async def verify(self, session_id: bytes, on_progress: OnProgress) -> control_pb2.VerifyResult:
        """Checks all that was signed about a session against all that is stored of it."""
        row = self._catalog.row(session_id)
        result = control_pb2.VerifyResult(
            session_id=session_id,
            state=row.state,
            root=row.root,
            chunks=row.chunk_count,
            plaintext_bytes=row.plaintext_bytes,
            checkpoints=row.checkpoint_count,
            gaps=len(row.gaps) + row.pending_gap,
            lost_bytes=row.lost_bytes,
        )
        for check in (self._check_opening, self._check_checkpoints, self._check_manifest):
            try:
                await check(row, result)
            except (InvalidRecord, StoreDamaged) as error:
                result.findings.append(data_pb2.Finding(what=str(error)))
        copier = _Copier(
            self._ports, self._catalog, session_id, open_secret(self._keys, row.opened), NullSink()
        )
        copier.partial = True
        await copier.copy_chunks(row.chunk_count, self._parallel, row.plaintext_bytes, on_progress)
        await copier.copy_frames()
        result.findings.extend(copier.findings)
        result.valid = not result.findings
        return result

    async def _check_opening(self, row: session_pb2.SessionRow, _result: control_pb2.VerifyResult) -> None:
        """The policy is signed by the recording device, for this session."""
        policy = verify_signed(
            row.opened.policy, Domain.POLICY, self._keys.network, signer=row.opened.policy.public_key
        )
        if decode_policy(policy).session_id != row.opened.session_id:
            raise InvalidRecord(Reason.WRONG_SESSION, "the control policy belongs to another session")

    async def _check_checkpoints(self, row: session_pb2.SessionRow, result: control_pb2.VerifyResult) -> None:
        """All checkpoints, in order, over the chunk IDs; the last one over the live frames too."""
        session_id = row.opened.session_id
        chunk_ids = [entry.chunk_id for entry in self._catalog.chunks(session_id, row.chunk_count)]
        series = CheckpointSeries(session_id, self._keys.network, row.opened.policy.public_key)
        start = 0
        while start < row.checkpoint_count:
            page = self._catalog.checkpoints(session_id, start, CHECKPOINTS_AT_ONCE)
            if not page:
                raise StoreDamaged(f"checkpoint {start} of {row.checkpoint_count} is missing")
            for signed in page[: row.checkpoint_count - start]:
                series.add(signed, chunk_ids)
            start += len(page)
            await self._ports.clock.sleep(0)
        signed_count = series.last.chunk_count if series.last else 0
        if signed_count != row.chunk_count:
            raise InvalidRecord(
                Reason.NOT_CONSISTENT, f"{row.chunk_count} chunks are stored, {signed_count} were signed"
            )
        if series.last is not None:
            if series.last_hash != compute_checkpoint_hash(row.last_checkpoint.payload):
                raise InvalidRecord(Reason.NOT_CONSISTENT, "the index names another last checkpoint")
            result.checkpoint_ns = series.last.time_ns
            damage = await find_tail_damage(self._ports.journal, session_id, series.last)
            # Sealed meanwhile: a newer checkpoint covers these bytes as a chunk.
            if damage and self._catalog.row(session_id).chunk_count == row.chunk_count:
                raise InvalidRecord(Reason.WRONG_HASH, damage)

    async def _check_manifest(self, row: session_pb2.SessionRow, _result: control_pb2.VerifyResult) -> None:
        """The manifest is signed by the recording device and tells of this session what is stored of it."""
        if not row.HasField("closed"):
            return
        device = row.opened.policy.public_key
        document = verify_signed(row.closed.manifest, Domain.MANIFEST, self._keys.network, signer=device)
        manifest, opened = decode_manifest(document), row.opened
        expected = {
            "session ID": (manifest.session_id, opened.session_id),
            "network": (manifest.network, self._keys.network.id),
            "device": (manifest.device, device),
            "session key": (manifest.session_key, opened.session_key),
            "start": (manifest.started_ms, opened.started_ns // 1_000_000),
            "number of chunks": (manifest.chunk_count, row.chunk_count),
            "root": (manifest.root, row.root),
            "gaps": (manifest.gaps, tuple(row.gaps[:MAX_GAPS])),
            "control policy": (manifest.policy_hash, compute_policy_hash(opened.policy.payload)),
            "metadata": (manifest.metadata_hash, blake3(opened.metadata).digest()),
            "ending": (manifest.ending_hash, blake3(row.closed.ending).digest()),
            "last checkpoint": (
                manifest.checkpoint_hash,
                compute_checkpoint_hash(row.last_checkpoint.payload),
            ),
            "number of checkpoints": (manifest.checkpoint_count, row.checkpoint_count),
        }
        for what, (signed, stored) in expected.items():
            if signed != stored:
                raise InvalidRecord(
                    Reason.NOT_CONSISTENT, f"the manifest was signed over another {what} than is stored"
                )


class _Copier:
    """Copies one session, remembering how far it came."""

    def __init__(
        self, ports: SessionPorts, catalog: Catalog, session_id: bytes, secret: bytes, sink: Sink
    ) -> None:
        self._ports = ports
        self._catalog = catalog
        self._session_id = session_id
        self._secret = secret
        self._frame_key = derive_frame_key(secret, session_id)
        self._sink = sink
        self._next_index = 0
        self._given: dict[int, int] = {}  # plaintext bytes of chunks that their frames have given already
        self.partial = False
        self.offset = 0
        self.findings: list[data_pb2.Finding] = []

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
        entry = self._catalog.chunk(self._session_id, self._next_index)
        skip, offset = self._given.pop(self._next_index, 0), self.offset
        self._next_index += 1
        self.offset += entry.plaintext_bytes - skip
        after = None if self._sink.random_access else previous
        return asyncio.create_task(self._copy_chunk(entry, skip, offset, after))

    async def _copy_chunk(
        self, entry: session_pb2.ChunkEntry, skip: int, offset: int, after: Awaitable[None] | None
    ) -> None:
        try:
            plaintext = await self._read_chunk(entry)
        except (InvalidRecord, StoreDamaged, NotFound) as error:
            self._report(entry.index, error)
            plaintext = b""
        if after is not None:
            await after
        await self._sink.write(offset, plaintext[skip:])

    async def _read_chunk(self, entry: session_pb2.ChunkEntry) -> bytes:
        blob = await self._ports.blobs.read(entry.chunk_id)
        plaintext, flags = await self._ports.offload.run(
            open_chunk, self._secret, self._session_id, entry.index, entry.chunk_id, blob
        )
        if len(plaintext) != entry.plaintext_bytes or flags != ChunkFlag(entry.flags):
            raise InvalidRecord(Reason.NOT_CONSISTENT, "the index tells of another chunk")
        return plaintext

    async def copy_frames(self) -> None:
        """Copies the live frames behind the sealed chunks, as far as they were not copied before."""
        for expected, (index, stream) in enumerate(
            list_tails(self._ports.journal, self._session_id, self._next_index), self._next_index
        ):
            contents = await self._ports.journal.read(stream)
            if index != expected or self._catalog.row(self._session_id).chunk_count > index:
                return  # sealed meanwhile: the chunk has it
            for what in contents.damaged:
                self._report(index, StoreDamaged(f"live frames are damaged: {what}"))
            await self._copy_tail(index, contents.records)

    async def _copy_tail(self, index: int, frames: list[tuple[int, bytes]]) -> None:
        skip = self._given.get(index, 0)
        for number, frame in frames:
            try:
                piece = decrypt_frame(self._frame_key, self._session_id, index, number, frame)
            except InvalidRecord as error:
                self._report(index, error)
                continue
            fresh = piece[skip:]
            skip = max(0, skip - len(piece))
            await self._sink.write(self.offset, fresh)
            self.offset += len(fresh)
            self._given[index] = self._given.get(index, 0) + len(fresh)

    def _report(self, index: int, error: LucidError) -> None:
        if not self.partial:
            raise error
        self.findings.append(data_pb2.Finding(has_index=True, index=index, what=str(error)))


def open_chunk(
    secret: bytes, session_id: bytes, index: int, chunk_id: bytes, blob: bytes
) -> tuple[bytes, ChunkFlag]:
    """Checks a blob against its chunk ID and decrypts it: the work that needs a processor.

    Raises:
        InvalidRecord: the blob is damaged or not this chunk.
    """
    if compute_blob_id(blob) != chunk_id:
        raise InvalidRecord(Reason.WRONG_HASH, f"chunk {index} is not what was signed")
    return decrypt_chunk(secret, session_id, index, blob)
