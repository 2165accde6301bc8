"""Speed of the simulated gRPC, as a share of what bare asyncio does in the same run: machines differ.

Switches are those of the stock loop, calls run on the virtual one.
"""

import asyncio
import gc
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from lucid.v1 import node_pb2, node_pb2_grpc
from simnet.world.loop import VirtualLoop
from simnet.world.network import Network

SWITCHES = 200_000
CALLS = 20_000
PAYLOAD = bytes(64)
CALLERS = 10
RUNS = 3
NODES, STREAMS = 20, 20
TARGETS = {"unary": 0.09, "unary with deadline": 0.09, "stream": 0.15, "round trips": 0.15}
Channel = Any


async def ping(servicer: Any, request: node_pb2.PingRequest, context: Any) -> node_pb2.PingResponse:
    return node_pb2.PingResponse(payload=request.payload)


async def echo(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
    async for request in requests:
        yield node_pb2.PingResponse(payload=request.payload)


async def push(request: Any, context: Any) -> AsyncIterator[Any]:
    """One message per wake-up of whoever reads."""
    response = node_pb2.PingResponse(payload=request.payload)
    for _ in range(CALLS):
        yield response
        await asyncio.sleep(0)


def add_services(server: Any) -> None:
    """`NodeService`, and two streams of its messages."""
    servicer = type("Servicer", (node_pb2_grpc.NodeServiceServicer,), {"Ping": ping})()
    node_pb2_grpc.add_NodeServiceServicer_to_server(servicer, server)
    coders = node_pb2.PingRequest.FromString, node_pb2.PingResponse.SerializeToString
    methods = {
        "Echo": grpc.stream_stream_rpc_method_handler(echo, *coders),
        "Push": grpc.unary_stream_rpc_method_handler(push, *coders),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", methods),))


async def start() -> Channel:
    """A channel to a server of the same world."""
    network = Network(random.Random(1), lambda *event: None)
    server, port = network.host("server").listen()
    add_services(server)
    await server.start()
    channel = network.host("client").dial(port)
    await channel.channel_ready()
    return channel


def open_stream(channel: Channel, kind: str, name: str) -> Any:
    coders = node_pb2.PingRequest.SerializeToString, node_pb2.PingResponse.FromString
    return getattr(channel, kind)(f"/bench/{name}", *coders)


async def run_switches() -> int:
    for _ in range(SWITCHES):
        await asyncio.sleep(0)
    return SWITCHES


async def run_unary(channel: Channel, timeout_s: float | None = None) -> int:
    stub: Any = node_pb2_grpc.NodeServiceStub(channel)
    request = node_pb2.PingRequest(payload=PAYLOAD)

    async def call() -> None:
        for _ in range(CALLS // CALLERS):
            await stub.Ping(request, timeout=timeout_s)

    await asyncio.gather(*(call() for _ in range(CALLERS)))
    return CALLS


async def run_stream(channel: Channel) -> int:
    call = open_stream(channel, "unary_stream", "Push")(node_pb2.PingRequest(payload=PAYLOAD))
    return len([message async for message in call])


async def run_round_trips(channel: Channel) -> int:
    call = open_stream(channel, "stream_stream", "Echo")()
    request = node_pb2.PingRequest(payload=PAYLOAD)
    for _ in range(CALLS):
        await call.write(request)
        await call.read()
    await call.done_writing()
    return CALLS


async def measure(run: Callable[[], Awaitable[int]]) -> float:
    """How often per second; garbage is collected before, and not meanwhile."""
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        count = await run()
        return count / (time.perf_counter() - started)
    finally:
        gc.enable()


def measure_speed() -> dict[str, float]:
    """Rates as shares of the rate of bare switches between tasks of the stock loop."""
    switches = max(asyncio.run(measure(run_switches)) for _ in range(RUNS))
    return {name: VirtualLoop().run(measure_calls(name)) / switches for name in TARGETS}


async def measure_calls(name: str) -> float:
    """The best rate of one kind of calls."""
    channel = await start()
    runs: dict[str, Callable[[], Awaitable[int]]] = {
        "unary": lambda: run_unary(channel),
        "unary with deadline": lambda: run_unary(channel, 10.0),
        "stream": lambda: run_stream(channel),
        "round trips": lambda: run_round_trips(channel),
    }
    return max([await measure(runs[name]) for _ in range(RUNS)])


async def measure_memory() -> float:
    """Bytes of a node with open streams, to each of so many others of the same world."""
    network = Network(random.Random(1), lambda *event: None)
    hosts = [network.host(f"n{number}") for number in range(NODES)]
    ports = []
    for host in hosts:
        server, port = host.listen()
        add_services(server)
        await server.start()
        ports.append(port)
    channels = [host.dial(port) for host in hosts for port in (*ports, *ports)[:STREAMS]]
    for channel in channels:
        await channel.channel_ready()
    gc.collect()
    tracemalloc.start()
    calls = [open_stream(channel, "stream_stream", "Echo")() for channel in channels]
    for call in calls:
        await call.write(node_pb2.PingRequest(payload=PAYLOAD))
        await call.read()
    gc.collect()
    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return size_bytes / NODES
