"""Nodes that meet: real gRPC on loopback, simulated disks, a clock that a test may hold."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from dht.tables import TABLES
from kernel.domains import NETWORKS
from kernel.grants import sign_grant_list
from kernel.keys import DeviceKeys, OwnerKeys
from kernel.multiaddr import Multiaddr, parse_multiaddr
from kernel.sealing import compute_x25519_public
from lucid.v1 import (
    chunk_pb2,
    chunk_pb2_grpc,
    identity_pb2,
    share_pb2,
    share_pb2_grpc,
    witness_pb2,
    witness_pb2_grpc,
)
from lucid.v1.identity_pb2 import ROLE_READ, ROLE_RECORD, ROLE_WORK, Grant
from node.adapters import SystemClock, SystemEntropy
from node.identity.peer_keys import PeerKeys
from node.logs import make_logger
from node.metrics import NodeMetrics
from node.rpc.node_servicer import Standing
from node.rpc.peering import Peering
from node.rpc.server import Service
from node.transport.loopback import LoopbackTransport
from storage.faults import Faults
from storage.inline import InlineOffload
from storage.memory_records import MemoryRecords

DEV = NETWORKS["dev"]
ANY_PORT = parse_multiaddr("/ip4/127.0.0.1/tcp/0")
STANDING = Standing(serving=True, held_bytes=7, free_bytes=1000)


class NoRng:
    def below(self, bound: int) -> int:
        return 0


class ShiftedClock(SystemClock):
    """The system's clock, some time later."""

    shift_ns = 0

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.shift_ns

    def wall_ns(self) -> int:
        return super().wall_ns() + self.shift_ns


def make_keys(
    number: int, *roles: "identity_pb2.Role.ValueType", owner: int | None = None, grants_sequence: int = 1
) -> PeerKeys:
    """Keys of node `number`; its owner's grant list, with this sequence number, names no other device."""
    owner_keys = OwnerKeys.from_root(bytes([100 + number if owner is None else owner]) * 32)
    device = DeviceKeys.from_root(bytes([number]) * 32)
    grant = Grant(device=device.identity.public_key, roles=roles or (ROLE_RECORD, ROLE_READ, ROLE_WORK))
    seal = compute_x25519_public(owner_keys.seal(0))
    return PeerKeys(DEV, device, sign_grant_list(owner_keys.identity, DEV, grants_sequence, [grant], 0, seal))


@dataclass
class Meeting:
    """One node, as far as others see it."""

    peering: Peering
    records: MemoryRecords
    clock: ShiftedClock
    log: io.StringIO
    metrics: NodeMetrics
    running: list["asyncio.Task[None]"] = field(default_factory=list)

    @property
    def device(self) -> bytes:
        return self.peering.identity.device

    @property
    def address(self) -> Multiaddr:
        assert self.peering.address is not None
        return self.peering.address

    @property
    def servicer(self) -> Any:
        """Its `NodeService`."""
        return self.peering.servicer

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.address.port}"

    def run(self) -> None:
        """Keeps the links."""
        self.running.append(asyncio.create_task(self.peering.book.run()))

    async def stop_links(self) -> None:
        for task in self.running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.running.clear()

    def peer(self, other: "Meeting") -> Any:
        return self.peering.book.find(other.device)


