"""Servers: stopping, methods that are not there, tasks and their contexts, and generated services."""

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from lucid.v1 import chunk_pb2, chunk_pb2_grpc, node_pb2, node_pb2_grpc
from tests.contracts.rpc_world import EOF, World, catch, outcome, read_all, settle

Code = grpc.StatusCode
Context = Any
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


async def echo(request: bytes, context: Context) -> bytes:
    return request


class Waiting:
    """A handler that waits until it is released."""

    def __init__(self) -> None:
        self.started, self.released = asyncio.Event(), asyncio.Event()
        self.end = "none"

    async def answer(self, request: Any, context: Context) -> bytes:
        self.started.set()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.end = "cancelled"
            raise
        self.end = "released"
        return b"released"

    async def stream(self, request: Any, context: Context) -> AsyncIterator[bytes]:
        yield b"1"
        yield await self.answer(request, context)


@pytest.mark.parametrize("grace", [None, 0.05])
async def test_stopping_ends_calls(world: World, grace: float | None) -> None:
    waiting = Waiting()
    method = await world.serve("unary_unary", waiting.answer)
    call = method(b"")
    await waiting.started.wait()
    await world.servers[0].stop(grace)
    await settle(lambda: waiting.end == "cancelled")
    assert (await outcome(call))[0] in {"UNAVAILABLE", "CANCELLED"}


@pytest.mark.parametrize("grace", [None, 0.05])
async def test_stopping_ends_streams(world: World, grace: float | None) -> None:
    waiting = Waiting()
    method = await world.serve("unary_stream", waiting.stream)
    call = method(b"")
    assert await call.read() == b"1"
    await waiting.started.wait()
    await world.servers[0].stop(grace)
    await settle(lambda: waiting.end == "cancelled")
    messages, code = await read_all(call)
    assert messages == []
    assert code in {"UNAVAILABLE", "CANCELLED"}


async def test_stopping_with_grace_lets_calls_end(world: World) -> None:
    waiting = Waiting()
    method = await world.serve("unary_unary", waiting.answer)
    call = method(b"")
    await waiting.started.wait()
    stopping = asyncio.create_task(world.servers[0].stop(10))
    await asyncio.sleep(0.05)
    assert not stopping.done()
    assert (await outcome(method(b"")))[0] == "UNAVAILABLE"
    waiting.released.set()
    assert await outcome(call) == ("OK", b"released")
    await stopping


async def test_stopping_again_shortens_the_grace(world: World) -> None:
    waiting = Waiting()
    method = await world.serve("unary_unary", waiting.answer)
    call = method(b"")
    await waiting.started.wait()
    stopping = asyncio.create_task(world.servers[0].stop(100))
    await asyncio.sleep(0.05)
    await world.servers[0].stop(None)
    await stopping
    await settle(lambda: waiting.end == "cancelled")
    assert (await outcome(call))[0] in {"UNAVAILABLE", "CANCELLED"}


async def test_stopping_lets_a_handler_clean_up(world: World) -> None:
    events: list[str] = []
    started = asyncio.Event()

    async def handler(request: bytes, context: Context) -> bytes:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            events.append("cleaned up")
        return b""

    method = await world.serve("unary_unary", handler)
    call = method(b"")
    await started.wait()
    await world.servers[0].stop(None)
    await settle(lambda: events == ["cleaned up"])
    assert (await outcome(call))[0] in {"UNAVAILABLE", "CANCELLED"}


async def test_nobody_listens_after_stopping(world: World) -> None:
    method = await world.serve("unary_unary", echo)
    await method(b"")
    await world.servers[0].stop(None)
    assert (await outcome(method(b"")))[0] == "UNAVAILABLE"
    await world.servers[0].stop(None)
    assert await catch(world.servers[0].start()) is grpc.aio.UsageError


async def test_waiting_for_termination(world: World) -> None:
    await world.serve("unary_unary", echo)
    (server,) = world.servers
    assert await server.wait_for_termination(0.01) is True
    waiting = asyncio.create_task(server.wait_for_termination())
    await asyncio.sleep(0.01)
    await server.stop(None)
    assert await waiting is False
    assert await server.wait_for_termination() is False


async def test_stopping_what_never_started(world: World) -> None:
    server = world.make_server()
    await server.stop(None)
    assert await server.wait_for_termination(0.01) is True


async def test_a_port_is_taken_again_after_stopping(world: World) -> None:
    await world.serve("unary_unary", echo)
    await world.servers[0].stop(None)
    method = await world.serve("unary_unary", echo, port=world.port)
    assert await method(b"1") == b"1"


@pytest.mark.parametrize("path", ["/test.Service/Other", "/other.Service/Method", "/test.Service", "no path"])
async def test_unknown_methods(world: World, path: str) -> None:
    await world.serve("unary_unary", echo)
    method: Any = world.dial().unary_unary(path)
    assert (await outcome(method(b"")))[0] in {"UNIMPLEMENTED"}


async def test_unknown_methods_with_streams(world: World) -> None:
    await world.serve("unary_unary", echo)
    method: Any = world.dial().stream_stream("/test.Service/Other")
    call = method()
    assert await read_all(call) == ([], "UNIMPLEMENTED")


