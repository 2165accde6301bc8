"""Heads: what a keeper accepts and gives."""

import asyncio

import pytest

from dht.head_keeper import MAX_DEVICES, MAX_RESPONSE_BYTES, HeadKeeper
from dht.heads import MAX_HEAD_S, MAX_SEALED_BYTES, verify_head_entry, verify_head_receipt
from kernel.domains import Domain
from kernel.errors import Conflict, InvalidRecord, Reason, StoreError, StoreFull
from kernel.head_grants import sign_head_grant
from lucid.v1 import chunk_pb2
from storage.faults import Died
from tests.unit.dht.heads import LOCATOR, make_entry
from tests.unit.dht.holder import DAY_S, NETWORK, Holder, make_identity, make_key


@pytest.fixture
async def holder() -> Holder:
    return await Holder().boot()


async def put(holder: Holder, entry: chunk_pb2.HeadEntry, caller: str = "owner") -> chunk_pb2.PutHeadResponse:
    return await holder.peer(caller).put_head(chunk_pb2.PutHeadRequest(entry=entry))


async def get(holder: Holder) -> list[chunk_pb2.HeadEntry]:
    response = await holder.peer("stranger").get_head(chunk_pb2.GetHeadRequest(locator=LOCATOR.public_key))
    return list(response.entries)


def reason_of(entry: chunk_pb2.HeadEntry, now_s: int = 0, locator: bytes | None = None) -> Reason:
    with pytest.raises(InvalidRecord) as caught:
        verify_head_entry(entry, NETWORK, locator=locator, now_s=now_s)
    return caught.value.reason


async def test_the_newest_head_of_each_device_is_kept(holder: Holder) -> None:
    other = make_entry(holder.now_s + 5, 7, device=make_key("second device"))
    for entry in (make_entry(holder.now_s, 1), make_entry(holder.now_s, 2), other):
        response = await put(holder, entry)
        receipt = verify_head_receipt(response.receipt, NETWORK, entry.head, holder.identity.device)
        assert receipt.stored_ns == holder.clock.wall_ns()
    assert await get(holder) == [other, make_entry(holder.now_s, 2)]
    await holder.boot()
    assert await get(holder) == [other, make_entry(holder.now_s, 2)]


async def test_a_head_rolled_back_is_refused(holder: Holder) -> None:
    newest = make_entry(holder.now_s, 5)
    first = await put(holder, newest)
    with pytest.raises(Conflict):
        await put(holder, make_entry(holder.now_s, 4))
    with pytest.raises(InvalidRecord) as caught:
        await put(holder, make_entry(holder.now_s, 5, sealed=b"another"))
    assert caught.value.reason is Reason.NOT_CONSISTENT
    await holder.clock.advance(10)
    assert await put(holder, newest) == first
    await holder.boot()
    with pytest.raises(Conflict):
        await put(holder, make_entry(holder.now_s, 4))


def test_grants_and_heads_of_others_are_refused() -> None:
    device, other = make_key("device"), make_key("another")
    now_s = 1_790_000_000
    entry = make_entry(now_s)
    assert verify_head_entry(entry, NETWORK, locator=LOCATOR.public_key, now_s=now_s).sequence == 1
    assert reason_of(entry, now_s, other.public_key) is Reason.WRONG_SIGNER
    wrong_locator = make_entry(now_s)
    wrong_locator.grant.CopyFrom(sign_head_grant(other, NETWORK, device.public_key))
    assert reason_of(wrong_locator, now_s) is Reason.WRONG_SIGNER
    claimed = chunk_pb2.HeadGrant(locator=LOCATOR.public_key, device=other.public_key)
    forged = make_entry(now_s, device=other)
    forged.grant.CopyFrom(other.sign(Domain.HEAD_GRANT, NETWORK, claimed.SerializeToString()))
    assert reason_of(forged, now_s) is Reason.WRONG_SIGNER
    wrong_device = make_entry(now_s, device=other)
    wrong_device.grant.CopyFrom(sign_head_grant(LOCATOR, NETWORK, device.public_key))
    assert reason_of(wrong_device, now_s) is Reason.WRONG_SIGNER
    broken = make_entry(now_s)
    broken.head.signature = bytes(64)
    assert reason_of(broken, now_s) is Reason.BAD_SIGNATURE
    for entry in (chunk_pb2.HeadEntry(), chunk_pb2.HeadEntry(head=broken.head)):
        assert reason_of(entry, now_s) is Reason.MALFORMED


