from typing import Any

import pytest

from dht.tables import PEERS, TABLES
from kernel.errors import InvalidRecord, Reason, StoreFull
from kernel.grants import verify_grant_list
from kernel.multiaddr import Multiaddr, parse_multiaddr
from kernel.ports import Put
from lucid.v1 import chunk_pb2
from node.adapters import SystemClock
from node.identity.peer_record import check_peer_record, make_peer_record
from node.rpc import acquaintances
from node.rpc.acquaintances import STORE_EVERY_NS, Acquaintances
from storage.faults import Faults
from storage.memory_records import MemoryRecords

NOW_S = 1_790_000_000
OWN = 100
PLACE, OTHER_PLACE = parse_multiaddr("/ip4/127.0.0.1/tcp/1"), parse_multiaddr("/ip4/127.0.0.1/tcp/2")


class HeldClock(SystemClock):
    now_ns = NOW_S * 10**9

    def wall_ns(self) -> int:
        return self.now_ns


class NoRng:
    def below(self, bound: int) -> int:
        return 0


class Circle:
    """What the node with the number 0 knows."""

    def __init__(self, keys_of: Any) -> None:
        self.keys_of = keys_of
        self.clock = HeldClock()
        self.records = MemoryRecords(TABLES, Faults(NoRng()))
        self.restart()

    def restart(self) -> list[str]:
        keys = self.keys_of(0, owner=OWN, grants_sequence=2)
        self.known = Acquaintances(
            self.records,
            self.clock,
            keys.network,
            keys.device.identity.public_key,
            verify_grant_list(keys.grants, keys.network),
        )
        return self.known.load()

    def present(self, number: int, sequence: int = 1, addresses: Any = (PLACE,), **more: Any) -> Any:
        keys = self.keys_of(number, **more)
        record = make_peer_record(
            keys, addresses, sequence=sequence, expires_s=NOW_S + 60, versions=(1,), software="test"
        )
        return check_peer_record(record, keys.network, NOW_S)

    def row(self, device: bytes) -> chunk_pb2.PeerRow:
        value = self.records.get(PEERS, device)
        assert value is not None
        return chunk_pb2.PeerRow.FromString(value)


@pytest.fixture
def circle(keys_of: Any) -> Circle:
    return Circle(keys_of)


def place(port: int) -> Multiaddr:
    return Multiaddr("ip4", "127.0.0.1", port)


async def test_who_was_reached_is_known_after_a_restart(circle: Circle) -> None:
    met = [circle.present(number) for number in (1, 2, 3)]
    for port, presentation in enumerate(met, 10):
        await circle.known.meet(presentation, place(port))
    assert circle.restart() == []
    assert [known.identity for known in circle.known.all()] == sorted(
        (presentation.identity for presentation in met), key=lambda identity: identity.device
    )
    assert {known.address for known in circle.known.all()} == {place(10), place(11), place(12)}
    assert {known.last_seen_ns for known in circle.known.all()} == {NOW_S * 10**9}


async def test_whoever_comes_by_itself_takes_no_disk_and_little_memory(
    circle: Circle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquaintances, "MAX_VISITORS", 10)
    reached = circle.present(1)
    await circle.known.meet(reached, PLACE)
    written = dict(circle.records.scan(PEERS))
    for number in range(2, 40):
        circle.clock.now_ns += 1
        await circle.known.meet(circle.present(number), None)
    assert dict(circle.records.scan(PEERS)) == written
    visitors = [known for known in circle.known.all() if known.identity != reached.identity]
    assert len(visitors) == 10
    assert {known.record for known in visitors} == {None} and {known.address for known in visitors} == {None}
    assert circle.known.get(reached.identity.device) is not None


async def test_grant_lists_of_visitors_are_bounded_and_those_of_peers_stay(
    circle: Circle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquaintances, "MAX_OWNERS", 3)
    retired = circle.present(1, owner=200)
    await circle.known.meet(circle.present(2, owner=200, grants_sequence=2), PLACE)
    for number in range(3, 20):
        await circle.known.meet(circle.present(number), None)
    assert len(circle.known._grant_lists) == 5, "those of its own owner, of a peer, and of three visitors"
    with pytest.raises(InvalidRecord):
        circle.known.check(retired.record)


