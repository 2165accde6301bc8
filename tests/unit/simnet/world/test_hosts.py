"""Hosts that crash, lose power, pause and come again."""

import asyncio
import itertools
from typing import Any

import grpc
import pytest

from kernel.errors import Conflict
from simnet.world.links import CONNECT_TIMEOUT_S, USER_TIMEOUT_S
from tests.unit.simnet.world.pair import Pair, echo, end_of, in_simulated_time, talk, wait


@in_simulated_time
async def test_peers_of_a_crash_see_it_at_once() -> None:
    pair = Pair()
    channel = await pair.start()
    calls = [wait(channel), talk(channel)]
    assert await calls[0].read() == b"begun"
    await calls[1].write(b"1")
    start = pair.now
    pair.server.crash()
    assert [await end_of(call) for call in calls] == ["UNAVAILABLE", "UNAVAILABLE"]
    assert pair.now == start
    assert await end_of(echo(channel)(b"")) == "UNAVAILABLE"
    assert pair.now == start


@in_simulated_time
async def test_a_dead_handler_is_cancelled_and_not_heard() -> None:
    pair = Pair()
    channel = await pair.start()
    call = wait(channel)
    assert await call.read() == b"begun"
    pair.server.crash(power_cut=True)
    assert await asyncio.wait_for(_read_or_none(call), 10) is None
    assert pair.ended == ["cancelled", "not sent"]


async def _read_or_none(call: Any) -> Any:
    try:
        async with asyncio.timeout(5):
            return await call.read()
    except TimeoutError:
        return None


@in_simulated_time
async def test_nobody_is_told_of_a_power_cut() -> None:
    pair = Pair()
    channel = await pair.start()
    idle, deadline = wait(channel), wait(channel, timeout=100)
    await idle.read()
    await deadline.read()
    start = pair.now
    pair.server.crash(power_cut=True)
    assert await end_of(deadline) == "DEADLINE_EXCEEDED"
    assert pair.now - start == pytest.approx(100)
    # The cancellation that followed was never acknowledged.
    assert await end_of(idle) == "UNAVAILABLE"
    assert pair.now - start == pytest.approx(100 + USER_TIMEOUT_S)


@in_simulated_time
async def test_connecting_to_a_machine_without_power_takes_its_time() -> None:
    pair = Pair()
    await pair.start()
    pair.server.crash(power_cut=True)
    start = pair.now
    assert await end_of(echo(pair.client.dial(pair.port))(b"")) == "UNAVAILABLE"
    assert pair.now - start == pytest.approx(CONNECT_TIMEOUT_S)


@in_simulated_time
async def test_connecting_over_a_cut_takes_its_time() -> None:
    pair = Pair()
    channel = await pair.start()
    pair.block("server", "client")
    start = pair.now
    assert await end_of(echo(channel)(b"")) == "UNAVAILABLE"
    assert pair.now - start == pytest.approx(CONNECT_TIMEOUT_S)
    pair.block("server", "client", blocked=False)
    assert await echo(channel)(b"1", wait_for_ready=True) == b"1"


@pytest.mark.parametrize("power_cut", [False, True])
@in_simulated_time
async def test_the_next_incarnation_answers_and_knows_nothing_of_the_last(power_cut: bool) -> None:
    pair = Pair()
    channel = await pair.start()
    call = talk(channel)
    await call.write(b"1")
    await call.read()
    pair.server.crash(power_cut=power_cut)
    pair.received.clear()
    pair.server = pair.network.host("server")
    await pair.serve()
    if power_cut:
        start = pair.now
        await call.write(b"2")  # answered by a reset: the machine runs, and knows no such connection
        assert await end_of(call) == "UNAVAILABLE"
        assert pair.now == start
    else:
        assert await end_of(call) == "UNAVAILABLE"
    assert pair.received == []
    assert await echo(channel)(b"3", wait_for_ready=True) == b"3"


