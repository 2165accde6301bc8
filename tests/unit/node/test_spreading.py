"""A node whose recordings go to other nodes and come back."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from click.testing import CliRunner

from kernel.errors import UsageError
from lucid.v1 import control_pb2, session_pb2
from node.cli.groups import root
from node.control.client import ControlClient
from node.control.server import ControlServer
from node.data.server import DataServer
from session.recording_request import RecordingRequest
from tests.unit.dht.holder import Holder
from tests.unit.dht.memory_peer import MemoryPeers

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


class Network:
    """A node that is served, and holders around it."""

    def __init__(self, bench: Any, holders: list[Holder], peers: MemoryPeers) -> None:
        self.bench = bench
        self.holders = holders
        self.peers = peers

    async def call(self, function: Callable[[ControlClient], Any]) -> Any:
        def run() -> Any:
            with ControlClient(self.bench.home) as client:
                return function(client)

        return await asyncio.to_thread(run)

    async def cli(self, *arguments: str) -> tuple[int, Any]:
        """Runs a command with --json; its exit code and document."""

        def run() -> tuple[int, Any]:
            words = ["--home", str(self.bench.home.root), *arguments, "--json"]
            result = CliRunner().invoke(root, words, standalone_mode=False)
            assert result.exception is None, result.exception
            return result.return_value, json.loads(result.stdout)

        return await asyncio.to_thread(run)

    async def record(self, data: bytes) -> bytes:
        kind = session_pb2.SOURCE_KIND_STREAM
        request = RecordingRequest(kind, session_pb2.Metadata(kind=kind), live=True)
        recording = await self.bench.node.manager.open_recording(request)
        await recording.append(0, data)
        await recording.finish(session_pb2.Ending(ended_ns=recording.started_ns))
        session_id: bytes = recording.session_id
        return session_id

    async def wait(self, session_id: bytes, wait_s: int = 20) -> control_pb2.WaitReplicasResponse:
        found = await self.call(lambda client: list(client.wait_replicas(session_id.hex(), wait_s)))
        last: control_pb2.WaitReplicasResponse = found[-1]
        return last

    async def stored_in_holders(self) -> int:
        return sum(holder.holdings.held_bytes for holder in self.holders)


MakeNetwork = Callable[..., Awaitable[Network]]


@pytest.fixture
async def make_network(make_bench: Any) -> AsyncIterator[MakeNetwork]:
    async with contextlib.AsyncExitStack() as stack:

        async def make(count: int) -> Network:
            holders = [await Holder(f"holder {number}", seed=number).boot() for number in range(count)]
            for holder in holders:
                holder.clock.offset_ns = time.time_ns()
            peers = MemoryPeers([holder.peer("owner") for holder in holders])
            bench = await make_bench(peers)
            server = ControlServer(bench.node, bench.home.control_socket)
            await server.start()
            stack.push_async_callback(server.stop)
            spreading = asyncio.create_task(bench.node.spreading.run())

            async def stop() -> None:
                spreading.cancel()
                await asyncio.gather(spreading, return_exceptions=True)

            stack.push_async_callback(stop)
            return Network(bench, holders, peers)

        yield make


async def test_a_recording_is_spread_listed_audited_and_released(
    make_network: MakeNetwork, eventually: Eventually
) -> None:
    network = await make_network(4)
    session_id = await network.record(b"evidence" * 1000)
    waited = await network.wait(session_id)
    assert (waited.replicas, waited.wanted, waited.held, waited.pending) == (3, 3, 6, 0)
    status = await network.call(lambda client: client.get_status())
    assert (status.replicas_wanted, status.replicas_held) == (6, 6)
    listed = await network.call(lambda client: client.list_replicas(session_id.hex()))
    assert [one.held for one in listed.replicas] == [True] * 6
    assert len({one.peer_id for one in listed.replicas}) == 3
    code, document = await network.cli("session", "verify", session_id.hex(), "--remote")
    assert (code, document["valid"], document["holders"], document["findings"]) == (0, True, 3, [])
    code, document = await network.cli("replicas", session_id.hex())
    assert (code, document["held"], document["pending"], len(document["replicas"])) == (0, 6, 0, 6)
    assert all(one["audited"] and one["until"] and not one["trouble"] for one in document["replicas"])
    await network.call(lambda client: client.delete_session(session_id.hex()))
    await eventually(lambda: not sum(holder.holdings.held_bytes for holder in network.holders))


async def test_a_flipped_byte_on_a_replica_is_caught_and_mended(
    make_network: MakeNetwork, eventually: Eventually
) -> None:
    network = await make_network(4)
    session_id = await network.record(b"evidence" * 1000)
    await network.wait(session_id)
    holder = next(holder for holder in network.holders if holder.holdings.held_bytes)
    blob = next(path for path in holder.files.paths() if path.startswith("blobs/"))
    holder.files.flip(blob, 8 * 5000)
    code, document = await network.cli("session", "verify", session_id.hex(), "--remote")
    assert (code, document["valid"], len(document["findings"])) == (3, False, 1)
    await eventually(lambda: not network.bench.node.spreading.count(session_id).pending)
    code, document = await network.cli("session", "verify", session_id.hex(), "--remote", "--percent", "100")
    assert (code, document["valid"]) == (0, True)


async def test_damage_here_is_healed_by_peers(make_network: MakeNetwork) -> None:
    network = await make_network(3)
    session_id = await network.record(b"evidence" * 1000)
    await network.wait(session_id)
    blob = next(path for path in network.bench.files.paths() if path.startswith("blobs/"))
    network.bench.files.flip(blob, 8 * 5000)
    code, document = await network.cli("session", "verify", session_id.hex())
    assert (code, document["valid"]) == (0, True)
    (finding,) = document["findings"]
    assert finding["healed"] and "brought back from 12D3KooW" in finding["what"]
    code, document = await network.cli("session", "verify", session_id.hex())
    assert (code, document["findings"]) == (0, [])


async def test_without_peers_nobody_waits(make_network: MakeNetwork) -> None:
    network = await make_network(0)
    session_id = await network.record(b"alone")
    assert await network.wait(session_id, 3600) == control_pb2.WaitReplicasResponse()
    code, document = await network.cli("session", "verify", session_id.hex(), "--remote")
    assert (code, document["holders"]) == (5, 0)
    status = await network.call(lambda client: client.get_status())
    assert (status.replicas_wanted, status.replicas_held) == (0, 0)


async def test_too_few_peers_end_the_wait_in_time(make_network: MakeNetwork) -> None:
    network = await make_network(2)
    session_id = await network.record(b"few")
    waited = await network.wait(session_id, 1)
    assert (waited.replicas, waited.wanted, waited.pending) == (2, 3, 2)


@pytest.mark.parametrize("percent", [0, 101])
async def test_a_percentage_is_one(make_network: MakeNetwork, percent: int) -> None:
    network = await make_network(0)
    session_id = await network.record(b"x")
    with pytest.raises(UsageError):
        await network.call(lambda client: client.audit_session(session_id.hex(), percent, lambda *_: None))


async def test_a_wait_has_a_bound(make_network: MakeNetwork) -> None:
    network = await make_network(0)
    session_id = await network.record(b"x")
    with pytest.raises(UsageError):
        await network.wait(session_id, 1 << 31)


@pytest.mark.parametrize(("holders", "code"), [(3, 0), (2, 5), (0, 5)])
async def test_record_says_how_many_replicas_there_are(
    make_network: MakeNetwork,
    serve_data: Callable[[Any], Awaitable[DataServer]],
    tmp_path: Any,
    holders: int,
    code: int,
) -> None:
    network = await make_network(holders)
    await serve_data(network.bench)
    (tmp_path / "file").write_bytes(b"evidence" * 1000)
    words = (
        "session",
        "record",
        str(tmp_path / "file"),
        "--require-replicas",
        "--wait",
        "20" if code == 0 else "1",
    )
    assert (await network.cli(*words))[0] == code
    assert (await network.cli(*words))[1]["replicas"] == holders
    assert (await network.cli("session", "record", str(tmp_path / "file"), "--wait", "0"))[0] == 0
