"""The facts of one session, written one after the other.

Order of each fact: journal append, journal sync, one index commit. So the index never knows what the
journal does not hold, and whatever fails in between is caught up from the journal before the next fact.
"""

import asyncio
from collections.abc import Awaitable, Callable

from kernel.errors import NotFound
from kernel.ports import Put
from lucid.v1 import session_pb2
from session import tables
from session.facts import apply_fact, decode_fact
from session.ports import SessionPorts

MakeFact = Callable[[session_pb2.SessionRow], Awaitable[session_pb2.Fact | None]]


class Ledger:
    """One session's facts. There must be one ledger per session at a time.

    Attributes:
        session_id: the session.
        row: its index row after the last durable fact; None before the first. Not to be changed by others.
    """

    def __init__(self, ports: SessionPorts, session_id: bytes, row: session_pb2.SessionRow | None) -> None:
        self._ports = ports
        self._stream = tables.facts_stream(session_id)
        self._lock = asyncio.Lock()
        self._behind = False
        self.session_id = session_id
        self.row = row

    @property
    def known_row(self) -> session_pb2.SessionRow:
        """The row of a session that exists.

        Raises:
            NotFound: it has no facts.
        """
        if self.row is None:
            raise NotFound("the session has no facts")
        return self.row

    async def record(self, fact: session_pb2.Fact) -> None:
        """Makes a fact durable and indexes it.

        Raises:
            Conflict: the state of the session does not allow it.
            StoreError: the fact may or may not be durable; the next call finds out.
        """
        async with self._lock:
            await self._record(fact)

    async def record_made(self, make: MakeFact) -> None:
        """Like `record`, for a fact that depends on the row: nothing happens between `make` and the write."""
        async with self._lock:
            if self._behind:
                await self._catch_up()
            fact = await make(self.known_row)
            if fact is not None:
                await self._record(fact)

    async def catch_up(self) -> list[str]:
        """Applies what the journal holds beyond the row, and cuts off a torn last write.

        Returns:
            What is damaged in the journal, in words.
        """
        async with self._lock:
            return await self._catch_up()

    async def _record(self, fact: session_pb2.Fact) -> None:
        if self._behind:
            await self._catch_up()
        apply_fact(self.session_id, self.row, fact)
        self._behind = True
        await self._ports.journal.append(self._stream, [fact.SerializeToString()])
        await self._ports.journal.sync(self._stream)
        await self._index([(self.row.fact_count if self.row else 0, fact)])
        self._behind = False

    async def _catch_up(self) -> list[str]:
        contents = await self._ports.journal.read(self._stream)
        if contents.torn_bytes:
            await self._ports.journal.trim(self._stream)
        await self._ports.journal.sync(self._stream)
        damaged = list(contents.damaged)
        held = contents.records[-1][0] + 1 if contents.records else 0
        known = self.row.fact_count if self.row else 0
        if self.row is not None and held < known:
            # The index has them still; new facts take their numbers.
            damaged.append(f"facts {held} to {known - 1} are gone from the journal")
            self.row.fact_count = held
        await self._index(
            [(number, decode_fact(payload)) for number, payload in contents.records if number >= known]
        )
        self._behind = False
        return damaged

    async def _index(self, facts: list[tuple[int, session_pb2.Fact]]) -> None:
        row, operations = self.row, []
        for number, fact in facts:
            row, more = apply_fact(self.session_id, row, fact)
            row.fact_count = number + 1
            operations += more
        if row is None:
            return
        facts_bytes = self._ports.journal.size(self._stream)
        if facts or row.facts_bytes != facts_bytes:
            row.facts_bytes = facts_bytes
            operations.append(Put(tables.SESSIONS, self.session_id, row.SerializeToString()))
            await self._ports.records.commit(operations)
        self.row = row
        self._ports.on_changed(self.session_id)
