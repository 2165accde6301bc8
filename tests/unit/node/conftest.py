"""A whole node on a simulated disk, with real sockets in a temporary directory."""

import asyncio
import contextlib
import io
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dht import tables as dht_tables
from dht.ports import Peers
from kernel.domains import NETWORKS
from kernel.grants import sign_grant_list
from kernel.keys import DeviceKeys, OwnerKeys
from kernel.sealing import compute_x25519_public
from kernel.signing import SigningKey
from lucid.v1 import data_pb2, session_pb2
from lucid.v1.identity_pb2 import ROLE_READ, ROLE_RECORD, ROLE_WORK, Grant
from node.adapters import SystemClock, SystemEntropy, ThreadOffload
from node.compose import Node, compose
from node.config import NodeConfig, load_config
from node.data.server import DataServer
from node.home import Home
from node.identity.peer_keys import PeerKeys
from node.logs import Logger, make_logger
from node.memory import give_back
from node.metrics import MeteredFiles, NodeMetrics, WorkMeter
from node.ports import NodePorts, Usage
from node.rpc.peering import Peering
from node.transport.loopback import LoopbackTransport
from session import tables
from session.access import RecorderKeys
from storage.blobs import FileBlobs
from storage.faults import Faults
from storage.inline import InlineOffload
from storage.journal import FileJournal
from storage.memory_files import MemoryFiles
from storage.memory_records import MemoryRecords
from storage.quota import Quota
from tests.scenarios.world import OWNER, sign_grants

FREE_BYTES = 10 << 30


class SeededRng:
    def __init__(self) -> None:
        self._random = random.Random(1)

    def below(self, bound: int) -> int:
        return self._random.randrange(bound)


@dataclass
class Bench:
    """A node and what stands around it."""

    home: Home
    node: Node
    files: MemoryFiles
    faults: Faults
    log: io.StringIO
    usage: dict[str, int] = field(default_factory=lambda: {"free": FREE_BYTES})


def build_peering(config: NodeConfig, ports: NodePorts, metrics: NodeMetrics, log: Logger) -> Peering:
    """The side of a node that others see; its owner's only device."""
    owner, device = (
        OwnerKeys.from_root(b"o" * 32),
        DeviceKeys(b"r" * 32, SigningKey.from_seed(b"d" * 32), b"b" * 32),
    )
    grant = Grant(device=device.identity.public_key, roles=[ROLE_RECORD, ROLE_READ, ROLE_WORK])
    seal = compute_x25519_public(owner.seal(0))
    grants = sign_grant_list(owner.identity, NETWORKS["dev"], 1, [grant], 0, seal)
    return Peering(
        PeerKeys(NETWORKS["dev"], device, grants),
        LoopbackTransport(),
        ports.clock,
        ports.entropy,
        ports.offload_io,
        ports.records,
        metrics,
        log,
        software="lucid-node test",
        peers=config.peers,
    )


@pytest.fixture
def make_peering() -> Callable[..., Peering]:
    return build_peering


