"""One story of a node that keeps things for others, with one fault at each operation of its disk.

It dies there, the power is cut there, the operation fails, the disk is full. Afterwards everything that was
promised must hold, and sums, rows, streams and blobs must agree.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from dht import tables
from dht.lease import sign_release
from dht.transfer import get_chunk, put_chunk
from kernel.chunk_id import compute_blob_id
from kernel.errors import LucidError
from kernel.signing import SigningKey
from lucid.v1 import chunk_pb2
from storage.faults import Died
from tests.unit.dht.heads import LOCATOR, make_entry
from tests.unit.dht.holder import LEASE_KEY, NETWORK, Holder, make_blob, make_key

BLOBS = [make_blob(20_000, seed) for seed in range(3)]
OTHER_KEY = make_key("another session")
Lease = tuple[bytes, bytes]


@dataclass
class Told:
    """What others were told before the fault.

    Attributes:
        leases: sequence of each lease that was acknowledged; 0: its release was.
        unsure: the lease that was being changed.
        head: sequence of the head that was acknowledged.
    """

    leases: dict[Lease, int] = field(default_factory=dict)
    unsure: Lease | None = None
    head: int = 0

    @contextmanager
    def changing(self, lease: Lease, sequence: int) -> Iterator[None]:
        self.unsure = lease
        yield
        self.unsure = None
        self.leases[lease] = sequence


async def put(
    holder: Holder, told: Told, number: int, key: SigningKey, caller: str, sequence: int = 1
) -> None:
    blob = BLOBS[number]
    with told.changing((compute_blob_id(blob), key.public_key), sequence):
        lease = holder.lease(blob, key=key, sequence=sequence)
        await put_chunk(holder.peer(caller), NETWORK, lease, blob)


async def release(holder: Holder, told: Told, number: int, key: SigningKey) -> None:
    chunk_id = compute_blob_id(BLOBS[number])
    with told.changing((chunk_id, key.public_key), 0):
        signed = sign_release(key, NETWORK, chunk_id, holder.identity.device, 9)
        await holder.holdings.release_chunk(chunk_pb2.ReleaseChunkRequest(release=signed))


async def story(holder: Holder, told: Told) -> None:
    await put(holder, told, 0, LEASE_KEY, "owner")
    await put(holder, told, 0, OTHER_KEY, "other")
    await put(holder, told, 0, LEASE_KEY, "owner", 2)
    await put(holder, told, 1, LEASE_KEY, "owner")
    await release(holder, told, 0, LEASE_KEY)
    await release(holder, told, 0, OTHER_KEY)
    await put(holder, told, 2, LEASE_KEY, "owner")
    for sequence in (1, 2):
        request = chunk_pb2.PutHeadRequest(entry=make_entry(holder.now_s, sequence))
        await holder.peer().put_head(request)
        told.head = sequence


async def check(holder: Holder, told: Told) -> None:
    rows = {key: chunk_pb2.Holding.FromString(value) for key, value in holder.records.scan(tables.HOLDINGS)}
    found = {
        (chunk_id, held.lease.public_key): chunk_pb2.Lease.FromString(held.lease.payload).sequence
        for chunk_id, row in rows.items()
        for held in row.leases
    }
    for lease, sequence in told.leases.items():
        if lease != told.unsure:
            assert found.get(lease, 0) == sequence
    for blob in BLOBS:
        if compute_blob_id(blob) in rows:
            assert await get_chunk(holder.peer(), compute_blob_id(blob)) == blob
    assert sorted(rows) == holder.ports.blobs.ids()
    assert [tables.held_stream(chunk_id) for chunk_id in sorted(rows)] == holder.ports.journal.streams(
        "held/"
    )
    assert holder.holdings.held_bytes == sum(row.size_bytes for row in rows.values())
    assert holder.holdings.problems == []
    await check_heads(holder, told)


async def check_heads(holder: Holder, told: Told) -> None:
    response = await holder.peer().get_head(chunk_pb2.GetHeadRequest(locator=LOCATOR.public_key))
    sequences = [chunk_pb2.Head.FromString(entry.head.payload).sequence for entry in response.entries]
    assert max(sequences, default=0) >= told.head


async def go_on(holder: Holder, told: Told) -> None:
    """Everything can be done that was being done, and then all be let go."""
    await put(holder, told, 1, LEASE_KEY, "owner")
    for number in range(3):
        for key in (LEASE_KEY, OTHER_KEY):
            await release(holder, told, number, key)
    await check(holder, told)
    assert (holder.holdings.held_bytes, holder.ports.blobs.ids()) == (0, [])
    await holder.peer().put_head(chunk_pb2.PutHeadRequest(entry=make_entry(holder.now_s, 3)))


Break = Callable[[Holder, int], None]


def die(holder: Holder, number: int) -> None:
    holder.faults.die_at = number


def fail(holder: Holder, number: int) -> None:
    holder.faults.fail_at = number


def fill(holder: Holder, number: int) -> None:
    holder.faults.full_at = number


def lose_process(holder: Holder) -> None:
    holder.files.process_kill()


def lose_power(holder: Holder) -> None:
    holder.files.power_cut()


@pytest.mark.parametrize("end", [lose_process, lose_power])
@pytest.mark.parametrize("break_at", [die, fail, fill])
async def test_nothing_acknowledged_is_lost(break_at: Break, end: Callable[[Holder], None]) -> None:
    number, done = 0, False
    while not done:
        holder, told = await Holder(seed=number).boot(), Told()
        holder.faults.revive()
        break_at(holder, number)
        await run(story(holder, told))
        done = holder.faults.operations <= number
        end(holder)
        holder.faults.revive()
        await holder.boot()
        await check(holder, told)
        await go_on(holder, told)
        number += 1
    assert number > 60


async def run(work: Awaitable[None]) -> None:
    with suppress(LucidError, Died):
        await work


async def test_rows_are_remade_from_streams() -> None:
    holder, told = await Holder().boot(), Told()
    await story(holder, told)
    for table in (tables.HOLDINGS, tables.HEADS):
        for key, _ in holder.records.scan(table):
            holder.records.flip(table, key, 99)
    await holder.boot()
    await check(holder, told)
    holder.records = type(holder.records)(tables.TABLES, holder.faults)
    await holder.boot()
    await check(holder, told)
    assert holder.holdings.held_bytes == 40_000


async def test_a_held_chunk_that_the_disk_lost_is_told() -> None:
    holder = await Holder().boot()
    await put(holder, Told(), 0, LEASE_KEY, "owner")
    path = next(path for path in holder.files.paths() if path.startswith("blobs/"))
    holder.files.remove(path)
    await holder.boot()
    assert [problem for problem in holder.holdings.problems if "gone from the disk" in problem]
    await put(holder, Told(), 0, LEASE_KEY, "owner")
    await holder.boot()
    assert holder.holdings.problems == []


async def test_what_a_dead_process_left_is_durable_before_it_is_acknowledged() -> None:
    """It died when the blob had its name, and the name was not durable yet."""
    holder, blob = await Holder().boot(), BLOBS[0]
    name = compute_blob_id(blob).hex()

    def die(_number: int, operation: str, path: str) -> None:
        if operation == "fsync_dir" and path.startswith("blobs/"):
            holder.faults.dead = True
            raise Died

    holder.faults.before = die
    with pytest.raises(Died):
        await put_chunk(holder.peer(), NETWORK, holder.lease(blob), blob)
    holder.files.process_kill()
    await holder.boot()
    path = f"blobs/{name[:2]}/{name}"
    assert path in holder.files.paths()
    assert holder.files.read_durable(path) is None
    await put_chunk(holder.peer(), NETWORK, holder.lease(blob), blob)
    assert holder.files.read_durable(path) == blob
