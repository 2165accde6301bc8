"""What calls to a peer raise, whatever the peer does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from kernel import errors
from kernel.errors import (
    Conflict,
    InvalidRecord,
    LucidError,
    NotFound,
    PeerFault,
    Reason,
    StoreFull,
    Unavailable,
)
from lucid.v1 import chunk_pb2, witness_pb2
from node.control.failures import encode_trailer
from node.rpc.call_errors import MAX_TEXT, make_printable
from node.rpc.interceptor import get_caller
from node.rpc.limits import METHODS, RpcLimit, Who

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
GET = "lucid.v1.ChunkService/GetChunk"


class Refusing:
    """Refuses everything with one error, and notes who asked."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.callers: list[bytes] = []

    async def HasChunks(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.callers.append(get_caller(context).device)
        if self.error is not None:
            raise self.error
        return chunk_pb2.HasChunksResponse()

    async def PutChunk(self, requests: Any, context: Any) -> Any:  # noqa: N802
        self.callers.append(get_caller(context).device)
        async for _ in requests:
            if self.error is not None:
                raise self.error
            yield chunk_pb2.PutChunkResponse(offset=1)

    async def GetChunk(self, request: Any, context: Any) -> Any:  # noqa: N802
        yield chunk_pb2.GetChunkResponse(frame=b"one")
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()

    def __getattr__(self, name: str) -> Any:
        return self.HasChunks


@pytest.fixture
async def meet(make_meeting: Any, eventually: Eventually) -> tuple[Any, Any, Refusing]:
    refusing = Refusing()
    server = await make_meeting(1, chunks=refusing, witness=refusing)
    client = await make_meeting(2, peers=[server.address], listen=None)
    await eventually(lambda: client.peer(server) is not None)
    return client, client.peer(server), refusing


async def test_the_server_knows_who_calls(meet: tuple[Any, Any, Refusing]) -> None:
    client, peer, refusing = meet
    await peer.has_chunks(chunk_pb2.HasChunksRequest())
    assert [answer.offset async for answer in peer.put_chunk(send(1))] == [1]
    assert refusing.callers == [client.device] * 2


async def send(count: int) -> AsyncIterator[chunk_pb2.PutChunkRequest]:
    for _ in range(count):
        yield chunk_pb2.PutChunkRequest(frame=b"frame")


@pytest.mark.parametrize(
    ("told", "raised"),
    [
        (StoreFull("its quota", hint="wait"), StoreFull),
        (NotFound("no such chunk"), NotFound),
        (Conflict("not now"), Conflict),
        (InvalidRecord(Reason.WRONG_HASH, "bad leaf"), InvalidRecord),
        (Unavailable("busy"), Unavailable),
        (PeerFault("you broke the rules"), Conflict),
        (errors.StoreDamaged("your disk is broken"), Unavailable),
        (errors.StoreTooNew("your store is too new"), Unavailable),
        (errors.StoreError("io"), Unavailable),
        (errors.LocalError("x"), Unavailable),
        (LucidError("x"), Unavailable),
        (ZeroDivisionError("a bug of its"), Unavailable),
    ],
)
async def test_a_peer_can_only_speak_of_the_call(
    meet: tuple[Any, Any, Refusing], told: Exception, raised: type[LucidError]
) -> None:
    _, peer, refusing = meet
    refusing.error = told
    with pytest.raises(raised) as caught:
        await peer.has_chunks(chunk_pb2.HasChunksRequest())
    assert type(caught.value) is raised
    assert "peer 12D3KooW" in str(caught.value)
    if isinstance(caught.value, InvalidRecord):
        assert caught.value.reason == Reason.WRONG_HASH
    # One message, which is read before it is refused, as an opening is. Of a refusal that overtakes a message
    # on its way, gRPC tells its sender only that the message could not be sent.
    with pytest.raises(raised):
        async for _ in peer.put_chunk(send(1)):
            pass
    # That a chunk is damaged there is about the chunk that it was asked for.
    of_chunk = NotFound if isinstance(told, errors.StoreDamaged) else raised
    with pytest.raises(of_chunk) as caught:
        async for _ in peer.get_chunk(chunk_pb2.GetChunkRequest()):
            pass
    assert type(caught.value) is of_chunk
    with pytest.raises(of_chunk) as caught:
        await peer.audit_chunk(chunk_pb2.AuditChunkRequest())
    assert type(caught.value) is of_chunk
    refusing.error = None
    await peer.has_chunks(chunk_pb2.HasChunksRequest())


async def test_texts_of_a_peer_are_bounded_and_printable(meet: tuple[Any, Any, Refusing]) -> None:
    _, peer, refusing = meet
    refusing.error = NotFound("\x1b[2J\n" + "x" * 1500, hint="\x00" * 1500)
    with pytest.raises(NotFound) as caught:
        await peer.has_chunks(chunk_pb2.HasChunksRequest())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < MAX_TEXT + 100
    assert caught.value.hint == "?" * MAX_TEXT
    assert make_printable("a\u202eb") == "a?b"


async def test_silence_in_mid_transfer_ends_it(
    meet: tuple[Any, Any, Refusing], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, peer, _ = meet
    monkeypatch.setitem(METHODS, GET, RpcLimit(Who.PEER, 256, 100, 100, 20, 0.05))
    got = []
    with pytest.raises(Unavailable, match="nothing for"):
        async for answer in peer.get_chunk(chunk_pb2.GetChunkRequest()):
            got.append(answer.frame)
    assert got == [b"one"]


async def test_a_peer_that_does_not_answer_in_time_is_unavailable(
    meet: tuple[Any, Any, Refusing], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, peer, _ = meet
    # The deadline of the client alone: the server's row was bound when it was first called.
    async for _ in peer.get_chunk(chunk_pb2.GetChunkRequest()):
        break
    monkeypatch.setitem(METHODS, GET, RpcLimit(Who.PEER, 256, 100, 100, 0.2))
    with pytest.raises(Unavailable, match="in time"):
        async for _ in peer.get_chunk(chunk_pb2.GetChunkRequest()):
            pass


async def test_whoever_is_cancelled_stays_cancelled(meet: tuple[Any, Any, Refusing]) -> None:
    _, peer, _ = meet
    started = asyncio.Event()

    async def read() -> None:
        async for _ in peer.get_chunk(chunk_pb2.GetChunkRequest()):
            started.set()

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_calls_in_flight_end_as_unavailable_when_the_link_does(meet: tuple[Any, Any, Refusing]) -> None:
    client, peer, _ = meet
    started = asyncio.Event()

    async def read() -> None:
        async for _ in peer.get_chunk(chunk_pb2.GetChunkRequest()):
            started.set()

    task = asyncio.create_task(read())
    await started.wait()
    await client.stop_links()
    with pytest.raises(Unavailable, match="disconnected"):
        await task


async def test_calls_in_flight_end_when_the_peer_is_disconnected(meet: tuple[Any, Any, Refusing]) -> None:
    _, peer, _ = meet
    started = asyncio.Event()

    async def endless() -> AsyncIterator[chunk_pb2.PutChunkRequest]:
        yield chunk_pb2.PutChunkRequest(frame=b"frame")
        await asyncio.Event().wait()

    async def put() -> None:
        async for _ in peer.put_chunk(endless()):
            started.set()

    task = asyncio.create_task(put())
    await started.wait()
    peer.disconnect()
    with pytest.raises(Unavailable, match="disconnected"):
        async with asyncio.timeout(10):
            await task


async def test_every_call_of_the_port_reaches_its_method(make_meeting: Any, eventually: Eventually) -> None:
    server = await make_meeting(1)
    client = await make_meeting(2, peers=[server.address], listen=None)
    await eventually(lambda: client.peer(server) is not None)
    peer = client.peer(server)
    assert (await peer.has_chunks(chunk_pb2.HasChunksRequest(chunk_ids=[b"a", b"b"]))).sizes == [1, 1]
    assert (await peer.audit_chunk(chunk_pb2.AuditChunkRequest())).size_bytes == 1
    assert (await peer.release_chunk(chunk_pb2.ReleaseChunkRequest())).freed_bytes == 1
    assert await peer.put_head(chunk_pb2.PutHeadRequest()) == chunk_pb2.PutHeadResponse()
    assert await peer.get_head(chunk_pb2.GetHeadRequest()) == chunk_pb2.GetHeadResponse()
    assert await peer.attest(witness_pb2.AttestRequest()) == witness_pb2.AttestResponse()
    assert await peer.get_attested(witness_pb2.GetAttestedRequest()) == witness_pb2.GetAttestedResponse()


class BrokenOff:
    """A call that the peer refused while its request was on its way out."""

    async def read(self) -> Any:
        raise grpc.aio.InternalError("Failed execute_batch")

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.RESOURCE_EXHAUSTED

    async def details(self) -> str:
        return "full"

    async def trailing_metadata(self) -> Any:
        return grpc.aio.Metadata(*encode_trailer(StoreFull("full")))

    def cancel(self) -> None:
        pass


async def test_a_refusal_that_overtakes_the_request_is_understood(meet: tuple[Any, Any, Refusing]) -> None:
    _, peer, _ = meet
    with pytest.raises(StoreFull, match="full"):
        _ = [message async for message in peer._iterate(BrokenOff(), 30)]


async def test_messages_that_cannot_be_decoded_are_the_fault_of_the_peer(
    meet: tuple[Any, Any, Refusing],
) -> None:
    _, peer, _ = meet

    class Undecoded(BrokenOff):
        async def read(self) -> Any:
            return None  # what gRPC makes of it

    with pytest.raises(PeerFault, match="cannot be decoded"):
        _ = [message async for message in peer._iterate(Undecoded(), 30)]
