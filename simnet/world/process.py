"""One process of a simulated node: the real composition over simulated ports, run as the daemon runs it."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from kernel.uninterrupted import end_task
from node.compose import Node, compose
from node.config import NodeConfig
from node.identity.peer_keys import PeerKeys
from node.logs import Logger
from node.metrics import NodeMetrics
from node.ports import NodePorts, Transport, Usage
from node.rpc.peering import Peering
from node.work import list_work, open_to_peers
from session import tables
from session.access import RecorderKeys
from simnet.world.disk import Disk
from simnet.world.life import Life, LivingClock, LivingFiles, LivingOffload, LivingRecords, SeededRng, Skew
from simnet.world.tasks import PLACE
from storage.faults import Died
from storage.store import OpenedIndex, Store, open_store

T = TypeVar("T")


class ProcessDied(Exception):
    """The process that was to do something is dead."""


@dataclass(frozen=True, slots=True)
class Setup:
    """With what a process of a node starts.

    Attributes:
        seed: of the run.
        keys: with which the node records.
        peer_keys: with which it meets others.
        config: its settings.
        disk: what it finds and leaves.
        skew: of its clock.
        twist: what turns it into an adversary; None: it is honest.
    """

    seed: int
    keys: RecorderKeys
    peer_keys: PeerKeys
    config: NodeConfig
    disk: Disk
    skew: Skew
    twist: Callable[[Node], None] | None = None


class Process:
    """A process of a node.

    Attributes:
        life: dead or alive.
        node: what it runs; only while it is ready.
    """

    def __init__(self, life: Life, setup: Setup, transport: Transport, log: Logger) -> None:
        self.life = life
        self.node: Node
        self._setup = setup
        self._transport = transport
        self._log = log
        self._context: Context = copy_context()
        self._context.run(PLACE.set, life)
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._main: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Has it started?"""
        return self._ready.is_set()

    async def start(self, on_end: Callable[[BaseException | None], None]) -> None:
        """Starts it; returns when it is ready.

        Args:
            on_end: told when it ends by itself, and by which error.

        Raises:
            ProcessDied: it died before.
            LucidError: it cannot start.
        """
        self._main = self._spawn(self._run())
        ready = asyncio.create_task(self._ready.wait())

        def on_done(main: "asyncio.Task[None]") -> None:
            ready.cancel()
            error = None if main.cancelled() else main.exception()
            if self.life.is_alive and self._ready.is_set():
                on_end(error)

        self._main.add_done_callback(on_done)
        await asyncio.gather(ready, return_exceptions=True)
        if not self._ready.is_set():
            await self._await(self._main)

    async def stop(self) -> None:
        """Ends it well."""
        self._stopping.set()
        if self._main is not None:
            await self._await(self._main)

    async def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Lets the process do something. Whoever is cancelled while he waits for it cancels it.

        Raises:
            ProcessDied: it was dead, or died meanwhile.
            Exception: what `work` raises.
        """
        if not self.life.is_alive:
            work.close()
            raise ProcessDied(str(self.life))
        task = self._spawn(work)
        try:
            return await self._await(task)
        finally:
            await end_task(task)

    def _spawn(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        return asyncio.get_running_loop().create_task(work, context=self._context.copy())

    async def _await(self, task: "asyncio.Task[T]") -> T:
        """The result of a task of this process, whose death is nobody else's."""
        await asyncio.gather(task, return_exceptions=True)
        if not self.life.is_alive:
            if not task.cancelled():
                task.exception()
            raise ProcessDied(str(self.life))
        return task.result()

    async def _run(self) -> None:
        setup, life = self._setup, self.life
        rng = random.Random(f"{setup.seed}/{life}/latency")  # noqa: S311 - a run must repeat
        offload = LivingOffload(life, rng, lambda: setup.disk.latency_s)
        store = await self._open_store(offload)
        self.node = self._compose(offload, store)
        if setup.twist is not None:
            setup.twist(self.node)
        await self.node.start()
        await open_to_peers(self.node)
        self._ready.set()
        try:
            await self._work()
        finally:
            life.check()
            self.node.health.stopping = True
            await self.node.stop()
            await self.node.peering.stop()

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in list_work(self.node)]
            await self._stopping.wait()
            for task in tasks:
                task.cancel()

    async def _open_store(self, offload: LivingOffload) -> Store:
        disk, config = self._setup.disk, self._setup.config

        def open_index(new: bool) -> OpenedIndex:
            if new:
                disk.renew_records()
            return OpenedIndex(LivingRecords(self.life, disk.records, offload))

        return await open_store(
            LivingFiles(self.life, disk.files),
            offload,
            open_index,
            quota_bytes=config.quota or None,
            reserved_streams=tables.SMALL_FACTS,
            freeing_streams=tables.DELETIONS,
        )

    def _compose(self, offload: LivingOffload, store: Store) -> Node:
        setup, life = self._setup, self.life

        def measure() -> Usage:
            usage = store.usage()
            return Usage(usage.blob_bytes, usage.journal_bytes, usage.index_bytes, setup.disk.free_bytes)

        ports = NodePorts(
            clock=LivingClock(life, setup.skew),
            entropy=SeededRng(setup.seed, life, "entropy"),
            offload_cpu=offload,
            offload_io=offload,
            records=store.records,
            blobs=store.blobs,
            journal=store.journal,
            measure=measure,
            rng=SeededRng(setup.seed, life, "rng"),
        )
        metrics = NodeMetrics()
        peering = Peering(
            setup.peer_keys,
            self._transport,
            ports.clock,
            ports.entropy,
            offload,
            ports.records,
            metrics,
            self._log,
            software="lucid-node, simulated",
            peers=setup.config.peers,
            hosting_for=setup.config.hosting_for,
        )
        return compose(setup.keys, setup.config, ports, metrics, self._log, peering)


def is_death(error: BaseException | None) -> bool:
    """True if an error only says that the process is dead."""
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_death, error.exceptions))
    return isinstance(error, Died | asyncio.CancelledError)
