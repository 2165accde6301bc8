"""The holder's side of the transfer figure: a node that keeps on a real disk, and a bare server beside it.

`python -m benchmarks.transfer_node DIRECTORY` prints two ports, the node's and the bare server's, and serves
until its standard input ends.
"""

import asyncio
import io
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from dht import tables
from dht.bandwidth import Pace
from dht.head_keeper import HeadKeeper
from dht.holdings import Holdings
from dht.hosting_quota import HostingQuota
from dht.ports import KeepingPorts
from dht.transfer import FRAME_BYTES
from kernel.chunk_id import compute_chunk_leaves
from kernel.domains import NETWORKS
from kernel.grants import sign_grant_list
from kernel.keys import DeviceKeys, OwnerKeys
from kernel.multiaddr import Multiaddr, parse_multiaddr
from kernel.sealing import compute_x25519_public
from lucid.v1 import chunk_pb2, chunk_pb2_grpc, node_pb2, node_pb2_grpc
from lucid.v1.identity_pb2 import ROLE_RECORD, Grant
from node.adapters import SystemClock, SystemEntropy, ThreadOffload
from node.identity.peer_keys import PeerKeys
from node.logs import make_logger
from node.memory import keep_buffers
from node.metrics import NodeMetrics
from node.ports import Transport
from node.rpc import limits
from node.rpc.chunk_servicer import make_chunk_service
from node.rpc.node_servicer import Standing
from node.rpc.peering import Peering
from node.transport.loopback import LoopbackTransport
from storage.disk_store import open_disk_store

NETWORK = NETWORKS["dev"]
ANY_PORT = parse_multiaddr("/ip4/127.0.0.1/tcp/0")
BLOB_BYTES = 8 << 20
PING = "lucid.v1.NodeService/Ping"
STANDING = Standing(serving=True, held_bytes=0, free_bytes=0)


class NoOwnBlobs:
    """A node without sessions."""

    async def needs(self, blob_id: bytes) -> bool:
        return False


class BareChunks(chunk_pb2_grpc.ChunkServiceServicer):
    """The same messages, and nothing done about them."""

    def __init__(self) -> None:
        self._blob = os.urandom(BLOB_BYTES)
        self._leaves = b"".join(compute_chunk_leaves(self._blob))

    async def PutChunk(  # noqa: N802
        self, request_iterator: AsyncIterator[chunk_pb2.PutChunkRequest], context: Any
    ) -> AsyncIterator[chunk_pb2.PutChunkResponse]:
        await anext(request_iterator)
        yield chunk_pb2.PutChunkResponse(offset=0)
        async for _ in request_iterator:
            pass
        yield chunk_pb2.PutChunkResponse(offset=BLOB_BYTES)

    async def GetChunk(  # noqa: N802
        self, request: chunk_pb2.GetChunkRequest, context: Any
    ) -> AsyncIterator[chunk_pb2.GetChunkResponse]:
        opening = chunk_pb2.GetOpen(size_bytes=BLOB_BYTES, leaves=self._leaves)
        yield chunk_pb2.GetChunkResponse(open=opening)
        for start in range(0, BLOB_BYTES, FRAME_BYTES):
            yield chunk_pb2.GetChunkResponse(frame=self._blob[start : start + FRAME_BYTES])


class BareNode(node_pb2_grpc.NodeServiceServicer):
    """A ping without limits, tokens or metrics."""

    async def Ping(  # noqa: N802
        self, request: node_pb2.PingRequest, context: Any
    ) -> node_pb2.PingResponse:
        return node_pb2.PingResponse(payload=request.payload)


def make_keys(number: int) -> PeerKeys:
    """Keys of an owner and its only device."""
    owner, device = OwnerKeys.from_root(bytes([number]) * 32), DeviceKeys.from_root(bytes([number]) * 32)
    grant = Grant(device=device.identity.public_key, roles=[ROLE_RECORD])
    seal = compute_x25519_public(owner.seal(0))
    return PeerKeys(NETWORK, device, sign_grant_list(owner.identity, NETWORK, 1, [grant], 0, seal))


def make_peering(
    number: int, records: Any, offload: Any, *peers: Multiaddr, transport: Transport | None = None
) -> Peering:
    """The side of a node that others see; over loopback if no transport is given."""
    return Peering(
        make_keys(number),
        transport or LoopbackTransport(),
        SystemClock(),
        SystemEntropy(),
        offload,
        records,
        NodeMetrics(),
        make_logger("error", "json", io.StringIO()),
        software="benchmark",
        peers=peers,
    )


def lift_rate_of_pings() -> None:
    """The limit is still asked for, but not reached."""
    limits.METHODS[PING] = replace(limits.METHODS[PING], rate_per_s=1e9, burst=1 << 30)


@asynccontextmanager
async def serving(
    directory: Path, address: Multiaddr, transport: Transport | None = None
) -> AsyncIterator[Peering]:
    """A node that keeps chunks on disk, at an address."""
    async with AsyncExitStack() as stack:
        io_threads, cpu_threads = ThreadOffload("io", 4), ThreadOffload("cpu", 2)
        stack.callback(io_threads.close)
        stack.callback(cpu_threads.close)
        store = await open_disk_store(directory, io_threads, tables=tables.TABLES)
        stack.callback(store.close)
        ports = KeepingPorts(SystemClock(), cpu_threads, store.records, store.blobs, store.journal)
        peering = make_peering(1, store.records, io_threads, transport=transport)
        device = peering.keys.device.identity
        holdings = Holdings(
            ports,
            NETWORK,
            device,
            quota=HostingQuota(),
            own=NoOwnBlobs(),
            pace=Pace.limited(SystemClock()),
        )
        heads = HeadKeeper(ports, NETWORK, device)
        peering.load()
        services = [make_chunk_service(holdings, heads)]
        peering.prepare(lambda: True, lambda: STANDING, services)
        peering.announce([await peering.open(address)])
        stack.push_async_callback(peering.stop)
        yield peering


async def serve(directory: Path) -> None:
    """Until standard input ends."""
    async with AsyncExitStack() as stack:
        peering = await stack.enter_async_context(serving(directory, ANY_PORT))
        bare = grpc.aio.server()
        chunk_pb2_grpc.add_ChunkServiceServicer_to_server(BareChunks(), bare)  # type: ignore[abstract]
        node_pb2_grpc.add_NodeServiceServicer_to_server(BareNode(), bare)  # type: ignore[abstract]
        port = bare.add_insecure_port("127.0.0.1:0")
        await bare.start()
        stack.push_async_callback(bare.stop, None)
        node_port = peering.address.port if peering.address else 0
        print(node_port, port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    keep_buffers()
    lift_rate_of_pings()
    asyncio.run(serve(Path(sys.argv[1])))