class EchoChunks(chunk_pb2_grpc.ChunkServiceServicer):
    """Answers with as little as there can be."""

    async def PutChunk(self, requests: Any, context: Any) -> Any:  # noqa: N802
        async for request in requests:
            yield chunk_pb2.PutChunkResponse(offset=len(request.frame))

    async def GetChunk(self, request: Any, context: Any) -> Any:  # noqa: N802
        yield chunk_pb2.GetChunkResponse(frame=b"frame")

    async def HasChunks(self, request: Any, context: Any) -> Any:  # noqa: N802
        return chunk_pb2.HasChunksResponse(sizes=[1 for _ in request.chunk_ids])

    async def AuditChunk(self, request: Any, context: Any) -> Any:  # noqa: N802
        return chunk_pb2.AuditChunkResponse(size_bytes=1)

    async def ReleaseChunk(self, request: Any, context: Any) -> Any:  # noqa: N802
        return chunk_pb2.ReleaseChunkResponse(freed_bytes=1)

    async def PutHead(self, request: Any, context: Any) -> Any:  # noqa: N802
        return chunk_pb2.PutHeadResponse()

    async def GetHead(self, request: Any, context: Any) -> Any:  # noqa: N802
        return chunk_pb2.GetHeadResponse()


class EchoWitness(witness_pb2_grpc.WitnessServiceServicer):
    async def Attest(self, request: Any, context: Any) -> Any:  # noqa: N802
        return witness_pb2.AttestResponse()

    async def GetAttested(self, request: Any, context: Any) -> Any:  # noqa: N802
        return witness_pb2.GetAttestedResponse()


class EchoShare(share_pb2_grpc.ShareServiceServicer):
    async def Offer(self, request: Any, context: Any) -> Any:  # noqa: N802
        return share_pb2.OfferResponse()


def make_services(chunks: Any, witness: Any) -> list[Service]:
    return [
        Service(
            "lucid.v1.ChunkService",
            lambda server: chunk_pb2_grpc.add_ChunkServiceServicer_to_server(chunks, server),
        ),
        Service(
            "lucid.v1.WitnessService",
            lambda server: witness_pb2_grpc.add_WitnessServiceServicer_to_server(witness, server),
        ),
        Service(
            "lucid.v1.ShareService",
            lambda server: share_pb2_grpc.add_ShareServiceServicer_to_server(EchoShare(), server),
        ),
    ]


MakeMeeting = Callable[..., Awaitable[Meeting]]


@pytest.fixture
async def make_meeting() -> AsyncIterator[MakeMeeting]:
    """Makes nodes that listen, and, with `run()`, keep their peers."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(
            number: int,
            *,
            keys: PeerKeys | None = None,
            listen: Multiaddr | None = ANY_PORT,
            peers: Sequence[Multiaddr] = (),
            chunks: Any = None,
            witness: Any = None,
            records: MemoryRecords | None = None,
            transport: Any = None,
            hosting_for: Sequence[bytes] = (),
            run: bool = True,
        ) -> Meeting:
            clock, log = ShiftedClock(), io.StringIO()
            if records is None:
                records = MemoryRecords(TABLES, Faults(NoRng()))
            metrics = NodeMetrics()
            peering = Peering(
                keys or make_keys(number),
                transport or LoopbackTransport(),
                clock,
                SystemEntropy(),
                InlineOffload(),
                records,
                metrics,
                make_logger("debug", "json", log),
                software="lucid-node test",
                peers=peers,
                hosting_for=hosting_for,
            )
            meeting = Meeting(peering, records, clock, log, metrics)
            assert peering.load() == []
            services = make_services(chunks or EchoChunks(), witness or EchoWitness())
            peering.prepare(lambda: STANDING.serving, lambda: STANDING, services)
            if listen is not None:
                peering.announce([await peering.open(listen)])
            stack.push_async_callback(peering.stop)
            stack.push_async_callback(meeting.stop_links)
            if run:
                meeting.run()
            return meeting

        yield make


@pytest.fixture
async def open_channel() -> AsyncIterator[Callable[[Meeting], grpc.aio.Channel]]:
    """Plain channels, as strangers have them."""
    async with contextlib.AsyncExitStack() as stack:

        def open_one(meeting: Meeting) -> grpc.aio.Channel:
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
            channel = grpc.aio.insecure_channel(meeting.target, options=options)
            stack.push_async_callback(channel.close)
            return channel

        yield open_one


@pytest.fixture
def keys_of() -> Callable[..., PeerKeys]:
    return make_keys
