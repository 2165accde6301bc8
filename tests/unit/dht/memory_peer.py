"""Peers without a network: calls go straight to what another node keeps, with faults in between."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dht.head_keeper import HeadKeeper
from dht.holdings import Holdings
from dht.ports import PeerIdentity
from kernel.errors import NotFound, Unavailable
from lucid.v1 import chunk_pb2, share_pb2, witness_pb2

PutEdit = Callable[[int, chunk_pb2.PutChunkResponse], chunk_pb2.PutChunkResponse | None]
GetEdit = Callable[[int, chunk_pb2.GetChunkResponse], chunk_pb2.GetChunkResponse | None]


class Witness(Protocol):
    """What answers calls of `WitnessService`."""

    async def attest(
        self, caller: PeerIdentity, request: witness_pb2.AttestRequest
    ) -> witness_pb2.AttestResponse: ...

    async def get_attested(
        self, caller: PeerIdentity, request: witness_pb2.GetAttestedRequest
    ) -> witness_pb2.GetAttestedResponse: ...


@dataclass
class PeerFaults:
    """What goes wrong with a peer. May be changed while it is used.

    Attributes:
        unreachable: no call comes through.
        break_put_after: the connection breaks when so many messages of a put were sent.
        silent_put_after: nothing more comes after so many answers to a put.
        break_get_after: the connection breaks when so many messages of a get have come.
        silent_get_after: nothing more comes after so many.
        edit_put: changes answers to a put, which are counted from 0; None ends the call there.
        edit_get: the same for a get.
        endless_get: the last message of a get is sent for ever.
        calls: names of all calls that came through.
    """

    unreachable: bool = False
    break_put_after: int | None = None
    silent_put_after: int | None = None
    break_get_after: int | None = None
    silent_get_after: int | None = None
    edit_put: PutEdit = lambda _, response: response
    edit_get: GetEdit = lambda _, response: response
    endless_get: bool = False
    calls: list[str] = field(default_factory=list)


class Reader(Protocol):
    """What answers calls of `ShareService`."""

    async def offer(
        self, caller: PeerIdentity, request: share_pb2.OfferRequest
    ) -> share_pb2.OfferResponse: ...


class MemoryPeer:
    """`dht.ports.Peer` over what another node keeps.

    Args:
        identity: of the other node.
        holdings: its chunks.
        heads: its heads.
        caller: who calls: this node.
        witness: answers for `WitnessService`; None: every such call raises `NotFound`.
        reader: the same for `ShareService`.
        faults: what goes wrong.
    """

    def __init__(
        self,
        identity: PeerIdentity,
        holdings: Holdings,
        heads: HeadKeeper,
        caller: PeerIdentity,
        *,
        witness: Witness | None = None,
        reader: Reader | None = None,
        faults: PeerFaults | None = None,
    ) -> None:
        self._identity = identity
        self.holdings = holdings
        self.heads = heads
        self.caller = caller
        self.witness = witness
        self.reader = reader
        self.faults = faults or PeerFaults()

    @property
    def identity(self) -> PeerIdentity:
        return self._identity

    async def put_chunk(
        self, requests: AsyncIterator[chunk_pb2.PutChunkRequest]
    ) -> AsyncIterator[chunk_pb2.PutChunkResponse]:
        self._reach("put_chunk")
        number = 0
        async for response in self.holdings.put_chunk(self.caller, self._feed(requests)):
            if number == self.faults.silent_put_after:
                await asyncio.Event().wait()
            edited = self.faults.edit_put(number, response)
            if edited is None:
                return
            yield edited
            number += 1

    async def get_chunk(
        self, request: chunk_pb2.GetChunkRequest
    ) -> AsyncIterator[chunk_pb2.GetChunkResponse]:
        self._reach("get_chunk")
        number = 0
        async for response in self.holdings.served.get_chunk(self.caller, request):
            if number == self.faults.silent_get_after:
                await asyncio.Event().wait()
            if number == self.faults.break_get_after:
                raise Unavailable("the connection broke")
            edited = self.faults.edit_get(number, response)
            if edited is None:
                return
            yield edited
            number += 1
        while self.faults.endless_get:
            yield response

    async def has_chunks(self, request: chunk_pb2.HasChunksRequest) -> chunk_pb2.HasChunksResponse:
        self._reach("has_chunks")
        return self.holdings.served.has_chunks(request)

    async def audit_chunk(self, request: chunk_pb2.AuditChunkRequest) -> chunk_pb2.AuditChunkResponse:
        self._reach("audit_chunk")
        return await self.holdings.served.audit_chunk(self.caller, request)

    async def release_chunk(self, request: chunk_pb2.ReleaseChunkRequest) -> chunk_pb2.ReleaseChunkResponse:
        self._reach("release_chunk")
        return await self.holdings.release_chunk(request)

    async def put_head(self, request: chunk_pb2.PutHeadRequest) -> chunk_pb2.PutHeadResponse:
        self._reach("put_head")
        return await self.heads.put_head(self.caller, request)

    async def get_head(self, request: chunk_pb2.GetHeadRequest) -> chunk_pb2.GetHeadResponse:
        self._reach("get_head")
        return await self.heads.get_head(request)

    async def attest(self, request: witness_pb2.AttestRequest) -> witness_pb2.AttestResponse:
        self._reach("attest")
        return await self._get_witness().attest(self.caller, request)

    async def get_attested(self, request: witness_pb2.GetAttestedRequest) -> witness_pb2.GetAttestedResponse:
        self._reach("get_attested")
        return await self._get_witness().get_attested(self.caller, request)

    async def offer(self, request: share_pb2.OfferRequest) -> share_pb2.OfferResponse:
        self._reach("offer")
        if self.reader is None:
            raise NotFound("this peer reads nothing")
        return await self.reader.offer(self.caller, request)

    def _get_witness(self) -> Witness:
        if self.witness is None:
            raise NotFound("this peer is no witness")
        return self.witness

    def _reach(self, call: str) -> None:
        if self.faults.unreachable:
            raise Unavailable("the peer cannot be reached")
        self.faults.calls.append(call)

    async def _feed(
        self, requests: AsyncIterator[chunk_pb2.PutChunkRequest]
    ) -> AsyncIterator[chunk_pb2.PutChunkRequest]:
        number = 0
        async for request in requests:
            if number == self.faults.break_put_after:
                raise Unavailable("the connection broke")
            # What crosses a wire is a copy.
            yield chunk_pb2.PutChunkRequest.FromString(request.SerializeToString())
            number += 1


class MemoryPeers:
    """`dht.ports.Peers` over a list, which a test may change."""

    def __init__(self, peers: Sequence[MemoryPeer]) -> None:
        self.peers = list(peers)
        self._changed = asyncio.Event()

    def known(self) -> Sequence[PeerIdentity]:
        return sorted((peer.identity for peer in self.peers), key=lambda identity: identity.device)

    def find(self, device: bytes) -> Any:
        for peer in self.peers:
            if peer.identity.device == device and not peer.faults.unreachable:
                return peer
        return None

    def tell_changed(self) -> None:
        """A peer has come or gone."""
        self._changed.set()

    async def wait_changed(self) -> None:
        await self._changed.wait()
        self._changed.clear()
