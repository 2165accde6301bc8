"""Both sides of the handshake against liars: forwarders, replays, wrong versions, wrong identities."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from kernel.errors import Conflict, InvalidRecord, Locked, LucidError, PeerFault, Reason, Unavailable
from kernel.handshake import Handshake, sign_proof
from kernel.multiaddr import parse_multiaddr
from kernel.peer_id import encode_peer_id
from lucid.v1 import node_pb2, node_pb2_grpc
from lucid.v1.identity_pb2 import ROLE_READ, Signed
from lucid.v1.node_pb2 import HANDSHAKE_ROLE_CLIENT
from node.rpc import node_servicer
from node.rpc.call_errors import decode_peer_error


class Client:
    """The client's side, step by step."""

    def __init__(self, channel: grpc.aio.Channel, meeting: Any, target: Any) -> None:
        self._stub = node_pb2_grpc.NodeServiceStub(channel)
        self._presenter = meeting.peering._presenter
        self._target = target
        self.nonce = b"n" * 32

    async def hello(self, **changes: Any) -> node_pb2.HelloResponse:
        fields = {"record": self._presenter.get_record(), "nonce": self.nonce} | changes
        answer: node_pb2.HelloResponse = await self._call(self._stub.Hello, node_pb2.HelloRequest(**fields))
        return answer

    def prove(self, hello: node_pb2.HelloResponse, dialled: str | None = None, version: int = 1) -> Signed:
        keys = self._presenter.keys
        identity = keys.device.identity
        shake = Handshake(identity.public_key, self._target.device, self.nonce, hello.nonce, version)
        dialled = str(self._target.address.place) if dialled is None else dialled
        return sign_proof(identity, keys.network, shake, HANDSHAKE_ROLE_CLIENT, dialled)

    async def authenticate(self, proof: Signed) -> node_pb2.AuthenticateResponse:
        request = node_pb2.AuthenticateRequest(proof=proof)
        answer: node_pb2.AuthenticateResponse = await self._call(self._stub.Authenticate, request)
        return answer

    async def _call(self, method: Any, request: Any) -> Any:
        try:
            return await method(request, timeout=20)
        except grpc.aio.AioRpcError as error:
            raise decode_peer_error(error, "server") from error


@pytest.fixture
async def meet(make_meeting: Any, open_channel: Any) -> tuple[Any, Client]:
    server, client = await make_meeting(1, run=False), await make_meeting(2, run=False)
    return server, Client(open_channel(server), client, server)


async def test_a_proof_is_good_once(meet: tuple[Any, Client]) -> None:
    _, client = meet
    proof = client.prove(await client.hello())
    answer = await client.authenticate(proof)
    assert len(answer.token) == 32
    with pytest.raises(Locked, match="no handshake waits"):
        await client.authenticate(proof)


async def test_a_handshake_waits_for_a_while(meet: tuple[Any, Client]) -> None:
    server, client = meet
    proof = client.prove(await client.hello())
    server.clock.shift_ns = node_servicer.PENDING_TTL_NS
    with pytest.raises(Locked, match="no handshake waits"):
        await client.authenticate(proof)


