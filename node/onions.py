"""The node's side of Tor: its onion services, their rotation, and whether peers can reach it.

What is decided stands in `node/identity/onion_plan.py`. Order of a rotation: the next service is written down
→ served and published → peers can find it → it is written down as the current one, and peers are presented
the new record → the old one stays for its grace, with all that runs over it → it is withdrawn, forgotten, and
its server closed. A node that is killed at any step goes on there.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from kernel.errors import Conflict, LucidError, Unavailable
from kernel.keys import DeviceKeys
from kernel.multiaddr import Multiaddr
from kernel.ports import Clock, Journal
from kernel.waiting import wait_for_event
from lucid.v1 import control_pb2, node_pb2
from node.health import Health
from node.identity.onion_plan import Onion, begin, compute_wait_s, expire, is_due, promote, rotate
from node.logs import Logger
from node.ports import OnionPublisher
from node.rpc.peering import Peering
from node.rpc.reachability import reach

STREAM = "onions"
REACH_EVERY_S = 600.0
REACH_AGAIN_S = 30.0
PUBLISH_TIMEOUT_S = 180.0
TRY_AGAIN_S = 30.0


def decode_onions(records: Sequence[tuple[int, bytes]]) -> tuple[Onion, ...]:
    """The newest state among the records of `STREAM`; empty if there is none."""
    for _, payload in reversed(records):
        with contextlib.suppress(DecodeError):
            state = node_pb2.OnionState.FromString(payload)
            return tuple(Onion(one.index, one.since_s, one.until_s, one.grace_s) for one in state.onions)
    return ()


class Onions:
    """The onion services of one node.

    Attributes:
        reached_ns: Unix nanoseconds when the node last reached itself through the network; 0: never.
        reach_ns: how long a call took then.
        reach_trouble: why the last try failed; empty if it did not, or there was none.
    """

    def __init__(
        self,
        keys: DeviceKeys,
        publisher: OnionPublisher,
        peering: Peering,
        journal: Journal,
        clock: Clock,
        log: Logger,
        health: Health,
        *,
        port: int,
        rotate_every_s: int,
        grace_s: int,
    ) -> None:
        """See the class.

        Args:
            keys: from which the services' keys grow.
            publisher: makes services known.
            peering: serves them.
            journal: remembers them.
            clock: time.
            log: tells what comes and goes.
            health: learns whether Tor is ready.
            port: that peers connect to; 0: the node serves nobody.
            rotate_every_s: seconds after which a service is replaced; 0: only by command.
            grace_s: seconds for which the old one stays.
        """
        self.reached_ns = 0
        self.reach_ns = 0
        self.reach_trouble = ""
        self._keys = keys
        self._publisher = publisher
        self._peering = peering
        self._journal = journal
        self._clock = clock
        self._log = log
        self._health = health
        health.network_problem = publisher.explain()
        self._port = port
        self._rotate_every_s = rotate_every_s
        self._grace_s = grace_s
        self._onions: tuple[Onion, ...] = ()
        self._opened: set[int] = set()
        self._wake = asyncio.Event()
        self._turn = asyncio.Lock()
        self._kept = asyncio.Event()

    @property
    def problems(self) -> list[str]:
        """What is wrong although Tor is ready."""
        return (
            [f"this node does not reach itself through Tor: {self.reach_trouble}"]
            if self.reach_trouble
            else []
        )

    async def start(self) -> None:
        """Serves and publishes what was decided on before, or a first service; `peering` is prepared."""
        if not self._port:
            return
        # What is over goes with the next state that is written: a full disk keeps no node from its start.
        self._onions = expire(await self._load(), self._now_s())
        if not self._onions:
            await self._keep(begin(self._now_s()))
        await self._open_all()
        self._announce()

    async def run(self) -> None:
        """Does what is due, and looks whether the node is reachable, until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            if self._port:
                group.create_task(self._keep_on())
                group.create_task(self._watch_reach())

    async def rotate(self, grace_s: int | None = None) -> None:
        """Replaces the service; returns when peers can find the new one, and the old one has its end.

        Raises:
            Conflict: another rotation is not over, or the node serves nobody.
            Unavailable: the new one cannot be published now; it is tried on.
            StoreError: it cannot be written down; nothing has changed.
        """
        async with self._turn:
            await self._begin_rotation(self._grace_s if grace_s is None else grace_s)
        ends_ns = self._clock.monotonic_ns() + int(PUBLISH_TIMEOUT_S * 1e9)
        while any(onion.is_next for onion in self._onions):
            left_s = (ends_ns - self._clock.monotonic_ns()) / 1e9
            if left_s <= 0 or not await wait_for_event(self._kept, self._clock, left_s):
                raise Unavailable(
                    f"the new onion service is not published after {PUBLISH_TIMEOUT_S:.0f} s",
                    hint="It is tried on, and peers are told when it is. The old one stays until then.",
                )

    async def wait_ready(self, timeout_s: float) -> None:
        """Returns when Tor is ready.

        Raises:
            Unavailable: it is not within `timeout_s` seconds.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self._publisher.is_ready:
                    await self._publisher.wait_changed()
        if not self._publisher.is_ready:
            raise Unavailable(self._publisher.explain(), hint="`lucid-node doctor` tells more.")

    async def check(self) -> bool:
        """Calls this node through the network, if it can be found there; True if it answers.

        Raises:
            Conflict: the node serves nobody.
        """
        if not self._onions:
            raise Conflict("this node has no onion service", hint="Set `listen` to `onion`.")
        address = self._find_current()
        return address is not None and await self._try_reach(address)

    def describe(self) -> control_pb2.TorStatus:
        """How the node stands in Tor."""
        status = self._publisher.describe()
        status.onions.extend(self._describe(onion) for onion in self._onions)
        status.reached_ns, status.reach_us = self.reached_ns, self.reach_ns // 1000
        status.reach_trouble = self.reach_trouble
        return status

    async def _follow(self) -> None:
        """Tells who waits for Tor whenever its state changes."""
        was_ready = False
        while True:
            is_ready = self._publisher.is_ready
            self._health.network_problem = self._publisher.explain()
            if is_ready and not was_ready:
                self._peering.book.retry_all()
            was_ready = is_ready
            self._wake.set()
            await self._publisher.wait_changed()

    async def _keep_on(self) -> None:
        """Goes from state to state as they are due."""
        while True:
            self._wake.clear()
            try:
                async with self._turn:
                    await self._step()
                wait_s = compute_wait_s(self._onions, self._now_s(), self._rotate_every_s)
            except LucidError as error:
                self._log.error("onion services cannot be changed", why=str(error))
                wait_s = TRY_AGAIN_S
            await wait_for_event(self._wake, self._clock, wait_s if wait_s is None else max(1.0, wait_s))

    async def _step(self) -> None:
        now_s = self._now_s()
        await self._open_all()
        following = next((onion for onion in self._onions if onion.is_next), None)
        if following is not None and self._publisher.is_published(self._get_host(following)):
            await self._keep(promote(self._onions, now_s))
            self._announce()
            self._log.info("onion service replaced", now=self._get_host(following))
        for onion in self._onions:
            if onion not in expire(self._onions, now_s):
                await self._close(onion)
        if is_due(self._onions, now_s, self._rotate_every_s):
            await self._begin_rotation(self._grace_s)

    async def _begin_rotation(self, grace_s: int) -> None:
        if not self._onions:
            raise Conflict("this node has no onion service", hint="Set `listen` to `onion`.")
        await self._keep(rotate(self._onions, self._now_s(), grace_s))
        self._wake.set()

    async def _open_all(self) -> None:
        """Serves what is written down and not served yet, and has it published."""
        for onion in self._onions:
            if onion.index not in self._opened:
                await self._peering.open(self._get_address(onion))
                self._opened.add(onion.index)
                await self._publisher.publish(self._keys.onion(onion.index), self._port)

    async def _close(self, onion: Onion) -> None:
        """Lets nobody in any more, cuts what is still connected, and forgets it."""
        host = self._get_host(onion)
        remaining = tuple(other for other in self._onions if other != onion)
        await self._publisher.withdraw(host)
        await self._keep(remaining)
        self._announce()
        await self._peering.close(self._get_address(onion))
        self._log.info("onion service withdrawn", was=host)

    def _announce(self) -> None:
        """Tells peers where this node is: at the current service first, then at the old one."""
        shown = sorted((one for one in self._onions if not one.is_next), key=lambda one: one.until_s)
        self._peering.announce([self._get_address(onion) for onion in shown])

    async def _watch_reach(self) -> None:
        """Calls this node through the network, now and then."""
        while True:
            address = self._find_current()
            if address is None:
                await self._publisher.wait_changed()
                continue
            await self._try_reach(address)
            await self._clock.sleep(REACH_AGAIN_S if self.reach_trouble else REACH_EVERY_S)

    def _find_current(self) -> Multiaddr | None:
        """Where peers find this node; None while they do not."""
        current = next(onion for onion in self._onions if onion.is_current)
        is_found = self._publisher.is_ready and self._publisher.is_published(self._get_host(current))
        return self._get_address(current) if is_found else None

    async def _try_reach(self, address: Multiaddr) -> bool:
        try:
            self.reach_ns = await reach(self._publisher, address, self._clock)
            self.reached_ns, self.reach_trouble = self._clock.wall_ns(), ""
        except LucidError as error:
            self.reach_trouble = str(error)
            self._log.warning("not reachable through Tor", why=str(error))
        return not self.reach_trouble

    async def _load(self) -> tuple[Onion, ...]:
        """The newest state that was written; empty if there is none."""
        contents = await self._journal.read(STREAM)
        if contents.torn_bytes:
            await self._journal.trim(STREAM)
        return decode_onions(contents.records)

    async def _keep(self, onions: Sequence[Onion]) -> None:
        """Writes a state down; it holds from now on."""
        if tuple(onions) == self._onions:
            return
        entries = [
            node_pb2.OnionEntry(
                index=one.index, since_s=one.since_s, until_s=one.until_s, grace_s=one.grace_s
            )
            for one in onions
        ]
        payload = node_pb2.OnionState(onions=entries).SerializeToString()
        await self._journal.append(STREAM, [payload])
        await self._journal.sync(STREAM)
        self._onions = tuple(onions)
        self._kept.set()
        self._kept = asyncio.Event()

    def _describe(self, onion: Onion) -> control_pb2.Onion:
        return control_pb2.Onion(
            address=str(self._get_address(onion)),
            role="next" if onion.is_next else "current" if onion.is_current else "old",
            published=self._publisher.is_published(self._get_host(onion)),
            since_s=onion.since_s,
            until_s=onion.until_s,
        )

    def _get_host(self, onion: Onion) -> str:
        return self._keys.onion(onion.index).host

    def _get_address(self, onion: Onion) -> Multiaddr:
        return Multiaddr("onion3", self._get_host(onion), self._port)

    def _now_s(self) -> int:
        return self._clock.wall_ns() // 10**9