@in_simulated_time
async def test_what_a_dead_client_sends_is_dropped() -> None:
    pair = Pair()
    channel = await pair.start()
    call = talk(channel)
    await call.write(b"1")
    await call.read()
    pair.client.crash()
    await call.write(b"2")
    call.cancel()
    pending = echo(channel)(b"3", timeout=5)
    assert await end_of(pending) in {"DEADLINE_EXCEEDED", "UNAVAILABLE"}
    assert pair.received == [b"1"]
    assert len(pair.ended) == 1  # by the reset of the client's machine


@in_simulated_time
async def test_a_server_does_not_notice_that_a_client_lost_power() -> None:
    pair = Pair()
    channel = await pair.start()
    call = talk(channel)
    await call.write(b"1")
    await call.read()
    pair.client.crash(power_cut=True)
    await asyncio.sleep(1000)
    assert pair.ended == []


@in_simulated_time
async def test_a_paused_host_hears_and_says_nothing() -> None:
    pair = Pair()
    channel = await pair.start()
    await channel.channel_ready()
    pair.network.pause(pair.server)
    call = echo(channel)(b"1")
    await asyncio.sleep(10 * USER_TIMEOUT_S)
    assert (pair.received, call.done()) == ([], False)
    pair.network.resume(pair.server)
    assert await call == b"1"


@in_simulated_time
async def test_a_paused_host_takes_no_connection() -> None:
    pair = Pair()
    channel = await pair.start()
    pair.network.pause(pair.server)
    start = pair.now
    call = echo(channel)(b"1")
    assert await end_of(call) == "UNAVAILABLE"
    assert pair.now - start == pytest.approx(CONNECT_TIMEOUT_S)
    waiting = echo(channel)(b"2", wait_for_ready=True)
    pair.network.resume(pair.server)
    assert await waiting == b"2"


@in_simulated_time
async def test_a_paused_client_sends_when_it_goes_on() -> None:
    pair = Pair()
    channel = await pair.start()
    await channel.channel_ready()
    pair.network.pause(pair.client)
    call = echo(channel)(b"1")
    await asyncio.sleep(1)
    assert pair.received == []
    pair.network.resume(pair.client)
    assert await call == b"1"


@in_simulated_time
async def test_names_and_ports_are_taken_once() -> None:
    pair = Pair()
    await pair.start()
    with pytest.raises(Conflict):
        pair.network.host("server")
    with pytest.raises(Conflict):
        pair.client.listen(pair.port)
    pair.server.crash()
    server, port = pair.client.listen(pair.port)
    assert port == pair.port
    await server.stop(None)


@in_simulated_time
async def test_ports_are_chosen_in_order() -> None:
    pair = Pair()
    ports = [pair.server.listen()[1] for _ in range(3)]
    assert ports == [ports[0], ports[0] + 1, ports[0] + 2]
    assert pair.client.listen(ports[2] + 1)[1] == ports[2] + 1
    assert pair.client.listen()[1] == ports[2] + 2


@in_simulated_time
async def test_attempts_are_made_less_and_less_often() -> None:
    pair = Pair()
    channel = await pair.start()
    pair.server.crash()
    start = pair.now
    call = echo(channel)(b"1", wait_for_ready=True, timeout=1000)
    assert await end_of(call) == "DEADLINE_EXCEEDED"
    assert channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE
    times = [time for time, place, kind, _ in pair.events if (place, kind) == ("client", "unreachable")]
    assert times[0] == start
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    usual = [min(120, 1.6**count) for count in range(len(pauses))]
    assert all(0.8 * mean <= pause <= 1.2 * mean for pause, mean in zip(pauses, usual, strict=True))
    assert len(pauses) > 12


@in_simulated_time
async def test_nothing_is_left_behind() -> None:
    pair = Pair()
    channel = await pair.start()
    call = talk(channel)
    await call.write(b"1")
    await call.read()
    call.cancel()
    await echo(channel)(b"2")
    await channel.close()
    await asyncio.sleep(0)
    assert not pair.client.connections
    assert not pair.server.connections
    assert not pair.network._connections
    assert not pair.network._attempts
