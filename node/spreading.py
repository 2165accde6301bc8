"""Everything that brings the recordings of one node to other nodes and back, put together."""

from collections.abc import AsyncIterator

from dht.auditing import Auditor
from dht.backoff import Backoffs
from dht.bandwidth import Pace
from dht.fetching import Fetcher
from dht.ports import OwnChunk, PeerIdentity, Peers, SpreadPorts
from dht.preset import SpreadPreset
from dht.releasing import Releaser
from dht.replica_count import ReplicaCount
from dht.replicas import get_lease, get_stored_ns, is_counting, iterate_replicas, parse_replica_key
from dht.replicator import Replicator
from kernel.peer_id import encode_peer_id
from kernel.waiting import wait_for_event
from lucid.v1 import control_pb2
from node.config import NodeConfig
from node.ports import NodePorts
from node.recordings import SessionRecordings
from session.access import RecorderKeys
from session.ports import Fetched

REPORT_EVERY_S = 0.1


class PeerFetch:
    """`session.ports.Fetch` from the peers of a node."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    async def fetch(self, session_id: bytes, index: int, chunk_id: bytes, size_bytes: int) -> Fetched | None:
        """See `session.ports.Fetch`."""
        found = await self._fetcher.fetch(session_id, index, chunk_id, size_bytes)
        if found is None:
            return None
        best, others = encode_peer_id(found.sources[0]), len(found.sources) - 1
        return Fetched(found.blob, f"{best} and {others} more" if others else best)


class Spreading:
    """Spreads the recordings of one node.

    Attributes:
        peers: of the node.
        preset: parameters.
        recordings: what is spread.
        replicator: makes and renews replicas.
        fetcher: brings chunks back.
        fetch: the same for the session room.
        auditor: asks holders what they hold.
    """

    def __init__(
        self,
        keys: RecorderKeys,
        config: NodeConfig,
        ports: NodePorts,
        peers: Peers,
        preset: SpreadPreset,
        pace: Pace,
    ) -> None:
        own = PeerIdentity(keys.device.public_key, keys.owner, b"")
        self._config = config
        self._ports = ports
        self.peers = peers
        self.preset = preset
        self.recordings = SessionRecordings(ports.records, ports.journal, keys)
        spread_ports = SpreadPorts(
            ports.clock, ports.offload_cpu, ports.records, ports.blobs, peers, self.recordings
        )
        backoffs = Backoffs(preset.first_backoff_s, preset.longest_backoff_s)
        releaser = Releaser(spread_ports, backoffs)
        self.replicator = Replicator(
            spread_ports, own, keys.network, preset, backoffs, releaser, self._fetch_own, pace
        )
        self.fetcher = Fetcher(
            ports.records,
            ports.clock,
            peers,
            preset,
            self.replicator.on_trouble,
            pace,
            expects_peers=bool(config.peers),
        )
        self.fetch = PeerFetch(self.fetcher)
        self.auditor = Auditor(spread_ports, ports.rng, preset, self.replicator.on_trouble)

    @property
    def is_possible(self) -> bool:
        """True if there is anybody to spread to: known, or configured and not met yet."""
        return bool(self._config.peers or self.peers.known())

    async def _fetch_own(self, chunk: OwnChunk) -> bytes | None:
        found = await self.fetcher.fetch(chunk.session_id, chunk.index, chunk.chunk_id, chunk.size_bytes)
        return None if found is None else found.blob

    async def run(self) -> None:
        """Makes, renews and releases replicas until it is cancelled."""
        await self.replicator.run()

    def count_all(self) -> tuple[int, int]:
        """Replicas of single chunks that are wanted, and that count, over all sessions."""
        if not self.is_possible:
            return 0, 0
        counts = [self.replicator.count(session_id) for session_id in self.recordings.session_ids()]
        held = sum(each.held for each in counts)
        return sum(each.held + each.pending_chunks for each in counts), held

    def list_replicas(self, session_id: bytes) -> control_pb2.ListReplicasResponse:
        """Who holds what of a session."""
        count, now_s = self.count(session_id), self._ports.clock.wall_ns() / 1e9
        response = control_pb2.ListReplicasResponse(
            session_id=session_id,
            wanted=count.wanted,
            held=count.held,
            pending=count.pending,
            heads=count.heads,
        )
        for page in iterate_replicas(self._ports.records, session_id):
            for key, row in page:
                _, index, replica = parse_replica_key(key)
                response.replicas.add(
                    index=index,
                    replica=replica,
                    peer_id=encode_peer_id(row.holder),
                    held=is_counting(row, now_s),
                    stored_ns=get_stored_ns(row),
                    audited_ns=row.audited_ns,
                    until_s=get_lease(row).until_s,
                    trouble=row.trouble,
                )
        return response

    def count(self, session_id: bytes) -> ReplicaCount:
        """How far the spreading of a session has come."""
        return self.replicator.count(session_id)

    async def wait_replicas(self, session_id: bytes, wait_s: float) -> AsyncIterator[ReplicaCount]:
        """How far it has come, again and again, until all replicas are there or the time is up."""
        clock = self._ports.clock
        end_ns = clock.monotonic_ns() + round(wait_s * 1e9)
        while True:
            advanced = self.replicator.advanced
            count = self.count(session_id)
            yield count
            left_s = (end_ns - clock.monotonic_ns()) / 1e9
            if not count.pending or left_s <= 0:
                return
            await wait_for_event(advanced, clock, left_s)
            await clock.sleep(min(REPORT_EVERY_S, left_s))
