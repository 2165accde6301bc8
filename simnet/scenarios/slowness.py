"""Peers and strangers that take their time, in order to take that of others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

import grpc

from dht.lease import HASH_BYTES, MAX_BLOB_BYTES, MAX_LEASE_S, sign_lease
from dht.ports import Peer
from dht.transfer import count_leaves
from kernel.chunk_id import LEAF_BYTES, compute_chunk_id
from kernel.errors import LucidError
from kernel.merkle import compute_leaf
from kernel.signing import SigningKey
from kernel.uninterrupted import end_task
from lucid.v1 import chunk_pb2
from simnet.scenarios.liars import list_counting
from simnet.world.adversaries import TRICKLE_S
from simnet.world.machine import NETWORK, Machine, derive_root
from simnet.world.network import Host
from simnet.world.recordings import audit, check_recorded, record, start_heir, wait_replicated
from simnet.world.transport import SimTransport
from simnet.world.world import World

SIZE_BYTES = 200_000
SERVED_S = 300.0
FORGOTTEN_S = 1800.0
STRANGERS = 6
CALLS = 8
HOURS = 3
CROWD = 40
LEISURE_S = 400.0
HELLO = "/lucid.v1.NodeService/Hello"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


async def start_with_hostile(world: World) -> tuple[Machine, Machine, list[Machine]]:
    """An owner, one of its peers in whose name others are called, and all but that one."""
    owner, *holders = await world.start_nodes(world.nodes)
    hostile = world.rng.choice(holders)
    hostile.turn("hostile-caller")
    await hostile.restart()
    await world.wait_connected([hostile, owner])
    return owner, hostile, [machine for machine in world.machines if machine is not hostile]


async def slow_loris(world: World) -> None:
    """Strangers and a peer open calls and feed them slowly, or not at all: others are served as before."""
    owner, hostile, honest = await start_with_hostile(world)
    async with Siege(world) as siege:
        for number in range(STRANGERS):
            host = world.network.host(f"stranger{number}")
            for victim in honest:
                siege.begin(world.rng.choice(STRANGE)(world, host, victim))
        for victim in honest:
            for _ in range(CALLS):
                siege.begin(feed_slowly(world, hostile, victim))
        recorded = await record(world, owner, SIZE_BYTES)
        await wait_replicated(world, owner, recorded, within_s=SERVED_S)
        for victim in honest:
            for _ in range(CALLS):
                siege.begin(never_read(world, hostile, victim, owner))
        outcome = await audit(world, owner, recorded)
        world.expect(not outcome.findings, f"an audit finds {[each.what for each in outcome.findings]}")
        heir, restored = await start_heir(world, owner)
        world.expect(restored.restored == 1, f"one session is restored: {restored.problems}")
        await check_recorded(world, heir, recorded)
    await world.wait_until(
        lambda: not any(map(count_kept, honest)), "broken transfers are forgotten", within_s=FORGOTTEN_S
    )


async def slow_loris_for_hours(world: World) -> None:
    """Many connections sit for hours: what they hold has its bounds, and others are served all the time."""
    owner, hostile, honest = await start_with_hostile(world)
    async with Siege(world) as siege:
        for number in range(CROWD):
            host = world.network.host(f"stranger{number}")
            attack = STRANGE[number % len(STRANGE)]
            siege.begin(attack(world, host, world.rng.choice(honest), LEISURE_S))
        for victim in honest:
            siege.begin(feed_slowly(world, hostile, victim, LEISURE_S))
        for _ in range(HOURS):
            await world.sleep(3600.0 - SERVED_S)
            recorded = await record(world, owner, SIZE_BYTES)
            await wait_replicated(world, owner, recorded, within_s=SERVED_S)
            outcome = await audit(world, owner, recorded)
            world.expect(not outcome.findings, f"an audit finds {[each.what for each in outcome.findings]}")
            await check_recorded(world, owner, recorded)
    await world.wait_until(
        lambda: not any(map(count_kept, honest)), "broken transfers are forgotten", within_s=FORGOTTEN_S
    )


def count_kept(machine: Machine) -> int:
    """Bytes of memory that are reserved for transfers that nobody brings to their end."""
    return machine.node.hosting.holdings._incoming.used_bytes()


class Siege:
    """Attacks that go on until the block ends."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._attacks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Siege":
        return self

    async def __aexit__(self, *_: object) -> None:
        for attack in self._attacks:
            await end_task(attack)
        self._world.say("the siege is over")

    def begin(self, attack: Coroutine[Any, Any, None]) -> None:
        """One attack more."""
        self._attacks.append(asyncio.create_task(attack))


# Strangers, who have no keys: only hosts and channels.


