"""The gate of the peer server, seen from outside: raw bytes over a real channel."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from grpc_reflection.v1alpha import reflection_pb2

from kernel.errors import InvalidRecord, Locked, LucidError, Reason, StoreError, StoreFull, Unavailable
from lucid.v1 import chunk_pb2, data_pb2, node_pb2, share_pb2, witness_pb2
from node.control.failures import TRAILER
from node.failures import decode_failure
from node.rpc import limits
from node.rpc.limits import METHODS, RpcLimit, Who
from node.rpc.tokens import METADATA_KEY, TOKEN_TTL_S, Caller

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]
DESCRIPTORS = [
    method
    for module in (node_pb2, chunk_pb2, witness_pb2, share_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
NAMES = [f"{method.containing_service.full_name}/{method.name}" for method in DESCRIPTORS]
ALL = pytest.mark.parametrize("method", DESCRIPTORS, ids=NAMES)
PING = "lucid.v1.NodeService/Ping"
INFO = "lucid.v1.NodeService/GetInfo"
HAS = "lucid.v1.ChunkService/HasChunks"


def get_name(method: Any) -> str:
    return f"{method.containing_service.full_name}/{method.name}"


def owner_metadata(meeting: Any) -> tuple[tuple[str, bytes], ...]:
    return ((METADATA_KEY, meeting.peering.make_owner_token()[0]),)


async def call_raw(
    channel: grpc.aio.Channel, name: str, messages: list[bytes], metadata: Any = None
) -> list[bytes]:
    """Calls any method with any bytes; raises what the server said."""

    async def send() -> Any:
        for message in messages:
            yield message

    # On the wire all four kinds of calls look the same. A server that refuses a call before it has read the
    # message breaks the sending off; gRPC then hides the server's answer behind that, unless the message
    # travels with the opening of the call, and its end is asked for.
    if len(messages) == 1:
        unary: Any = channel.unary_stream(f"/{name}")
        call: Any = unary(messages[0], metadata=metadata, timeout=20)
    else:
        call = channel.stream_stream(f"/{name}")(send(), metadata=metadata, timeout=20)
    try:
        return [answer async for answer in call]
    except (grpc.aio.AioRpcError, grpc.aio.BaseError) as error:
        for key, value in await call.trailing_metadata() or ():
            if key == TRAILER:
                assert isinstance(value, bytes)
                raise decode_failure(data_pb2.Failure.FromString(value)) from error
        raise


@ALL
async def test_only_what_is_for_anybody_works_without_a_token(
    make_meeting: Any, open_channel: Any, method: Any
) -> None:
    meeting = await make_meeting(1, run=False)
    name = get_name(method)
    if METHODS[name].who is Who.ANYBODY:
        return
    with pytest.raises(Locked, match="no token") as caught:
        await call_raw(open_channel(meeting), name, [b""])
    assert "grpc-token" in caught.value.hint
    for token in (b"", b"x" * 32, b"x" * 4000):
        with pytest.raises(Locked):
            await call_raw(open_channel(meeting), name, [b""], ((METADATA_KEY, token),))


async def test_a_token_holds_here_alone_and_not_for_ever(make_meeting: Any, open_channel: Any) -> None:
    first, second = await make_meeting(1, run=False), await make_meeting(2, run=False)
    metadata = owner_metadata(first)
    assert await call_raw(open_channel(first), INFO, [b""], metadata)
    with pytest.raises(Locked):
        await call_raw(open_channel(second), INFO, [b""], metadata)
    first.clock.shift_ns = TOKEN_TTL_S * 10**9
    with pytest.raises(Locked):
        await call_raw(open_channel(first), INFO, [b""], metadata)


async def test_some_methods_are_for_the_owner_alone(
    make_meeting: Any, open_channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, INFO, RpcLimit(Who.OWNER, 256, 10, 50, 10))
    meeting, other = await make_meeting(1, run=False), await make_meeting(2, run=False)
    token = meeting.peering._tokens.issue(Caller(other.peering.identity))
    assert await call_raw(open_channel(meeting), INFO, [b""], owner_metadata(meeting))
    with pytest.raises(Locked, match="only the owner"):
        await call_raw(open_channel(meeting), INFO, [b""], ((METADATA_KEY, token),))


@ALL
async def test_a_message_beyond_its_bound_is_refused(
    make_meeting: Any, open_channel: Any, method: Any
) -> None:
    meeting = await make_meeting(1, run=False)
    most = METHODS[get_name(method)].max_request_bytes
    channel, metadata = open_channel(meeting), owner_metadata(meeting)
    padding = pad(most + 1)
    with pytest.raises(InvalidRecord) as caught:
        await call_raw(channel, get_name(method), [padding], metadata)
    assert caught.value.reason == Reason.TOO_LARGE
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call_raw(channel, get_name(method), [bytes(limits.MAX_MESSAGE_BYTES + 1)], metadata)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    await call_raw(channel, PING, [b""], metadata)


def pad(size: int) -> bytes:
    """A message of `size` bytes that any type can decode: one unknown field."""
    for length_bytes in (1, 2, 3):
        length, encoded = size - 2 - length_bytes, b""
        for _ in range(length_bytes - 1):
            encoded += bytes([length & 0x7F | 0x80])
            length >>= 7
        if length < 0x80:
            return b"\xfa\x01" + encoded + bytes([length]) + bytes(size - 2 - length_bytes)
    raise AssertionError("too large")


def test_the_padding_is_a_message() -> None:
    for size in (100, 257, 48 << 10, (257 << 10) + 1):
        padded = pad(size)
        assert len(padded) == size
        node_pb2.PingRequest.FromString(padded)


@ALL
async def test_malformed_messages_are_refused_on_every_method(
    make_meeting: Any, open_channel: Any, method: Any
) -> None:
    """Random bytes, and good messages with damage: each gives an answer or an error of the house."""
    meeting = await make_meeting(1, run=False)
    channel, metadata = open_channel(meeting), owner_metadata(meeting)
    chance = random.Random(get_name(method))
    with pytest.raises(InvalidRecord, match="cannot be decoded"):
        await call_raw(channel, get_name(method), [b"\xff\xff"], metadata)
    with pytest.raises((InvalidRecord, LucidError)):
        await call_raw(channel, get_name(method), [b"\x0a\xff\xff\xff\x7f"], metadata)
    good = message_factory.GetMessageClass(method.input_type)().SerializeToString()
    for _ in range(15):
        noise = good + chance.randbytes(chance.randrange(200))
        meeting.clock.shift_ns += 10**9  # rates are not what is tested here
        try:
            await call_raw(channel, get_name(method), [noise], metadata)
        except LucidError:
            continue
    await call_raw(channel, PING, [b""], metadata)


async def test_a_call_without_its_message_is_ended(
    make_meeting: Any, open_channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = await make_meeting(1, run=False)
    with pytest.raises(InvalidRecord, match="no message"):
        await call_raw(open_channel(meeting), PING, [], owner_metadata(meeting))
    monkeypatch.setitem(METHODS, INFO, RpcLimit(Who.PEER, 256, 10, 50, 0.05))
    call: Any = open_channel(meeting).stream_stream(f"/{INFO}")(metadata=owner_metadata(meeting), timeout=20)
    with pytest.raises(grpc.aio.AioRpcError, match="took longer"):
        await call.read()  # it was opened, and says nothing


class Stuck:
    """Never answers."""

    entered = 0

    async def HasChunks(self, request: Any, context: Any) -> None:  # noqa: N802
        self.entered += 1
        await asyncio.Event().wait()

    def __getattr__(self, name: str) -> Any:
        return self.HasChunks


async def test_a_call_that_takes_too_long_is_ended(
    make_meeting: Any, open_channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, HAS, RpcLimit(Who.PEER, 256, 10, 50, 0.05))
    meeting = await make_meeting(1, run=False, chunks=Stuck())
    with pytest.raises(Unavailable, match="took longer"):
        await call_raw(open_channel(meeting), HAS, [b""], owner_metadata(meeting))


async def test_silence_in_a_stream_ends_it(
    make_meeting: Any, open_channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "lucid.v1.ChunkService/PutChunk"
    monkeypatch.setitem(METHODS, name, RpcLimit(Who.PEER, 256, 10, 50, 20, 0.05))
    meeting = await make_meeting(1, run=False)
    call: Any = open_channel(meeting).stream_stream(f"/{name}")(metadata=owner_metadata(meeting), timeout=20)
    await call.write(chunk_pb2.PutChunkRequest(frame=b"abc").SerializeToString())
    assert chunk_pb2.PutChunkResponse.FromString(await call.read()).offset == 3
    with pytest.raises(grpc.aio.AioRpcError, match="no message came"):
        await call.read()


async def test_one_caller_cannot_have_all_calls(
    make_meeting: Any, open_channel: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(limits, "MAX_PEER_CALLS", 2)
    stuck = Stuck()
    meeting, other = await make_meeting(1, run=False, chunks=stuck), await make_meeting(2, run=False)
    channel, metadata = open_channel(meeting), owner_metadata(meeting)
    waiting = [asyncio.create_task(call_raw(channel, HAS, [b""], metadata)) for _ in range(2)]
    await eventually(lambda: stuck.entered == 2)
    with pytest.raises(Unavailable, match="at once"):
        await call_raw(channel, INFO, [b""], metadata)
    token = meeting.peering._tokens.issue(Caller(other.peering.identity))
    assert await call_raw(channel, INFO, [b""], ((METADATA_KEY, token),))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for _ in range(200):
        try:
            assert await call_raw(channel, INFO, [b""], metadata)
            break
        except Unavailable:
            await asyncio.sleep(0)
    else:
        pytest.fail("calls that were cancelled still count")


async def test_strangers_cannot_keep_others_from_introducing_themselves(
    make_meeting: Any, open_channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_STRANGERS_PER_METHOD", 2)
    meeting = await make_meeting(1, run=False)
    reflection = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    held = []
    for _ in range(2):
        call: Any = open_channel(meeting).stream_stream(f"/{reflection}")(timeout=20)
        await call.write(b"\x3a\x00")  # list services
        await call.read()
        held.append(call)
    with pytest.raises(Unavailable, match="at once"):
        await call_raw(open_channel(meeting), reflection, [b"\x3a\x00"])
    with pytest.raises(InvalidRecord, match="nonce"):
        await call_raw(open_channel(meeting), "lucid.v1.NodeService/Hello", [b""])
    for call in held:
        call.cancel()


async def test_rates_are_kept_per_peer_and_per_connection_of_a_stranger(
    make_meeting: Any, open_channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, INFO, RpcLimit(Who.PEER, 256, 0.001, 2, 10))
    monkeypatch.setitem(METHODS, "grpc.health.v1.Health/Check", RpcLimit(Who.ANYBODY, 256, 0.001, 2, 10))
    meeting, other = await make_meeting(1, run=False), await make_meeting(2, run=False)
    token = meeting.peering._tokens.issue(Caller(other.peering.identity))
    for name, metadata in ((INFO, owner_metadata(meeting)), ("grpc.health.v1.Health/Check", None)):
        channel = open_channel(meeting)
        for _ in range(2):
            await call_raw(channel, name, [b""], metadata)
        with pytest.raises(Unavailable, match="too many calls"):
            await call_raw(channel, name, [b""], metadata)
    with pytest.raises(Unavailable, match="too many calls"):
        await call_raw(open_channel(meeting), INFO, [b""], owner_metadata(meeting))
    assert await call_raw(open_channel(meeting), INFO, [b""], ((METADATA_KEY, token),))
    assert await call_raw(open_channel(meeting), "grpc.health.v1.Health/Check", [b""])


async def test_all_strangers_together_have_a_rate(
    make_meeting: Any, open_channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "STRANGERS_BURST", 2)
    monkeypatch.setattr(limits, "STRANGERS_RATE_PER_S", 0.001)
    meeting = await make_meeting(1, run=False)
    for _ in range(2):
        await call_raw(open_channel(meeting), "grpc.health.v1.Health/Check", [b""])
    with pytest.raises(Unavailable, match="too many calls"):
        await call_raw(open_channel(meeting), "grpc.health.v1.Health/Check", [b""])
    assert await call_raw(open_channel(meeting), INFO, [b""], owner_metadata(meeting))


async def test_a_method_without_a_row_is_not_served(
    make_meeting: Any, open_channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(METHODS, HAS)
    meeting = await make_meeting(1, run=False)
    for name in (HAS, "lucid.v1.ChunkService/Unheard", "x/y", "lucid.v1.Control/GetStatus"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_raw(open_channel(meeting), name, [b""], owner_metadata(meeting))
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_calls_are_counted(make_meeting: Any, open_channel: Any) -> None:
    meeting = await make_meeting(1, run=False)
    await call_raw(open_channel(meeting), INFO, [b""], owner_metadata(meeting))
    with pytest.raises(Locked):
        await call_raw(open_channel(meeting), INFO, [b""])
    read = meeting.metrics.registry.get_sample_value
    assert read("lucid_rpc_seconds_count", {"method": INFO}) == 1
    assert read("lucid_rpc_refused_total", {"method": INFO, "code": "Locked"}) == 1


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_is_there_under_both_names(
    make_meeting: Any, open_channel: Any, version: str
) -> None:
    meeting = await make_meeting(1, run=False)
    name = f"grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="lucid.v1.ChunkService"),
    ]
    raws = await call_raw(open_channel(meeting), name, [request.SerializeToString() for request in asked])
    answers = [reflection_pb2.ServerReflectionResponse.FromString(raw) for raw in raws]
    listed = {service.name for service in answers[0].list_services_response.service}
    assert {"lucid.v1.NodeService", "lucid.v1.ChunkService", "lucid.v1.WitnessService"} <= listed
    assert answers[1].file_descriptor_response.file_descriptor_proto


class Broken:
    """Fails as a mistake in this software would, or as this machine does."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def HasChunks(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise self.error

    async def GetChunk(self, request: Any, context: Any) -> Any:  # noqa: N802
        yield chunk_pb2.GetChunkResponse(frame=b"x")
        raise self.error

    def __getattr__(self, name: str) -> Any:
        return self.HasChunks


