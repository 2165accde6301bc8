"""What must hold of every message, at the moment at which it is sent.

- A receipt goes out only when what it promises is durable: the chunk, its lease and its row; or the head.
- No node begins a call without a deadline, except those that are meant to last.
- No node calls others more often than they let it.

Adversaries may do as they like, and hosts that are no machines of the world, too.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from blake3 import blake3
from google.protobuf.message import DecodeError

from dht import tables
from kernel.errors import LucidError
from lucid.v1 import chunk_pb2
from node.rpc.limits import METHODS
from simnet.world.invariants import is_durable
from simnet.world.machine import Machine
from storage.journal_format import compute_key, parse_stream

if TYPE_CHECKING:
    from simnet.world.world import World

PUT_CHUNK = "/lucid.v1.ChunkService/PutChunk"
PUT_HEAD = "/lucid.v1.ChunkService/PutHead"
WINDOW_S = 10.0
MOST_CALLS = {f"/{name}": round(WINDOW_S * limit.rate_per_s + limit.burst) for name, limit in METHODS.items()}
"""Calls of one method that a node lets another one make in such a time."""
UNBOUNDED = frozenset({"/grpc.health.v1.Health/Watch"})
"""Calls that last until somebody ends them."""


class WireWatch:
    """Looks at what the nodes of a world send."""

    def __init__(self, world: "World") -> None:
        """Begins at once."""
        self._world = world
        self._leases: dict[str, dict[bytes, chunk_pb2.Holding]] = {}
        self._rows: dict[tuple[str, bytes], bytes] = {}
        self._window = 0.0
        self._calls: dict[tuple[str, str], int] = {}
        world.network.on_call = self.on_call
        world.network.on_response = self.on_response

    def on_call(self, place: str, method: str, timeout_s: float | None) -> None:
        """A call begins."""
        if self._find_honest(place) is None:
            return
        if timeout_s is None and method not in UNBOUNDED:
            self._world.on_event(place, "fail", f"{method} is called without a deadline")
        if method in MOST_CALLS:
            most = MOST_CALLS[method] * len(self._world.machines)
            if self._count(place, method) == most + 1:
                what = f"{method} is called more than {most} times in {WINDOW_S:g} s"
                self._world.on_event(place, "fail", what)

    def _count(self, place: str, method: str) -> int:
        """How often a method has been called from a place in this stretch of time."""
        window = self._world.now_s // WINDOW_S
        if window != self._window:
            self._window, self._calls = window, {}
        self._calls[place, method] = count = self._calls.get((place, method), 0) + 1
        return count

    def on_response(self, place: str, method: str, data: bytes) -> None:
        """An answer is about to be sent."""
        if method not in (PUT_CHUNK, PUT_HEAD) or (machine := self._find_honest(place)) is None:
            return
        if method == PUT_HEAD:
            self._check_head(machine, chunk_pb2.PutHeadResponse.FromString(data))
        else:
            self._check_chunk(machine, chunk_pb2.PutChunkResponse.FromString(data))

    def _find_honest(self, place: str) -> Machine | None:
        machine = self._world.find_machine(place)
        return None if machine is None or machine.is_adversary else machine

    def _check_chunk(self, holder: Machine, response: chunk_pb2.PutChunkResponse) -> None:
        if not response.HasField("receipt"):
            return
        lease_hash = chunk_pb2.Receipt.FromString(response.receipt.payload).lease_hash
        holding = self._find_holding(holder, lease_hash)
        if holding is None:
            self._world.on_event(holder.name, "fail", "a receipt is sent, and no row knows its lease")
            return
        name = holding.chunk_id.hex()[:8]
        if not is_durable(holder, holding.chunk_id, holding.size_bytes):
            self._world.on_event(holder.name, "fail", f"a receipt for {name} is sent before it is durable")
        noted = _read_stream(holder, tables.held_stream(holding.chunk_id))
        leases = [held.lease.payload for _, payload in noted for held in _decode(payload).leases]
        if lease_hash not in map(_hash, leases):
            self._world.on_event(holder.name, "fail", f"a receipt for {name} is sent, its lease is not noted")

    def _check_head(self, keeper: Machine, response: chunk_pb2.PutHeadResponse) -> None:
        head_hash = chunk_pb2.HeadReceipt.FromString(response.receipt.payload).head_hash
        if head_hash not in _iterate_heads(keeper):
            self._world.on_event(keeper.name, "fail", "a receipt for a head is sent before it is durable")

    def _find_holding(self, holder: Machine, lease_hash: bytes) -> chunk_pb2.Holding | None:
        """What a holder's index knows of a lease; only rows that changed are decoded."""
        leases = self._leases.setdefault(holder.name, {})
        for key, value in holder.disk.records.scan(tables.HOLDINGS, damaged=[]):
            if self._rows.get((holder.name, key)) != value:
                self._rows[holder.name, key] = value
                holding = _decode(value)
                leases |= {_hash(held.lease.payload): holding for held in holding.leases}
        return leases.get(lease_hash)


def _iterate_heads(keeper: Machine) -> Iterator[bytes]:
    """Hashes of the heads that a keeper has noted durably."""
    for path in keeper.disk.files.paths():
        if path.startswith("journal/heads/"):
            for _, payload in _read_stream(keeper, path.removeprefix("journal/").removesuffix(".log")):
                yield _hash(chunk_pb2.KeptHead.FromString(payload).entry.head.payload)


def _read_stream(machine: Machine, stream: str) -> list[tuple[int, bytes]]:
    """The records of a stream that no power cut can take."""
    data = machine.disk.files.read_durable(f"journal/{stream}.log", whole=False)
    try:
        return list(parse_stream(compute_key(stream), data or b"", stream).contents.records)
    except LucidError:
        return []


def _decode(value: bytes) -> chunk_pb2.Holding:
    try:
        return chunk_pb2.Holding.FromString(value)
    except DecodeError:
        return chunk_pb2.Holding()


def _hash(payload: bytes) -> bytes:
    return blake3(payload).digest()
