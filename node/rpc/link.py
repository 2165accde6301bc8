"""One address, and the effort to stay connected with the node behind it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import grpc

from kernel.errors import LucidError, Unavailable
from kernel.multiaddr import Multiaddr
from kernel.ports import Clock, Entropy
from kernel.uninterrupted import end_task
from node.ports import Transport
from node.rpc.connecting import connect
from node.rpc.greeting import Greeted, Greeter
from node.rpc.peer import RpcPeer

FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 60.0
BRIEF_NS = 5 * 10**9
"""A connection that is lost sooner is no success: who takes and drops them is called ever less often."""
RENEW_AT = 0.75
"""Share of a token's time after which the handshake is done anew."""


@dataclass(frozen=True, slots=True)
class LinkPorts:
    """What links work over.

    Attributes:
        transport: dials.
        greeter: does the handshake.
        clock: time.
        entropy: jitter.
        find_addresses: tells where to dial for a configured address, best first.
        on_met: learns of every handshake: the link, and what the peer proved.
        on_changed: learns that a link is up or down.
        on_seen: learns that a peer answered.
    """

    transport: Transport
    greeter: Greeter
    clock: Clock
    entropy: Entropy
    find_addresses: Callable[[Multiaddr], Sequence[Multiaddr]]
    on_met: "Callable[[Link, Greeted], Awaitable[None]]"
    on_changed: "Callable[[Link], None]"
    on_seen: Callable[[bytes], Awaitable[None]]