@pytest.mark.parametrize("name", [HAS, "lucid.v1.ChunkService/GetChunk"])
@pytest.mark.parametrize(
    ("error", "told"),
    [(KeyError("secret"), "this node failed"), (StoreError("the disk of /secret"), "the store of this node")],
)
async def test_peers_learn_nothing_of_what_fails_inside(
    make_meeting: Any, open_channel: Any, name: str, error: Exception, told: str
) -> None:
    meeting = await make_meeting(1, run=False, chunks=Broken(error))
    call = open_channel(meeting).unary_stream(f"/{name}")(b"", metadata=owner_metadata(meeting), timeout=20)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [answer async for answer in call]
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert told in (caught.value.details() or "")
    assert "secret" not in repr((caught.value.details(), caught.value.trailing_metadata()))
    [line] = [line for line in meeting.log.getvalue().splitlines() if "peer call failed" in line]
    assert "secret" in line and ("Traceback" in line) == isinstance(error, KeyError)


HOSTING = {name for name, limit in METHODS.items() if limit.is_hosting}


async def test_what_is_kept_is_kept_for_named_owners(make_meeting: Any, open_channel: Any) -> None:
    """Owners cost nothing to make up: a quota for each bounds only those whom the operator knows."""
    assert {
        "lucid.v1.ChunkService/PutChunk",
        "lucid.v1.ChunkService/PutHead",
        "lucid.v1.WitnessService/Attest",
        "lucid.v1.ShareService/Offer",
    } == HOSTING
    named, other = await make_meeting(2, run=False), await make_meeting(3, run=False)
    meeting = await make_meeting(1, run=False, hosting_for=[named.peering.identity.owner])
    everybody = await make_meeting(4, run=False)

    async def call(server: Any, identity: Any, name: str) -> None:
        token = server.peering._tokens.issue(Caller(identity))
        await call_raw(open_channel(server), name, [b""], ((METADATA_KEY, token),))

    for name in HOSTING:
        for welcome in (named, meeting):
            await call(meeting, welcome.peering.identity, name)
        await call(everybody, other.peering.identity, name)
        with pytest.raises(StoreFull, match="keeps nothing for this owner"):
            await call(meeting, other.peering.identity, name)
    await call(meeting, other.peering.identity, HAS)
