import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from kernel import errors
from kernel.errors import (
    Conflict,
    InvalidRecord,
    LucidError,
    NotFound,
    Reason,
    StoreFull,
    Unavailable,
    UsageError,
)
from lucid.v1 import control_pb2, session_pb2
from node.control import limits, servicer
from node.control.client import ControlClient
from node.control.failures import TRAILER, decode_call_error, get_status_code
from node.control.server import SERVICE, ControlServer, get_target
from node.home import Home
from session.recording_request import RecordingRequest

Serve = Callable[[Any], Awaitable[ControlServer]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(bench: Any) -> ControlServer:
            server = ControlServer(bench.node, bench.home.control_socket)
            await server.start()
            stack.push_async_callback(server.stop)
            return server

        yield start


async def call(bench: Any, function: Callable[[ControlClient], Any]) -> Any:
    def run() -> Any:
        with ControlClient(bench.home) as client:
            return function(client)

    return await asyncio.to_thread(run)


async def record(bench: Any, data: bytes, **metadata: Any) -> bytes:
    kind = session_pb2.SOURCE_KIND_STREAM
    request = RecordingRequest(kind, session_pb2.Metadata(kind=kind, **metadata), live=True)
    recording = await bench.node.manager.open_recording(request)
    await recording.append(0, data)
    await recording.finish(session_pb2.Ending(ended_ns=recording.started_ns))
    session_id: bytes = recording.session_id
    return session_id


async def test_status_tells_the_exact_space(bench: Any, serve: Serve) -> None:
    await serve(bench)
    await record(bench, b"x" * 1000)
    status = await call(bench, lambda client: client.get_status())
    assert status.serving
    assert status.sessions_complete == 1
    assert status.peer_id.startswith("12D3KooW")
    blobs = [name for name in list_files(bench.files) if name.startswith("blobs/")]
    assert status.blob_bytes == sum(bench.files.size(name) for name in blobs) > 0


def list_files(files: Any, directory: str = "") -> list[str]:
    found: list[str] = []
    for name in files.list_dir(directory):
        path = f"{directory}/{name}".strip("/") if directory else name
        found += list_files(files, path.rstrip("/")) if name.endswith("/") else [path]
    return found


async def test_sessions_are_listed_shown_held_deleted(bench: Any, serve: Serve) -> None:
    await serve(bench)
    session_id = await record(bench, b"one", name="first", tags=["a"])
    await record(bench, b"two", name="second", tags=["b"])
    listed = await call(bench, lambda client: client.list_sessions(tags=("a",)))
    assert [info.metadata.name for info in listed] == ["first"]
    shown = await call(bench, lambda client: client.show_session(session_id.hex()[:10]))
    assert shown.plaintext_bytes == 3
    held = await call(bench, lambda client: client.set_hold(session_id.hex(), True))
    assert held.held
    with pytest.raises(Conflict):
        await call(bench, lambda client: client.delete_session(session_id.hex()))
    await call(bench, lambda client: client.set_hold(session_id.hex(), False))
    deleted = await call(bench, lambda client: client.delete_session(session_id.hex()))
    assert deleted.freed_bytes > 0
    remaining = await call(bench, lambda client: client.list_sessions())
    assert [info.metadata.name for info in remaining] == ["second"]


async def test_verification_reports_progress_and_findings(bench: Any, serve: Serve) -> None:
    await serve(bench)
    session_id = await record(bench, b"evidence" * 1000)
    progress: list[tuple[int, int]] = []
    result = await call(
        bench, lambda client: client.verify_session(session_id.hex(), lambda *pair: progress.append(pair))
    )
    assert (result.valid, result.plaintext_bytes) == (True, 8000)
    assert progress
    blob = next(name for name in list_files(bench.files) if name.startswith("blobs/"))
    bench.files.flip(blob, 9000)
    result = await call(bench, lambda client: client.verify_session(session_id.hex(), lambda *pair: None))
    assert not result.valid
    assert result.findings


async def test_interrupted_sessions_are_finalized(bench: Any, serve: Serve) -> None:
    await serve(bench)
    kind = session_pb2.SOURCE_KIND_STREAM
    for _ in range(2):
        recording = await bench.node.manager.open_recording(
            RecordingRequest(kind, session_pb2.Metadata(), live=True)
        )
        await recording.append(0, b"cut off")
        await recording.interrupt("test")
    finalized = await call(bench, lambda client: client.finalize_sessions())
    assert [info.state for info in finalized] == [session_pb2.STATE_COMPLETE] * 2
    assert await call(bench, lambda client: client.finalize_sessions()) == []


async def test_errors_arrive_as_what_they_were(bench: Any, serve: Serve) -> None:
    await serve(bench)
    with pytest.raises(NotFound, match="there is no session") as caught:
        await call(bench, lambda client: client.show_session("abcd"))
    assert caught.value.hint
    with pytest.raises(UsageError):
        await call(bench, lambda client: client.show_session("not an id"))


@pytest.mark.parametrize(
    "error",
    [
        StoreFull("full", hint="free some"),
        InvalidRecord(Reason.WRONG_HASH, "bad", hint="h"),
        LucidError("plain"),
    ],
)
async def test_any_error_passes_through(
    bench: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch, error: LucidError
) -> None:
    async def fail() -> None:
        raise error

    monkeypatch.setattr(bench.node, "status", fail)
    await serve(bench)
    with pytest.raises(type(error)) as caught:
        await call(bench, lambda client: client.get_status())
    assert (str(caught.value), caught.value.hint) == (str(error), error.hint)
    if isinstance(error, InvalidRecord):
        assert isinstance(caught.value, InvalidRecord)
        assert caught.value.reason == error.reason


async def test_a_bug_is_no_lucid_error_class_and_tells_nothing(
    bench: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("internals")

    monkeypatch.setattr(bench.node, "status", fail)
    await serve(bench)
    with pytest.raises(LucidError, match="the daemon failed"):
        await call(bench, lambda client: client.get_status())


async def test_a_call_that_takes_too_long_is_ended(
    bench: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(self: object, request: object, context: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(servicer.ControlServicer, "GetStatus", sleep)
    monkeypatch.setitem(limits.METHODS, "GetStatus", limits.MethodLimit(0.05))
    await serve(bench)
    async with grpc.aio.insecure_channel(get_target(bench.home.control_socket)) as channel:
        method: Any = channel.unary_unary(f"/{SERVICE}/GetStatus")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"", timeout=20)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert TRAILER in dict(caught.value.trailing_metadata() or ())


async def test_a_request_beyond_its_bound_is_refused(bench: Any, serve: Serve) -> None:
    await serve(bench)
    with pytest.raises(LucidError):
        await call(bench, lambda client: client.show_session("a" * (limits.MAX_REQUEST_BYTES + 1)))


async def test_health_tells_the_truth(
    bench: Any, serve: Serve, eventually: Callable[[Callable[[], bool]], Awaitable[None]]
) -> None:
    await serve(bench)
    async with grpc.aio.insecure_channel(get_target(bench.home.control_socket)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answers = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=30)
        assert (await answers.read()).status == health_pb2.HealthCheckResponse.SERVING
        bench.usage["free"] = 1000
        bench.node.measure()
        assert (await answers.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        status = await call(bench, lambda client: client.get_status())
        assert not status.serving
        assert "disk is full" in status.problems[0]
        bench.usage["free"] = 1 << 40
        bench.node.measure()
        assert (await answers.read()).status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_answers_under_both_names(bench: Any, serve: Serve, version: str) -> None:
    await serve(bench)
    async with grpc.aio.insecure_channel(get_target(bench.home.control_socket)) as channel:
        method = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
        ]
        answers = [answer async for answer in method(iter(asked), timeout=20)]
    services = [service.name for service in answers[0].list_services_response.service]
    assert SERVICE in services
    assert answers[1].file_descriptor_response.file_descriptor_proto


async def test_the_socket_belongs_to_its_owner_alone(bench: Any, serve: Serve) -> None:
    server = await serve(bench)
    assert bench.home.control_socket.stat().st_mode & 0o777 == 0o600
    await server.stop()
    assert not bench.home.control_socket.exists()
    with pytest.raises(Unavailable, match="no daemon runs"):
        ControlClient(bench.home)


async def test_homes_with_odd_names_are_served(make_bench: Any, serve: Serve) -> None:
    bench = await make_bench()
    odd = bench.home.root / "a b%20c#d?e"
    odd.mkdir()
    object.__setattr__(bench.home, "root", odd)
    await serve(bench)
    assert (await call(bench, lambda client: client.get_status())).serving


def test_every_method_has_its_limits() -> None:
    methods = {method.name for method in control_pb2.DESCRIPTOR.services_by_name["Control"].methods}
    assert set(limits.METHODS) == methods


def test_every_error_class_has_a_status_code() -> None:
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, LucidError):
            error = InvalidRecord(Reason.MALFORMED, "x") if value is InvalidRecord else value("x")
            assert get_status_code(error) != grpc.StatusCode.OK


def test_a_call_without_details_means_that_nobody_answers() -> None:
    assert isinstance(decode_call_error(grpc.RpcError("?")), Unavailable)


async def test_peers_are_listed_and_tokens_made(bench: Any, serve: Serve) -> None:
    await serve(bench)
    assert await call(bench, lambda client: client.list_peers()) == []
    with pytest.raises(NotFound, match="there is no peer"):
        await call(bench, lambda client: client.ping_peer("12D3"))
    with pytest.raises(Conflict, match="does not listen"):
        await call(bench, lambda client: client.make_token())


async def test_a_configured_peer_that_was_never_met_is_shown(
    home: Home, make_bench: Any, serve: Serve
) -> None:
    home.config.write_text('peers = "/ip4/127.0.0.1/tcp/1"')
    bench = await make_bench()
    await serve(bench)
    [peer] = await call(bench, lambda client: client.list_peers())
    assert (peer.address, peer.connected, peer.trouble) == ("/ip4/127.0.0.1/tcp/1", False, "not tried yet")
    status = await call(bench, lambda client: client.get_status())
    assert (status.listen, status.peers_connected, status.peers_known) == ("", 0, 1)
