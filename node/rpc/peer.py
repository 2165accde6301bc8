"""An authenticated peer, as the rooms below see it: plain calls that raise the errors of the house."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc

from dht.ports import PeerIdentity
from kernel.errors import Locked, LucidError, PeerFault, Unavailable
from kernel.peer_id import encode_peer_id
from kernel.ports import Clock
from kernel.waiting import Deadline
from lucid.v1 import (
    chunk_pb2,
    chunk_pb2_grpc,
    node_pb2,
    node_pb2_grpc,
    share_pb2,
    share_pb2_grpc,
    witness_pb2,
    witness_pb2_grpc,
)
from node.rpc.call_errors import check_decoded, decode_peer_error
from node.rpc.limits import METHODS
from node.rpc.tokens import METADATA_KEY

T = TypeVar("T")
STREAM_SILENCE_NS = 30 * 10**9
"""For how long a chunk may stand still: a frame is 256 KiB, and a circuit may be slow."""
_PING = b"lucid-node ping"
_SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class RpcPeer:
    """`dht.ports.Peer` over one channel. Its deadlines are those of the table of limits.

    Attributes:
        record_sequence: of the peer's newest record, as of the last ping; 0 before.
        has_forgotten: it does not know the token any more.
        heard: how many times it has answered anything.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        identity: PeerIdentity,
        token: bytes,
        clock: Clock,
        on_lost: Callable[[], None],
    ) -> None:
        """`on_lost` is called when the peer does not answer, is not reached, or does not know the token."""
        self._identity = identity
        self._name = f"peer {encode_peer_id(identity.device)}"
        self._clock = clock
        self._on_lost = on_lost
        self._node = node_pb2_grpc.NodeServiceStub(channel)
        self._chunk = chunk_pb2_grpc.ChunkServiceStub(channel)
        self._witness = witness_pb2_grpc.WitnessServiceStub(channel)
        self._is_connected = True
        self.record_sequence = 0
        self.has_forgotten = False
        self.heard = 0
        self._moved_ns: dict[int, int] = {}  # by stream: when a part of a chunk came, or was taken
        self._calls: dict[int, Any] = {}  # on their way: `disconnect` ends them
        self._share = share_pb2_grpc.ShareServiceStub(channel)
        self.set_token(token)

    @property
    def identity(self) -> PeerIdentity:
        """See `dht.ports.Peer`."""
        return self._identity

    def set_token(self, token: bytes) -> None:
        """Takes the token of a later handshake."""
        self._metadata = ((METADATA_KEY, token),)
        self.has_forgotten = False

    def disconnect(self) -> None:
        """Lets all calls fail, those on their way too: gRPC does not end all of them with the channel.

        Whoever owns the channel closes it.
        """
        self._is_connected = False
        for call in list(self._calls.values()):
            call.cancel()

    def is_silent_since(self, heard: int) -> bool:
        """Is `heard` still that? But while a chunk moves, answers stand in line behind its frames."""
        moved_ns = max(self._moved_ns.values(), default=-STREAM_SILENCE_NS)
        is_moving = self._clock.monotonic_ns() - moved_ns < STREAM_SILENCE_NS
        return self.heard == heard and not is_moving

    async def ping(self, timeout_s: float | None = None) -> int:
        """Nanoseconds that a round trip takes, in `timeout_s` instead of the call's own deadline."""
        started_ns = self._clock.monotonic_ns()
        request = node_pb2.PingRequest(payload=_PING)
        name = "lucid.v1.NodeService/Ping"
        response = await self._call(name, self._node.Ping, request, timeout_s=timeout_s)
        if response.payload != _PING:
            raise PeerFault(f"{self._name} answered a ping with something else")
        self.record_sequence = response.record_sequence
        return self._clock.monotonic_ns() - started_ns

    async def get_info(self) -> node_pb2.GetInfoResponse:
        """How the peer is doing, by its own word."""
        return await self._call("lucid.v1.NodeService/GetInfo", self._node.GetInfo, node_pb2.GetInfoRequest())

    async def put_chunk(
        self, requests: AsyncIterator[chunk_pb2.PutChunkRequest]
    ) -> AsyncIterator[chunk_pb2.PutChunkResponse]:
        """See `dht.ports.Peer`."""
        failures: list[LucidError] = []

        async def feed() -> AsyncIterator[chunk_pb2.PutChunkRequest]:
            try:
                async for request in requests:
                    yield request
                    if request.HasField("frame"):  # flow control let it pass, which an opening does not need
                        self._move(call)
            except LucidError as error:
                failures.append(error)
                call.cancel()

        self._check_connected()
        limit = METHODS["lucid.v1.ChunkService/PutChunk"]
        call = self._chunk.PutChunk(feed(), timeout=limit.deadline_s, metadata=self._metadata)
        try:
            async for response in self._iterate(call, None):
                yield response
        except Unavailable:
            if failures:
                raise failures[0] from None
            raise

    async def get_chunk(
        self, request: chunk_pb2.GetChunkRequest
    ) -> AsyncIterator[chunk_pb2.GetChunkResponse]:
        """See `dht.ports.Peer`."""
        self._check_connected()
        limit = METHODS["lucid.v1.ChunkService/GetChunk"]
        call = self._chunk.GetChunk(request, timeout=limit.deadline_s, metadata=self._metadata)
        async for response in self._iterate(call, limit.idle_s, is_for_chunk=True):
            yield response

    async def has_chunks(self, request: chunk_pb2.HasChunksRequest) -> chunk_pb2.HasChunksResponse:
        """See `dht.ports.Peer`."""
        return await self._call("lucid.v1.ChunkService/HasChunks", self._chunk.HasChunks, request)

    async def audit_chunk(self, request: chunk_pb2.AuditChunkRequest) -> chunk_pb2.AuditChunkResponse:
        """See `dht.ports.Peer`."""
        name = "lucid.v1.ChunkService/AuditChunk"
        return await self._call(name, self._chunk.AuditChunk, request, is_for_chunk=True)

    async def release_chunk(self, request: chunk_pb2.ReleaseChunkRequest) -> chunk_pb2.ReleaseChunkResponse:
        """See `dht.ports.Peer`."""
        return await self._call("lucid.v1.ChunkService/ReleaseChunk", self._chunk.ReleaseChunk, request)

    async def put_head(self, request: chunk_pb2.PutHeadRequest) -> chunk_pb2.PutHeadResponse:
        """See `dht.ports.Peer`."""
        return await self._call("lucid.v1.ChunkService/PutHead", self._chunk.PutHead, request)

    async def get_head(self, request: chunk_pb2.GetHeadRequest) -> chunk_pb2.GetHeadResponse:
        """See `dht.ports.Peer`."""
        return await self._call("lucid.v1.ChunkService/GetHead", self._chunk.GetHead, request)

    async def attest(self, request: witness_pb2.AttestRequest) -> witness_pb2.AttestResponse:
        """See `dht.ports.Peer`."""
        return await self._call("lucid.v1.WitnessService/Attest", self._witness.Attest, request)

    async def get_attested(self, request: witness_pb2.GetAttestedRequest) -> witness_pb2.GetAttestedResponse:
        """See `dht.ports.Peer`."""
        return await self._call("lucid.v1.WitnessService/GetAttested", self._witness.GetAttested, request)

    async def offer(self, request: share_pb2.OfferRequest) -> share_pb2.OfferResponse:
        """See `dht.ports.Peer`."""
        return await self._call("lucid.v1.ShareService/Offer", self._share.Offer, request)

    async def _call(
        self,
        name: str,
        method: Callable[..., Awaitable[T]],
        request: Any,
        *,
        timeout_s: float | None = None,
        is_for_chunk: bool = False,
    ) -> T:
        self._check_connected()
        try:
            call = method(request, timeout=timeout_s or METHODS[name].deadline_s, metadata=self._metadata)
            self._calls[id(call)] = call
            try:
                response = await call
            finally:
                del self._calls[id(call)]
        except grpc.aio.AioRpcError as error:
            raise self._decode(error, is_for_chunk=is_for_chunk) from error
        except asyncio.CancelledError:
            raise self._explain_cancellation() from None
        self.heard += 1
        return check_decoded(response, self._name)

    async def _iterate(
        self, call: Any, idle_s: float | None, *, is_for_chunk: bool = False
    ) -> AsyncIterator[Any]:
        """Messages of a stream; a silence of more than `idle_s` ends it."""
        self._calls[id(call)] = call
        try:
            while True:
                with Deadline(idle_s):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    return
                self.heard += 1
                self._move(call)
                yield check_decoded(message, self._name)
        except TimeoutError:
            raise Unavailable(f"{self._name} has sent nothing for {idle_s} s") from None
        except grpc.aio.AioRpcError as error:
            raise self._decode(error, is_for_chunk=is_for_chunk) from error
        except grpc.aio.BaseError:
            # The peer ended the call while the request was on its way out; its status tells why.
            raise self._decode(await _get_error(call), is_for_chunk=is_for_chunk) from None
        except asyncio.CancelledError:
            raise self._explain_cancellation() from None
        finally:
            del self._calls[id(call)]
            self._moved_ns.pop(id(call), None)
            call.cancel()

    def _move(self, call: Any) -> None:
        if id(call) in self._calls:
            self._moved_ns[id(call)] = self._clock.monotonic_ns()

    def _explain_cancellation(self) -> BaseException:
        """GRPC cancels calls when their channel closes: that is no cancellation of whoever waits for one."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            return asyncio.CancelledError()
        return self._disconnected()

    def _check_connected(self) -> None:
        if not self._is_connected:
            raise self._disconnected()

    def _disconnected(self) -> Unavailable:
        return Unavailable(f"{self._name} was disconnected")

    def _decode(self, error: grpc.aio.AioRpcError, *, is_for_chunk: bool) -> LucidError:
        decoded = decode_peer_error(error, self._name, is_for_chunk=is_for_chunk)
        if error.trailing_metadata():
            self.heard += 1  # it refuses: so it is there
        elif error.code() in _SILENT:
            self._on_lost()
        if isinstance(decoded, Locked):
            self.has_forgotten = True
            self._on_lost()
            return Unavailable(f"{self._name} does not know this node any more; it is greeted again")
        return decoded


async def _get_error(call: Any) -> grpc.aio.AioRpcError:
    """How a call has ended, by the word of the other side."""
    code, details = await call.code(), await call.details()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), await call.trailing_metadata(), details)
