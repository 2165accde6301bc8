"""Puts a node together from its keys, its configuration and the world.

`compose` does no I/O, starts no thread and touches no signal and no global: a simulation composes many nodes
in one process. What listens on sockets is started by whoever runs the node (`node/daemon.py`).
"""

from collections.abc import Awaitable
from importlib.metadata import version
from typing import TYPE_CHECKING, TypeVar

from dht.ports import Peers
from dht.preset import DAY_S, SpreadPreset
from kernel.errors import Conflict, LucidError
from kernel.peer_id import encode_peer_id
from lucid.v1 import control_pb2, session_pb2
from node.config import NodeConfig
from node.health import LEAST_FREE_BYTES, Health
from node.hosting import Hosting
from node.logs import Logger
from node.metrics import NodeMetrics
from node.owner_heads import OwnerHeads
from node.ports import NodePorts, OnionPublisher, Usage
from node.setting_values import get_onion_port
from node.spreading import Spreading
from node.witnessing import Witnessing
from session.access import RecorderKeys
from session.bundle_builder import Prover
from session.ports import SessionPorts
from session.preset import SessionPreset
from session.session_manager import SessionManager

if TYPE_CHECKING:
    from node.onions import Onions
    from node.rpc.peering import Peering

SWEEP_EVERY_S = 60.0
MEASURE_EVERY_S = 5.0

T = TypeVar("T")


