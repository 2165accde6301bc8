"""Adversaries: nodes whose software is right but for one part, which was replaced to do harm.

Each is a subclass of an honest part. A composed node is turned into one, before it opens to others, by giving
the part its new class: it keeps its keys, its ports and what it knows, as a patched node would. Whatever such
a node says, others must come to no harm; see the scenarios.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from dht.head_keeper import HeadKeeper
from dht.holdings import Holdings
from dht.lease import read_lease, sign_receipt
from dht.ports import PeerIdentity
from dht.serving import ServedChunks
from kernel.errors import Unavailable, UsageError
from kernel.uninterrupted import run_to_end
from lucid.v1 import chunk_pb2, identity_pb2
from node.compose import Node
from simnet.world.lying_witnesses import LYING_WITNESSES

TRICKLE_S = 20.0
"""Between two messages of a slow adversary: shorter than the silence after which a call is given up."""

FEW_FRAMES = 3
"""That an impatient adversary takes of a chunk before it ends the call."""

Caller = PeerIdentity
PutRequests = AsyncIterator[chunk_pb2.PutChunkRequest]
PutResponses = AsyncIterator[chunk_pb2.PutChunkResponse]
GetResponses = AsyncIterator[chunk_pb2.GetChunkResponse]


class WrongLeaves(ServedChunks):
    """Announces leaf hashes that are not those of the chunk; also when it is audited."""

    async def get_chunk(self, caller: Caller, request: chunk_pb2.GetChunkRequest) -> GetResponses:
        """See `ServedChunks.get_chunk`."""
        async for response in super().get_chunk(caller, request):
            if response.WhichOneof("kind") == "open":
                response.open.leaves = _spoil(response.open.leaves)
            yield response

    async def audit_chunk(
        self, caller: Caller, request: chunk_pb2.AuditChunkRequest
    ) -> chunk_pb2.AuditChunkResponse:
        """See `ServedChunks.audit_chunk`."""
        response = await super().audit_chunk(caller, request)
        for leaf in response.leaves:
            leaf.data = _spoil(leaf.data)
        return response


class WrongFrames(WrongLeaves):
    """Announces what is right, and sends other bytes."""

    async def get_chunk(self, caller: Caller, request: chunk_pb2.GetChunkRequest) -> GetResponses:
        """See `ServedChunks.get_chunk`."""
        async for response in ServedChunks.get_chunk(self, caller, request):
            if response.WhichOneof("kind") == "frame":
                response.frame = _spoil(response.frame)
            yield response


class EndlessStream(WrongLeaves):
    """Sends the first frame again and again, whatever was asked for."""

    async def get_chunk(self, caller: Caller, request: chunk_pb2.GetChunkRequest) -> GetResponses:
        """See `ServedChunks.get_chunk`."""
        async for response in ServedChunks.get_chunk(self, caller, request):
            yield response
        while True:
            yield response
            await asyncio.sleep(0.001)


class Silence(ServedChunks):
    """Begins to send what is right, and says nothing more; to an audit it says nothing at all."""

    async def get_chunk(self, caller: Caller, request: chunk_pb2.GetChunkRequest) -> GetResponses:
        """See `ServedChunks.get_chunk`."""
        async for response in super().get_chunk(caller, request):
            yield response
            await asyncio.Event().wait()

    async def audit_chunk(
        self, caller: Caller, request: chunk_pb2.AuditChunkRequest
    ) -> chunk_pb2.AuditChunkResponse:
        """See `ServedChunks.audit_chunk`."""
        await asyncio.Event().wait()
        return chunk_pb2.AuditChunkResponse()


class Trickle(ServedChunks):
    """Gives and audits what is right, as slowly as it can without being silent."""

    async def get_chunk(self, caller: Caller, request: chunk_pb2.GetChunkRequest) -> GetResponses:
        """See `ServedChunks.get_chunk`."""
        async for response in super().get_chunk(caller, request):
            yield response
            await asyncio.sleep(TRICKLE_S)


class EmptyPromises(Holdings):
    """Takes whatever is brought, signs for it, and keeps nothing of it."""

    async def put_chunk(self, caller: Caller, requests: PutRequests) -> PutResponses:
        """See `Holdings.put_chunk`."""
        signed, lease = await _read_lease(self, requests)
        yield chunk_pb2.PutChunkResponse(offset=0)
        async for _ in requests:
            continue
        yield chunk_pb2.PutChunkResponse(receipt=_sign(self, signed, lease))


class PretendsToHave(Holdings):
    """Says that it has whatever is brought, so that nothing is sent, and signs for it."""

    async def put_chunk(self, caller: Caller, requests: PutRequests) -> PutResponses:
        """See `Holdings.put_chunk`."""
        signed, lease = await _read_lease(self, requests)
        yield chunk_pb2.PutChunkResponse(offset=lease.size_bytes)
        yield chunk_pb2.PutChunkResponse(receipt=_sign(self, signed, lease))


class OldReceipts(Holdings):
    """Keeps nothing, and answers whatever is brought with one receipt, for another lease."""

    _first: identity_pb2.Signed | None = None

    async def put_chunk(self, caller: Caller, requests: PutRequests) -> PutResponses:
        """See `Holdings.put_chunk`."""
        signed, lease = await _read_lease(self, requests)
        if self._first is None:
            other = identity_pb2.Signed(payload=_spoil(signed.payload), public_key=signed.public_key)
            self._first = _sign(self, other, lease)
        yield chunk_pb2.PutChunkResponse(offset=lease.size_bytes)
        yield chunk_pb2.PutChunkResponse(receipt=self._first)


class NeverReads(Holdings):
    """Asks for what is brought, and does not read it."""

    async def put_chunk(self, caller: Caller, requests: PutRequests) -> PutResponses:
        """See `Holdings.put_chunk`."""
        await _read_lease(self, requests)
        yield chunk_pb2.PutChunkResponse(offset=0)
        await asyncio.Event().wait()


class BreaksOff(Holdings):
    """Takes a few frames of what is brought, and ends the call: no liar, and never done in one try."""

    async def put_chunk(self, caller: Caller, requests: PutRequests) -> PutResponses:
        """See `Holdings.put_chunk`."""
        async for response in super().put_chunk(caller, _take_few(requests)):
            yield response


async def _take_few(requests: PutRequests) -> PutRequests:
    count = 0
    async for request in requests:
        yield request
        count += 1
        if count > FEW_FRAMES:
            raise Unavailable("no more frames now")


class DropsAtOnce(Holdings):
    """Keeps what is brought until it has signed for it."""

    async def put_chunk(self, caller: Caller, requests: PutRequests) -> PutResponses:
        """See `Holdings.put_chunk`."""
        async for response in super().put_chunk(caller, requests):
            if response.HasField("receipt"):
                for holding in (await self._store.scan())[0]:
                    await run_to_end(self._let_go(holding.chunk_id, lambda _: False))
            yield response


class OldHeads(HeadKeeper):
    """Serves the first head that it acknowledged of each device, however many came after it."""

    _firsts: dict[bytes, chunk_pb2.HeadEntry] | None = None

    async def put_head(self, caller: Caller, request: chunk_pb2.PutHeadRequest) -> chunk_pb2.PutHeadResponse:
        """See `HeadKeeper.put_head`."""
        response = await super().put_head(caller, request)
        self._firsts = self._firsts or {}
        device = chunk_pb2.Head.FromString(request.entry.head.payload).device
        self._firsts.setdefault(device, request.entry)
        return response

    async def get_head(self, request: chunk_pb2.GetHeadRequest) -> chunk_pb2.GetHeadResponse:
        """See `HeadKeeper.get_head`."""
        firsts = self._firsts or {}
        heads = {each: chunk_pb2.Head.FromString(entry.head.payload) for each, entry in firsts.items()}
        found = [entry for each, entry in firsts.items() if heads[each].locator == request.locator]
        return chunk_pb2.GetHeadResponse(entries=found)


class NoHeads(HeadKeeper):
    """Acknowledges heads, and serves none."""

    async def get_head(self, request: chunk_pb2.GetHeadRequest) -> chunk_pb2.GetHeadResponse:
        """See `HeadKeeper.get_head`."""
        return chunk_pb2.GetHeadResponse()


async def _read_lease(
    holdings: Holdings, requests: PutRequests
) -> tuple[identity_pb2.Signed, chunk_pb2.Lease]:
    signed = (await holdings._read_opening(requests)).lease
    return signed, read_lease(signed, holdings._network)


def _sign(holdings: Holdings, signed: identity_pb2.Signed, lease: chunk_pb2.Lease) -> identity_pb2.Signed:
    return sign_receipt(holdings._device, holdings._network, signed, holdings._now_ns() + lease.replica)


def _spoil(data: bytes) -> bytes:
    """The same length, with one bit turned."""
    return data[:-1] + bytes((data[-1] ^ 1,)) if data else b"?"


def _get_served(node: Node) -> Any:
    return node.hosting.holdings.served


def _get_holdings(node: Node) -> Any:
    return node.hosting.holdings


def _get_keeper(node: Node) -> Any:
    return node.hosting.heads


def _get_witnesses(node: Node) -> Any:
    return node.witnessing.witnesses


Twist = Callable[[Node], None]


def _turn(get_part: Callable[[Node], Any], kind: type) -> Twist:
    """What gives a part of a node another class."""

    def twist(node: Node) -> None:
        get_part(node).__class__ = kind

    return twist


def _do_nothing(_node: Node) -> None:
    """The harm is done by the story, which calls others in the name of this node."""


ADVERSARIES: dict[str, Twist] = {
    "wrong-leaves": _turn(_get_served, WrongLeaves),
    "wrong-frames": _turn(_get_served, WrongFrames),
    "endless-stream": _turn(_get_served, EndlessStream),
    "silence": _turn(_get_served, Silence),
    "trickle": _turn(_get_served, Trickle),
    "empty-promises": _turn(_get_holdings, EmptyPromises),
    "pretends-to-have": _turn(_get_holdings, PretendsToHave),
    "old-receipts": _turn(_get_holdings, OldReceipts),
    "never-reads": _turn(_get_holdings, NeverReads),
    "breaks-off": _turn(_get_holdings, BreaksOff),
    "drops-at-once": _turn(_get_holdings, DropsAtOnce),
    "old-heads": _turn(_get_keeper, OldHeads),
    "no-heads": _turn(_get_keeper, NoHeads),
    "hostile-caller": _do_nothing,
    **{name: _turn(_get_witnesses, kind) for name, kind in LYING_WITNESSES.items()},
}


def get_adversary(name: str) -> Twist:
    """What turns a node into the adversary of that name.

    Raises:
        UsageError: there is none.
    """
    if name not in ADVERSARIES:
        raise UsageError(f'there is no adversary "{name}"', hint=f"There are {', '.join(ADVERSARIES)}.")
    return ADVERSARIES[name]