def sign_unchecked(**changes: object) -> chunk_pb2.HeadEntry:
    device = make_key("device")
    entry = make_entry(1000)
    head = chunk_pb2.Head.FromString(entry.head.payload)
    for name, value in changes.items():
        setattr(head, name, value)
    entry.head.CopyFrom(device.sign(Domain.HEAD, NETWORK, head.SerializeToString()))
    return entry


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sequence": 0}, Reason.MALFORMED),
        ({"locator": b"l"}, Reason.MALFORMED),
        ({"device": b""}, Reason.MALFORMED),
        ({"locator": b"l" * 32}, Reason.WRONG_SIGNER),
        ({"device": b"d" * 32}, Reason.WRONG_SIGNER),
        ({"sealed": bytes(MAX_SEALED_BYTES + 1)}, Reason.TOO_LARGE),
        ({"sealed": bytes(1 << 20)}, Reason.TOO_LARGE),
        ({"expires_s": 1000}, Reason.EXPIRED),
        ({"expires_s": 1001 + MAX_HEAD_S}, Reason.EXPIRED),
    ],
)
def test_heads_that_break_a_rule_are_refused(changes: dict[str, object], reason: Reason) -> None:
    assert reason_of(sign_unchecked(**changes), 1000) is reason


def test_who_restores_may_look_at_an_expired_head() -> None:
    assert verify_head_entry(make_entry(1000), NETWORK, now_s=None).time_s == 1000


def test_a_receipt_is_for_one_head_by_one_keeper() -> None:
    from dht.heads import sign_head_receipt

    keeper, head = make_key("keeper"), make_entry(1000).head
    receipt = sign_head_receipt(keeper, NETWORK, head, 5)
    for signed, key in ((make_entry(1000, 2).head, keeper.public_key), (head, make_key("x").public_key)):
        with pytest.raises(InvalidRecord):
            verify_head_receipt(receipt, NETWORK, signed, key)


async def test_one_device_more_takes_the_place_of_the_oldest(holder: Holder) -> None:
    entries = [
        make_entry(holder.now_s + number, device=make_key(f"device {number}"))
        for number in range(MAX_DEVICES + 1)
    ]
    for entry in entries:
        await put(holder, entry)
    assert {entry.head.payload for entry in await get(holder)} == {one.head.payload for one in entries[1:]}
    with pytest.raises(Conflict):  # somebody brings the oldest again
        await put(holder, entries[0])
    await holder.boot()
    assert {entry.head.payload for entry in await get(holder)} == {one.head.payload for one in entries[1:]}


async def test_devices_and_bytes_are_bounded(holder: Holder) -> None:
    for number in range(MAX_DEVICES):
        device = make_key(f"device {number}")
        entry = make_entry(holder.now_s + number, device=device, sealed=bytes(MAX_SEALED_BYTES))
        await put(holder, entry)
    with pytest.raises(Conflict):
        await put(holder, make_entry(holder.now_s, device=make_key("one more")))
    entries = await get(holder)
    assert 10 < len(entries) < MAX_DEVICES
    assert chunk_pb2.GetHeadResponse(entries=entries).ByteSize() <= MAX_RESPONSE_BYTES
    times = [chunk_pb2.Head.FromString(entry.head.payload).time_s for entry in entries]
    assert times[0] == holder.now_s + MAX_DEVICES - 1
    with pytest.raises(InvalidRecord):
        await holder.peer().get_head(chunk_pb2.GetHeadRequest(locator=b"short"))


async def test_an_owner_has_a_quota_of_heads(holder: Holder) -> None:
    keeper = HeadKeeper(holder.ports, NETWORK, holder.key, owner_bytes=2500)
    await keeper.start()
    caller = make_identity("owner")[0]

    async def put_one(locator: str, sequence: int = 1) -> None:
        entry = make_entry(holder.now_s, sequence, locator=make_key(locator), sealed=bytes(1500))
        await keeper.put_head(caller, chunk_pb2.PutHeadRequest(entry=entry))

    await put_one("first")
    await put_one("first", 2)
    with pytest.raises(StoreFull):
        await put_one("second")
    await keeper.put_head(make_identity("other")[0], chunk_pb2.PutHeadRequest(entry=make_entry(holder.now_s)))


