"""Opens a node's store on this machine: the ports over which it works."""

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager

from storage.store import open_store

from kernel.ports import Files
from node.adapters import SystemClock, SystemEntropy, ThreadOffload
from node.config import NodeConfig
from node.metrics import MeteredFiles, NodeMetrics
from node.ports import NodePorts, Usage
from session import tables
from storage.os_files import OsFiles

IO_WORKERS = 4

WrapFiles = Callable[[Files], Files]


def keep_files(files: Files) -> Files:
    """Wraps nothing."""
    return files


@asynccontextmanager
async def open_ports(
    config: NodeConfig, metrics: NodeMetrics, wrap_files: WrapFiles = keep_files
) -> AsyncIterator[NodePorts]:
    """The system's clock, randomness and threads, and the store of the home; closed at the end.

    Args:
        config: of the node.
        metrics: get the times of fsync.
        wrap_files: takes the files of the store and gives those to use: where faults are injected.

    Raises:
        StoreError: the store cannot be opened.
    """
    with ExitStack() as stack:
        offload_cpu = ThreadOffload("cpu", config.workers or os.cpu_count() or 1)
        stack.callback(offload_cpu.close)
        offload_io = ThreadOffload("io", IO_WORKERS)
        stack.callback(offload_io.close)
        root = config.home.store
        root.mkdir(mode=0o700, exist_ok=True)
        files = MeteredFiles(wrap_files(OsFiles(root)), metrics)
        store = await open_store(root, files, offload_io, tables.TABLES, config.quota)
        stack.callback(store.close)

        def measure() -> Usage:
            usage = store.usage()
            return Usage(
                blob_bytes=usage.blob_bytes,
                journal_bytes=usage.journal_bytes,
                index_bytes=usage.index_bytes,
                free_bytes=shutil.disk_usage(root).free,
            )

        yield NodePorts(
            clock=SystemClock(),
            entropy=SystemEntropy(),
            offload_cpu=offload_cpu,
            offload_io=offload_io,
            records=store.records,
            blobs=store.blobs,
            journal=store.journal,
            measure=measure,
        )
