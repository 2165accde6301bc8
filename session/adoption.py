"""Taking in sessions that another device recorded: restored from a head, or shared by another owner.

    facts checked → all of them in the stream `adopting`, durable → secret, facts, index → `adopting` gone

The stream `adopting` ends with the adoption itself or is worthless, so a kill at any moment leaves a session
that is not there yet, or one that the next start completes. A session that exists, or was deleted here, is
never touched. What is adopted is read, verified and shared; its checkpoints are another device's, so it is
never continued.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from kernel.errors import Conflict, InvalidRecord, Reason
from kernel.ports import Put
from kernel.sealing import SESSION_ID_BYTES, unseal
from lucid.v1 import session_pb2
from session import tables
from session.access import RecorderKeys, keep_secret
from session.catalog import Catalog
from session.checkpoint import CheckpointSeries
from session.facts import apply_fact, decode_fact
from session.ports import SessionPorts
from session.recovery import rebuild_session
from session.statements import check_manifest, check_opening

MAX_FACT_BYTES = 2 << 20
MAX_FACTS_BYTES = 256 << 20
_GONE = "its recording device is gone: it was brought back from other nodes"


@dataclass(frozen=True, slots=True)
class Copy:
    """A session as another node tells of it.

    Attributes:
        session_id: which one.
        payloads: its facts, in order, as they stand in its journal.
        adopted: whose it is and who says so; time and secrets as they are to be kept.
    """

    session_id: bytes
    payloads: Sequence[bytes]
    adopted: session_pb2.Adopted


def check_copy(keys: RecorderKeys, copy: Copy) -> session_pb2.SessionRow:
    """Checks that facts form a session, and that all of its signatures hold.

    Returns:
        The row that follows from the facts.

    Raises:
        InvalidRecord: they do not; NOT_DECRYPTABLE: the session was shared, and no key of this node opens it.
    """
    if len(copy.session_id) != SESSION_ID_BYTES:
        raise InvalidRecord(Reason.MALFORMED, "a session ID has another length")
    sizes = [len(payload) for payload in copy.payloads]
    if not sizes or max(sizes) > MAX_FACT_BYTES or sum(sizes) > MAX_FACTS_BYTES:
        raise InvalidRecord(Reason.TOO_LARGE, f"{len(sizes)} facts of {sum(sizes)} bytes are no session")
    row: session_pb2.SessionRow | None = None
    series: CheckpointSeries | None = None
    chunk_ids: list[bytes] = []
    secrets = list(copy.adopted.secrets)
    for payload in copy.payloads:
        fact = decode_fact(payload)
        try:
            row, _ = apply_fact(copy.session_id, row, fact)
        except Conflict as error:
            raise InvalidRecord(Reason.NOT_CONSISTENT, str(error)) from error
        except ValueError as error:  # of protobuf: a sum that no field can hold
            raise InvalidRecord(Reason.TOO_LARGE, "the numbers of its facts add up to too much") from error
        if series is None:
            device = fact.opened.policy.public_key
            series = CheckpointSeries(copy.session_id, keys.network, device)
        secrets += (*fact.opened.secrets, *fact.adopted.secrets)
        chunk_ids += [entry.chunk_id for entry in fact.sealed.chunks]
        if fact.HasField("sealed"):
            series.add(fact.sealed.checkpoint, chunk_ids)
        elif fact.HasField("checkpoint"):
            series.add(fact.checkpoint, chunk_ids)
    if row is None:
        raise InvalidRecord(Reason.MALFORMED, "no facts are no session")
    row.adopted.CopyFrom(copy.adopted)
    secret = _find_secret(keys, copy.session_id, secrets)
    if secret is None and copy.adopted.owner:
        # Not `Locked`: to whoever has called, that says that its token does not hold here.
        raise InvalidRecord(Reason.NOT_DECRYPTABLE, "no key of this node opens the session that is shared")
    check_opening(keys, copy.session_id, row, secret)
    check_manifest(keys, copy.session_id, row, secret)
    return row


def _find_secret(
    keys: RecorderKeys, session_id: bytes, secrets: Sequence[session_pb2.SealedSecret]
) -> bytes | None:
    for sealed in secrets:
        private = keys.reading.get(sealed.reader)
        if private is not None:
            with suppress(InvalidRecord):
                return unseal(sealed, private, session_id)
    return None


class Adopter:
    """Adopts sessions. Whoever calls for a session holds its lock."""

    def __init__(self, ports: SessionPorts, keys: RecorderKeys, catalog: Catalog) -> None:
        self._ports = ports
        self._keys = keys
        self._catalog = catalog

    def is_known(self, session_id: bytes) -> bool:
        """True if the session is here, or was deleted here."""
        return (
            self._catalog.tombstone(session_id) is not None
            or self._ports.records.get(tables.SESSIONS, session_id) is not None
        )

    async def adopt(self, copy: Copy) -> bool:
        """Takes a session in, durably.

        Returns:
            False if the session is here already, or was deleted here: nothing was done.

        Raises:
            InvalidRecord: the facts are no session of its owner, or no key of this node opens it.
            StoreError: it is not here yet; the next start, or the next call, finds out.
        """
        await self._finish(copy.session_id)
        if self.is_known(copy.session_id):
            return False
        if self._ports.journal.streams(tables.session_prefix(copy.session_id)):
            raise Conflict("the index does not know a session that the journal has; start the node again")
        row = await self._ports.offload.run(check_copy, self._keys, copy)
        now_ns = self._ports.clock.wall_ns()
        payloads = list(copy.payloads)
        if row.state == session_pb2.STATE_RECORDING:
            interrupted = session_pb2.Interrupted(
                time_ns=now_ns, reason=_GONE, last_seen_ns=row.last_change_ns
            )
            payloads.append(session_pb2.Fact(interrupted=interrupted).SerializeToString())
        adopted = session_pb2.Adopted()
        adopted.CopyFrom(copy.adopted)
        adopted.time_ns = now_ns
        payloads.append(session_pb2.Fact(adopted=adopted).SerializeToString())
        stream = tables.adopting_stream(copy.session_id)
        await self._ports.journal.append(stream, payloads)
        await self._ports.journal.sync(stream)
        await self._install(copy.session_id, payloads)
        return True

    async def adopt_deletion(self, session_id: bytes) -> None:
        """Remembers that the owner deleted a session elsewhere, so that it is not brought back here."""
        if len(session_id) != SESSION_ID_BYTES or self.is_known(session_id):
            return
        tombstone = session_pb2.Tombstone(session_id=session_id, deleted_ns=self._ports.clock.wall_ns())
        encoded = tombstone.SerializeToString()
        await self._ports.journal.append(tables.TOMBSTONE_STREAM, [encoded])
        await self._ports.journal.sync(tables.TOMBSTONE_STREAM)
        await self._ports.records.commit([Put(tables.TOMBSTONES, session_id, encoded)])

    async def finish_all(self) -> list[str]:
        """Goes on where a killed process stopped adopting; returns what could not be finished, in words."""
        problems = []
        for name in self._ports.journal.streams():
            session_id = tables.parse_adopting_stream(name)
            if session_id is not None and self._catalog.tombstone(session_id) is None:
                problems += await self._finish(session_id)
        return problems

    async def _finish(self, session_id: bytes) -> list[str]:
        stream = tables.adopting_stream(session_id)
        if not self._ports.journal.size(stream):
            await self._ports.journal.drop(stream)
            return []
        contents = await self._ports.journal.read(stream)
        payloads = [payload for _, payload in contents.records]
        if not _is_whole(payloads):
            await self._ports.journal.drop(stream)
            return []
        if contents.damaged and self._ports.records.get(tables.SESSIONS, session_id) is None:
            for name in (tables.facts_stream(session_id), tables.secret_stream(session_id), stream):
                await self._ports.journal.drop(name)
            return [f"session {session_id.hex()}: what was copied of it is damaged; restore it again"]
        if contents.damaged:
            await self._ports.journal.drop(stream)
            return []
        await self._install(session_id, payloads)
        return []

    async def _install(self, session_id: bytes, payloads: Sequence[bytes]) -> None:
        """Everything from the complete stream on; may be repeated."""
        journal = self._ports.journal
        facts = tables.facts_stream(session_id)
        await journal.drop(facts)
        await journal.drop(tables.secret_stream(session_id))
        secrets = [
            sealed
            for fact in map(decode_fact, payloads)
            for sealed in (*fact.opened.secrets, *fact.adopted.secrets)
        ]
        await keep_secret(journal, session_id, *secrets)
        await journal.append(facts, payloads)
        await journal.sync(facts)
        await rebuild_session(self._ports, session_id)
        await journal.drop(tables.adopting_stream(session_id))


def _is_whole(payloads: Sequence[bytes]) -> bool:
    with suppress(InvalidRecord):
        return bool(payloads) and decode_fact(payloads[-1]).HasField("adopted")
    return False
