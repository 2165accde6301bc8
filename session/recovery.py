"""What a killed process, or a power cut, left of a session, made whole again.

Facts that the index does not know are indexed; live frames become a chunk; frames that are damaged are
marked as a gap; streams of chunks that were sealed are dropped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kernel import aead
from kernel.errors import Conflict, InvalidRecord, Locked, LucidError, NotFound
from kernel.merkle import compute_leaf
from kernel.ports import Operation, Put
from lucid.v1 import session_pb2
from session import tables
from session.access import load_secret
from session.catalog import Catalog
from session.checkpoint import sign_checkpoint
from session.encryptor import HEADER_BYTES, ChunkFlag, decode_header
from session.erasure import finish_erasures
from session.facts import apply_fact, decode_fact
from session.ledger import Ledger
from session.live_tail import decrypt_frame, derive_frame_key, find_tail_damage, list_tails
from session.merkle_builder import build_session_tree
from session.pipeline import seal_chunk
from session.ports import SessionPorts
from session.recording import Recorder
from session.state import check_continuable
from session.witnessed import check_not_behind


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of plaintext without damage in it."""

    plaintext: bytes
    gap: bool


async def recover_tail(recorder: Recorder, ledger: Ledger, entries: Sequence[session_pb2.ChunkEntry]) -> None:
    """Turns live frames that a process left behind into chunks, all in one fact.

    Args:
        recorder: the node's.
        ledger: of the session, caught up.
        entries: the chunks that the session has.

    Raises:
        Locked: this device cannot open the session; the frames stay.
        StoreError: the frames stay, for the next try.
    """
    ports, session_id = recorder.ports, ledger.session_id
    tails = list_tails(ports.journal, session_id, len(entries))
    damage = await _find_signed_damage(ports, ledger)
    if tails or damage:
        secret = await load_secret(ports.journal, recorder.keys, session_id)
        segments, unsigned_damage = await _read_segments(ports, session_id, secret, tails, len(entries))
        what = damage or unsigned_damage
        incident = session_pb2.Incident(time_ns=ports.clock.wall_ns(), what=what, gap=True) if what else None
        if segments or incident is not None:
            await _seal_segments(recorder, ledger, entries, secret, segments, incident)
    for _, stream in list_tails(ports.journal, session_id, 0):
        await ports.journal.drop(stream)


async def _find_signed_damage(ports: SessionPorts, ledger: Ledger) -> str:
    """What is missing of the frames that were signed; "" if nothing."""
    row = ledger.known_row
    if not row.checkpoint_count:
        return ""
    last = session_pb2.Checkpoint.FromString(row.last_checkpoint.payload)
    return await find_tail_damage(ports.journal, ledger.session_id, last)


async def _read_segments(
    ports: SessionPorts, session_id: bytes, secret: bytes, tails: list[tuple[int, str]], first_index: int
) -> tuple[list[_Segment], str]:
    """The plaintext of frames, cut where frames or streams are missing; and what is missing at the end."""
    key = derive_frame_key(secret, session_id)
    segments: list[_Segment] = []
    damage = ""
    for index, stream in tails:
        # An empty chunk stands for a stream that is gone, so that chunks keep the numbers of their streams.
        segments += [_Segment(b"", gap=True)] * (index - first_index - len(segments))
        contents = await ports.journal.read(stream)
        pieces: list[bytes] = []
        gap, expected = bool(damage), 0
        for number, frame in contents.records:
            try:
                piece = decrypt_frame(key, session_id, index, number, frame)
            except InvalidRecord:
                continue
            if number != expected:
                if pieces:
                    segments.append(_Segment(b"".join(pieces), gap))
                pieces, gap = [], True
            pieces.append(piece)
            expected = number + 1
        if pieces:
            segments.append(_Segment(b"".join(pieces), gap))
            damage = ""
        if contents.damaged or (contents.records and contents.records[-1][0] >= expected):
            damage = f"live frames of chunk {index} are damaged"
    return segments, damage


