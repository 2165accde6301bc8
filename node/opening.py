"""Opens a node's store on this machine, and puts the ports together over which the node works."""

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from dht import tables as dht_tables
from dht.ports import KeepingPorts
from kernel.errors import StoreError
from kernel.ports import Files
from node.adapters import SystemClock, SystemEntropy, SystemRng, ThreadOffload
from node.config import NodeConfig
from node.metrics import MeteredFiles, NodeMetrics, WorkMeter
from node.ports import NodePorts, Usage
from session import tables
from session.ports import SessionPorts
from storage.disk_store import open_disk_store
from storage.store import Store

IO_WORKERS = 4

WrapFiles = Callable[[Files], Files]


@dataclass(frozen=True, slots=True)
class Opened:
    """An open home.

    Attributes:
        ports: what the node works over.
        store: the store behind them.
    """

    ports: NodePorts
    store: Store

    @property
    def session_ports(self) -> SessionPorts:
        """What the session room works over."""
        ports = self.ports
        return SessionPorts(
            ports.clock, ports.entropy, ports.offload_cpu, ports.records, ports.blobs, ports.journal
        )

    @property
    def keeping_ports(self) -> KeepingPorts:
        """What keeps things for others works over."""
        ports = self.ports
        return KeepingPorts(ports.clock, ports.offload_cpu, ports.records, ports.blobs, ports.journal)


def keep_files(files: Files) -> Files:
    """Wraps nothing."""
    return files


@asynccontextmanager
async def open_home(
    config: NodeConfig, metrics: NodeMetrics, *, wrap_files: WrapFiles = keep_files, rebuild: bool = False
) -> AsyncIterator[Opened]:
    """The system's clock, randomness and threads, and the store of the home; closed at the end.

    Args:
        config: of the node.
        metrics: get the times of chunk work and of fsync.
        wrap_files: takes the files of the store and gives those to use: where faults are injected.
        rebuild: put the index aside and open an empty one.

    Raises:
        StoreError: the store cannot be opened.
    """
    with ExitStack() as stack:
        meter = WorkMeter(metrics)
        offload_cpu = ThreadOffload("cpu", config.workers or os.cpu_count() or 1, meter.run)
        stack.callback(offload_cpu.close)
        offload_io = ThreadOffload("io", IO_WORKERS)
        stack.callback(offload_io.close)
        root = config.home.store
        store = await open_disk_store(
            root,
            offload_io,
            tables=(*tables.TABLES, *dht_tables.TABLES),
            quota_bytes=config.quota or None,
            reserved_streams=tables.SMALL_FACTS,
            freeing_streams=tables.DELETIONS,
            rebuild=rebuild,
            wrap_files=lambda files: MeteredFiles(wrap_files(files), meter),
        )
        stack.callback(store.close)

        def measure() -> Usage:
            usage = store.usage()
            try:
                free_bytes = shutil.disk_usage(root).free
            except OSError as error:
                raise StoreError(f"the disk of {root} cannot be looked at: {error.strerror}") from error
            return Usage(usage.blob_bytes, usage.journal_bytes, usage.index_bytes, free_bytes)

        ports = NodePorts(
            clock=SystemClock(),
            entropy=SystemEntropy(),
            offload_cpu=offload_cpu,
            offload_io=offload_io,
            records=store.records,
            blobs=store.blobs,
            journal=store.journal,
            measure=measure,
            rng=SystemRng(),
        )
        yield Opened(ports, store)