class Node:
    """One node, without its sockets.

    Attributes:
        keys: with which it records and reads.
        config: what its owner set.
        ports: the world.
        metrics: what it counts.
        health: what is wrong with it.
        log: where it logs.
        hosting: what it keeps for others.
        spreading: brings its sessions to other nodes, and back.
        manager: its sessions.
        heads: publishes and restores them, and shares single ones.
        prover: makes proof bundles of them.
        witnessing: has its checkpoints co-signed, and co-signs those of others.
        peering: its side that other nodes see; `peering.book` are its peers.
        onions: its side of Tor; None if it does without.
        metrics_address: where metrics are served; empty if nowhere.
        pid: process ID, for people; 0 if it has none of its own.
    """

    def __init__(
        self,
        keys: RecorderKeys,
        config: NodeConfig,
        ports: NodePorts,
        metrics: NodeMetrics,
        log: Logger,
        peering: "Peering",
        peers: Peers,
        publisher: OnionPublisher | None,
    ) -> None:
        self.keys = keys
        self.config = config
        self.ports = ports
        self.metrics = metrics
        self.health = Health()
        self.log = log
        self.peering = peering
        self.metrics_address = ""
        self.pid = 0
        self._started_ns = 0
        self.hosting = Hosting(keys.device, keys.network, config, ports, self.get_room)
        preset = SpreadPreset(grace_s=config.repair_after or DAY_S)
        self.spreading = Spreading(keys, config, ports, peers, preset, self.hosting.pace)
        self.witnessing = Witnessing(keys, ports, peers, log, expects_peers=bool(config.peers))
        session_ports = SessionPorts(
            ports.clock,
            ports.entropy,
            ports.offload_cpu,
            ports.records,
            self.hosting.own_blobs,
            ports.journal,
            self.spreading.fetch,
            self._on_changed,
            self.witnessing.attester,
        )
        session_preset = SessionPreset(max_recordings=config.max_recordings)
        self.manager = SessionManager(session_ports, keys, session_preset)
        self.prover = Prover(session_ports, keys)
        self.heads = OwnerHeads(
            session_ports, keys, peering.keys, self.manager, peering.book, self.hosting.pace, log
        )
        self.onions = None if publisher is None else self._make_onions(publisher)
        if self.heads.publisher is not None:
            self.heads.publisher.on_kept = self.spreading.replicator.on_heads
            self.spreading.recordings.count_keepers = self.heads.publisher.count_keepers

    def _make_onions(self, publisher: OnionPublisher) -> "Onions":
        from node.onions import Onions  # it loads gRPC

        return Onions(
            self.peering.keys.device,
            publisher,
            self.peering,
            self.ports.journal,
            self.ports.clock,
            self.log,
            self.health,
            port=get_onion_port(self.config.listen),
            rotate_every_s=self.config.onion_rotate_every,
            grace_s=self.config.onion_grace,
        )

    async def start(self) -> None:
        """Recovers what a killed process left; after this the node can be served."""
        self._started_ns = self.ports.clock.wall_ns()
        self.health.troubles += await self.hosting.start()
        self.health.troubles += await self.heads.start()
        self.health.troubles += await self.witnessing.witnesses.start()
        self.health.troubles += self.peering.load()
        await self.manager.start()
        self.health.troubles += self.manager.problems
        self.witnessing.attester.begin()
        self.measure()

    async def finalize(self, session_id: bytes) -> control_pb2.SessionInfo:
        """Closes an interrupted session; one that is an old copy is brought up from what peers keep before.

        Raises:
            Conflict: it is being recorded, or complete, or peers do not keep all that was witnessed.
            Unavailable: it is an old copy, and what is missing cannot be fetched now.
        """
        try:
            return await self.manager.finalize(session_id)
        except Conflict:
            if not (await self.manager.info(session_id)).behind:
                raise
        await self.heads.catch_up()
        info = await self.manager.info(session_id)
        if info.state == session_pb2.STATE_COMPLETE:
            return info
        return await self.manager.finalize(session_id)

    async def stop(self) -> None:
        """Interrupts what is being recorded, synced."""
        self.health.stopping = True
        await self.manager.stop()

    async def maintain(self) -> None:
        """Erases what has outlived its retention, and keeps health true. Runs until it is cancelled."""
        slept_s = SWEEP_EVERY_S
        while True:
            self.measure()
            if slept_s >= SWEEP_EVERY_S:
                slept_s = 0.0
                try:
                    await self.manager.sweep()
                    await self.hosting.sweep()
                except LucidError as error:
                    self.health.on_error(error)
                    self.log.error("sweep failed", why=str(error))
            await self.ports.clock.sleep(MEASURE_EVERY_S)
            slept_s += MEASURE_EVERY_S

    def measure(self) -> None:
        """Looks at the space there is."""
        was_serving = self.health.serving
        try:
            self.health.on_space(self.ports.measure(), self.config.quota)
        except LucidError as error:
            self.health.on_write(error)
        if self.health.serving != was_serving:
            self.log.warning("health changed", serving=self.health.serving, problems=self.health.problems)

    async def writing(self, work: Awaitable[T]) -> T:
        """Awaits something that writes to the store; health learns how it went."""
        try:
            result = await work
        except LucidError as error:
            self.health.on_write(error)
            raise
        self.health.on_write(None)
        return result

    def on_client_error(self, error: LucidError, **context: object) -> None:
        """Takes an error that a client is told of."""
        self.metrics.errors.labels(type(error).__name__).inc()
        self.health.on_error(error)
        self.log.warning("request failed", code=type(error).__name__, why=str(error), **context)

    def _on_changed(self, session_id: bytes) -> None:
        self.spreading.replicator.on_changed(session_id)
        self.witnessing.attester.on_changed(session_id)

    def on_recorded(self, kind: str, size_bytes: int) -> None:
        """Counts source bytes that were taken."""
        self.metrics.recorded_bytes.labels(kind).inc(size_bytes)

    async def refresh_metrics(self) -> None:
        """Brings those metrics up to date that are not counted as things happen."""
        usage, counts = await self._look()
        for state in _SHOWN_STATES:
            name = session_pb2.State.Name(state).removeprefix("STATE_").lower()
            self.metrics.sessions.labels(name).set(counts.get(state, 0))
        for part, size in (
            ("blobs", usage.blob_bytes),
            ("journals", usage.journal_bytes),
            ("index", usage.index_bytes),
        ):
            self.metrics.store_bytes.labels(part).set(size)

    async def status(self) -> control_pb2.GetStatusResponse:
        """How the node is doing."""
        usage, counts = await self._look()
        wanted, held = await self.ports.offload_io.run(self.spreading.count_all)
        return control_pb2.GetStatusResponse(
            version=version("lucid-network"),
            peer_id=encode_peer_id(self.keys.device.public_key),
            owner_id=self.keys.owner.hex(),
            network=self.keys.network.name,
            started_ns=self._started_ns,
            pid=self.pid,
            serving=self.health.serving,
            problems=[
                *self.health.problems,
                *self.heads.problems,
                *([] if self.onions is None else self.onions.problems),
            ],
            blob_bytes=usage.blob_bytes,
            journal_bytes=usage.journal_bytes,
            index_bytes=usage.index_bytes,
            quota_bytes=self.config.quota,
            disk_free_bytes=usage.free_bytes,
            sessions_recording=counts.get(session_pb2.STATE_RECORDING, 0),
            sessions_interrupted=counts.get(session_pb2.STATE_INTERRUPTED, 0),
            sessions_complete=counts.get(session_pb2.STATE_COMPLETE, 0),
            metrics_address=self.metrics_address,
            replicas_wanted=wanted,
            replicas_held=held,
            listen="" if self.peering.address is None else str(self.peering.address),
            peers_connected=self.peering.book.count_connected(),
            peers_known=self.peering.book.count_configured(),
            held_bytes=self.hosting.holdings.held_bytes,
            transport=self.config.transport,
            tor=None if self.onions is None else self.onions.describe(),
        )

    def get_room(self) -> int:
        """Bytes that blobs and journals may still grow by."""
        usage = self.ports.measure()
        free_bytes = max(0, usage.free_bytes - LEAST_FREE_BYTES)
        if not self.config.quota:
            return free_bytes
        return max(0, min(free_bytes, self.config.quota - usage.blob_bytes - usage.journal_bytes))

    async def _look(self) -> "tuple[Usage, dict[session_pb2.State.ValueType, int]]":
        """Space and sessions; off the loop, since it goes through the whole index."""
        return self.ports.measure(), await self.ports.offload_io.run(self.manager.count_states)


_SHOWN_STATES = (session_pb2.STATE_RECORDING, session_pb2.STATE_INTERRUPTED, session_pb2.STATE_COMPLETE)


def compose(
    keys: RecorderKeys,
    config: NodeConfig,
    ports: NodePorts,
    metrics: NodeMetrics,
    log: Logger,
    peering: "Peering",
    peers: Peers | None = None,
    publisher: OnionPublisher | None = None,
) -> Node:
    """A node, ready to be started.

    Args:
        keys: see `Node`.
        config: see `Node`.
        ports: see `Node`.
        metrics: see `Node`.
        log: see `Node`.
        peering: see `Node`.
        peers: to whom its recordings go; None: to those of `peering`.
        publisher: of its onion services; None: it does without Tor.
    """
    known = peering.book if peers is None else peers
    return Node(keys, config, ports, metrics, log, peering, known, publisher)