class Link:
    """Keeps one authenticated connection.

    Attributes:
        address: that was configured; a newer record of the peer behind it may lead elsewhere.
        dialled: where it was dialled last.
        peer: the peer, while it is connected.
        device: who must answer there, or answered last; None if nobody did.
        version: of the protocol; 0 before anybody answered.
        trouble: why it is not connected; empty while it is.
        latency_ns: round trip of the last ping; 0 if there was none.
    """

    def __init__(self, ports: LinkPorts, address: Multiaddr) -> None:
        self.address = address
        self.peer: RpcPeer | None = None
        self.dialled = address
        self.device = address.device
        self.version = 0
        self.trouble = "not tried yet"
        self.latency_ns = 0
        self._ports = ports
        self._failures = 0
        self._brief = 0
        self._has_ended = False
        self._must_greet = False
        self._was_shown = False
        self._wake = asyncio.Event()
        self._attempt = asyncio.Event()

    def start(self, group: asyncio.TaskGroup) -> None:
        """Connects, and connects again, as long as the group runs."""
        running = group.create_task(self._run())
        running.add_done_callback(self._on_ended)  # also of a task that is cancelled before its first step

    async def _run(self) -> None:
        while True:
            try:
                await self._stay_connected()
            except LucidError as error:
                self.trouble = str(error)
            # A connection that is lost is no attempt that failed: the best address is dialled again first.
            self._failures = 0 if self._was_shown else self._failures + 1
            self._was_shown = False
            self._end_attempt()
            self._wake.clear()
            await self._wait(self._compute_delay())

    def _on_ended(self, _: object) -> None:
        self._has_ended = True
        self._end_attempt()

    def retry(self) -> None:
        """Lets the next attempt, or ping, come at once."""
        self._wake.set()

    def greet_anew(self) -> None:
        """Presents this node to the peer again, now if it is connected."""
        self._must_greet = True
        self.retry()

    async def try_now(self) -> None:
        """Tries at once; returns when an attempt has worked or failed."""
        attempt = self._attempt
        if self.peer is None and not self._has_ended:
            self.retry()
            await attempt.wait()

    async def _stay_connected(self) -> None:
        addresses = self._ports.find_addresses(self.address)
        self.dialled = address = addresses[self._failures % len(addresses)]
        channel = self._ports.transport.dial(address)
        watching: asyncio.Task[None] | None = None
        try:
            await connect(self._ports.transport, channel, address, self._failures)
            watching = asyncio.create_task(self._watch(channel))
            greeted, renew_ns = await self._greet(channel, address)
            identity = greeted.presentation.identity
            peer = RpcPeer(channel, identity, greeted.token, self._ports.clock, self.retry)
            self.latency_ns = await peer.ping()
            with self._shown(peer):
                while True:
                    await self._wait(self._ports.transport.ping_every_s)
                    if watching.done():
                        return
                    heard = peer.heard
                    try:
                        await self._ask(peer)
                        if not self._must_greet_again(peer, greeted, renew_ns):
                            continue
                        greeted, renew_ns = await self._greet(channel, address)
                    except Unavailable:
                        if peer.is_silent_since(heard):
                            raise
                        continue
                    if greeted.presentation.identity != identity:
                        self.trouble = "it has changed its keys; it is greeted anew"
                        return
                    peer.set_token(greeted.token)
        finally:
            if watching is not None:
                await end_task(watching)
            await channel.close()

    async def _ask(self, peer: RpcPeer) -> None:
        """Pings, if the peer still knows this node."""
        if peer.has_forgotten:
            return
        self.latency_ns = await peer.ping(self._ports.transport.ping_timeout_s)
        await self._ports.on_seen(peer.identity.device)

    def _must_greet_again(self, peer: RpcPeer, greeted: Greeted, renew_ns: int) -> bool:
        is_old = peer.record_sequence > greeted.presentation.sequence
        is_due = self._ports.clock.monotonic_ns() >= renew_ns
        return peer.has_forgotten or self._must_greet or is_old or is_due

    async def _watch(self, channel: grpc.aio.Channel) -> None:
        """Returns, and wakes the link, when the connection is no longer ready: it is dialled anew then."""
        state = grpc.ChannelConnectivity.READY
        while state is grpc.ChannelConnectivity.READY:
            await channel.wait_for_state_change(state)
            state = channel.get_state()
        self.retry()

    async def _greet(self, channel: grpc.aio.Channel, address: Multiaddr) -> tuple[Greeted, int]:
        """A handshake, and the monotonic time at which to do the next one."""
        self._must_greet = False
        try:
            greeted = await self._ports.greeter.greet(channel, address)
        except LucidError:
            self._must_greet = True
            raise
        self.device, self.version = greeted.presentation.identity.device, greeted.version
        await self._ports.on_met(self, greeted)
        return greeted, self._ports.clock.monotonic_ns() + int(greeted.token_ttl_s * RENEW_AT * 1e9)

    @contextlib.contextmanager
    def _shown(self, peer: RpcPeer) -> Iterator[None]:
        """Lets others find the peer."""
        self.peer, self.trouble, self._was_shown = peer, "", True
        since_ns = self._ports.clock.monotonic_ns()
        self._end_attempt()
        self._ports.on_changed(self)
        try:
            yield
        finally:
            peer.disconnect()
            was_brief = self._ports.clock.monotonic_ns() - since_ns < BRIEF_NS
            self._brief = self._brief + 1 if was_brief else 0
            self.peer, self.trouble = None, self.trouble or "the connection was lost"
            self._ports.on_changed(self)

    def _end_attempt(self) -> None:
        self._attempt.set()
        self._attempt = asyncio.Event()

    def _compute_delay(self) -> float:
        """Doubles with every failure, and with every connection that is lost at once, in a row.

        Half of it is chance, so that many do not come at the same time.
        """
        failures = max(self._failures, self._brief)
        longest_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(max(failures - 1, 0), 16))
        return longest_s * (0.5 + self._ports.entropy.draw(1)[0] / 512)

    async def _wait(self, seconds: float) -> None:
        """Returns after `seconds`, or when `retry` is called."""
        sleeping = asyncio.create_task(self._ports.clock.sleep(seconds))
        sleeping.add_done_callback(lambda _: self._wake.set())
        try:
            await self._wake.wait()
        finally:
            await end_task(sleeping)
            self._wake.clear()