async def say_nothing(world: World, host: Host, victim: Machine, pause_s: float = 1.0) -> None:
    """Connects, and calls nothing."""
    async with SimTransport(host).dial(victim.address) as channel:
        while True:
            await channel.channel_ready()
            await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
            await world.sleep(pause_s)


async def call_without_message(world: World, host: Host, victim: Machine, pause_s: float = 1.0) -> None:
    """Begins calls whose message never comes."""

    async def nothing(over: asyncio.Event) -> AsyncIterator[bytes]:
        await over.wait()
        return
        yield b""

    await _call_again_and_again(world, host, victim, HELLO, nothing, pause_s)


async def send_drops(world: World, host: Host, victim: Machine, pause_s: float = 1.0) -> None:
    """Sends a stream of messages, one byte each, slowly."""

    async def drops(over: asyncio.Event) -> AsyncIterator[bytes]:
        while not over.is_set():
            yield b"\n"
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), TRICKLE_S / 4)

    await _call_again_and_again(world, host, victim, REFLECTION, drops, pause_s)


async def send_rubbish(world: World, host: Host, victim: Machine, pause_s: float = 1.0) -> None:
    """Begins handshakes with whatever comes to mind."""

    async def rubbish(_over: asyncio.Event) -> AsyncIterator[bytes]:
        yield world.rng.randbytes(world.rng.randrange(64_000))

    await _call_again_and_again(world, host, victim, HELLO, rubbish, pause_s)


async def _call_again_and_again(
    world: World,
    host: Host,
    victim: Machine,
    method: str,
    send: Callable[[asyncio.Event], AsyncIterator[bytes]],
    pause_s: float,
) -> None:
    """Calls, until it is cancelled; `send` gives the messages until it is told that the call is over."""
    async with SimTransport(host).dial(victim.address) as channel:
        while True:
            over = asyncio.Event()
            with suppress(grpc.aio.AioRpcError):
                try:
                    call: Any = channel.stream_unary(method)  # it takes what it is given: bytes
                    await call(send(over))
                finally:
                    over.set()
            await world.sleep(pause_s)


STRANGE = (say_nothing, call_without_message, send_drops, send_rubbish)


# A peer, which calls in its own name.


async def feed_slowly(world: World, hostile: Machine, victim: Machine, pause_s: float = 1.0) -> None:
    """Announces the greatest chunk that there may be, again and again, and brings little or nothing of it."""
    count = count_leaves(MAX_BLOB_BYTES)
    key = SigningKey.from_seed(derive_root(world.seed, hostile.name, "leases"))
    while True:
        first = world.rng.randbytes(LEAF_BYTES)
        leaves = [compute_leaf(first), *(world.rng.randbytes(HASH_BYTES) for _ in range(count - 1))]
        lease = chunk_pb2.Lease(
            chunk_id=compute_chunk_id(leaves, MAX_BLOB_BYTES),
            size_bytes=MAX_BLOB_BYTES,
            holder=victim.device,
            sequence=1,
            until_s=hostile.node.ports.clock.wall_ns() // 10**9 + MAX_LEASE_S // 2,
        )
        opening = chunk_pb2.PutOpen(lease=sign_lease(key, NETWORK, lease), leaves=b"".join(leaves))
        peer = _find(hostile, victim)
        if peer is not None:
            await hostile.call(_put(world, peer, opening, first))
        await world.sleep(pause_s)


async def _put(world: World, peer: Peer, opening: chunk_pb2.PutOpen, first: bytes) -> None:
    async def requests() -> AsyncIterator[chunk_pb2.PutChunkRequest]:
        yield chunk_pb2.PutChunkRequest(open=opening)
        yield chunk_pb2.PutChunkRequest(frame=first)
        await world.sleep(TRICKLE_S)
        yield chunk_pb2.PutChunkRequest(frame=world.rng.randbytes(LEAF_BYTES))

    try:
        async for response in peer.put_chunk(requests()):
            world.expect(not response.HasField("receipt"), "a receipt is given for what was never brought")
    except LucidError:
        return


async def never_read(world: World, hostile: Machine, victim: Machine, owner: Machine) -> None:
    """Asks for chunks that the victim holds, and does not take them."""
    held = [row for row in list_counting(owner) if row.holder == victim.device]
    peer = _find(hostile, victim)
    if not held or peer is None:
        return
    lease = chunk_pb2.Lease.FromString(world.rng.choice(held).lease.payload)
    request = chunk_pb2.GetChunkRequest(chunk_id=lease.chunk_id)

    async def take_one() -> None:
        async for _ in peer.get_chunk(request):
            await world.sleep(SERVED_S)
            return

    await hostile.call(take_one())


def _find(hostile: Machine, victim: Machine) -> Peer | None:
    return hostile.node.peering.book.find(victim.device)
