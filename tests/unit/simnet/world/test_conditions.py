"""What links do to what is sent over them."""

import asyncio
import random

import pytest

from simnet.world.links import RETRANSMIT_S, USER_TIMEOUT_S, Conditions, Link, Pipe
from simnet.world.loop import VirtualLoop
from tests.unit.simnet.world.pair import EOF, Pair, echo, end_of, in_simulated_time, talk


@in_simulated_time
async def test_nothing_takes_time_without_conditions() -> None:
    pair = Pair()
    channel = await pair.start()
    start = pair.now
    assert await echo(channel)(b"1") == b"1"
    call = talk(channel)
    await call.write(b"2")
    assert await call.read() == b"2"
    assert pair.now == start


@in_simulated_time
async def test_latency_counts_in_each_direction() -> None:
    pair = Pair()
    pair.network.set_conditions("client", "server", Conditions(latency_s=0.03))
    pair.network.set_conditions("server", "client", Conditions(latency_s=0.05))
    channel = await pair.start()
    start = pair.now
    await channel.channel_ready()
    assert pair.now - start == pytest.approx(0.08)
    await echo(channel)(b"1")
    assert pair.now - start == pytest.approx(0.16)
    call = talk(channel)
    await call.write(b"2")
    assert pair.now - start == pytest.approx(0.16)  # a writer does not wait for the way
    await call.read()
    assert pair.now - start == pytest.approx(0.24)


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(latency_s=0.01, jitter_s=0.2),
        Conditions(tail=0.3, tail_s=1),
        Conditions(loss=0.3),
        Conditions(latency_s=0.02, jitter_s=0.1, tail=0.1, tail_s=0.5, loss=0.1, bandwidth_bytes_s=1e5),
    ],
)
@in_simulated_time
async def test_nothing_is_lost_or_overtaken(conditions: Conditions) -> None:
    pair = Pair()
    pair.network.set_default(conditions)
    channel = await pair.start()
    calls = [talk(channel) for _ in range(3)]
    sent = [b"%d" % number for number in range(100)]
    for message in sent:
        for call in calls:
            await call.write(message)
    for call in calls:
        await call.done_writing()
        assert [await call.read() for _ in sent] == sent
        assert await call.read() is EOF


@in_simulated_time
async def test_one_connection_has_one_order() -> None:
    conditions = Conditions(latency_s=0.01, jitter_s=0.2, tail=0.1, tail_s=1, loss=0.1)
    pipe = Pipe(Link(conditions, random.Random(1)), lambda: None, lambda: None)
    received: list[int] = []
    for number in range(500):
        pipe.send(100, received.append, number)
        await asyncio.sleep(0.005)
    assert 0 < len(received) < 500
    await asyncio.sleep(1000)
    assert received == list(range(500))
    assert not pipe.is_clear


@in_simulated_time
async def test_a_pipe_keeps_the_order_when_its_link_becomes_instant() -> None:
    link = Link(Conditions(latency_s=1), random.Random(1))
    pipe = Pipe(link, lambda: None, lambda: None)
    received: list[int] = []
    pipe.send(100, received.append, 1)
    link.conditions = Conditions()
    pipe.update(is_held=False, is_unacknowledged=False)
    pipe.send(100, received.append, 2)
    assert received == []
    await asyncio.sleep(1)
    assert received == [1, 2]
    pipe.send(100, received.append, 3)
    assert received == [1, 2, 3]


@in_simulated_time
async def test_loss_is_a_stall_of_retransmission_timeouts() -> None:
    pair = Pair()
    channel = await pair.start()
    await channel.channel_ready()
    pair.network.set_conditions("client", "server", Conditions(loss=0.5))
    stalls = []
    for _ in range(100):
        before = pair.now
        await echo(channel)(b"1")
        stalls.append(round((pair.now - before) / RETRANSMIT_S))
    assert set(stalls) <= {0, 1, 3, 7, 15, 31, 63, 127, 255}
    assert 30 < stalls.count(0) < 70
    assert stalls.count(0) > stalls.count(1) > stalls.count(3) > 0


@in_simulated_time
async def test_a_large_message_is_lost_more_easily() -> None:
    pair = Pair()
    channel = await pair.start()
    await channel.channel_ready()
    pair.network.set_conditions("client", "server", Conditions(loss=0.01))

    async def count_stalls(size_bytes: int) -> int:
        stalls = 0
        for _ in range(100):
            before = pair.now
            await echo(channel)(bytes(size_bytes))
            stalls += pair.now > before
        return stalls

    assert await count_stalls(100) < 10 < 50 < await count_stalls(300_000)


