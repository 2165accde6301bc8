import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kernel.errors import LocalError
from node import metrics as metrics_module
from node.metrics import MetricsServer, NodeMetrics


@pytest.fixture
async def server(bench: Any) -> AsyncIterator[MetricsServer]:
    server = MetricsServer(bench.node.metrics, bench.node.refresh_metrics)
    await server.start("127.0.0.1:0")
    yield server
    await server.stop()


async def do_nothing() -> None: ...


async def ask(server: MetricsServer, request: bytes) -> bytes:
    host, port = server.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_metrics_are_shown(server: MetricsServer, bench: Any) -> None:
    bench.node.on_recorded("file", 1234)
    answer = await ask(server, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'lucid_recorded_bytes_total{kind="file"} 1234.0' in answer
    assert b'lucid_sessions{state="complete"} 0.0' in answer
    assert b'lucid_store_bytes{part="blobs"} 0.0' in answer


@pytest.mark.parametrize("request_line", [b"GET / HTTP/1.1", b"POST /metrics HTTP/1.1", b"nonsense", b""])
async def test_nothing_else_is_served(server: MetricsServer, request_line: bytes) -> None:
    assert (await ask(server, request_line + b"\r\n\r\n")).startswith(b"HTTP/1.1 404")


async def test_a_request_without_end_is_cut_off(server: MetricsServer) -> None:
    assert await ask(server, b"x" * 20_000 + b"\r\n\r\n") == b""


async def test_whoever_says_nothing_is_sent_away(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_module, "REQUEST_TIMEOUT_S", 0.05)
    assert await ask(server, b"GET ") == b""


async def test_a_taken_port_is_a_clear_error(server: MetricsServer) -> None:
    other = MetricsServer(NodeMetrics(), do_nothing)
    with pytest.raises(LocalError, match=r"in use") as caught:
        await other.start(server.address)
    assert "metrics_listen" in caught.value.hint


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"])
async def test_only_loopback_is_served(address: str) -> None:
    with pytest.raises(LocalError, match="no loopback"):
        await MetricsServer(NodeMetrics(), do_nothing).start(address)


async def test_fsync_is_timed(bench: Any) -> None:
    from lucid.v1 import session_pb2
    from session.recording_request import RecordingRequest

    request = RecordingRequest(session_pb2.SOURCE_KIND_STREAM, session_pb2.Metadata(), live=True)
    await bench.node.manager.open_recording(request)
    samples = {
        sample.name: sample.value
        for metric in bench.node.metrics.registry.collect()
        for sample in metric.samples
    }
    assert samples["lucid_fsync_seconds_count"] > 0
