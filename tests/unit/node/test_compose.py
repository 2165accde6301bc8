import threading
from typing import Any

import pytest

from kernel.domains import NETWORKS
from kernel.errors import Conflict, StoreDamaged, StoreError, StoreFull
from kernel.sealing import compute_x25519_public
from kernel.signing import SigningKey
from lucid.v1 import control_pb2, session_pb2
from node.compose import compose
from node.config import load_config
from node.home import Home
from node.logs import make_logger
from node.metrics import NodeMetrics
from node.ports import NodePorts
from session.access import RecorderKeys
from session.recording_request import RecordingRequest


class Untouched:
    """A world that must not be touched."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was used")


def test_composing_touches_nothing(home: Home, make_peering: Any) -> None:
    world: Any = Untouched()
    ports = NodePorts(*[world] * 9)
    public = compute_x25519_public(b"p" * 32)
    keys = RecorderKeys(NETWORKS["dev"], SigningKey.from_seed(b"d" * 32), b"o" * 32, public, {})
    before = threading.active_count()
    config, log = (
        load_config(home, {}, {"transport": "loopback", "peers": "/ip4/127.0.0.1/tcp/4001"}),
        make_logger("info", "json"),
    )
    nodes = []
    for _ in range(2):
        metrics = NodeMetrics()
        nodes.append(compose(keys, config, ports, metrics, log, make_peering(config, ports, metrics, log)))
    assert threading.active_count() == before
    assert nodes[0].metrics.registry is not nodes[1].metrics.registry
    assert list(home.root.iterdir()) == []


async def test_the_configuration_bounds_the_recordings(make_bench: Any) -> None:
    bench = await make_bench(max_recordings="1")
    request = RecordingRequest(session_pb2.SOURCE_KIND_STREAM, session_pb2.Metadata(), live=True)
    await bench.node.manager.open_recording(request)
    with pytest.raises(Conflict, match="most allowed"):
        await bench.node.manager.open_recording(request)


async def test_what_is_written_tells_health(bench: Any) -> None:
    async def fail(error: StoreError) -> None:
        raise error

    async def work() -> int:
        return 7

    with pytest.raises(StoreFull):
        await bench.node.writing(fail(StoreFull("no space")))
    assert not (await bench.node.status()).serving
    assert await bench.node.writing(work()) == 7
    assert (await bench.node.status()).serving


async def test_a_disk_that_cannot_be_measured_is_a_problem(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise StoreDamaged("the disk is gone")

    object.__setattr__(bench.node.ports, "measure", fail)
    bench.node.measure()
    assert "the disk is gone" in bench.node.health.problems[0]


async def test_errors_given_to_clients_are_counted_and_logged(bench: Any) -> None:
    bench.node.on_client_error(StoreDamaged("chunk 3"), pid=12)
    value = bench.node.metrics.registry.get_sample_value("lucid_errors_total", {"code": "StoreDamaged"})
    assert value == 1.0
    assert "chunk 3" in bench.log.getvalue()
    assert bench.node.health.problems == ["chunk 3"]


async def test_an_old_copy_is_brought_up_before_it_is_finalized(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the session says what is left to do; other conflicts are the caller's."""
    calls: list[str] = []
    info = control_pb2.SessionInfo(behind=True, state=session_pb2.STATE_INTERRUPTED)

    async def finalize(session_id: bytes) -> control_pb2.SessionInfo:
        calls.append("finalize")
        if info.behind:
            raise Conflict("an old copy")
        return info

    async def catch_up() -> None:
        calls.append("catch up")
        info.behind = False

    async def get_info(session_id: bytes) -> control_pb2.SessionInfo:
        return info

    monkeypatch.setattr(bench.node.manager, "finalize", finalize)
    monkeypatch.setattr(bench.node.manager, "info", get_info)
    monkeypatch.setattr(bench.node.heads, "catch_up", catch_up)
    assert await bench.node.finalize(b"s" * 16) == info
    assert calls == ["finalize", "catch up", "finalize"]


async def test_a_conflict_of_another_kind_asks_no_peers(bench: Any) -> None:
    request = RecordingRequest(session_pb2.SOURCE_KIND_STREAM, session_pb2.Metadata(), live=True)
    recording = await bench.node.manager.open_recording(request)
    with pytest.raises(Conflict, match="being recorded"):
        await bench.node.finalize(recording.session_id)