async def _seal_segments(
    recorder: Recorder,
    ledger: Ledger,
    entries: Sequence[session_pb2.ChunkEntry],
    secret: bytes,
    segments: list[_Segment],
    incident: session_pb2.Incident | None,
) -> None:
    ports, session_id, row = recorder.ports, ledger.session_id, ledger.known_row
    tree = build_session_tree(entry.chunk_id for entry in entries)
    sealed = session_pb2.Sealed(incident=incident)
    gap, lost_bytes = row.pending_gap, row.pending_lost_bytes
    for index, segment in enumerate(segments, len(entries)):
        flags = ChunkFlag.TIMED | (ChunkFlag.GAP if gap or segment.gap else ChunkFlag(0))
        nonce = ports.entropy.draw(aead.NONCE_BYTES)
        chunk, chunk_id = await ports.offload.run(
            seal_chunk, secret, session_id, index, flags, nonce, segment.plaintext
        )
        await ports.blobs.put(chunk_id, [chunk.header, chunk.ciphertext])
        sealed.chunks.add(
            index=index,
            chunk_id=chunk_id,
            flags=flags,
            plaintext_bytes=len(segment.plaintext),
            stored_bytes=chunk.size_bytes,
            lost_bytes=lost_bytes,
        )
        tree.append(compute_leaf(chunk_id))
        gap, lost_bytes = False, 0

    async def make(row: session_pb2.SessionRow) -> session_pb2.Fact:
        signed = sign_checkpoint(recorder.keys, row, tree, [], ports.clock.wall_ns())
        sealed.checkpoint.CopyFrom(signed)
        return session_pb2.Fact(sealed=sealed)

    await ledger.record_made(make)


def replay_facts(
    session_id: bytes, records: Sequence[tuple[int, bytes]]
) -> tuple[session_pb2.SessionRow | None, list[Operation], list[str]]:
    """What the facts of a session make of it, those left out that do not follow from the ones before.

    Returns:
        The row (None: no facts are left), what belongs beside it, and what was left out, in words.
    """
    row: session_pb2.SessionRow | None = None
    operations: list[Operation] = []
    problems = []
    for number, payload in records:
        try:
            row, more = apply_fact(session_id, row, decode_fact(payload))
        except (InvalidRecord, Conflict) as error:
            problems.append(f"fact {number}: {error}")
            continue
        operations += more
        row.fact_count = number + 1
    return row, operations, problems


async def rebuild_session(ports: SessionPorts, session_id: bytes) -> list[str]:
    """Remakes the index of one session from its facts.

    Facts that are damaged, or that no longer follow because others are, are left out.

    Returns:
        What is damaged, in words.
    """
    stream = tables.facts_stream(session_id)
    contents = await ports.journal.read(stream)
    problems = list(contents.damaged)
    if contents.torn_bytes:
        await ports.journal.trim(stream)
    row, operations, conflicts = replay_facts(session_id, contents.records)
    problems += conflicts
    if row is None:
        return [*problems, "no facts are left from which its index could be remade"]
    row.facts_bytes = ports.journal.size(stream)
    operations.append(Put(tables.SESSIONS, session_id, row.SerializeToString()))
    await ports.records.commit(operations)
    return problems