async def test_heads_of_many_owners_are_bounded_together() -> None:
    """Owners cost nothing to make up; what is kept already can still be replaced."""
    holder = await Holder(head_bytes=10_000).boot()

    async def put_one(name: str, sequence: int = 1) -> None:
        locator = make_key(f"locator of {name}")
        entry = make_entry(holder.now_s, sequence, locator=locator, sealed=bytes(1500))
        await holder.peer(name).put_head(chunk_pb2.PutHeadRequest(entry=entry))

    kept = 0
    with pytest.raises(StoreFull, match="at most 10000 bytes"):
        for kept in range(100):
            await put_one(f"owner {kept}")
    assert kept == 5
    await holder.boot()
    with pytest.raises(StoreFull):
        await put_one("another")
    await put_one("owner 0", 2)


async def test_heads_that_are_being_kept_count_already(holder: Holder) -> None:
    keeper = HeadKeeper(holder.ports, NETWORK, holder.key, owner_bytes=4500)
    caller = make_identity("owner")[0]
    entries = [
        make_entry(holder.now_s, locator=make_key(f"locator {number}"), sealed=bytes(1500))
        for number in range(10)
    ]
    puts = (keeper.put_head(caller, chunk_pb2.PutHeadRequest(entry=entry)) for entry in entries)
    results = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(not isinstance(result, StoreFull) for result in results) == 2


async def test_the_stream_of_a_locator_stays_in_proportion(holder: Holder) -> None:
    for sequence in range(1, 200):
        await put(holder, make_entry(holder.now_s, sequence, sealed=bytes(4000)))
    [stream] = holder.ports.journal.streams("heads/")
    assert holder.ports.journal.size(stream) < 64 * 1024 + 2 * 5000
    [entry] = await get(holder)
    await holder.boot()
    assert await get(holder) == [entry]


async def test_expired_heads_go(holder: Holder) -> None:
    await put(holder, make_entry(holder.now_s, days=1))
    stays = make_entry(holder.now_s, days=3, device=make_key("second device"))
    await put(holder, stays)
    now_s = holder.now_s + 2 * DAY_S
    await holder.heads.sweep(now_s)
    assert await get(holder) == [stays]
    await holder.boot()
    assert await get(holder) == [stays]
    await holder.heads.sweep(now_s + DAY_S)
    assert holder.ports.journal.streams("heads/") == []


@pytest.mark.parametrize("failing", ["commit", "remove"])
async def test_what_counts_is_what_is_kept_even_if_forgetting_fails(failing: str) -> None:
    bound = len(make_entry(0, days=1).SerializeToString()) * 3 // 2
    holder = await Holder(head_bytes=bound).boot()
    await put(holder, make_entry(holder.now_s, days=1))

    def fail(_number: int, operation: str, _path: str) -> None:
        if operation == failing:
            raise StoreError("planned")

    holder.faults.before = fail
    with pytest.raises(StoreError):
        await holder.heads.sweep(holder.now_s + 2 * DAY_S)
    holder.faults.before = None
    other = make_entry(holder.now_s, device=make_key("second device"), locator=make_key("other"))
    if failing == "remove":
        await put(holder, other, "second owner")
    else:
        with pytest.raises(StoreFull):
            await put(holder, other, "second owner")


async def test_a_long_stream_begins_again(holder: Holder) -> None:
    for sequence in range(1, 90):
        await put(holder, make_entry(holder.now_s, sequence, sealed=bytes(MAX_SEALED_BYTES)))
    stream = holder.ports.journal.streams("heads/")[0]
    assert holder.ports.journal.size(stream) < 5 << 20
    holder.records.flip("heads", next(key for key, _ in holder.records.scan("heads")), 5)
    await holder.boot()
    assert [chunk_pb2.Head.FromString(entry.head.payload).sequence for entry in await get(holder)] == [89]


async def test_a_head_is_durable_when_it_is_acknowledged_though_who_took_it_first_died(
    holder: Holder,
) -> None:
    entry = make_entry(holder.now_s)

    def die(_number: int, operation: str, path: str) -> None:
        if operation == "fsync" and "heads" in path:
            holder.faults.dead = True
            raise Died

    holder.faults.before = die
    with pytest.raises(Died):
        await put(holder, entry)
    holder.files.process_kill()
    await holder.boot()
    await put(holder, entry)
    (stream,) = holder.ports.journal.streams("heads/")
    assert holder.files.read_durable(f"journal/{stream}.log")
