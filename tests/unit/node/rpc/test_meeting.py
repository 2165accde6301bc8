"""Nodes that stay connected: real gRPC, and what goes wrong between two of them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
import pytest

from dht.tables import PEERS
from kernel.errors import NotFound, StoreDamaged, Unavailable, UsageError
from kernel.keys import DeviceKeys
from kernel.multiaddr import Multiaddr
from kernel.peer_id import encode_peer_id
from lucid.v1 import chunk_pb2, node_pb2, node_pb2_grpc
from node.rpc import link as link_module
from node.rpc import tokens
from node.rpc.tokens import TOKEN_TTL_S
from node.transport.loopback import LoopbackTransport

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Links try again after milliseconds, so that no test waits long; that is no rule that is tested here."""
    monkeypatch.setattr(link_module, "FIRST_RETRY_S", 0.005)
    monkeypatch.setattr(link_module, "LONGEST_RETRY_S", 0.02)


def take_port() -> Multiaddr:
    """An address that is free now, for a node that others are to know before it is made."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return Multiaddr("ip4", "127.0.0.1", free.getsockname()[1])


async def meet_both_ways(make_meeting: Any) -> tuple[Any, Any]:
    """Two nodes, each of which has the other configured."""
    place = take_port()
    first = await make_meeting(1, peers=[place])
    return first, await make_meeting(2, peers=[first.address], listen=place)


async def test_two_nodes_meet_and_each_can_call_the_other(make_meeting: Any, eventually: Eventually) -> None:
    first, second = await meet_both_ways(make_meeting)
    await eventually(lambda: first.peer(second) is not None and second.peer(first) is not None)
    assert second.peer(first).identity == first.peering.identity
    assert first.peer(second).identity == second.peering.identity
    assert [peer.device for peer in first.peering.book.known()] == [second.device]
    assert await second.peer(first).ping() > 0
    info = await first.peer(second).get_info()
    assert (info.serving, info.held_bytes, info.free_bytes) == (True, 7, 1000)
    assert info.peer_id == encode_peer_id(second.device)
    assert (first.peering.book.count_connected(), second.peering.book.count_connected()) == (1, 1)


async def test_strangers_are_served_and_never_dialled_nor_chosen(
    make_meeting: Any, eventually: Eventually
) -> None:
    transport = CountingTransport()
    server = await make_meeting(1, transport=transport)
    strangers = [await make_meeting(number, peers=[server.address]) for number in (2, 3)]
    await eventually(lambda: all(stranger.peer(server) is not None for stranger in strangers))
    for stranger in strangers:
        assert await stranger.peer(server).has_chunks(chunk_pb2.HasChunksRequest()) is not None
    assert server.peering.book.known() == []
    assert [server.peer(stranger) for stranger in strangers] == [None, None]
    shown = server.peering.book.describe()
    assert [peer.peer_id for peer in shown] == sorted(encode_peer_id(one.device) for one in strangers)
    assert {peer.trouble for peer in shown} == {
        "it came by itself: it is served, and nothing is brought to it"
    }
    assert transport.dials == 0
    assert list(server.records.scan(PEERS)) == []
    link = await server.peering.book.reach(encode_peer_id(strangers[0].device))  # by the owner's word
    assert link.peer is server.peer(strangers[0]) is not None
    assert (transport.dials, server.peering.book.known()) == (1, [])


async def test_whoever_claims_the_address_of_a_configured_peer_is_not_taken_for_it(
    make_meeting: Any, eventually: Eventually
) -> None:
    place = take_port()
    server = await make_meeting(1, peers=[place])
    claimant = await make_meeting(2, peers=[server.address])
    await claimant.stop_links()
    claimant.peering._presenter.set_addresses([place])
    claimant.run()
    await eventually(lambda: len(server.peering.book.describe()) == 2)
    assert server.peering.book.known() == []


async def test_a_node_that_takes_over_an_address_replaces_the_one_before(
    make_meeting: Any, eventually: Eventually
) -> None:
    before = await make_meeting(1)
    client = await make_meeting(3, peers=[before.address.place])
    await eventually(lambda: client.peer(before) is not None)
    await before.peering.stop()
    after = await make_meeting(2, listen=before.address.place)
    await eventually(lambda: client.peer(after) is not None)
    assert [peer.device for peer in client.peering.book.known()] == [after.device]
    again = await make_meeting(3, peers=[before.address.place], records=client.records, run=False)
    assert [peer.device for peer in again.peering.book.known()] == [after.device]


async def test_a_peer_that_restarts_is_met_again_by_both(make_meeting: Any, eventually: Eventually) -> None:
    first, second = await meet_both_ways(make_meeting)
    await eventually(lambda: first.peer(second) is not None and second.peer(first) is not None)
    await first.stop_links()
    await first.peering.stop()
    await eventually(lambda: second.peer(first) is None)
    assert [peer.device for peer in second.peering.book.known()] == [first.device]
    again = await make_meeting(
        1, listen=first.address.place, records=first.records, peers=[second.address.place]
    )
    assert [peer.device for peer in again.peering.book.known()] == [second.device]
    await eventually(lambda: second.peer(again) is not None and again.peer(second) is not None)
    assert await second.peer(again).ping()


async def test_another_node_at_the_address_is_not_taken(make_meeting: Any, eventually: Eventually) -> None:
    server, other = await make_meeting(1), await make_meeting(2)
    address = Multiaddr("ip4", "127.0.0.1", server.address.port, other.device)
    client = await make_meeting(3, peers=[address])
    await eventually(lambda: "another node answers" in client.peering.book.describe()[0].trouble)
    assert client.peer(server) is None
    assert client.peering.book.known() == []


async def test_a_peer_that_does_not_know_the_token_any_more_is_greeted_again(
    make_meeting: Any, eventually: Eventually
) -> None:
    server = await make_meeting(1)
    client = await make_meeting(2, peers=[server.address])
    await eventually(lambda: client.peer(server) is not None)
    before = client.peer(server)
    server.clock.shift_ns += TOKEN_TTL_S * 10**9
    with pytest.raises(Unavailable, match="greeted again"):
        await before.ping()
    await eventually(lambda: not before.has_forgotten)
    assert client.peer(server) is before  # over the same connection: what runs there goes on
    assert await before.ping()


async def test_tokens_are_renewed_before_they_end(
    make_meeting: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued: list[bytes] = []
    issue = tokens.Tokens.issue

    def note(self: Any, caller: Any) -> bytes:
        issued.append(issue(self, caller))
        return issued[-1]

    monkeypatch.setattr(tokens.Tokens, "issue", note)
    server = await make_meeting(1)
    client = await make_meeting(2, peers=[server.address], listen=None)
    await eventually(lambda: client.peer(server) is not None)
    peer = client.peer(server)
    client.clock.shift_ns += int(TOKEN_TTL_S * 0.75 * 1e9)
    await (await client.peering.book.reach(str(server.address))).try_now()
    client.peering.book._find_link(str(server.address)).retry()
    await eventually(lambda: len(issued) == 2)
    assert client.peer(server) is peer
    server.clock.shift_ns += (TOKEN_TTL_S - 60) * 10**9
    assert await peer.ping()


async def test_changes_wake_whoever_waits(make_meeting: Any, eventually: Eventually) -> None:
    place = take_port()
    first = await make_meeting(1, peers=[place])
    book = first.peering.book
    seen: list[int] = []

    async def watch() -> None:
        while True:
            await book.wait_changed()
            seen.append(book.count_connected())

    watching = [asyncio.create_task(watch()) for _ in range(2)]
    second = await make_meeting(2, listen=place)
    await eventually(lambda: seen == [1, 1])
    await second.peering.stop()
    await eventually(lambda: seen[2:] == [0, 0])
    async with asyncio.timeout(20):
        await book.wait_changed()  # this caller has seen none of it
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)


async def test_a_peer_is_found_by_its_names(make_meeting: Any, eventually: Eventually) -> None:
    server, other = await make_meeting(1), await make_meeting(3)
    client = await make_meeting(2, peers=[server.address, other.address.place])
    book = client.peering.book
    await eventually(lambda: book.count_connected() == 2)
    peer_id = encode_peer_id(server.device)
    for name in (peer_id, peer_id[:20], str(server.address), str(server.address.place)):
        assert (await book.reach(name)).peer is client.peer(server)
    with pytest.raises(UsageError, match="several peers"):
        await book.reach("12D3KooW")
    for name in ("", "12D3KooWx", "/ip4/127.0.0.1/tcp/1"):
        with pytest.raises(NotFound):
            await book.reach(name)


async def test_reaching_tries_at_once(
    make_meeting: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "FIRST_RETRY_S", 1000.0)
    monkeypatch.setattr(link_module, "LONGEST_RETRY_S", 1000.0)
    place = Multiaddr("ip4", "127.0.0.1", 1)
    client = await make_meeting(2, peers=[place])
    await eventually(lambda: "cannot be reached" in client.peering.book.describe()[0].trouble)
    link = await client.peering.book.reach(str(place))
    assert link.peer is None
    server = await make_meeting(1)
    link.address = server.address
    link = await client.peering.book.reach(str(server.address))
    assert link.peer is client.peer(server) is not None


class CountingTransport(LoopbackTransport):
    dials = 0

    def dial(self, address: Multiaddr) -> grpc.aio.Channel:
        self.dials += 1
        return super().dial(address)


async def test_reaching_a_peer_ends_when_its_link_has_ended(make_meeting: Any) -> None:
    """Even if the link was cancelled before its first step."""
    place = Multiaddr("ip4", "127.0.0.1", 1)
    client = await make_meeting(2, peers=[place], run=False)
    waiting = asyncio.create_task(client.peering.book.reach(str(place)))
    await asyncio.sleep(0)
    running = asyncio.create_task(client.peering.book.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    async with asyncio.timeout(20):
        assert (await waiting).peer is None
        assert (await client.peering.book.reach(str(place))).peer is None


class Babbling:
    """Answers one method with bytes that are no message."""

    def __init__(self, servicer: Any, name: str) -> None:
        self._servicer = servicer
        self._name = name

    def add_to(self, server: grpc.aio.Server) -> None:
        methods: dict[str, Any] = {}
        for method in node_pb2.DESCRIPTOR.services_by_name["NodeService"].methods:
            request = getattr(node_pb2, method.input_type.name)
            methods[method.name] = grpc.unary_unary_rpc_method_handler(
                self._make_behavior(method.name), request.FromString, None
            )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("lucid.v1.NodeService", methods),)
        )

    def _make_behavior(self, name: str) -> Any:
        async def answer(request: Any, context: Any) -> bytes:
            if name == self._name:
                return b"\xff\xff"
            answered: bytes = (await getattr(self._servicer, name)(request, context)).SerializeToString()
            return answered

        return answer


@pytest.mark.parametrize("name", ["Hello", "Authenticate", "Ping"])
async def test_a_peer_that_answers_with_garbage_ends_no_link(
    make_meeting: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(
        node_pb2_grpc,
        "add_NodeServiceServicer_to_server",
        lambda servicer, server: Babbling(servicer, name).add_to(server),
    )
    server = await make_meeting(1)
    client = await make_meeting(2, peers=[server.address], listen=None)
    await eventually(lambda: "cannot be decoded" in client.peering.book.describe()[0].trouble)
    assert not client.running[0].done()


async def test_a_configured_peer_that_also_dials_in_is_listed_once(
    make_meeting: Any, eventually: Eventually
) -> None:
    first, second = await meet_both_ways(make_meeting)
    await eventually(lambda: first.peer(second) is not None and second.peer(first) is not None)
    assert [len(one.peering.book.describe()) for one in (first, second)] == [1, 1]


def test_delays_grow_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    class Draw:
        def __init__(self, value: int) -> None:
            self.value = value

        def draw(self, size_bytes: int) -> bytes:
            return bytes([self.value]) * size_bytes

    def delays(value: int, what: str = "_failures") -> list[float]:
        ports: Any = type("Ports", (), {"entropy": Draw(value)})()
        link = link_module.Link(ports, Multiaddr("ip4", "127.0.0.1", 1))
        found = []
        for count in (1, 2, 3, 20, 100000):
            setattr(link, what, count)
            found.append(link._compute_delay())
        return found

    assert delays(0) == delays(0, "_brief") == [0.25, 0.5, 1.0, 30.0, 30.0]
    assert all(least < most <= 60.0 for least, most in zip(delays(0), delays(255), strict=True))


async def test_streams_pass_in_both_directions(make_meeting: Any, eventually: Eventually) -> None:
    server = await make_meeting(1)
    client = await make_meeting(2, peers=[server.address])
    await eventually(lambda: client.peer(server) is not None)
    peer = client.peer(server)

    async def frames(error: Exception | None = None) -> AsyncIterator[chunk_pb2.PutChunkRequest]:
        for size in (1, 2, 3):
            yield chunk_pb2.PutChunkRequest(frame=bytes(size))
        if error:
            raise error

    assert [answer.offset async for answer in peer.put_chunk(frames())] == [1, 2, 3]
    with pytest.raises(StoreDamaged, match="our own disk"):
        async for _ in peer.put_chunk(frames(StoreDamaged("our own disk"))):
            pass
    got = [answer.frame async for answer in peer.get_chunk(chunk_pb2.GetChunkRequest())]
    assert got == [b"frame"]
    assert await peer.ping()


def make_identity(number: int) -> bytes:
    return DeviceKeys.from_root(bytes([number]) * 32).identity.public_key


class DiallingTransport(LoopbackTransport):
    """Keeps where it dialled."""

    def __init__(self) -> None:
        self.dialled: list[Multiaddr] = []

    def dial(self, address: Multiaddr) -> grpc.aio.Channel:
        self.dialled.append(address.place)
        return super().dial(address)


async def test_a_node_that_lists_itself_is_told_so_and_does_not_dial_in_a_loop(
    make_meeting: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "FIRST_RETRY_S", 1000.0)
    monkeypatch.setattr(link_module, "LONGEST_RETRY_S", 1000.0)
    place, transport = take_port(), DiallingTransport()
    node = await make_meeting(1, peers=[place], listen=place, transport=transport)
    other = await make_meeting(2, peers=[place])
    await eventually(lambda: "this is the same node" in str(node.peering.book.describe()))
    await eventually(lambda: other.peer(node) is not None)
    assert transport.dialled == [place]
    assert (node.peering.book.known(), node.peering.book.count_connected()) == ([], 0)


async def test_a_peer_that_says_it_listens_where_another_node_does_is_not_met_and_its_word_not_taken(
    make_meeting: Any, eventually: Eventually
) -> None:
    liar, victim, transport = await make_meeting(1), await make_meeting(2), DiallingTransport()
    home = liar.address.place
    client = await make_meeting(3, peers=[liar.address], transport=transport)
    await eventually(lambda: client.peer(liar) is not None)
    liar.peering.announce([victim.address.place])
    client.peering.book.greet_anew()
    await eventually(lambda: "it was forwarded" in client.peering.book.describe()[0].trouble)
    assert (client.peer(liar), set(transport.dialled)) == (None, {home})
    liar.peering.announce([home])
    await eventually(lambda: client.peer(liar) is not None)


async def test_a_visitor_that_says_it_listens_where_another_node_does_is_not_found_there(
    make_meeting: Any, eventually: Eventually
) -> None:
    place, victim, transport = take_port(), await make_meeting(2), DiallingTransport()
    named = replace(place, device=make_identity(1))
    client = await make_meeting(3, peers=[named], transport=transport)
    liar = await make_meeting(1, listen=place, peers=[client.address], run=False)
    assert liar.device == named.device
    liar.peering._presenter.set_addresses([victim.address.place])
    liar.run()
    await eventually(lambda: "another node answers" in client.peering.book.describe()[0].trouble)
    await eventually(lambda: "it was forwarded" in client.peering.book.describe()[0].trouble)
    assert (client.peer(liar), client.peer(victim)) == (None, None)
    assert set(transport.dialled) == {place, victim.address.place}
    liar.peering.announce([place])
    await eventually(lambda: client.peer(liar) is not None)


async def test_a_peer_that_moved_is_found_by_the_address_that_it_has_now(
    make_meeting: Any, eventually: Eventually
) -> None:
    server = await make_meeting(1)
    client = await make_meeting(2, peers=[server.address])
    await eventually(lambda: client.peer(server) is not None)
    before = server.address.place
    after = await server.peering.open(take_port())
    server.peering.announce([after, before])
    client.peering.book.greet_anew()
    known = client.peering._acquaintances
    await eventually(lambda: known.get(server.device).addresses == (after, before))
    await server.peering.close(before)
    await eventually(lambda: client.peering.book.describe()[0].address == str(after))
    for name in (str(before), str(after), str(server.address)):
        link = await client.peering.book.reach(name)
        assert link.device == server.device
    assert client.peer(server) is not None


async def test_after_a_loss_the_best_address_is_dialled_again_before_any_other(
    make_meeting: Any, eventually: Eventually
) -> None:
    transport = DiallingTransport()
    server = await make_meeting(1)
    first, second = server.address.place, await server.peering.open(take_port())
    server.peering.announce([second, first])
    client = await make_meeting(2, peers=[server.address], transport=transport)
    await eventually(lambda: client.peer(server) is not None)
    # The configured address is no longer named: the record's comes first, then the configured one.
    server.peering.announce([second])
    client.peering.book.greet_anew()
    await eventually(
        lambda: "it was forwarded" in client.peering.book.describe()[0].trouble or client.peer(server)
    )
    await server.peering.close(first)
    await eventually(lambda: transport.dialled[-1] == second and client.peer(server) is not None)
    transport.dialled.clear()
    await server.peering.close(second)
    await eventually(lambda: bool(transport.dialled))
    assert transport.dialled[0] == second


async def test_connections_that_are_lost_at_once_are_made_anew_more_and_more_slowly(
    make_meeting: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await make_meeting(1)
    client = await make_meeting(2, peers=[server.address])
    [link] = client.peering.book._links
    for brief in (1, 2, 3):
        await eventually(lambda: client.peer(server) is not None)
        place = server.address.place
        await server.peering.close(place)
        await eventually(lambda: client.peer(server) is None)
        assert link._brief == brief
        await server.peering.open(place)
    await eventually(lambda: client.peer(server) is not None)
    monkeypatch.setattr(link_module, "BRIEF_NS", 0)
    await server.peering.close(server.address.place)
    await eventually(lambda: client.peer(server) is None)
    assert link._brief == 0


async def test_who_claims_to_listen_where_a_peer_does_has_it_not_called(
    make_meeting: Any, eventually: Eventually
) -> None:
    peer = await make_meeting(1)
    server = await make_meeting(2, peers=[peer.address])
    await eventually(lambda: server.peer(peer) is not None)
    [link] = server.peering.book._links
    retries: list[None] = []
    link.retry = lambda: retries.append(None)
    claimant = await make_meeting(3, peers=[server.address], run=False)
    claimant.peering._presenter.set_addresses([peer.address.place])
    claimant.run()
    await eventually(lambda: len(server.peering.book.describe()) == 2)
    assert not retries
