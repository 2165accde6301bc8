"""The client's side of the handshake. Rules: docs/spec/09-handshake.md."""

from dataclasses import dataclass

import grpc

from kernel.errors import Conflict, InvalidRecord, PeerFault, Reason
from kernel.handshake import (
    NONCE_BYTES,
    Handshake,
    check_nonce,
    check_proof,
    choose_version,
    open_proof,
    sign_proof,
)
from kernel.multiaddr import Multiaddr
from kernel.peer_id import encode_peer_id
from kernel.ports import Entropy
from lucid.v1 import node_pb2, node_pb2_grpc
from lucid.v1.node_pb2 import HANDSHAKE_ROLE_CLIENT, HANDSHAKE_ROLE_SERVER
from node.identity.peer_record import Presentation
from node.rpc.acquaintances import Acquaintances
from node.rpc.call_errors import check_decoded, decode_peer_error
from node.rpc.limits import METHODS
from node.rpc.presenter import Presenter
from node.rpc.tokens import TOKEN_BYTES

LEAST_TTL_S = 60
GREATEST_TTL_S = 86400
_DEADLINE_S = METHODS["lucid.v1.NodeService/Hello"].deadline_s


@dataclass(frozen=True, slots=True)
class Greeted:
    """A handshake that both sides completed.

    Attributes:
        presentation: of the server.
        token: to send with every call.
        token_ttl_s: seconds that it holds.
        version: of the protocol.
    """

    presentation: Presentation
    token: bytes
    token_ttl_s: int
    version: int


class Greeter:
    """Meets the nodes that this one dials."""

    def __init__(self, presenter: Presenter, acquaintances: Acquaintances, entropy: Entropy) -> None:
        self._presenter = presenter
        self._acquaintances = acquaintances
        self._entropy = entropy

    async def greet(self, channel: grpc.aio.Channel, address: Multiaddr) -> Greeted:
        """Does the handshake with the node at `address`, over a channel that was dialled there.

        Raises:
            Unavailable: nobody answers there.
            LucidError: somebody does, and it is not who it should be, or refuses.
        """
        await self._presenter.prepare()
        stub = node_pb2_grpc.NodeServiceStub(channel)
        nonce = self._entropy.draw(NONCE_BYTES)
        place = str(address.place)
        try:
            hello = await stub.Hello(
                node_pb2.HelloRequest(record=self._presenter.get_record(), nonce=nonce), timeout=_DEADLINE_S
            )
            presentation, handshake = self._check_hello(check_decoded(hello, place), nonce, address)
            keys = self._presenter.keys
            proof = sign_proof(keys.device.identity, keys.network, handshake, HANDSHAKE_ROLE_CLIENT, place)
            answer = await stub.Authenticate(node_pb2.AuthenticateRequest(proof=proof), timeout=_DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            raise decode_peer_error(error, place) from error
        opened = open_proof(check_decoded(answer, place).proof, keys.network)
        check_proof(opened, handshake, HANDSHAKE_ROLE_SERVER, (place,))
        if len(answer.token) != TOKEN_BYTES or not LEAST_TTL_S <= answer.token_ttl_s <= GREATEST_TTL_S:
            raise PeerFault(f"{place} gave a token of impossible length or duration")
        return Greeted(presentation, answer.token, answer.token_ttl_s, handshake.version)

    def _check_hello(
        self, hello: node_pb2.HelloResponse, nonce: bytes, address: Multiaddr
    ) -> tuple[Presentation, Handshake]:
        presentation = self._acquaintances.check(hello.record)
        device = presentation.identity.device
        own = self._presenter.keys.device.identity.public_key
        if device == own:
            raise Conflict(f"{address.place} is this node itself", hint="A node does not list itself.")
        if address.device not in (None, device):
            raise InvalidRecord(
                Reason.WRONG_SIGNER,
                f"another node answers at {address.place}: {encode_peer_id(device)}",
                hint="Correct the peer's address, or its ID behind /p2p/.",
            )
        if address.place not in presentation.addresses:
            what = (
                f"the node that answers at {address.place} says that it listens elsewhere: it was forwarded"
            )
            raise InvalidRecord(Reason.WRONG_ADDRESS, what)
        check_nonce(hello.nonce)
        version = choose_version(self._presenter.versions, presentation.versions)
        if hello.version != version:
            raise PeerFault(f"{address.place} chose version {hello.version}, not {version}")
        return presentation, Handshake(own, device, nonce, hello.nonce, version)