@in_simulated_time
async def test_bandwidth_is_shared_by_all_connections() -> None:
    pair = Pair()
    pair.network.set_conditions("client", "server", Conditions(bandwidth_bytes_s=1e6))
    channels = [await pair.start(), pair.client.dial(pair.port)]
    for channel in channels:
        await channel.channel_ready()
    start = pair.now
    await asyncio.gather(*(echo(channel)(bytes(500_000)) for channel in channels))
    assert pair.now - start == pytest.approx(1.0, rel=0.01)
    start = pair.now
    await echo(channels[0])(b"1")
    assert pair.now - start < 0.001


@in_simulated_time
async def test_a_way_there_that_is_cut_delays_what_is_sent() -> None:
    pair = Pair()
    channel = await pair.start()
    await channel.channel_ready()
    pair.block("client", "server")
    call = echo(channel)(b"1")
    await asyncio.sleep(USER_TIMEOUT_S - 1)
    assert pair.received == []
    pair.block("client", "server", blocked=False)
    assert await call == b"1"


@in_simulated_time
async def test_a_way_back_that_is_cut_hides_what_was_done() -> None:
    pair = Pair()
    channel = await pair.start()
    await channel.channel_ready()
    pair.block("server", "client")
    call = echo(channel)(b"1", timeout=5)
    assert await end_of(call) == "DEADLINE_EXCEEDED"
    assert pair.received == [b"1"]


@pytest.mark.parametrize("cut", [("client", "server"), ("server", "client")])
@in_simulated_time
async def test_a_connection_that_moves_nothing_is_lost(cut: tuple[str, str]) -> None:
    pair = Pair()
    channel = await pair.start()
    call = talk(channel)
    await call.write(b"1")
    assert await call.read() == b"1"
    pair.block(*cut)
    start = pair.now
    await call.write(b"2")
    assert await end_of(call) == "UNAVAILABLE"
    assert pair.now - start == pytest.approx(USER_TIMEOUT_S)
    await asyncio.sleep(2 * USER_TIMEOUT_S)
    # The server has seen nothing if nothing got through; its own answer was not acknowledged otherwise.
    assert len(pair.ended) == (cut == ("server", "client"))


@in_simulated_time
async def test_a_side_that_does_not_send_notices_nothing_until_it_does() -> None:
    pair = Pair()
    channel = await pair.start()
    call = talk(channel)
    await call.write(b"1")
    await call.read()
    pair.block("client", "server")
    pair.block("server", "client")
    await asyncio.sleep(1000)
    assert not call.done()
    assert pair.ended == []
    await call.write(b"2")
    assert await end_of(call) == "UNAVAILABLE"
    assert pair.ended == []
    pair.block("client", "server", blocked=False)
    pair.block("server", "client", blocked=False)
    again = talk(channel)
    await again.write(b"3")
    assert await again.read() == b"3"


@in_simulated_time
async def test_resets_come_by_chance() -> None:
    pair = Pair()
    pair.network.set_conditions("client", "server", Conditions(reset_per_s=0.1))
    channel = await pair.start()
    ends = []
    start = pair.now
    for _ in range(50):
        call = talk(channel)
        await call.write(b"1")
        ends.append(await end_of(call))
    assert set(ends) == {"UNAVAILABLE"}
    assert 5 < (pair.now - start) / 50 < 20
    await asyncio.sleep(1)
    assert len(pair.ended) == 50


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency_s": -1},
        {"loss": 1},
        {"loss": -0.1},
        {"tail": 1.1},
        {"bandwidth_bytes_s": -1},
        {"jitter_s": -1},
    ],
)
def test_conditions_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="no such conditions"):
        Conditions(**wrong)  # type: ignore[arg-type]


async def trace(seed: int) -> list[tuple[float, str, str, str]]:
    pair = Pair(seed)
    pair.network.set_default(Conditions(latency_s=0.01, jitter_s=0.05, loss=0.1, reset_per_s=0.05))
    channel = await pair.start()

    async def call() -> None:
        for _ in range(20):
            await echo(channel)(b"1", timeout=3).code()
            await asyncio.sleep(0.5)

    await asyncio.gather(*(call() for _ in range(5)))
    return list(pair.events)


def test_the_seed_decides_everything() -> None:
    traces = []
    for seed in (7, 7, 8):
        traces.append(VirtualLoop().run(trace(seed)))
    assert traces[0] == traces[1]
    assert traces[0] != traces[2]
    assert {"call", "connect", "lost", "status"} <= {kind for _, _, kind, _ in traces[0]}
