"""`NodeService`: how another node meets this one. Rules: docs/spec/09-handshake.md."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

import grpc

from kernel.errors import Conflict, Locked, UsageError
from kernel.handshake import (
    NONCE_BYTES,
    Handshake,
    check_nonce,
    check_proof,
    choose_version,
    open_proof,
    sign_proof,
)
from kernel.peer_id import encode_peer_id
from kernel.ports import Clock, Entropy
from lucid.v1 import node_pb2, node_pb2_grpc
from lucid.v1.node_pb2 import HANDSHAKE_ROLE_CLIENT, HANDSHAKE_ROLE_SERVER
from node.identity.peer_record import Presentation
from node.rpc.acquaintances import Acquaintances
from node.rpc.presenter import Presenter
from node.rpc.tokens import TOKEN_TTL_S, Caller, Tokens

MAX_PENDING = 1024
MAX_PENDING_BYTES = 4 << 20
PENDING_TTL_NS = 30 * 10**9
MAX_PING_BYTES = 64

Context: TypeAlias = "grpc.aio.ServicerContext[object, object]"
OnMet = Callable[[Presentation], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Standing:
    """How this node is doing, as far as it tells peers.

    Attributes:
        serving: does it take what peers bring?
        held_bytes: what it holds for others.
        free_bytes: what it would still take.
    """

    serving: bool
    held_bytes: int
    free_bytes: int


class PendingHandshakes:
    """Handshakes between `Hello` and `Authenticate`: few, short-lived, each good for one answer.

    Their records are bounded together, and the greatest ones give way first: so whoever sends great ones
    pushes out his own.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pending: OrderedDict[bytes, tuple[Handshake, Presentation, int]] = OrderedDict()
        self._sizes: dict[bytes, int] = {}

    def add(self, handshake: Handshake, presentation: Presentation) -> None:
        """Begins one; the oldest, and the greatest, are forgotten."""
        now_ns = self._clock.monotonic_ns()
        name = handshake.server_nonce
        self._pending[name] = (handshake, presentation, now_ns + PENDING_TTL_NS)
        self._sizes[name] = presentation.record.ByteSize()
        while len(self._pending) > MAX_PENDING or next(iter(self._pending.values()))[2] <= now_ns:
            oldest, _ = self._pending.popitem(last=False)
            del self._sizes[oldest]
        while sum(self._sizes.values()) > MAX_PENDING_BYTES:
            greatest = max(self._sizes, key=lambda one: self._sizes[one])
            del self._pending[greatest], self._sizes[greatest]

    def take(self, server_nonce: bytes) -> tuple[Handshake, Presentation]:
        """Ends one.

        Raises:
            Locked: there is none: it was answered before, took too long, or never began.
        """
        handshake, presentation, ends_ns = self._pending.pop(server_nonce, (None, None, 0))
        self._sizes.pop(server_nonce, None)
        if handshake is None or presentation is None or self._clock.monotonic_ns() >= ends_ns:
            raise Locked("no handshake waits for this proof", hint="Begin again with Hello.")
        return handshake, presentation


class NodeServicer(node_pb2_grpc.NodeServiceServicer):
    """Meets peers."""

    def __init__(
        self,
        presenter: Presenter,
        acquaintances: Acquaintances,
        tokens: Tokens,
        clock: Clock,
        entropy: Entropy,
        on_met: OnMet,
    ) -> None:
        self._presenter = presenter
        self._acquaintances = acquaintances
        self._tokens = tokens
        self._clock = clock
        self._entropy = entropy
        self._on_met = on_met
        self._pending = PendingHandshakes(clock)
        self._started_ns = 0

    def start(self, get_standing: Callable[[], Standing]) -> None:
        """Takes where `GetInfo` learns how the node is doing; before this nothing is served."""
        self._get_standing = get_standing
        self._started_ns = self._clock.monotonic_ns()

    async def Hello(  # noqa: N802
        self, request: node_pb2.HelloRequest, context: Context
    ) -> node_pb2.HelloResponse:
        """Takes who a peer says it is, and presents this node."""
        check_nonce(request.nonce)
        presentation = self._acquaintances.check(request.record)
        device = self._presenter.keys.device.identity.public_key
        if presentation.identity.device == device:
            raise Conflict("this is the same node", hint="A node does not list itself as a peer.")
        version = choose_version(self._presenter.versions, presentation.versions)
        nonce = self._entropy.draw(NONCE_BYTES)
        handshake = Handshake(presentation.identity.device, device, request.nonce, nonce, version)
        self._pending.add(handshake, presentation)
        return node_pb2.HelloResponse(record=self._presenter.get_record(), nonce=nonce, version=version)

    async def Authenticate(  # noqa: N802
        self, request: node_pb2.AuthenticateRequest, context: Context
    ) -> node_pb2.AuthenticateResponse:
        """Takes the proof, gives this node's own and a token."""
        keys = self._presenter.keys
        proof = open_proof(request.proof, keys.network)
        handshake, presentation = self._pending.take(proof.server_nonce)
        addresses = [str(address) for address in self._presenter.addresses]
        check_proof(proof, handshake, HANDSHAKE_ROLE_CLIENT, addresses)
        own = sign_proof(keys.device.identity, keys.network, handshake, HANDSHAKE_ROLE_SERVER, proof.dialled)
        await self._on_met(presentation)
        token = self._tokens.issue(Caller(presentation.identity))
        return node_pb2.AuthenticateResponse(proof=own, token=token, token_ttl_s=TOKEN_TTL_S)

    async def GetInfo(  # noqa: N802
        self, request: node_pb2.GetInfoRequest, context: Context
    ) -> node_pb2.GetInfoResponse:
        """How this node is doing."""
        keys, standing = self._presenter.keys, self._get_standing()
        return node_pb2.GetInfoResponse(
            software=self._presenter.software,
            network=keys.network.name,
            peer_id=encode_peer_id(keys.device.identity.public_key),
            uptime_s=(self._clock.monotonic_ns() - self._started_ns) // 10**9,
            serving=standing.serving,
            held_bytes=standing.held_bytes,
            free_bytes=standing.free_bytes,
            time_ns=self._clock.wall_ns(),
        )

    async def Ping(  # noqa: N802
        self, request: node_pb2.PingRequest, context: Context
    ) -> node_pb2.PingResponse:
        """Comes back."""
        if len(request.payload) > MAX_PING_BYTES:
            raise UsageError(f"a ping of {len(request.payload)} bytes; {MAX_PING_BYTES} are the most")
        return node_pb2.PingResponse(
            payload=request.payload,
            time_ns=self._clock.wall_ns(),
            record_sequence=self._presenter.sequence,
        )
