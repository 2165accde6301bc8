"""The sessions of one node: opened, continued, finalized, read, verified, held, deleted, recovered.

One recording per session at a time; one ledger per session; a session ID is used once.
"""

import asyncio
import hmac
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from weakref import WeakValueDictionary

from blake3 import blake3

from kernel.domains import Label
from kernel.errors import Conflict, InvalidRecord, LucidError, NotFound, StoreDamaged, UsageError
from kernel.uninterrupted import run_to_end
from lucid.v1 import control_pb2, data_pb2, session_pb2
from session import tables
from session.access import SECRET_BYTES, RecorderKeys, decrypt_message, keep_secret, load_secret
from session.adoption import Adopter, Copy
from session.catalog import Catalog, describe_done, describe_tombstone, matches
from session.catching_up import catch_up
from session.erasure import bury, erase, is_expired
from session.healing import Healer
from session.ledger import Ledger
from session.opening import make_opening
from session.ports import SessionPorts, Sink
from session.preset import SessionPreset
from session.reader import OnProgress, Reader
from session.recording import Recorder, Recording
from session.recording_request import RecordingRequest
from session.recovery import Recovery
from session.state import check_continuable
from session.verifier import Verifier

TOKEN_BYTES = 32
MAX_RETAIN_S = 1000 * 366 * 86_400


