"""Asks holders for random leaves of what they hold, and checks each up to the chunk ID.

Whoever answers wrong, or no longer has the chunk, is marked in the replica row: the replica no longer counts,
and the replicator makes another one elsewhere. Silence alone is reported and marks nothing. An audit shows
that the bytes could be had at that moment, and not where they were.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dht.ports import OwnChunk, SpreadPorts
from dht.preset import SpreadPreset
from dht.replicas import OnTrouble, change_replica, is_counting, mark_broken, scan_replicas
from dht.tables import replica_key
from kernel.chunk_id import LEAF_BYTES, bind_length
from kernel.errors import (
    LucidError,
    NotFound,
    PeerFault,
    StoreDamaged,
    Unavailable,
)
from kernel.merkle import compute_leaf, compute_proven_root
from kernel.peer_id import encode_peer_id
from kernel.ports import Rng
from lucid.v1 import chunk_pb2

LEAVES_PER_CHUNK = 4

OnProgress = Callable[[int, int], None]


@dataclass(slots=True)
class AuditFinding:
    """What is wrong with a replica.

    Attributes:
        index: of the chunk.
        what: in words.
        silent: the holder did not answer: nothing is known.
    """

    index: int
    what: str
    silent: bool


@dataclass(slots=True)
class AuditOutcome:
    """What an audit of a session found.

    Attributes:
        leaves: how many were checked and are right.
        holders: devices that were asked, with the right leaves of each.
        findings: what is wrong, by chunk.
    """

    leaves: int = 0
    holders: dict[bytes, int] = field(default_factory=dict)
    findings: list[AuditFinding] = field(default_factory=list)


class Auditor:
    """Audits the replicas of this node's chunks."""

    def __init__(self, ports: SpreadPorts, rng: Rng, preset: SpreadPreset, on_trouble: OnTrouble) -> None:
        self._ports = ports
        self._rng = rng
        self._preset = preset
        self._on_trouble = on_trouble

    async def audit(self, session_id: bytes, percent: int, on_progress: OnProgress) -> AuditOutcome:
        """Audits `percent` (1…100) of the chunks of a session, at least one, at each of their holders.

        Args:
            session_id: the session.
            percent: of the chunks, drawn anew each time.
            on_progress: called with chunks done and in all.
        """
        count = self._ports.recordings.chunk_count(session_id)
        indexes = draw_sample(self._rng, count, -(-count * percent // 100))
        outcome, done = AuditOutcome(), 0
        slots = asyncio.Semaphore(self._preset.fetches_in_flight)

        async def audit_one(index: int) -> None:
            nonlocal done
            try:
                for chunk in self._ports.recordings.chunks(session_id, index, 1):
                    if chunk.index == index:
                        await self._audit_chunk(chunk, outcome)
            finally:
                slots.release()
            done += 1
            on_progress(done, len(indexes))

        async with asyncio.TaskGroup() as group:
            for index in indexes:
                await slots.acquire()
                group.create_task(audit_one(index))
        outcome.findings.sort(key=lambda finding: (finding.index, finding.what))
        return outcome

    async def _audit_chunk(self, chunk: OwnChunk, outcome: AuditOutcome) -> None:
        now_s = self._ports.clock.wall_ns() / 1e9
        for replica, row in sorted(scan_replicas(self._ports.records, chunk.session_id, chunk.index).items()):
            if not is_counting(row, now_s):
                continue
            outcome.holders.setdefault(row.holder, 0)
            try:
                leaves = await self._audit_replica(chunk, row.holder)
            except LucidError as error:
                silent = not isinstance(error, NotFound | PeerFault | StoreDamaged)
                what = f"replica {replica} at {encode_peer_id(row.holder)}: {error}"
                outcome.findings.append(AuditFinding(chunk.index, what, silent))
                if not silent and await mark_broken(
                    self._ports.records, chunk.session_id, chunk.index, row.holder, f"audit: {error}"
                ):
                    self._on_trouble(chunk.session_id, chunk.index)
                continue
            outcome.leaves += leaves
            outcome.holders[row.holder] += leaves
            passed = chunk_pb2.Replica.FromString(row.SerializeToString())
            passed.audited_ns = self._ports.clock.wall_ns()
            key = replica_key(chunk.session_id, chunk.index, replica)
            await change_replica(self._ports.records, key, row, passed)

    async def _audit_replica(self, chunk: OwnChunk, holder: bytes) -> int:
        """Checks some leaves; returns how many.

        Raises:
            NotFound, StoreDamaged: the holder says itself that it lost the chunk.
            PeerFault: it answers wrong.
            LucidError: nothing is known.
        """
        peer = self._ports.peers.find(holder)
        if peer is None:
            raise Unavailable("the holder is not connected")
        count = -(-chunk.size_bytes // LEAF_BYTES)
        wanted = draw_sample(self._rng, count, min(count, LEAVES_PER_CHUNK))
        response = await peer.audit_chunk(chunk_pb2.AuditChunkRequest(chunk_id=chunk.chunk_id, leaves=wanted))
        check_audit(chunk.chunk_id, chunk.size_bytes, wanted, response)
        return len(wanted)


def draw_sample(rng: Rng, count: int, size: int) -> list[int]:
    """`size` different numbers below `count`, sorted (Floyd's algorithm, CACM 30/9, 1987)."""
    drawn: dict[int, None] = {}
    for last in range(count - size, count):
        number = rng.below(last + 1)
        drawn[last if number in drawn else number] = None
    return sorted(drawn)


def check_audit(
    chunk_id: bytes, size_bytes: int, wanted: Sequence[int], response: chunk_pb2.AuditChunkResponse
) -> None:
    """Checks the answer to an audit.

    Raises:
        PeerFault: it does not show that the holder has these leaves of this chunk.
    """
    count = -(-size_bytes // LEAF_BYTES)
    if response.size_bytes != size_bytes or [leaf.index for leaf in response.leaves] != list(wanted):
        raise PeerFault("the answer is about other leaves, or another size, than was asked for")
    for leaf in response.leaves:
        expected = min(LEAF_BYTES, size_bytes - leaf.index * LEAF_BYTES)
        if len(leaf.data) != expected:
            raise PeerFault(f"leaf {leaf.index} has {len(leaf.data)} bytes, not {expected}")
        root = compute_proven_root(compute_leaf(leaf.data), leaf.index, count, leaf.path)
        if root is None or bind_length(root, size_bytes) != chunk_id:
            raise PeerFault(f"leaf {leaf.index} does not belong to the chunk")
