"""What the node counts, and a small HTTP server that shows it on loopback.

One registry per node: two nodes in one process share nothing. `GET /metrics` gives the Prometheus text
format. The address must be a loopback address (checked in the configuration, and again here: fail closed).
"""

import asyncio
import contextlib
import ipaddress
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from kernel.errors import LocalError
from kernel.ports import Files

T = TypeVar("T")

MAX_REQUEST_BYTES = 8 << 10
REQUEST_TIMEOUT_S = 5.0
MAX_SCRAPERS = 8


class NodeMetrics:
    """The counters of one node.

    Attributes:
        registry: all of them, for `generate_latest`.
        recorded_bytes: source bytes taken, by kind of source.
        sessions: sessions in the store, by state.
        store_bytes: bytes on disk, by part of the store.
        fsync_seconds: how long the disk took to make bytes durable.
        stage_cpu_seconds: processor time of chunk work, by function.
        fsync_wait_seconds: time in which the disk was awaited and no chunk work ran.
        errors: errors given to clients, by class.
        connections: open connections, by socket.
        rpc_seconds: how long calls of other nodes took, by method.
        rpc_refused: calls of other nodes that failed, by method and class of the error.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.recorded_bytes = Counter(
            "lucid_recorded_bytes", "Source bytes taken", ["kind"], registry=self.registry
        )
        self.sessions = Gauge("lucid_sessions", "Sessions in the store", ["state"], registry=self.registry)
        self.store_bytes = Gauge("lucid_store_bytes", "Bytes on disk", ["part"], registry=self.registry)
        self.fsync_seconds = Histogram(
            "lucid_fsync_seconds",
            "Time to make a file or directory durable",
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
            registry=self.registry,
        )
        self.stage_cpu_seconds = Counter(
            "lucid_stage_cpu_seconds", "Processor time of chunk work", ["stage"], registry=self.registry
        )
        self.fsync_wait_seconds = Counter(
            "lucid_fsync_wait_seconds",
            "Time in which the disk was awaited and no chunk work ran",
            registry=self.registry,
        )
        self.errors = Counter("lucid_errors", "Errors given to clients", ["code"], registry=self.registry)
        self.connections = Gauge("lucid_connections", "Open connections", ["socket"], registry=self.registry)
        self.rpc_seconds = Histogram(
            "lucid_rpc_seconds",
            "Time that calls of other nodes took",
            ["method"],
            buckets=(0.001, 0.01, 0.1, 1.0, 10.0, 100.0),
            registry=self.registry,
        )
        self.rpc_refused = Counter(
            "lucid_rpc_refused",
            "Calls of other nodes that failed",
            ["method", "code"],
            registry=self.registry,
        )


class WorkMeter:
    """What the processors do, and when they stand still because of the disk. Called from many threads."""

    def __init__(self, metrics: NodeMetrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._working = 0
        self._syncing = 0
        self._stalled_since = 0.0

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Runs a piece of chunk work and counts the processor time that it takes under its name."""
        self._change(working=1)
        started = time.thread_time()
        try:
            return work()
        finally:
            self._metrics.stage_cpu_seconds.labels(name).inc(time.thread_time() - started)
            self._change(working=-1)

    @contextlib.contextmanager
    def syncing(self) -> Iterator[None]:
        """Around an fsync."""
        self._change(syncing=1)
        started = time.perf_counter()
        try:
            yield
        finally:
            self._metrics.fsync_seconds.observe(time.perf_counter() - started)
            self._change(syncing=-1)

    def _change(self, working: int = 0, syncing: int = 0) -> None:
        with self._lock:
            now = time.perf_counter()
            if self._syncing and not self._working:
                self._metrics.fsync_wait_seconds.inc(now - self._stalled_since)
            self._stalled_since = now
            self._working += working
            self._syncing += syncing


class MeteredFiles:
    """`kernel.ports.Files` that measures how long the disk takes to make things durable."""

    def __init__(self, files: Files, meter: WorkMeter) -> None:
        self._files = files
        self._meter = meter
        self.create = files.create
        self.append = files.append
        self.read = files.read
        self.size = files.size
        self.truncate = files.truncate
        self.rename = files.rename
        self.remove = files.remove
        self.remove_dir = files.remove_dir
        self.list_dir = files.list_dir

    def fsync(self, path: str) -> None:
        """See `kernel.ports.Files`."""
        with self._meter.syncing():
            self._files.fsync(path)

    def fsync_dir(self, path: str) -> None:
        """See `kernel.ports.Files`."""
        with self._meter.syncing():
            self._files.fsync_dir(path)


class MetricsServer:
    """Serves a registry over HTTP on a loopback address.

    Attributes:
        address: "host:port" that it really listens on.
    """

    def __init__(self, metrics: NodeMetrics, refresh: Callable[[], Awaitable[None]]) -> None:
        self._metrics = metrics
        self._refresh = refresh
        self._scrapers = 0
        self.address = ""

    async def start(self, listen: str) -> None:
        """Begins to serve.

        Raises:
            LocalError: the address is not loopback, or is taken.
        """
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        if not ipaddress.ip_address(host).is_loopback:
            raise LocalError(f"metrics are not served on {host}: it is no loopback address")
        try:
            self._server = await asyncio.start_server(self._answer, host, int(port), limit=MAX_REQUEST_BYTES)
        except OSError as error:
            raise LocalError(
                f"metrics cannot be served on {listen}: {error.strerror}",
                hint="Set metrics_listen to a free port, or to port 0.",
            ) from error
        bound = self._server.sockets[0].getsockname()
        self.address = f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"

    async def stop(self) -> None:
        """Stops listening."""
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._scrapers += 1
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                if self._scrapers <= MAX_SCRAPERS:
                    request = await reader.readuntil(b"\r\n\r\n")
                    writer.writelines(await self._respond(request))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # whoever cannot ask in time and in order gets no answer
        finally:
            self._scrapers -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _respond(self, request: bytes) -> Sequence[bytes]:
        words = request.split(b"\r\n", 1)[0].split(b" ")
        if len(words) != 3 or words[0] != b"GET" or words[1].split(b"?")[0] != b"/metrics":
            status, kind, body = "404 Not Found", "text/plain", b"metrics are at /metrics\n"
        else:
            await self._refresh()
            status, kind, body = "200 OK", CONTENT_TYPE_LATEST, generate_latest(self._metrics.registry)
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return head.encode(), b"Connection: close\r\n\r\n", body
