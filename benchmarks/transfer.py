"""Chunks between two nodes, each a process of its own, beside the same frames over bare gRPC.

The node: handshake, token, interceptor, lease, leaf hashes, quota, files, fsync, index, receipt; every byte
checked on arrival. Bare: the same messages, thrown away. Both over loopback, in interleaved rounds.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import grpc

from benchmarks.measures import MEGABYTE, Figure, Report, Summary, Verdict
from benchmarks.process import BenchmarkError
from benchmarks.transfer_node import BLOB_BYTES, NETWORK, make_peering
from dht import tables
from dht.lease import derive_lease_key, sign_lease
from dht.ports import Peer
from dht.transfer import FRAME_BYTES, get_chunk, put_chunk
from kernel.chunk_id import compute_chunk_id, compute_chunk_leaves
from kernel.multiaddr import Multiaddr
from lucid.v1 import chunk_pb2, chunk_pb2_grpc, identity_pb2, node_pb2, node_pb2_grpc
from node.adapters import SystemClock, ThreadOffload
from node.memory import keep_buffers
from storage.faults import Faults
from storage.memory_records import MemoryRecords

IN_FLIGHT = 4
CHUNKS = 16
PINGS = 1000
DAY_S = 86_400
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Chunk:
    """A chunk, and what it takes to put it."""

    blob: bytes
    leaves: list[bytes]
    lease: identity_pb2.Signed
    chunk_id: bytes


def measure_transfer(scratch: Path, rounds: int, report: Report) -> Figure:
    """The figure: MB/s of put and get, and calls per second, of the node and of bare gRPC."""
    keep_buffers()
    with _running_node(scratch / "holder") as (node_port, bare_port):
        times = asyncio.run(_measure(node_port, bare_port, rounds, report))
    return _describe(times)


@contextmanager
def _running_node(directory: Path) -> Iterator[tuple[int, int]]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "proto")))}
    command = [sys.executable, "-m", "benchmarks.transfer_node", str(directory)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    try:
        words = process.stdout.readline().split() if process.stdout else []
        if len(words) != 2:
            raise BenchmarkError("the holder did not start")
        yield int(words[0]), int(words[1])
    finally:
        if process.stdin:
            process.stdin.close()
        process.wait(30)
        if process.stdout:
            process.stdout.close()


class _NoRng:
    def below(self, bound: int) -> int:
        return 0


def make_records() -> MemoryRecords:
    """An index in memory."""
    return MemoryRecords(tables.TABLES, Faults(_NoRng()))


Times = dict[tuple[str, str], list[float]]


async def _measure(node_port: int, bare_port: int, rounds: int, report: Report) -> Times:
    offload = ThreadOffload("io", 2)
    peering = make_peering(
        2,
        make_records(),
        offload,
        Multiaddr("ip4", "127.0.0.1", node_port),
    )
    peering.load()
    meeting = asyncio.create_task(peering.book.run())
    times: Times = {}
    try:
        peer = await meet(peering.book)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{bare_port}") as channel:
            bare = chunk_pb2_grpc.ChunkServiceStub(channel)
            pinger = node_pb2_grpc.NodeServiceStub(channel)
            for number in range(rounds):
                report(f"transfer: round {number + 1} of {rounds}")
                runs = _make_runs(make_chunks(peer, CHUNKS), peer, bare, pinger)
                for name, run in runs.items():
                    started = perf_counter()
                    await run()
                    times.setdefault(name, []).append(perf_counter() - started)
    finally:
        meeting.cancel()
        await asyncio.gather(meeting, return_exceptions=True)
        offload.close()
    return times


def _make_runs(
    chunks: Sequence[Chunk], peer: Any, bare: Any, pinger: Any
) -> dict[tuple[str, str], Callable[[], Awaitable[None]]]:
    ping = node_pb2.PingRequest(payload=b"lucid-node ping")
    return {
        ("put", "bare"): lambda: _each(chunks, lambda one: _put_bare(bare, one)),
        ("put", "node"): lambda: _each(chunks, lambda one: put(peer, one)),
        ("get", "bare"): lambda: _each(chunks, lambda one: _get_bare(bare, one)),
        ("get", "node"): lambda: _each(chunks, lambda one: get(peer, one)),
        ("ping", "bare"): lambda: _ping(lambda: pinger.Ping(ping)),
        ("ping", "node"): lambda: _ping(peer.ping),
    }


async def meet(book: Any) -> Any:
    """The first peer that is met."""
    while not book.known() or (peer := book.find(book.known()[0].device)) is None:
        await book.wait_changed()
    return peer


def make_chunks(peer: Peer, count: int) -> list[Chunk]:
    """Random chunks, leased to a peer."""
    key = derive_lease_key(os.urandom(32), bytes(16))
    chunks = []
    for _ in range(count):
        blob = os.urandom(BLOB_BYTES)
        leaves = compute_chunk_leaves(blob)
        chunk_id = compute_chunk_id(leaves, BLOB_BYTES)
        lease = chunk_pb2.Lease(
            chunk_id=chunk_id,
            size_bytes=BLOB_BYTES,
            holder=peer.identity.device,
            sequence=1,
            until_s=SystemClock().wall_ns() // 10**9 + DAY_S,
        )
        chunks.append(Chunk(blob, leaves, sign_lease(key, NETWORK, lease), chunk_id))
    return chunks


async def _each(chunks: Sequence[Chunk], work: Callable[[Chunk], Awaitable[None]]) -> None:
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def one(chunk: Chunk) -> None:
        async with slots:
            await work(chunk)

    await asyncio.gather(*map(one, chunks))


async def put(peer: Peer, chunk: Chunk) -> None:
    """Puts a chunk on a peer."""
    await put_chunk(peer, NETWORK, chunk.lease, chunk.blob, leaves=chunk.leaves)


async def get(peer: Peer, chunk: Chunk) -> None:
    """Gets it back, verified."""
    if len(await get_chunk(peer, chunk.chunk_id)) != len(chunk.blob):  # they give the chunk ID, or it raises
        raise BenchmarkError("another length came back")


async def _put_bare(stub: Any, chunk: Chunk) -> None:
    view = memoryview(chunk.blob)

    async def requests() -> Any:
        opening = chunk_pb2.PutOpen(lease=chunk.lease, leaves=b"".join(chunk.leaves))
        yield chunk_pb2.PutChunkRequest(open=opening)
        for start in range(0, BLOB_BYTES, FRAME_BYTES):
            yield chunk_pb2.PutChunkRequest(frame=bytes(view[start : start + FRAME_BYTES]))

    async for _ in stub.PutChunk(requests()):
        pass


async def _get_bare(stub: Any, chunk: Chunk) -> None:
    async for _ in stub.GetChunk(chunk_pb2.GetChunkRequest(chunk_id=chunk.chunk_id)):
        pass


async def _ping(ping: Callable[[], Awaitable[object]]) -> None:
    for _ in range(PINGS):
        await ping()


def _describe(times: Times) -> Figure:
    rows, verdicts = [], []
    for what, amount, unit, bound in (
        ("put", CHUNKS * BLOB_BYTES / MEGABYTE, "MB/s", 60),
        ("get", CHUNKS * BLOB_BYTES / MEGABYTE, "MB/s", 60),
        ("ping", PINGS, "calls/s", 70),
    ):
        node, bare = (
            Summary.of([amount / seconds for seconds in times[what, who]]) for who in ("node", "bare")
        )
        percent = 100 * median(
            alone / with_us for alone, with_us in zip(times[what, "bare"], times[what, "node"], strict=True)
        )
        rows.append(
            {"call": what, "unit": unit} | node.cells("node") | bare.cells("bare gRPC") | {"%": percent}
        )
        target = f"{what} reaches {bound} % of bare gRPC"
        verdicts.append(Verdict(target, f"{percent:.0f} %", percent >= bound))
    notes = [
        f"Chunks of {BLOB_BYTES >> 20} MiB in frames of {FRAME_BYTES >> 10} KiB, {IN_FLIGHT} in flight,"
        f" {CHUNKS} a round; put ends with the receipt after fsync. Percentages are medians over rounds.",
        f"Pings one after the other, {PINGS:,} a round, through token, limits and metrics.",
    ]
    return Figure("transfer", "Chunks and calls between two nodes", rows, verdicts, notes)
