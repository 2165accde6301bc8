"""A machine of the simulated world: its disk, its clock, whose it is, and the node that runs on it."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from blake3 import blake3

from kernel.domains import NETWORKS
from kernel.grants import sign_grant_list
from kernel.head_grants import sign_head_grant
from kernel.keys import DeviceKeys, OwnerKeys
from kernel.multiaddr import Multiaddr, parse_multiaddr
from kernel.sealing import compute_x25519_public
from lucid.v1 import identity_pb2
from node.compose import Node
from node.config import load_config
from node.home import Home
from node.identity.peer_keys import PeerKeys
from session.access import RecorderKeys
from simnet.world.adversaries import get_adversary
from simnet.world.disk import Disk
from simnet.world.life import EPOCH_NS, Life, Skew
from simnet.world.network import Host, Network
from simnet.world.node_log import make_trace_logger
from simnet.world.process import Process, ProcessDied, Setup, is_death
from simnet.world.sealed_loop import SimulationError
from simnet.world.tasks import SimTask, describe_task
from simnet.world.transport import SimTransport

T = TypeVar("T")

NETWORK = NETWORKS["dev"]
ROLES = (identity_pb2.ROLE_RECORD, identity_pb2.ROLE_READ, identity_pb2.ROLE_WORK)
DEATH_S = 60.0
"""In so many seconds all tasks of a dead process must have ended."""

OnEvent = Callable[[str, str, str], None]


class Machine:
    """One machine.

    Attributes:
        name: of machine, host and node.
        owner: keys of whose it is.
        address: where its node listens.
        disk: outlives processes.
        skew: of its clock.
        process: that runs on it; None while none does.
        adversary: name of what its next process is turned into; empty: it is honest. See `adversaries`.
        deaths: of its processes: when, and whether the power was cut.
    """

    def __init__(
        self, name: str, owner: OwnerKeys, seed: int, address: str, network: Network, on_event: OnEvent
    ) -> None:
        """A machine with an empty disk.

        Args:
            name: of the machine.
            owner: its owner's keys.
            seed: of the run.
            address: multiaddr on which its node listens.
            network: that it is part of.
            on_event: told of what happens: where, kind, detail.
        """
        self.name = name
        self.owner = owner
        self.address: Multiaddr = parse_multiaddr(address)
        self.disk = Disk(seed, name, "disk")
        self.skew = Skew()
        self.process: Process | None = None
        self.adversary = ""
        self.deaths: list[tuple[float, bool]] = []
        self._seed = seed
        self._network = network
        self._on_event = on_event
        self._lives = 0
        self._host: Host | None = None
        self._burials: list[asyncio.Task[None]] = []
        self._device = DeviceKeys.from_root(derive_root(seed, name, "device"))
        now_s = EPOCH_NS // 10**9 + int(asyncio.get_running_loop().time())
        self._keys, self._peer_keys = make_keys(owner, self._device, now_s)
        self._flags: dict[str, str | None] = {}

    @property
    def device(self) -> bytes:
        """ID of its node."""
        return self._device.identity.public_key

    @property
    def is_adversary(self) -> bool:
        """Does its node not play by the rules?"""
        return bool(self.adversary)

    @property
    def buffered_bytes(self) -> int:
        """What the network holds for its node."""
        return 0 if self._host is None else self._host.buffered_bytes

    def turn(self, name: str) -> None:
        """Makes its node, from its next process on, the adversary of that name.

        Raises:
            UsageError: there is none of that name.
        """
        get_adversary(name)
        self.adversary = name
        self._on_event(self.name, "turn", name)

    @property
    def is_running(self) -> bool:
        """Does its node run?"""
        return self.process is not None and self.process.life.is_alive

    @property
    def is_ready(self) -> bool:
        """Does its node run, and has it started?"""
        return self.is_running and self.process is not None and self.process.is_ready

    @property
    def node(self) -> Node:
        """The node that runs.

        Raises:
            ProcessDied: none does, or it has not started yet.
        """
        process = self.process
        if process is None or not (process.life.is_alive and process.is_ready):
            raise ProcessDied(self.name)
        return process.node

    def configure(self, peers: "Sequence[Machine]", flags: Mapping[str, str]) -> None:
        """Sets what the next process starts with: whom it knows, and settings as on the command line."""
        self._flags = {**flags, "peers": " ".join(str(peer.address) for peer in peers if peer is not self)}

    async def start(self) -> None:
        """Starts the node; returns when it is ready.

        Raises:
            ProcessDied: it died before.
            LucidError: it cannot start.
        """
        if self.is_running:
            raise SimulationError(f"{self.name} runs already")
        await self.settle()
        self._lives += 1
        life = Life(self.name, self._lives, self._on_death)
        self._host = self._network.host(self.name)
        log = make_trace_logger(lambda level, text: self._log(life, level, text))
        self.process = Process(life, self._make_setup(), SimTransport(self._host), log)
        self._on_event(self.name, "start", str(life))
        await self.process.start(lambda error: self._on_end(life, error))

    async def kill(self, *, power_cut: bool = False) -> None:
        """Kills the node at once; with `power_cut` the machine, and what was not durable on its disk."""
        await self.settle()
        if self.is_running and self.process is not None:
            self.process.life.is_alive = False
            await self._bury(self.process.life, power_cut=power_cut)
        elif power_cut:
            self._note_death("its power is cut", power_cut=True)
            self.disk.restart(power_cut=True)

    async def stop(self) -> None:
        """Ends the node well. That one of its tasks goes on is a failure."""
        if self.process is None:
            return
        await self.process.stop()
        process, self.process = self.process, None
        left = self._list_tasks(process.life)
        process.life.is_alive = False
        if self._host is not None:
            self._host.crash()
        self._on_event(self.name, "stop", str(process.life))
        if left:
            self._on_event(self.name, "fail", f"tasks of {process.life} go on:\n{_describe(left)}")
            await self._end_tasks(process.life, left)

    async def restart(self) -> None:
        """Ends the node well, and starts it again."""
        await self.stop()
        await self.start()

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Lets the node do something. See `Process.call`."""
        if self.process is None:
            work.close()
            raise ProcessDied(self.name)
        return await self.process.call(work)

    def pause(self) -> None:
        """Stops the process, as SIGSTOP does to what others see of it."""
        if self._host is not None:
            self._network.pause(self._host)

    def resume(self) -> None:
        """Lets the process go on."""
        if self._host is not None:
            self._network.resume(self._host)

    def wipe(self) -> None:
        """Puts an empty disk into the machine, whose node does not run."""
        self.disk.wipe()
        self._on_event(self.name, "wipe", "its disk is empty")

    async def settle(self) -> None:
        """Waits for the ends of processes that died by a fault of the disk."""
        while self._burials:
            await asyncio.gather(*self._burials)
            self._burials = [burial for burial in self._burials if not burial.done()]

    def _on_death(self, life: Life) -> None:
        self._burials.append(asyncio.create_task(self._bury(life, power_cut=False)))

    async def _bury(self, life: Life, *, power_cut: bool) -> None:
        self._note_death(f"{life} {'power cut' if power_cut else 'killed'}", power_cut=power_cut)
        self.process = None
        if self._host is not None:
            self._host.crash(power_cut=power_cut)
        tasks = self._list_tasks(life)
        self.disk.restart(power_cut=power_cut)
        await self._end_tasks(life, tasks)

    async def _end_tasks(self, life: Life, tasks: Sequence[SimTask]) -> None:
        """Waits for tasks of a dead process, which have nothing to do any more."""
        for task in tasks:
            task.cancel()
        try:
            async with asyncio.timeout(DEATH_S):
                await asyncio.gather(*tasks, return_exceptions=True)
        except TimeoutError:
            left = _describe([task for task in tasks if not task.done()])
            raise SimulationError(f"tasks of {life}, which is dead, go on:\n{left}") from None

    def _note_death(self, what: str, *, power_cut: bool) -> None:
        self.deaths.append((asyncio.get_running_loop().time(), power_cut))
        self._on_event(self.name, "crash", what)

    def _list_tasks(self, life: Life) -> list[SimTask]:
        own = asyncio.current_task()
        tasks = [
            t for t in asyncio.all_tasks() if isinstance(t, SimTask) and t.place is life and t is not own
        ]
        return sorted(tasks, key=lambda task: task.serial)

    def _on_end(self, life: Life, error: BaseException | None) -> None:
        if error is not None and not is_death(error):
            self._on_event(self.name, "fail", f"{life} ended by itself: {error!r}")

    def _log(self, life: Life, level: str, text: str) -> None:
        if life.is_alive:
            self._on_event(self.name, "log", f"{level} {text}")

    def _make_setup(self) -> Setup:
        flags = {"transport": "loopback", "listen": str(self.address), **self._flags}
        config = load_config(Home(Path("/simulated") / self.name), {}, flags)
        twist = get_adversary(self.adversary) if self.adversary else None
        return Setup(self._seed, self._keys, self._peer_keys, config, self.disk, self.skew, twist)


def make_keys(owner: OwnerKeys, device: DeviceKeys, sequence: int) -> tuple[RecorderKeys, PeerKeys]:
    """The keys of a node that its owner has set up, or restored, with a grant list of that sequence."""
    seal = owner.seal(0)
    reader = compute_x25519_public(seal)
    name = device.identity.public_key
    grant = identity_pb2.Grant(device=name, roles=ROLES)
    grants = sign_grant_list(owner.identity, NETWORK, sequence, [grant], 0, reader)
    head_grant = sign_head_grant(owner.head_locator, NETWORK, name)
    reading = {reader: seal, compute_x25519_public(device.box): device.box}
    identity = owner.identity.public_key
    keys = RecorderKeys(NETWORK, device.identity, identity, reader, reading, {name}, grants)
    return keys, PeerKeys(NETWORK, device, grants, head_grant)


def _describe(tasks: Sequence[SimTask]) -> str:
    return "\n".join(line for task in tasks for line in describe_task(task))


def derive_root(seed: int, *names: str) -> bytes:
    """A key root of 32 bytes that follows from the seed."""
    return blake3("/".join([str(seed), *names]).encode()).digest()