class SessionManager:
    """All sessions of a node.

    Attributes:
        problems: what `start` could not mend, one line each.
        on_change: called when a session was opened, has ended, was adopted or was deleted.
    """

    def __init__(self, ports: SessionPorts, keys: RecorderKeys, preset: SessionPreset) -> None:
        self._ports = ports
        self._keys = keys
        self._preset = preset
        self._recorder = Recorder(
            ports,
            keys,
            preset,
            asyncio.Semaphore(preset.chunks_in_flight),
            asyncio.Semaphore(preset.live_chunks_in_flight),
        )
        self._catalog = Catalog(ports.records, ports.journal, keys)
        healer = Healer(ports, self._report)
        self._reader = Reader(ports, keys, self._catalog, healer, preset.chunks_in_flight, self._is_running)
        self._verifier = Verifier(ports, keys, self._catalog, healer, preset.chunks_in_flight)
        self._running: dict[bytes, Recording] = {}
        self._opening = 0
        self._ledgers: WeakValueDictionary[bytes, Ledger] = WeakValueDictionary()
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._recovery = Recovery(self._recorder, self._catalog, self._ledger)
        self._adopter = Adopter(ports, keys, self._catalog)
        self.problems: list[str] = []
        self.on_change: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Makes whole what a killed process left: sessions that were being recorded are interrupted now."""
        self.problems = await self._adopter.finish_all() + await self._recovery.run()

    async def settle_frames(self) -> None:
        """Makes chunks of what `start` left as live frames, because witnesses were to be asked first.

        A session that cannot be settled stays as it is, and is tried again when it is resumed or finalized.
        """
        for session_id in self.interrupted():
            if self._recovery.has_frames(session_id):
                async with self._lock(session_id):
                    if session_id not in self._running:
                        with suppress(LucidError):
                            await self._recovery.settle(self._ledger(session_id))

    async def stop(self) -> None:
        """Interrupts every running recording, after syncing it."""
        interrupts = [each.interrupt("the node was stopped") for each in self._running.values()]
        await asyncio.gather(*interrupts, return_exceptions=True)

    async def open_recording(self, request: RecordingRequest) -> Recording:
        """Starts a new session; its secret is durable before this returns.

        Raises:
            Conflict: as many recordings as allowed are running.
            StoreError: the session was not opened.
        """
        if not 0 <= request.retain_s <= MAX_RETAIN_S:
            raise UsageError(f"a recording cannot be retained for {request.retain_s} seconds")
        with self._taking_room():
            return self._run(await self._open(request))

    async def _open(self, request: RecordingRequest) -> Recording:
        entropy, now_ns = self._ports.entropy, self._ports.clock.wall_ns()
        secret, token = entropy.draw(SECRET_BYTES), entropy.draw(TOKEN_BYTES)
        opened = make_opening(self._keys, entropy, request, now_ns, secret, token)
        await keep_secret(self._ports.journal, opened.session_id, *opened.secrets)
        ledger = self._ledger(opened.session_id)
        await ledger.record(session_pb2.Fact(opened=opened))
        return Recording(self._recorder, ledger, (), secret, token, request.metadata)

    async def continue_recording(self, session_id: bytes, resume_token: bytes | None) -> Recording:
        """Goes on in a session that was interrupted.

        Args:
            session_id: the session.
            resume_token: as the session's client got it; None by order of the owner, which leaves a gap.

        Raises:
            NotFound: there is no such session, or the token is not its token.
            Conflict: it is complete, or is being recorded.
        """
        async with self._lock(session_id):
            row = self._catalog.row(session_id)
            check_continuable(row)
            if resume_token is not None:
                _check_token(row, resume_token)
            running = self._running.get(session_id)
            if running is not None:
                if resume_token is None:
                    raise Conflict("the session is being recorded")
                await running.interrupt("its client connected again")
            with self._taking_room():
                return self._run(await self._continue(session_id, resume_token))

    async def _continue(self, session_id: bytes, resume_token: bytes | None) -> Recording:
        ledger = self._ledger(session_id)
        entries = await self._recovery.settle(ledger)
        opened = ledger.known_row.opened
        secret = await load_secret(self._ports.journal, self._keys, session_id)
        metadata = decrypt_message(secret, Label.METADATA, session_id, opened.metadata, session_pb2.Metadata)
        token = resume_token or self._ports.entropy.draw(TOKEN_BYTES)
        resumed = session_pb2.Resumed(
            time_ns=self._ports.clock.wall_ns(),
            gap=resume_token is None,
            resume_token_hash=blake3(token).digest(),
        )
        await ledger.record(session_pb2.Fact(resumed=resumed))
        return Recording(self._recorder, ledger, entries, secret, token, metadata)

    def get_done(self, session_id: bytes, resume_token: bytes) -> data_pb2.RecordingDone | None:
        """What a client is told that lost its connection while it ended its session; None if that goes on.

        Raises:
            NotFound: there is no such session, or the token is not its token.
        """
        row = self._catalog.row(session_id)
        _check_token(row, resume_token)
        return describe_done(session_id, row) if row.state == session_pb2.STATE_COMPLETE else None

    async def finalize(self, session_id: bytes) -> control_pb2.SessionInfo:
        """Closes an interrupted session: an empty final chunk marks the gap.

        Raises:
            Conflict: the session is being recorded, or complete.
        """
        async with self._lock(session_id):
            if session_id in self._running:
                raise Conflict("the session is being recorded", hint="end it where it runs")
            row = self._catalog.row(session_id)
            if row.state == session_pb2.STATE_COMPLETE:
                raise Conflict("the session is complete")
            check_continuable(row)
            await run_to_end(self._finalize(session_id))
        return await self.info(session_id)

    async def _finalize(self, session_id: bytes) -> None:
        ledger = self._ledger(session_id)
        entries = await self._recovery.settle(ledger)
        row = ledger.known_row
        secret = await load_secret(self._ports.journal, self._keys, session_id)
        recording = Recording(self._recorder, ledger, entries, secret, b"", session_pb2.Metadata())
        seen_ns = row.interruptions[-1].last_seen_ns if row.interruptions else row.last_change_ns
        self._running[session_id] = recording
        try:
            await recording.finalize(session_pb2.Ending(ended_ns=seen_ns))
        finally:
            del self._running[session_id]
            self.on_change()

    def find(self, text: str) -> bytes:
        """The session that an ID, or the beginning of one, means. See `Catalog.find`."""
        return self._catalog.find(text)

    async def info(self, session_id: bytes) -> control_pb2.SessionInfo:
        """A session as its owner sees it.

        Raises:
            NotFound: there is none.
        """
        tombstone = self._catalog.tombstone(session_id)
        if tombstone is not None:
            return describe_tombstone(tombstone)
        row = self._catalog.row(session_id)
        return await self._catalog.describe(session_id, row, self._state(session_id, row))

    async def list(
        self,
        since_ns: int = 0,
        tags: Sequence[str] = (),
        state: "session_pb2.State.ValueType" = session_pb2.STATE_UNSPECIFIED,
        search: str = "",
    ) -> list[control_pb2.SessionInfo]:
        """Sessions by start, the newest last; deleted ones only if asked for."""
        if state == session_pb2.STATE_DELETED:
            infos = [describe_tombstone(tombstone) for tombstone in self._catalog.tombstones()]
        else:
            infos = [
                await self._catalog.describe(session_id, row, self._state(session_id, row))
                for session_id, row in self._catalog.rows([])
            ]
        found = [
            info for info in infos if matches(info, since_ns=since_ns, tags=tags, state=state, search=search)
        ]
        return sorted(found, key=lambda info: (info.started_ns, info.session_id))

    def interrupted(self) -> Sequence[bytes]:
        """Sessions that wait for `continue_recording` or `finalize`."""
        return [
            session_id
            for session_id, row in self._catalog.rows([])
            if self._state(session_id, row) == session_pb2.STATE_INTERRUPTED and not row.HasField("adopted")
        ]

    def count_states(self) -> dict["session_pb2.State.ValueType", int]:
        """How many sessions are in which state."""
        counts: dict[session_pb2.State.ValueType, int] = {}
        for session_id, row in self._catalog.rows([]):
            state = self._state(session_id, row)
            counts[state] = counts.get(state, 0) + 1
        return counts

    async def verify(self, session_id: bytes, on_progress: OnProgress) -> control_pb2.VerifyResult:
        """Checks a session; findings are kept as an incident. See `Verifier.verify`."""
        result = await self._verifier.verify(session_id, on_progress)
        result.state = self._state(session_id, self._catalog.row(session_id))
        if not result.valid:
            await self._report(session_id, result.findings[0])
        return result

    async def get(
        self,
        session_id: bytes,
        sink: Sink,
        *,
        partial: bool = False,
        follow: bool = False,
        on_progress: OnProgress,
    ) -> data_pb2.GetDone:
        """Reads a session back; damage is kept as an incident. See `Reader.get`."""
        try:
            done = await self._reader.get(
                session_id, sink, partial=partial, follow=follow, on_progress=on_progress
            )
        except (InvalidRecord, StoreDamaged) as error:
            await self._report(session_id, data_pb2.Finding(what=str(error)))
            raise
        if done.findings:
            await self._report(session_id, done.findings[0])
        return done

    async def set_hold(self, session_id: bytes, held: bool) -> control_pb2.SessionInfo:
        """Puts a session under legal hold, or ends it."""
        async with self._lock(session_id):
            self._catalog.row(session_id)
            fact = session_pb2.Held(time_ns=self._ports.clock.wall_ns(), held=held)
            await self._ledger(session_id).record(session_pb2.Fact(held=fact))
        return await self.info(session_id)

    async def adopt(self, copy: Copy) -> bool:
        """Takes in a session that another device recorded; False if it is known here. See `Adopter.adopt`."""
        async with self._lock(copy.session_id):
            is_new = await run_to_end(self._adopter.adopt(copy))
        self._ports.on_changed(copy.session_id)
        self.on_change()
        return is_new

    async def catch_up(self, copy: Copy) -> bool:
        """Brings an old copy of an own session up; False if nothing was missing. See `catching_up`."""
        async with self._lock(copy.session_id):
            if copy.session_id in self._running:
                return False
            ledger = self._ledger(copy.session_id)
            return await run_to_end(catch_up(self._ports, self._keys, ledger, copy))

    async def adopt_deletion(self, session_id: bytes) -> None:
        """See `Adopter.adopt_deletion`."""
        async with self._lock(session_id):
            await self._adopter.adopt_deletion(session_id)

    async def delete(self, session_id: bytes) -> int:
        """Erases a session; returns the bytes that were freed. See `session.erasure`."""
        async with self._lock(session_id):
            if session_id in self._running:
                raise Conflict("a session that is being recorded cannot be deleted")
            freed_bytes = await run_to_end(self._delete(session_id))
        self.on_change()
        return freed_bytes

    async def _delete(self, session_id: bytes) -> int:
        tombstone = self._catalog.tombstone(session_id)
        if tombstone is not None:  # an earlier deletion was broken off
            return await bury(self._ports, self._catalog, tombstone)
        if self._catalog.row(session_id).state == session_pb2.STATE_RECORDING:
            await self._recovery.recover(session_id, self._catalog.row(session_id), seal=False)
        self._ledgers.pop(session_id, None)
        return await erase(self._ports, self._catalog, session_id)

    async def sweep(self) -> None:
        """Erases what has outlived its retention; goes on behind a failure, and raises the first one."""
        now_ns = self._ports.clock.wall_ns()
        failure: LucidError | None = None
        for session_id, row in self._catalog.rows([]):
            if is_expired(row, now_ns) and session_id not in self._running:
                try:
                    await self.delete(session_id)
                except LucidError as error:
                    failure = failure or error
        if failure is not None:
            raise failure

    def _is_running(self, session_id: bytes) -> bool:
        return session_id in self._running

    def _state(self, session_id: bytes, row: session_pb2.SessionRow) -> "session_pb2.State.ValueType":
        """The state of a session now: one whose recorder is gone is interrupted, written down or not."""
        if row.state == session_pb2.STATE_RECORDING and session_id not in self._running:
            return session_pb2.STATE_INTERRUPTED
        return row.state

    def _ledger(self, session_id: bytes) -> Ledger:
        ledger = self._ledgers.get(session_id)
        if ledger is None:
            value = self._ports.records.get(tables.SESSIONS, session_id)
            row = None if value is None else session_pb2.SessionRow.FromString(value)
            ledger = self._ledgers[session_id] = Ledger(self._ports, session_id, row)
        return ledger

    def _run(self, recording: Recording) -> Recording:
        def forget() -> None:
            if self._running.get(recording.session_id) is recording:
                del self._running[recording.session_id]
            self.on_change()

        self._running[recording.session_id] = recording
        recording.start(forget)
        self.on_change()
        return recording

    def _lock(self, session_id: bytes) -> asyncio.Lock:
        """What changes a session as a whole holds this."""
        lock = self._locks.get(session_id)
        if lock is None:
            lock = self._locks[session_id] = asyncio.Lock()
        return lock

    @contextmanager
    def _taking_room(self) -> Iterator[None]:
        """Around the opening of a recording: so many may run, those that are being opened included."""
        if len(self._running) + self._opening >= self._preset.max_recordings:
            raise Conflict(
                f"{len(self._running)} recordings are running, the most allowed",
                hint="end one, or raise `max_recordings` in the configuration",
            )
        self._opening += 1
        try:
            yield
        finally:
            self._opening -= 1

    async def _report(self, session_id: bytes, finding: data_pb2.Finding) -> None:
        """Keeps what is wrong with a session, once."""
        where = f"chunk {finding.index}: " if finding.has_index else ""
        what = where + finding.what
        incident = session_pb2.Incident(time_ns=self._ports.clock.wall_ns(), what=what)
        async with self._lock(session_id):
            with suppress(LucidError):
                if all(known.what != what for known in self._catalog.row(session_id).incidents):
                    await self._ledger(session_id).record(session_pb2.Fact(incident=incident))


def _check_token(row: session_pb2.SessionRow, resume_token: bytes) -> None:
    if not hmac.compare_digest(blake3(resume_token).digest(), row.opened.resume_token_hash):
        raise NotFound("the token does not belong to a session of this node")