async def test_registered_handlers_come_before_generic_ones(world: World) -> None:
    async def registered(request: bytes, context: Context) -> bytes:
        return b"registered"

    server = world.make_server()
    generic: dict[str, Any] = {"Method": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", generic),))
    server.add_registered_method_handlers(
        "test.Service", {"Method": grpc.unary_unary_rpc_method_handler(registered)}
    )
    await server.start()
    assert await world.stub("unary_unary")(b"") == b"registered"


async def test_the_first_generic_handler_answers(world: World) -> None:
    async def second(request: bytes, context: Context) -> bytes:
        return b"second"

    server = world.make_server()
    for handler in (echo, second):
        methods: dict[str, Any] = {"Method": grpc.unary_unary_rpc_method_handler(handler)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", methods),))
    await server.start()
    assert await world.stub("unary_unary")(b"first") == b"first"


async def test_each_call_has_a_task_and_a_context_of_its_own(world: World) -> None:
    seen: list[Any] = []

    async def handler(request: bytes, context: Context) -> bytes:
        seen.append((VARIABLE.get(), asyncio.current_task()))
        VARIABLE.set(request.decode())
        await asyncio.sleep(0)
        return VARIABLE.get().encode()

    VARIABLE.set("server")
    method = await world.serve("unary_unary", handler)
    VARIABLE.set("client")
    calls = [method(b"%d" % number) for number in range(3)]
    assert [await call for call in calls] == [b"0", b"1", b"2"]
    assert [variable for variable, _ in seen] == ["server"] * 3
    tasks = [task for _, task in seen]
    assert len({id(task) for task in (*tasks, asyncio.current_task())}) == 4
    assert VARIABLE.get() == "client"


async def test_an_answering_iterator_runs_in_the_task_of_its_call(world: World) -> None:
    async def handler(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        VARIABLE.set("mine")
        async for _ in requests:
            yield VARIABLE.get().encode()

    method = await world.serve("stream_stream", handler)
    assert await read_all(method(iter([b"", b""]))) == ([b"mine", b"mine"], "OK")


async def ping(servicer: Any, request: node_pb2.PingRequest, context: Context) -> node_pb2.PingResponse:
    return node_pb2.PingResponse(payload=request.payload)


async def get_chunk(servicer: Any, request: Any, context: Context) -> AsyncIterator[Any]:
    for _ in range(3):
        yield chunk_pb2.GetChunkResponse()


async def put_chunk(servicer: Any, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
    async for _ in requests:
        yield chunk_pb2.PutChunkResponse()


def make_servicer(base: type, **methods: Any) -> Any:
    """A generated servicer that implements some of its methods."""
    return type("Servicer", (base,), methods)()


async def test_generated_stubs_and_servicers(world: World) -> None:
    server = world.make_server()
    servicer = make_servicer(node_pb2_grpc.NodeServiceServicer, Ping=ping)
    node_pb2_grpc.add_NodeServiceServicer_to_server(servicer, server)
    servicer = make_servicer(chunk_pb2_grpc.ChunkServiceServicer, GetChunk=get_chunk, PutChunk=put_chunk)
    chunk_pb2_grpc.add_ChunkServiceServicer_to_server(servicer, server)
    await server.start()
    channel = world.dial()
    node: Any = node_pb2_grpc.NodeServiceStub(channel)
    chunk: Any = chunk_pb2_grpc.ChunkServiceStub(channel)
    response = await node.Ping(node_pb2.PingRequest(payload=b"ping"), timeout=10)
    assert response == node_pb2.PingResponse(payload=b"ping")
    assert (await outcome(node.GetInfo(node_pb2.GetInfoRequest())))[0] == "UNIMPLEMENTED"
    messages, code = await read_all(chunk.GetChunk(chunk_pb2.GetChunkRequest()))
    assert (messages, code) == ([chunk_pb2.GetChunkResponse()] * 3, "OK")
    call = chunk.PutChunk()
    for _ in range(2):
        await call.write(chunk_pb2.PutChunkRequest())
        assert await call.read() == chunk_pb2.PutChunkResponse()
    await call.done_writing()
    assert await call.read() is EOF


async def test_health(world: World) -> None:
    server = world.make_server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    await server.start()
    stub: Any = health_pb2_grpc.HealthStub(world.dial())
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == 2
    assert (await outcome(stub.Check(health_pb2.HealthCheckRequest(service="x"))))[0] == "NOT_FOUND"
    watching = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watching.read()).status == 2
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    assert (await watching.read()).status == 1
    watching.cancel()


async def test_reflection(world: World) -> None:
    server = world.make_server()
    reflection.enable_server_reflection(("lucid.v1.NodeService", reflection.SERVICE_NAME), server)
    await server.start()
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(world.dial())
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    (answer,), code = await read_all(call)
    names = [service.name for service in answer.list_services_response.service]
    assert (names, code) == ([reflection.SERVICE_NAME, "lucid.v1.NodeService"], "OK")