class Recovery:
    """Brings the sessions of a node in order when it starts, and one session before it goes on."""

    def __init__(self, recorder: Recorder, catalog: Catalog, get_ledger: Callable[[bytes], Ledger]) -> None:
        """`get_ledger` gives the one ledger of a session."""
        self._recorder = recorder
        self._ports = recorder.ports
        self._catalog = catalog
        self._ledger = get_ledger
        # Within the life of a process no old copy is put back: its sessions are asked about once.
        self._asked: dict[bytes, None] = {}

    async def run(self) -> list[str]:
        """Makes whole what a killed process left: sessions that were being recorded are interrupted now.

        Returns:
            What could not be mended, one line each.
        """
        problems = await finish_erasures(self._ports, self._catalog)
        damaged: list[bytes] = []
        rows = dict(self._catalog.rows(damaged))
        self._ports.records.scan(tables.CHUNKS, damaged=damaged)
        self._ports.records.scan(tables.CHECKPOINTS, damaged=damaged)
        in_need = {key[:16]: None for key in damaged}
        journaled = {
            session_id: None
            for stream in self._ports.journal.streams()
            if (session_id := tables.parse_session_stream(stream)) is not None
        }
        for session_id in sorted({**journaled, **rows}):
            row = rows.get(session_id)
            try:
                if session_id in in_need:
                    found = await rebuild_session(self._ports, session_id)
                    problems += [f"session {session_id.hex()}: {what}" for what in found]
                    row = self._catalog.row(session_id)
                # Chunks come with a signature: where there are witnesses, they are asked first, in `settle`.
                seal = not self._ports.witnesses.exist
                damaged_facts = await self.recover(session_id, row, seal=seal)
                problems += [f"session {session_id.hex()}: {what}" for what in damaged_facts]
            except LucidError as error:
                problems.append(f"session {session_id.hex()}: {error}")
        if not problems:
            await self._sweep_orphans()
        return problems

    def has_frames(self, session_id: bytes) -> bool:
        """Has the session live frames that are in no chunk yet?"""
        return bool(list_tails(self._ports.journal, session_id, 0))

    async def settle(self, ledger: Ledger) -> Sequence[session_pb2.ChunkEntry]:
        """Catches a ledger up and seals left-over frames; returns the chunks of the session.

        Raises:
            Conflict: another device recorded it, or witnesses have seen more of it than this store holds.
        """
        await ledger.catch_up()
        check_continuable(ledger.known_row)
        if ledger.session_id not in self._asked and await check_not_behind(self._ports, ledger):
            self._asked[ledger.session_id] = None
        await recover_tail(self._recorder, ledger, self._entries(ledger))
        return self._entries(ledger)

    def _entries(self, ledger: Ledger) -> Sequence[session_pb2.ChunkEntry]:
        return self._catalog.chunks(ledger.session_id, ledger.known_row.chunk_count)

    async def recover(
        self, session_id: bytes, row: session_pb2.SessionRow | None, *, seal: bool = True
    ) -> Sequence[str]:
        """Brings one session in order; returns what is damaged in its journal.

        Args:
            session_id: the session.
            row: its index row, None if it has none.
            seal: make chunks of left-over frames. If that fails, the session is interrupted all the same.
        """
        facts_bytes = self._ports.journal.size(tables.facts_stream(session_id))
        if row is not None and row.state == session_pb2.STATE_COMPLETE and row.facts_bytes == facts_bytes:
            return ()
        ledger = self._ledger(session_id)
        seen_ns = row.last_change_ns if row else 0
        damaged = await ledger.catch_up()
        if ledger.row is None:
            if not damaged:  # its opening was never durable: nobody was told of it
                await self._ports.journal.drop(tables.facts_stream(session_id))
                await self._ports.journal.drop(tables.secret_stream(session_id))
            return damaged
        if ledger.row.HasField("adopted"):
            return damaged
        failure: LucidError | None = None
        try:
            for _, stream in list_tails(self._ports.journal, session_id, 0):
                await self._ports.journal.sync(stream)  # who appended them died before it did
            if seal:
                await recover_tail(self._recorder, ledger, self._entries(ledger))
        except LucidError as error:
            failure = None if isinstance(error, Locked) else error
        if ledger.row.state == session_pb2.STATE_RECORDING:
            interrupted = session_pb2.Interrupted(
                time_ns=self._ports.clock.wall_ns(),
                reason="the node stopped while it was being recorded",
                last_seen_ns=seen_ns or ledger.row.opened.started_ns,
            )
            await ledger.record(session_pb2.Fact(interrupted=interrupted))
        if failure is not None:
            raise failure
        return damaged

    async def _sweep_orphans(self) -> None:
        """Removes blobs that were stored and never committed: their chunk is not, or is another blob."""
        damaged: list[bytes] = []
        known = {
            session_pb2.ChunkEntry.FromString(value).chunk_id: None
            for _, value in self._ports.records.scan(tables.CHUNKS, damaged=damaged)
        }
        if damaged:
            return
        orphans = []
        for blob_id in self._ports.blobs.ids():
            if blob_id in known:
                continue
            try:
                header = decode_header(await self._ports.blobs.read(blob_id, 0, HEADER_BYTES))
                self._check_known(header.session_id)
            except (InvalidRecord, NotFound):
                continue  # not ours to judge: `doctor` shows it
            orphans.append(blob_id)
        await self._ports.blobs.remove(orphans)

    def _check_known(self, session_id: bytes) -> None:
        if self._catalog.tombstone(session_id) is None:
            self._catalog.row(session_id)
