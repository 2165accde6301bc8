"""Ends the leases of deleted sessions.

Replica rows outlive their session: each holds a release that was signed together with its lease. A row goes
when its holder has confirmed the release, does not know the lease, or the lease has ended by itself. So a
node that is killed, or that its holders do not answer, goes on whenever it can.
"""

import asyncio

from dht import tables
from dht.backoff import Backoffs
from dht.ports import SpreadPorts
from dht.replicas import get_lease, iterate_replicas
from kernel.errors import Conflict, InvalidRecord, LucidError, NotFound, PeerFault, StoreError
from kernel.ports import Delete, Operation
from kernel.waiting import wait_for_event
from lucid.v1 import chunk_pb2

RETRY_AFTER_S = 60.0


class Releaser:
    """Releases what nobody needs any more."""

    def __init__(self, ports: SpreadPorts, backoffs: Backoffs) -> None:
        self._ports = ports
        self._backoffs = backoffs
        self._sessions: dict[bytes, None] = {}
        self._wake = asyncio.Event()

    def add(self, session_id: bytes) -> None:
        """A session was deleted."""
        self._sessions[session_id] = None
        self._wake.set()

    def on_peers_changed(self) -> None:
        """A peer has come: it can be told."""
        self._wake.set()

    async def run(self) -> None:
        """Releases until it is cancelled."""
        await self._find_deleted()
        while True:
            self._wake.clear()
            retry_s: float | None = None
            for session_id in sorted(self._sessions):
                try:
                    await self._release_session(session_id)
                except StoreError:
                    retry_s = RETRY_AFTER_S
            await self._rest(retry_s)

    async def _rest(self, retry_s: float | None) -> None:
        """Waits until there may be something to do."""
        pause_s = self._backoffs.next_end_s(self._ports.clock.monotonic_ns()) if self._sessions else None
        pauses_s = [each for each in (retry_s, pause_s) if each is not None]
        await wait_for_event(self._wake, self._ports.clock, min(pauses_s, default=None))

    async def _find_deleted(self) -> None:
        """Looks for what an earlier process left to do."""
        own = set(self._ports.recordings.session_ids())
        for page in iterate_replicas(self._ports.records):
            for key, _ in page:
                session_id = key[:16]
                if session_id not in own and self._ports.recordings.is_deleted(session_id):
                    self._sessions[session_id] = None
            await self._ports.clock.sleep(0)

    async def _release_session(self, session_id: bytes) -> None:
        left = 0
        for page in iterate_replicas(self._ports.records, session_id):
            done: list[Operation] = []
            for key, row in page:
                if await self._release(row):
                    done.append(Delete(tables.REPLICAS, key))
            left += len(page) - len(done)
            if done:
                await self._ports.records.commit(done)
        if not left:
            self._sessions.pop(session_id, None)

    async def _release(self, row: chunk_pb2.Replica) -> bool:
        """Tells the holder; True if nothing is left to be done about this replica."""
        if not row.HasField("release") or get_lease(row).until_s * 10**9 <= self._ports.clock.wall_ns():
            return True
        peer = self._ports.peers.find(row.holder)
        if peer is None or not self._backoffs.is_over(row.holder, self._ports.clock.monotonic_ns()):
            return False
        try:
            await peer.release_chunk(chunk_pb2.ReleaseChunkRequest(release=row.release))
        except (NotFound, Conflict, InvalidRecord):  # it knows of no such lease, or of a later one
            return True
        except LucidError as error:
            is_fault = isinstance(error, PeerFault)
            self._backoffs.on_failure(row.holder, self._ports.clock.monotonic_ns(), fault=is_fault)
            return False
        self._backoffs.on_success(row.holder)
        return True