async def test_handshakes_that_wait_are_few(
    meet: tuple[Any, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_servicer, "MAX_PENDING", 2)
    _, client = meet
    proofs = [client.prove(await client.hello()) for _ in range(3)]
    with pytest.raises(Locked):
        await client.authenticate(proofs[0])
    assert (await client.authenticate(proofs[1])).token
    assert (await client.authenticate(proofs[2])).token


async def test_a_proof_for_another_address_is_refused(meet: tuple[Any, Client]) -> None:
    _, client = meet
    proof = client.prove(await client.hello(), dialled="/ip4/127.0.0.1/tcp/1")
    with pytest.raises(InvalidRecord, match="forwarded") as caught:
        await client.authenticate(proof)
    assert caught.value.reason == Reason.WRONG_ADDRESS


async def test_a_proof_of_another_version_or_handshake_is_refused(meet: tuple[Any, Client]) -> None:
    _, client = meet
    with pytest.raises(InvalidRecord) as caught:
        await client.authenticate(client.prove(await client.hello(), version=2))
    assert caught.value.reason == Reason.WRONG_HANDSHAKE
    hello = await client.hello()
    client.nonce = b"m" * 32
    with pytest.raises(InvalidRecord) as caught:
        await client.authenticate(client.prove(hello))
    assert caught.value.reason == Reason.WRONG_HANDSHAKE


async def test_whoever_said_hello_must_prove_it(make_meeting: Any, open_channel: Any) -> None:
    """A third node cannot finish the handshake that another one began."""
    server, client, third = [await make_meeting(number, run=False) for number in (1, 2, 3)]
    honest = Client(open_channel(server), client, server)
    mallory = Client(open_channel(server), third, server)
    with pytest.raises(InvalidRecord) as caught:
        await mallory.authenticate(mallory.prove(await honest.hello()))
    assert caught.value.reason == Reason.WRONG_HANDSHAKE


async def test_a_nonce_and_a_record_must_be_sound(meet: tuple[Any, Client], make_meeting: Any) -> None:
    server, client = meet
    with pytest.raises(InvalidRecord, match="nonce"):
        await client.hello(nonce=b"")
    with pytest.raises(InvalidRecord):
        await client.hello(record=node_pb2.PeerRecord())
    with pytest.raises(Conflict, match="same node"):
        await client.hello(record=server.peering._presenter.get_record())


async def test_a_device_that_may_neither_record_nor_work_is_refused(
    meet: tuple[Any, Client], make_meeting: Any, keys_of: Any
) -> None:
    _, client = meet
    reader = await make_meeting(3, keys=keys_of(3, ROLE_READ), run=False)
    with pytest.raises(InvalidRecord) as caught:
        await client.hello(record=reader.peering._presenter.get_record())
    assert caught.value.reason == Reason.NOT_GRANTED


async def test_a_retired_device_cannot_show_its_old_grants(
    stand_between: Any, meet: tuple[Any, Client], make_meeting: Any, open_channel: Any, keys_of: Any
) -> None:
    server, _ = meet
    retired = await make_meeting(8, keys=keys_of(8, owner=50), run=False)
    newest = await make_meeting(9, keys=keys_of(9, owner=50, grants_sequence=2), run=False)
    fresh = Client(open_channel(server), newest, server)
    await Client(open_channel(server), retired, server).hello()
    await fresh.authenticate(fresh.prove(await fresh.hello()))
    with pytest.raises(InvalidRecord) as caught:
        await Client(open_channel(server), retired, server).hello()
    assert caught.value.reason == Reason.NOT_GRANTED


class Forwarder:
    """Stands at an address of its own and hands everything on."""

    GetInfo = Ping = None

    def __init__(self, channel: grpc.aio.Channel, make_record: Callable[[Any], Any]) -> None:
        self._stub = node_pb2_grpc.NodeServiceStub(channel)
        self._make_record = make_record
        self.refused: list[str] = []

    async def Hello(self, request: Any, context: Any) -> Any:  # noqa: N802
        response = await self._stub.Hello(request, timeout=20)
        response.record.CopyFrom(self._make_record(response.record))
        return response

    async def Authenticate(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            return await self._stub.Authenticate(request, timeout=20)
        except grpc.aio.AioRpcError as error:
            self.refused.append(str(decode_peer_error(error, "server")))
            raise


@pytest.fixture
async def stand_between() -> AsyncIterator[Callable[[Any], Awaitable[str]]]:
    """Serves something that is no node; gives its address."""
    async with contextlib.AsyncExitStack() as stack:

        async def serve(servicer: Any) -> str:
            server = grpc.aio.server()
            node_pb2_grpc.add_NodeServiceServicer_to_server(servicer, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, None)
            return f"/ip4/127.0.0.1/tcp/{port}"

        yield serve


async def greet(client: Any, address: str) -> Any:
    channel = client.peering._transport.dial(parse_multiaddr(address))
    try:
        return await client.peering.book._ports.greeter.greet(channel, parse_multiaddr(address))
    finally:
        await channel.close()


async def test_a_forwarder_in_the_middle_is_found_out_by_the_client(
    stand_between: Any, make_meeting: Any, open_channel: Any
) -> None:
    server, client = await make_meeting(1, run=False), await make_meeting(2, run=False)
    address = await stand_between(Forwarder(open_channel(server), lambda record: record))
    with pytest.raises(InvalidRecord, match="listens elsewhere") as caught:
        await greet(client, address)
    assert caught.value.reason == Reason.WRONG_ADDRESS


async def test_a_forwarder_in_the_middle_is_found_out_by_the_server(
    stand_between: Any, make_meeting: Any, open_channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even of a client that does not compare addresses."""
    server, client = await make_meeting(1, run=False), await make_meeting(2, run=False)
    forwarder = Forwarder(open_channel(server), lambda record: record)
    address = await stand_between(forwarder)
    presenter = server.peering._presenter
    there = presenter.addresses
    presenter.set_addresses((*there, parse_multiaddr(address)))
    record = presenter.get_record()  # a record that the client takes
    presenter.set_addresses(there)
    forwarder._make_record = lambda _: record
    with pytest.raises(LucidError):
        await greet(client, address)
    assert "meant for" in forwarder.refused[0]
    assert client.device not in {peer.device for peer in server.peering.book.known()}


class Liar:
    """Answers for a node, with one thing wrong."""

    GetInfo = Ping = None

    def __init__(self, meeting: Any) -> None:
        self._servicer = meeting.servicer
        self.spoil_hello: Callable[[Any], None] = lambda hello: None
        self.spoil_answer: Callable[[Any], None] = lambda answer: None

    async def Hello(self, request: Any, context: Any) -> Any:  # noqa: N802
        hello = await self._servicer.Hello(request, context)
        self.spoil_hello(hello)
        return hello

    async def Authenticate(self, request: Any, context: Any) -> Any:  # noqa: N802
        answer = await self._servicer.Authenticate(request, context)
        self.spoil_answer(answer)
        return answer


def set_field(name: str, value: Any) -> Callable[[Any], None]:
    return lambda message: setattr(message, name, value)


@pytest.mark.parametrize(
    ("hello", "answer", "error", "match"),
    [
        (set_field("version", 2), None, PeerFault, "chose version 2"),
        (set_field("nonce", b"short"), None, InvalidRecord, "nonce"),
        (lambda message: message.ClearField("record"), None, InvalidRecord, "impossible length"),
        (None, set_field("token", b"short"), PeerFault, "token"),
        (None, set_field("token_ttl_s", 0), PeerFault, "token"),
        (None, set_field("token_ttl_s", 1 << 31), PeerFault, "token"),
        (None, lambda message: message.ClearField("proof"), InvalidRecord, "impossible length"),
    ],
)
async def test_a_server_that_lies_is_refused(
    stand_between: Any,
    make_meeting: Any,
    hello: Callable[[Any], None] | None,
    answer: Callable[[Any], None] | None,
    error: type[LucidError],
    match: str,
) -> None:
    server, client = await make_meeting(1, run=False), await make_meeting(2, run=False)
    liar = Liar(server)
    address = await stand_between(liar)
    server.peering._presenter.set_addresses((parse_multiaddr(address),))
    await greet(client, address)
    liar.spoil_hello, liar.spoil_answer = hello or liar.spoil_hello, answer or liar.spoil_answer
    with pytest.raises(error, match=match):
        await greet(client, address)


async def test_a_server_that_sends_back_the_clients_proof_is_refused(
    stand_between: Any, make_meeting: Any
) -> None:
    server, client = await make_meeting(1, run=False), await make_meeting(2, run=False)
    liar = Liar(server)
    sent: list[Any] = []
    authenticate = server.servicer.Authenticate

    async def note(request: Any, context: Any) -> Any:
        sent.append(request.proof)
        return await authenticate(request, context)

    server.servicer.Authenticate = note
    liar.spoil_answer = lambda answer: answer.proof.CopyFrom(sent[-1])
    address = await stand_between(liar)
    server.peering._presenter.set_addresses((parse_multiaddr(address),))
    with pytest.raises(InvalidRecord) as caught:
        await greet(client, address)
    assert caught.value.reason == Reason.WRONG_HANDSHAKE


async def test_another_node_at_the_address_is_refused(make_meeting: Any) -> None:
    server, client = await make_meeting(1, run=False), await make_meeting(2, run=False)
    address = f"{server.address.place}/p2p/{encode_peer_id(client.device)}"
    client_of_third = await make_meeting(3, run=False)
    with pytest.raises(InvalidRecord, match="another node answers") as caught:
        await greet(client_of_third, address)
    assert caught.value.reason == Reason.WRONG_SIGNER
    assert encode_peer_id(server.device) in str(caught.value)


async def test_no_common_version_is_told(make_meeting: Any) -> None:
    server, client = await make_meeting(1, run=False), await make_meeting(2, run=False)
    client.peering._presenter.versions = (7, 8)
    client.peering._presenter.set_addresses(client.peering._presenter.addresses)
    with pytest.raises(Conflict, match="speaks 1, the other 7, 8") as caught:
        await greet(client, str(server.address))
    assert "Update" in caught.value.hint


async def test_the_highest_common_version_is_used(make_meeting: Any) -> None:
    server, client = await make_meeting(1, run=False), await make_meeting(2, run=False)
    for meeting, versions in ((server, (1, 2, 3)), (client, (2, 1))):
        presenter = meeting.peering._presenter
        presenter.versions = versions
        presenter.set_addresses(presenter.addresses)
    assert (await greet(client, str(server.address))).version == 2


async def test_a_node_does_not_meet_itself(make_meeting: Any) -> None:
    server = await make_meeting(1, run=False)
    with pytest.raises(Conflict, match="same node"):
        await greet(server, str(server.address))
    assert server.peering.book.known() == []


async def test_nobody_there_is_unavailable(make_meeting: Any) -> None:
    client = await make_meeting(2, run=False)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await greet(client, "/ip4/127.0.0.1/tcp/1")


async def test_great_records_push_out_their_like(
    make_meeting: Any, open_channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await make_meeting(1, run=False)
    small = Client(open_channel(server), await make_meeting(2, run=False), server)
    great = Client(open_channel(server), await make_meeting(3, run=False), server)
    great._presenter.software = "x" * 64
    great._presenter.set_addresses([parse_multiaddr(f"/ip4/127.0.0.1/tcp/{port}") for port in range(1, 9)])
    size = small._presenter.get_record().ByteSize()
    assert great._presenter.get_record().ByteSize() > size
    monkeypatch.setattr(node_servicer, "MAX_PENDING_BYTES", 4 * size)
    first = await small.hello()
    for _ in range(10):
        pushed_out = await great.hello()
    assert len(server.servicer._pending._pending) < 5
    assert (await small.authenticate(small.prove(first))).token
    assert len(server.servicer._pending._sizes) == len(server.servicer._pending._pending)
    assert pushed_out.nonce