async def test_a_visitor_who_is_reached_later_is_stored(circle: Circle) -> None:
    presentation = circle.present(1)
    await circle.known.meet(presentation, None)
    await circle.known.meet(presentation, PLACE)
    await circle.known.meet(circle.present(1, sequence=2), None)
    assert circle.row(presentation.identity.device).address == str(PLACE)
    circle.restart()
    assert [(known.sequence, known.address) for known in circle.known.all()] == [(2, PLACE)]


async def test_the_node_is_no_acquaintance_of_its_own(circle: Circle) -> None:
    await circle.known.meet(circle.present(0), PLACE)
    assert circle.known.all() == []


async def test_the_record_with_the_highest_sequence_counts(circle: Circle) -> None:
    new, old = circle.present(1, sequence=5), circle.present(1, sequence=4)
    await circle.known.meet(new, PLACE)
    await circle.known.meet(old, OTHER_PLACE)
    known = circle.known.get(new.identity.device)
    assert known is not None
    assert (known.sequence, known.address) == (5, OTHER_PLACE)
    assert circle.row(new.identity.device).record == new.record


async def test_the_newest_grant_list_of_an_owner_judges_all_its_devices(circle: Circle) -> None:
    retired = circle.present(1, owner=9)
    circle.known.check(retired.record)
    await circle.known.meet(circle.present(2, owner=9, grants_sequence=2), PLACE)
    with pytest.raises(InvalidRecord) as caught:
        circle.known.check(retired.record)
    assert caught.value.reason == Reason.NOT_GRANTED
    circle.restart()
    with pytest.raises(InvalidRecord):
        circle.known.check(retired.record)


async def test_a_device_that_the_own_owner_has_retired_is_refused(
    circle: Circle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquaintances, "MAX_OWNERS", 3)
    retired = circle.present(1, owner=OWN, grants_sequence=1)
    for number in range(3, 20):
        await circle.known.meet(circle.present(number), None)
    with pytest.raises(InvalidRecord) as caught:
        circle.known.check(retired.record)
    assert caught.value.reason == Reason.NOT_GRANTED
    circle.known.check(circle.present(2, owner=OWN, grants_sequence=3).record)


async def test_the_table_learns_of_answers_now_and_then(circle: Circle) -> None:
    presentation = circle.present(1)
    device = presentation.identity.device
    await circle.known.meet(presentation, PLACE)
    circle.clock.now_ns += STORE_EVERY_NS
    await circle.known.see(device)
    assert circle.row(device).last_seen_ns == NOW_S * 10**9
    circle.clock.now_ns += 1
    await circle.known.see(device)
    assert circle.row(device).last_seen_ns == circle.clock.now_ns
    await circle.known.see(bytes(32))  # nobody


async def test_whoever_was_not_seen_for_longest_is_forgotten(
    circle: Circle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquaintances, "MAX_KNOWN", 2)
    met = [circle.present(number) for number in (3, 1, 2)]
    for presentation in met:
        circle.clock.now_ns += 1
        await circle.known.meet(presentation, place(circle.clock.now_ns % 1000))
    left = {presentation.identity.device for presentation in met[1:]}
    assert {known.identity.device for known in circle.known.all()} == left
    assert {key for key, _ in circle.records.scan(PEERS)} == left


async def test_a_damaged_row_is_told_and_costs_no_other(circle: Circle) -> None:
    presentation = circle.present(1)
    await circle.known.meet(presentation, PLACE)
    await circle.records.commit([Put(PEERS, b"x" * 32, b"\xff"), Put(PEERS, b"y" * 32, b"")])
    damaged = circle.restart()
    assert [line.split()[4] for line in damaged] == [(b"x" * 32).hex(), (b"y" * 32).hex()]
    assert [known.identity for known in circle.known.all()] == [presentation.identity]


async def test_a_peer_is_known_even_if_the_disk_is_full(
    circle: Circle, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(operations: object) -> None:
        raise StoreFull("no space")

    monkeypatch.setattr(circle.records, "commit", fail)
    with pytest.raises(StoreFull):
        await circle.known.meet(circle.present(1), PLACE)
    assert len(circle.known.all()) == 1
