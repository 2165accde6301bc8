"""One session while it is being recorded.

*Bulk* sources (files) can be read again: they go in whole chunks straight to the store. *Live* sources
(terminals, pipes) cannot: every piece is an encrypted frame in the journal before it is acknowledged, and
becomes part of a chunk when that is full, or 30 s old.

Order of a seal: blob durable → fact (chunks and the checkpoint that covers them) durable in the journal →
one index commit → frames dropped. A fact is never taken back, so nothing is ever overwritten.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from kernel import aead
from kernel.domains import Domain, Label
from kernel.errors import Conflict, LucidError, UsageError
from kernel.merkle import Frontier, compute_leaf
from kernel.uninterrupted import end_task
from lucid.v1 import data_pb2, identity_pb2, session_pb2
from session import tables
from session.access import RecorderKeys, encrypt_message
from session.catalog import describe_done
from session.checkpoint import sign_checkpoint
from session.chunker import Chunker
from session.encryptor import ChunkFlag
from session.ledger import Ledger
from session.live_tail import MAX_FRAME_BYTES, LiveTail, derive_frame_key, encrypt_frame
from session.manifest import MAX_GAPS, build_manifest
from session.merkle_builder import build_session_tree
from session.pipeline import SealPipeline
from session.ports import SessionPorts, Source
from session.preset import SessionPreset

MAX_POSITION = 1 << 60
"""No source is longer, in bytes."""

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Recorder:
    """What all recordings of a node share.

    Attributes:
        ports: the world.
        keys: of this device.
        preset: parameters.
        slots: bounds the chunks of bulk sources in memory.
        live_slots: bounds those of live sources, which must not wait for somebody's slow file.
    """

    ports: SessionPorts
    keys: RecorderKeys
    preset: SessionPreset
    slots: asyncio.Semaphore
    live_slots: asyncio.Semaphore


def _do_nothing() -> None:
    pass


class Recording:
    """A session that is open for recording. One task at a time may append, copy, finish or interrupt.

    Attributes:
        session_id: 16 bytes.
        resume_token: lets the same client go on after a lost connection.
        metadata: as it was given at the start.
        position: the next source byte that is expected; bytes that were lost count.
    """

    def __init__(
        self,
        recorder: Recorder,
        ledger: Ledger,
        entries: Sequence[session_pb2.ChunkEntry],
        secret: bytes,
        resume_token: bytes,
        metadata: session_pb2.Metadata,
    ) -> None:
        row = ledger.known_row
        self.session_id = ledger.session_id
        self.resume_token = resume_token
        self.metadata = metadata
        self.position = row.plaintext_bytes + row.lost_bytes
        self._recorder = recorder
        self._ports = recorder.ports
        self._ledger = ledger
        self._tree = build_session_tree(entry.chunk_id for entry in entries)
        self._secret = secret
        self._frame_key = derive_frame_key(secret, self.session_id)
        self._gap, self._lost_bytes = row.pending_gap, row.pending_lost_bytes
        self._next_index = row.chunk_count
        self._tail = LiveTail(row.chunk_count)
        self._sealing: list[LiveTail] = []
        self._final = bool(entries and entries[-1].flags & ChunkFlag.FINAL)
        self._ended = False
        self._unsynced = False
        self._changed = False
        self._checkpoint_ns = self._ports.clock.monotonic_ns()
        self._lock = asyncio.Lock()
        self._failure: BaseException | None = None
        self._tending: asyncio.Task[None] | None = None
        self._on_end: Callable[[], None] = _do_nothing
        self._slots = recorder.live_slots if row.opened.live else recorder.slots
        self._pipeline = SealPipeline(self._ports, self._slots, secret, self.session_id, self._commit_chunks)

    @property
    def row(self) -> session_pb2.SessionRow:
        """The index row. Not to be changed."""
        return self._ledger.known_row

    @property
    def live(self) -> bool:
        """True if the source cannot be read again: `append`; False: `copy`."""
        return self.row.opened.live

    @property
    def ended(self) -> bool:
        """True if the final chunk is there: nothing but `finish` can follow."""
        return self._final

    @property
    def started_ns(self) -> int:
        """Unix nanoseconds of the start of the session."""
        return self.row.opened.started_ns

    def start(self, on_end: Callable[[], None]) -> None:
        """Begins to sync, seal and checkpoint by time; `on_end` is called when the recording has ended."""
        self._on_end = on_end
        if self.live:
            self._tending = asyncio.create_task(self._tend())

    async def append(self, position: int, data: bytes) -> int:
        """Takes bytes of a live source.

        Args:
            position: of the first byte of `data`, counted from the start of the source. What is there already
                is left out; a position beyond `self.position` says that the bytes between are lost.
            data: the bytes.

        Returns:
            The position up to which bytes survive the death of this process.

        Raises:
            Conflict: the session has ended, or is not live.
            StoreError: nothing of `data` beyond `self.position` was taken.
        """
        async with self._lock:
            self._check_open(live=True)
            if position + len(data) > (self.position if self._final else MAX_POSITION):
                raise UsageError("nothing can follow the end of a source")
            try:
                await self._take(position, data)
            except BaseException as error:  # what is in the journal now, only a new start can tell
                self._failure = error
                raise
            return self.position

    async def _take(self, position: int, data: bytes) -> None:
        if position > self.position:
            await self._mark_gap(position - self.position)
        fresh = memoryview(data)[self.position - position :]
        for start in range(0, len(fresh), MAX_FRAME_BYTES):
            await self._append_frame(bytes(fresh[start : start + MAX_FRAME_BYTES]))

    async def copy(self, source: Source, on_progress: OnProgress) -> None:
        """Takes a bulk source from `self.position` to its end.

        Args:
            source: the bytes.
            on_progress: called with plaintext bytes and stored bytes of the session so far.

        Raises:
            Conflict: the session has ended, or is live.
            StoreError: what is committed stays; the session can go on from there.
        """
        self._check_open(live=False)
        chunker = Chunker(source, self._recorder.preset.chunk_bytes)
        while not self._final:
            await self._pipeline.reserve()
            try:
                piece = await chunker.next()
                self._check_open(live=False)
            except BaseException:
                self._pipeline.give_back()
                raise
            if piece is None:
                self._pipeline.give_back()
                break
            self._submit(piece.data, ChunkFlag.FINAL if piece.final else ChunkFlag(0))
            self.position += len(piece.data)
            on_progress(self.row.plaintext_bytes, self.row.stored_bytes)
        await self._pipeline.drain()
        on_progress(self.row.plaintext_bytes, self.row.stored_bytes)

    async def finish(self, ending: session_pb2.Ending) -> data_pb2.RecordingDone:
        """Ends the session well: final chunk, manifest.

        Raises:
            Conflict: the session has ended already, or its bulk source has not.
            StoreError: the session can be interrupted and finalized later.
        """
        await self._stop_tending()
        async with self._lock:
            self._check_open(live=self.live)
            if self.live and not self._final:
                await self._seal_tail(ChunkFlag(0))
                await self._submit_empty(ChunkFlag.FINAL)
            if not self._final:
                raise Conflict("the source has not been read to its end")
            return await self._close(ending)

    async def finalize(self, ending: session_pb2.Ending) -> data_pb2.RecordingDone:
        """Ends an interrupted session with an empty final chunk that marks the gap."""
        async with self._lock:
            self._gap = True
            if not self._final:
                await self._submit_empty(ChunkFlag.FINAL)
            return await self._close(ending)

    async def interrupt(self, reason: str) -> None:
        """Stops recording without an end: what was acknowledged is sealed as far as the disk allows.

        If the disk fails, everything acknowledged still stands in the journal.
        """
        self._failure = self._failure or Conflict(f"the recording was interrupted: {reason}")
        await self._stop_tending()
        async with self._lock:
            if self._ended:
                return
            try:
                await self._leave(reason)
            finally:
                self._end()

    async def _leave(self, reason: str) -> None:
        with suppress(LucidError):
            await self._sync_tails()
        with suppress(LucidError):
            if self.live:
                await self._seal_tail(ChunkFlag.TIMED)
            await self._pipeline.drain()
        if self.row.state == session_pb2.STATE_RECORDING:
            now_ns = self._ports.clock.wall_ns()
            interrupted = session_pb2.Interrupted(time_ns=now_ns, reason=reason, last_seen_ns=now_ns)
            with suppress(LucidError):
                await self._ledger.record(session_pb2.Fact(interrupted=interrupted))

    def _end(self) -> None:
        self._ended = True
        self._on_end()

    @property
    def failure(self) -> BaseException | None:
        """Why nothing more can be recorded; None while all is well."""
        return self._failure or self._pipeline.failure

    def _check_open(self, *, live: bool) -> None:
        if self.failure is not None:
            raise self.failure
        if self.row.state != session_pb2.STATE_RECORDING:
            raise Conflict("the session is not being recorded")
        if live != self.live:
            raise Conflict("this is not how the source of this session is recorded")

    async def _append_frame(self, piece: bytes) -> None:
        if self._tail.size_bytes + len(piece) > self._recorder.preset.chunk_bytes:
            await self._seal_tail(ChunkFlag(0))
        tail = self._tail
        nonce = self._ports.entropy.draw(aead.NONCE_BYTES)
        frame = encrypt_frame(self._frame_key, self.session_id, tail.index, tail.frames, nonce, piece)
        await self._ports.journal.append(tables.tail_stream(self.session_id, tail.index), [frame])
        tail.add(frame, piece, self._ports.clock.monotonic_ns())
        self.position += len(piece)
        self._unsynced = self._changed = True

    async def _mark_gap(self, lost_bytes: int) -> None:
        if len(self.row.gaps) >= MAX_GAPS:
            raise Conflict(f"the recording has {MAX_GAPS} gaps already")
        await self._seal_tail(ChunkFlag.TIMED)
        await self._pipeline.drain()
        resumed = session_pb2.Resumed(time_ns=self._ports.clock.wall_ns(), lost_bytes=lost_bytes, gap=True)
        await self._ledger.record(session_pb2.Fact(resumed=resumed))
        self._gap = True
        self._lost_bytes += lost_bytes
        self.position += lost_bytes

    async def _seal_tail(self, flags: ChunkFlag) -> None:
        """Turns the live frames into a chunk; returns before it is stored."""
        tail = self._tail
        if not tail.frames:
            return
        await self._pipeline.reserve()
        self._sealing.append(tail)
        self._tail = LiveTail(tail.index + 1)
        self._submit(b"".join(tail.pieces), flags)
        tail.pieces.clear()

    async def _submit_empty(self, flags: ChunkFlag) -> None:
        await self._pipeline.reserve()
        self._submit(b"", flags)

    def _submit(self, plaintext: bytes, flags: ChunkFlag) -> None:
        if self._gap:
            flags |= ChunkFlag.GAP
        self._final = ChunkFlag.FINAL in flags
        self._pipeline.submit(self._next_index, plaintext, flags, self._lost_bytes)
        self._next_index += 1
        self._gap, self._lost_bytes = False, 0

    async def _commit_chunks(self, entries: list[session_pb2.ChunkEntry]) -> None:
        tree = self._tree.copy()

        async def make(row: session_pb2.SessionRow) -> session_pb2.Fact:
            for entry in entries:
                tree.append(compute_leaf(entry.chunk_id))
            checkpoint = await self._make_checkpoint(row, tree)
            return session_pb2.Fact(sealed=session_pb2.Sealed(chunks=entries, checkpoint=checkpoint))

        await self._ledger.record_made(make)
        self._tree = tree
        self._sealing = [tail for tail in self._sealing if tail.index >= tree.count]
        if self.live:
            for entry in entries:
                await self._ports.journal.drop(tables.tail_stream(self.session_id, entry.index))

    async def _make_checkpoint(self, row: session_pb2.SessionRow, tree: Frontier) -> identity_pb2.Signed:
        """Signs what is durable: the chunks in the tree, and the live frames behind them, synced first."""
        tails = [tail for tail in (*self._sealing, self._tail) if tail.frames and tail.index >= tree.count]
        digests = [tail.digest() for tail in tails]
        self._changed = self._unsynced = False
        await self._sync(tails)  # not those that the tree holds: their streams may have failed
        self._checkpoint_ns = self._ports.clock.monotonic_ns()
        keys, time_ns = self._recorder.keys, self._ports.clock.wall_ns()
        return sign_checkpoint(keys, row, tree, digests, time_ns)

    async def _sync_tails(self) -> None:
        """Makes all frames durable that were appended before this call."""
        self._unsynced = False
        await self._sync(tail for tail in (*self._sealing, self._tail) if tail.frames)

    async def _sync(self, tails: Iterable[LiveTail]) -> None:
        for tail in tails:
            await self._ports.journal.sync(tables.tail_stream(self.session_id, tail.index))

    async def _tend(self) -> None:
        """Keeps the promises that go by time, until the first failure."""
        preset, clock = self._recorder.preset, self._ports.clock
        try:
            while True:
                await clock.sleep(preset.sync_every_s)
                self._check_open(live=True)
                quiet_ns = clock.monotonic_ns() - self._checkpoint_ns
                if self._changed and quiet_ns + preset.sync_every_s * 1e9 > preset.checkpoint_every_s * 1e9:
                    await self._ledger.record_made(self._make_checkpoint_fact)
                elif self._unsynced:
                    await self._sync_tails()
                # Never waits for a slot: what waits for the disk must not keep frames from being synced.
                age_ns = clock.monotonic_ns() - self._tail.first_ns
                is_due = bool(self._tail.frames) and age_ns >= preset.seal_after_s * 1e9
                if is_due and not self._lock.locked() and not self._slots.locked():
                    async with self._lock:
                        await self._seal_tail(ChunkFlag.TIMED)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # raised again to whoever appends, or finishes, next
            self._failure = error
            if isinstance(error, LucidError):  # the source may be quiet: nobody may come for a long time
                async with self._lock:
                    await self._leave(f"the recording failed: {error}")

    async def _make_checkpoint_fact(self, row: session_pb2.SessionRow) -> session_pb2.Fact:
        return session_pb2.Fact(checkpoint=await self._make_checkpoint(row, self._tree))

    async def _stop_tending(self) -> None:
        if self._tending is not None:
            await end_task(self._tending)
            self._tending = None

    async def _close(self, ending: session_pb2.Ending) -> data_pb2.RecordingDone:
        """Waits for the last chunks and writes the manifest over them."""
        await self._pipeline.drain()
        nonce = self._ports.entropy.draw(aead.NONCE_BYTES)
        encrypted = encrypt_message(self._secret, Label.ENDING, self.session_id, nonce, ending)

        async def make(row: session_pb2.SessionRow) -> session_pb2.Fact:
            keys = self._recorder.keys
            document = build_manifest(keys, row, encrypted).encode()
            signed = keys.device.sign(Domain.MANIFEST, keys.network, document)
            return session_pb2.Fact(closed=session_pb2.Closed(manifest=signed, ending=encrypted))

        await self._ledger.record_made(make)
        self._end()
        return describe_done(self.session_id, self.row)