MakeBench = Callable[..., Awaitable[Bench]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    root = tmp_path / "h"
    root.mkdir(0o700)
    return Home(root)


@pytest.fixture
async def make_bench(home: Home) -> AsyncIterator[MakeBench]:
    """Makes nodes; flags are settings as on the command line; `peers` are whom it knows."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(peers: Peers | None = None, **flags: str) -> Bench:
            config = load_config(home, {}, {"transport": "loopback"} | flags)
            rng = SeededRng()
            faults = Faults(rng)
            memory = MemoryFiles(rng, faults)
            metrics = NodeMetrics()
            files = MeteredFiles(memory, WorkMeter(metrics))
            offload, quota = InlineOffload(), Quota(config.quota or None)
            records = MemoryRecords((*tables.TABLES, *dht_tables.TABLES), faults)
            blobs = await FileBlobs.open(files, offload, quota)
            journal = await FileJournal.open(
                files, offload, quota, reserved=tables.SMALL_FACTS, freeing=tables.DELETIONS
            )
            usage = {"free": FREE_BYTES}

            def measure() -> Usage:
                return Usage(blobs.used_bytes(), journal.used_bytes(), records.size_bytes(), usage["free"])

            ports = NodePorts(
                SystemClock(), SystemEntropy(), offload, offload, records, blobs, journal, measure, rng
            )
            private = b"p" * 32
            public = compute_x25519_public(private)
            device = SigningKey.from_seed(b"d" * 32)
            keys = RecorderKeys(
                NETWORKS["dev"],
                device,
                OWNER.public_key,
                public,
                {public: private},
                grants=sign_grants(device.public_key, public),
            )
            log = io.StringIO()
            logger = make_logger("debug", "json", log)
            peering = build_peering(config, ports, metrics, logger)
            node = compose(keys, config, ports, metrics, logger, peering, peers)
            await node.start()
            stack.push_async_callback(node.stop)
            return Bench(home, node, memory, faults, log, usage)

        yield make


@pytest.fixture
async def bench(make_bench: MakeBench) -> Bench:
    return await make_bench()


ServeData = Callable[..., Awaitable[DataServer]]


@pytest.fixture
async def serve_data() -> AsyncIterator[ServeData]:
    """Opens data sockets; they close at the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def serve(bench: Bench, *, may_only_record: bool = False) -> DataServer:
            path = bench.home.root / "record.sock" if may_only_record else bench.home.data_socket
            server = DataServer(
                bench.node,
                path,
                may_only_record=may_only_record,
                make_offload=lambda: ThreadOffload("t", 1),
                on_idle=give_back,
            )
            await server.start()
            stack.push_async_callback(server.stop)
            return server

        yield serve


class RawClient:
    """Speaks frames, right or wrong, over a Unix socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._socket.setblocking(False)

    async def send_bytes(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    async def send(self, frame: data_pb2.ClientFrame, *descriptors: int) -> None:
        encoded = frame.SerializeToString()
        message = len(encoded).to_bytes(4, "big") + encoded
        if descriptors:
            sent = socket.send_fds(self._socket, [message], list(descriptors))
            message = message[sent:]
        await self.send_bytes(message)

    async def receive(self) -> data_pb2.ServerFrame:
        """The next frame that is no progress."""
        while True:
            size = int.from_bytes(await self._receive_exactly(4), "big")
            frame = data_pb2.ServerFrame.FromString(await self._receive_exactly(size))
            if not frame.HasField("progress"):
                return frame

    async def is_closed(self) -> bool:
        try:
            return await asyncio.get_running_loop().sock_recv(self._socket, 1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self._socket.close()

    async def _receive_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = await asyncio.get_running_loop().sock_recv(self._socket, size - len(data))
            if not piece:
                raise EOFError("the daemon closed the connection")
            data += piece
        return data


Connect = Callable[[Path], RawClient]


@pytest.fixture
def connect() -> Iterator[Connect]:
    clients = []

    def make(path: Path) -> RawClient:
        clients.append(RawClient(path))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def start_frame(
    kind: "session_pb2.SourceKind.ValueType" = session_pb2.SOURCE_KIND_STREAM, **metadata: object
) -> data_pb2.ClientFrame:
    start = data_pb2.StartRecording(kind=kind, metadata=session_pb2.Metadata(**metadata))  # type: ignore[arg-type]
    return data_pb2.ClientFrame(start=start)


def data_frame(position: int, data: bytes) -> data_pb2.ClientFrame:
    return data_pb2.ClientFrame(data=data_pb2.DataPiece(position=position, data=data))


FINISH = data_pb2.ClientFrame(finish=data_pb2.FinishRecording(has_exit_status=True, exit_status=7))


@dataclass(frozen=True)
class Frames:
    """How tests write frames."""

    start: Callable[..., data_pb2.ClientFrame] = start_frame
    data: Callable[[int, bytes], data_pb2.ClientFrame] = data_frame
    finish: data_pb2.ClientFrame = field(default_factory=lambda: FINISH)


@pytest.fixture
def frames() -> Frames:
    return Frames()


async def wait_until(holds: Callable[[], bool]) -> None:
    """Returns when `holds()`; fails if it does not within 20 s."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    return wait_until
