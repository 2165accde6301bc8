"""What others may have a node read and hash."""

import asyncio

import pytest

from dht.check_budget import CheckBudget, CheckLimits
from dht.transfer import put_chunk
from lucid.v1 import chunk_pb2
from tests.scenarios.world import ManualClock
from tests.unit.dht.holder import NETWORK, Holder, make_blob

MIB = 1 << 20
BLOB = make_blob(20_000)


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


class Checks:
    """Counts turns that began; each ends when it is told to."""

    def __init__(self, limits: CheckLimits) -> None:
        self.clock = ManualClock()
        self.budget = CheckBudget(self.clock, limits)
        self.begun: list[bytes] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.tasks: list[asyncio.Task[None]] = []

    def ask(self, owner: bytes, size_bytes: int = MIB) -> None:
        async def take() -> None:
            async with self.budget.turn(owner, size_bytes):
                self.begun.append(owner)
                await self.may_end.wait()

        self.tasks.append(asyncio.create_task(take()))


async def test_an_owner_waits_for_its_own_share_and_holds_up_nobody_else() -> None:
    checks = Checks(CheckLimits(owner_bytes_s=MIB, total_bytes_s=100 * MIB))
    for _ in range(5):
        checks.ask(b"greedy")
    await settle()
    assert checks.begun == [b"greedy"]
    checks.ask(b"modest")
    await settle()
    assert checks.begun == [b"greedy", b"modest"]
    await checks.clock.advance(2)
    await settle()
    assert checks.begun.count(b"greedy") == 3
    await checks.clock.advance(2)
    await asyncio.gather(*checks.tasks)


async def test_however_many_owners_there_are_the_sum_is_bounded() -> None:
    checks = Checks(CheckLimits(total_bytes_s=4 * MIB, owners=8))
    for number in range(100):
        checks.ask(b"owner %d" % number)
    await settle()
    assert len(checks.begun) <= 4 + 2
    await checks.clock.advance(5)
    await settle()
    assert len(checks.begun) <= 4 + 2 + 5 * 4
    assert len(checks.budget._owners) == 8
    for task in checks.tasks:
        task.cancel()
    await asyncio.gather(*checks.tasks, return_exceptions=True)
    before = len(checks.begun)
    await checks.clock.advance(1)
    checks.ask(b"late")  # those who gave up have left no debt
    await settle()
    assert len(checks.begun) == before + 1


async def test_few_chunks_are_read_at_once() -> None:
    checks = Checks(CheckLimits(at_once=2))
    checks.may_end.clear()
    for number in range(9):
        checks.ask(b"owner %d" % number)
    await settle()
    assert len(checks.begun) == 2
    checks.may_end.set()
    await asyncio.gather(*checks.tasks)
    assert len(checks.begun) == 9


@pytest.mark.parametrize("call", ["audit", "renew"])
async def test_audits_and_renewals_cost_whoever_asks_for_them(call: str) -> None:
    holder = await Holder(check_limits=CheckLimits(owner_bytes_s=len(BLOB))).boot()
    await put(holder, 1)

    async def ask(sequence: int) -> None:
        if call == "renew":
            await put(holder, sequence)
        else:
            chunk_id = chunk_pb2.Lease.FromString(holder.lease(BLOB).payload).chunk_id
            request = chunk_pb2.AuditChunkRequest(chunk_id=chunk_id, leaves=[0])
            await holder.peer().audit_chunk(request)

    await ask(2)
    second = asyncio.create_task(ask(3))
    await settle()
    assert not second.done()
    await holder.clock.advance(1)
    await second


async def put(holder: Holder, sequence: int) -> None:
    await put_chunk(holder.peer(), NETWORK, holder.lease(BLOB, sequence=sequence), BLOB)
