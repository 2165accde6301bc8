import asyncio
import contextlib
import errno
import os
import random
import socket
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kernel.errors import Conflict, LocalError
from lucid.v1 import data_pb2, session_pb2
from node.data import exchange
from node.data.server import is_stale, open_socket

FILE = session_pb2.SOURCE_KIND_FILE
COMPLETE, INTERRUPTED, RECORDING = (
    session_pb2.STATE_COMPLETE,
    session_pb2.STATE_INTERRUPTED,
    session_pb2.STATE_RECORDING,
)
MODIFIED_NS = 1_790_000_000_123_456_789
CONTENTS = os.urandom(300_000) + b"text " * 20_000

# Fixtures of conftest.py: their types stand there.
Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


def read_all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def count_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENTS)
    os.utime(path, ns=(MODIFIED_NS, MODIFIED_NS))
    return path


async def record_stream(client: Any, frames: Any, data: bytes, *, finish: bool = True) -> Any:
    await client.send(frames.start(name="n"))
    accepted = (await client.receive()).accepted
    for position in range(0, len(data), 100_000):
        await client.send(frames.data(position, data[position : position + 100_000]))
        acknowledged = (await client.receive()).acknowledged
        assert acknowledged.position == min(len(data), position + 100_000)
    if finish:
        await client.send(frames.finish)
        assert (await client.receive()).recorded.state == COMPLETE
    return accepted


async def get(
    client: Any, session_id: bytes, descriptor: int, *, follow: bool = False
) -> data_pb2.ServerFrame:
    request = data_pb2.GetRecording(session_id=session_id, follow=follow)
    await client.send(data_pb2.ClientFrame(get=request), descriptor)
    frame: data_pb2.ServerFrame = await client.receive()
    return frame


async def test_a_file_goes_in_and_comes_out(
    bench: Any, serve_data: Any, connect: Any, frames: Any, source: Path, tmp_path: Path
) -> None:
    await serve_data(bench)
    before = count_descriptors()
    client = connect(bench.home.data_socket)
    with source.open("rb") as file:
        await client.send(frames.start(FILE, source="source"), file.fileno())
        accepted = (await client.receive()).accepted
        done = (await client.receive()).recorded
    assert (done.state, done.plaintext_bytes) == (COMPLETE, len(CONTENTS))
    info = await bench.node.manager.info(accepted.session_id)
    assert info.metadata.source_bytes == len(CONTENTS)
    assert info.metadata.source_modified_ns == MODIFIED_NS
    assert info.metadata.uid == os.getuid()
    with (tmp_path / "out").open("wb") as file:
        got = (await get(connect(bench.home.data_socket), accepted.session_id, file.fileno())).got
    assert got.plaintext_bytes == len(CONTENTS)
    assert (tmp_path / "out").read_bytes() == CONTENTS
    assert client is not None
    assert count_descriptors() <= before + 4  # two connections, both ends; no descriptor that was passed


async def test_get_replaces_what_was_in_the_file(
    bench: Any, serve_data: Any, connect: Any, frames: Any, tmp_path: Path
) -> None:
    await serve_data(bench)
    accepted = await record_stream(connect(bench.home.data_socket), frames, b"short")
    (tmp_path / "out").write_bytes(b"what was there before was longer")
    with (tmp_path / "out").open("r+b") as file:
        await get(connect(bench.home.data_socket), accepted.session_id, file.fileno())
    assert (tmp_path / "out").read_bytes() == b"short"


async def test_a_stream_is_acknowledged_and_read_through_a_pipe(
    bench: Any, serve_data: Any, connect: Any, frames: Any
) -> None:
    await serve_data(bench)
    accepted = await record_stream(connect(bench.home.data_socket), frames, CONTENTS)
    assert (await bench.node.manager.info(accepted.session_id)).exit_status == 7
    reading, writing = os.pipe()
    reader = asyncio.create_task(asyncio.to_thread(read_all, reading))
    client = connect(bench.home.data_socket)
    answer = asyncio.create_task(get(client, accepted.session_id, writing))
    await asyncio.sleep(0)
    os.close(writing)
    assert (await answer).got.plaintext_bytes == len(CONTENTS)
    assert await reader == CONTENTS


async def test_a_reader_that_does_not_read_delays_nobody(
    bench: Any, serve_data: Any, connect: Any, frames: Any, eventually: Eventually
) -> None:
    await serve_data(bench)
    accepted = await record_stream(connect(bench.home.data_socket), frames, CONTENTS)
    reading, writing = os.pipe()
    slow = connect(bench.home.data_socket)
    request = data_pb2.GetRecording(session_id=accepted.session_id)
    await slow.send(data_pb2.ClientFrame(get=request), writing)
    os.close(writing)
    await record_stream(connect(bench.home.data_socket), frames, b"meanwhile")
    os.close(reading)
    failure = (await slow.receive()).failure
    assert (failure.code, failure.message) == ("Conflict", "whoever reads the output has gone away")


async def test_a_client_that_goes_away_ends_its_get(
    bench: Any, serve_data: Any, connect: Any, frames: Any, eventually: Eventually
) -> None:
    await serve_data(bench)
    recording = connect(bench.home.data_socket)
    accepted = await record_stream(recording, frames, b"live", finish=False)
    reading, writing = os.pipe()
    client = connect(bench.home.data_socket)
    request = data_pb2.GetRecording(session_id=accepted.session_id, follow=True)
    await client.send(data_pb2.ClientFrame(get=request), writing)
    os.close(writing)
    client.close()
    gone = asyncio.to_thread(read_all, reading)
    assert await gone in (b"", b"live")


async def test_a_lost_connection_interrupts_and_the_token_goes_on(
    bench: Any, serve_data: Any, connect: Any, frames: Any, eventually: Eventually
) -> None:
    await serve_data(bench)
    client = connect(bench.home.data_socket)
    accepted = await record_stream(client, frames, b"first ", finish=False)
    client.close()
    manager = bench.node.manager
    await eventually(lambda: accepted.session_id in manager.interrupted())
    assert (await manager.info(accepted.session_id)).reason == "its client went away"
    again = connect(bench.home.data_socket)
    go_on = data_pb2.ContinueRecording(session_id=accepted.session_id, resume_token=accepted.resume_token)
    await again.send(data_pb2.ClientFrame(continue_recording=go_on))
    assert (await again.receive()).accepted.position == 6
    await again.send(frames.data(0, b"first second"))
    assert (await again.receive()).acknowledged.position == 12
    await again.send(frames.finish)
    done = (await again.receive()).recorded
    assert (done.plaintext_bytes, (await manager.info(accepted.session_id)).gaps) == (12, 0)
    # The answer may be lost as well: whoever asks again learns that the session is complete.
    once_more = connect(bench.home.data_socket)
    await once_more.send(data_pb2.ClientFrame(continue_recording=go_on))
    assert (await once_more.receive()).recorded == done


async def test_the_same_client_takes_over_from_a_connection_that_hangs(
    bench: Any, serve_data: Any, connect: Any, frames: Any
) -> None:
    await serve_data(bench)
    accepted = await record_stream(connect(bench.home.data_socket), frames, b"first", finish=False)
    again = connect(bench.home.data_socket)
    go_on = data_pb2.ContinueRecording(session_id=accepted.session_id, resume_token=accepted.resume_token)
    await again.send(data_pb2.ClientFrame(continue_recording=go_on))
    assert (await again.receive()).accepted.position == 5
    await again.send(frames.finish)
    assert (await again.receive()).recorded.state == COMPLETE


async def test_a_stopped_node_interrupts_what_it_records(
    bench: Any, serve_data: Any, connect: Any, frames: Any
) -> None:
    data_server = await serve_data(bench)
    client = connect(bench.home.data_socket)
    accepted = await record_stream(client, frames, b"unfinished", finish=False)
    await data_server.stop()
    info = await bench.node.manager.info(accepted.session_id)
    assert (info.state, info.reason, info.plaintext_bytes) == (INTERRUPTED, "the node was stopped", 10)
    assert await client.is_closed()
    assert not bench.home.data_socket.exists()


async def test_a_file_that_was_changed_does_not_go_on(
    bench: Any, serve_data: Any, connect: Any, frames: Any, source: Path, eventually: Eventually
) -> None:
    manager = bench.node.manager
    from session.recording_request import RecordingRequest

    metadata = session_pb2.Metadata(source_bytes=len(CONTENTS), source_modified_ns=1)
    recording = await manager.open_recording(RecordingRequest(FILE, metadata, live=False))
    await recording.interrupt("test")
    await serve_data(bench)
    client = connect(bench.home.data_socket)
    go_on = data_pb2.ContinueRecording(session_id=recording.session_id)
    with source.open("rb") as file:
        await client.send(data_pb2.ClientFrame(continue_recording=go_on), file.fileno())
        assert (await client.receive()).HasField("accepted")
        failure = (await client.receive()).failure
    assert failure.code == "Conflict"
    assert "changed" in failure.message
    await eventually(lambda: recording.session_id in manager.interrupted())


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda frames: frames.data(0, b"x"), "InvalidRecord.MALFORMED"),
        (lambda frames: frames.finish, "InvalidRecord.MALFORMED"),
        (lambda frames: data_pb2.ClientFrame(), None),
        (lambda frames: frames.start(0), "UsageError"),
        (lambda frames: frames.start(99), "UsageError"),
        (lambda frames: frames.start(FILE), "UsageError"),
        (lambda frames: frames.start(name="n" * 257), "UsageError"),
        (lambda frames: frames.start(tags=["t"] * 33), "UsageError"),
        (lambda frames: frames.start(tags=["t" * 65]), "UsageError"),
        (lambda frames: frames.start(tags=[""]), "UsageError"),
        (lambda frames: frames.start(command=["c" * 65536]), "UsageError"),
        (lambda frames: frames.start(source="s" * 4097), "UsageError"),
        (lambda frames: frames.start(tty="t" * 257), "UsageError"),
        (lambda frames: frames.start(columns=10_001), "UsageError"),
        (
            lambda frames: data_pb2.ClientFrame(
                start=data_pb2.StartRecording(kind=session_pb2.SOURCE_KIND_STREAM, retain_s=1 << 62)
            ),
            "UsageError",
        ),
        (
            lambda frames: data_pb2.ClientFrame(get=data_pb2.GetRecording(session_id=b"x" * 16)),
            "UsageError",
        ),
        (
            lambda frames: data_pb2.ClientFrame(
                continue_recording=data_pb2.ContinueRecording(session_id=b"x" * 16, resume_token=b"y" * 32)
            ),
            "NotFound",
        ),
        (
            lambda frames: data_pb2.ClientFrame(
                continue_recording=data_pb2.ContinueRecording(session_id=b"x")
            ),
            "InvalidRecord.MALFORMED",
        ),
        (
            lambda frames: data_pb2.ClientFrame(
                continue_recording=data_pb2.ContinueRecording(session_id=b"x" * 16, resume_token=b"y")
            ),
            "InvalidRecord.MALFORMED",
        ),
    ],
)
async def test_bad_first_frames_are_refused_by_name(
    bench: Any, serve_data: Any, connect: Any, frames: Any, make: Callable[[Any], Any], code: str | None
) -> None:
    await serve_data(bench)
    client = connect(bench.home.data_socket)
    await client.send(make(frames))
    failure = (await client.receive()).failure
    assert failure.code == (code or "InvalidRecord.TOO_LARGE")
    assert failure.message
    assert await client.is_closed()
    assert (await bench.node.manager.list()) == []


@pytest.mark.parametrize("header", [b"\0\x10\0\1", b"\xff\xff\xff\xff", b"\0\0\0\0"])
async def test_a_frame_that_is_too_large_is_refused_before_it_is_read(
    bench: Any, serve_data: Any, connect: Any, header: bytes
) -> None:
    await serve_data(bench)
    client = connect(bench.home.data_socket)
    await client.send_bytes(header)
    assert (await client.receive()).failure.code == "InvalidRecord.TOO_LARGE"


async def test_bytes_that_are_no_frame_are_refused(bench: Any, serve_data: Any, connect: Any) -> None:
    await serve_data(bench)
    client = connect(bench.home.data_socket)
    await client.send_bytes(b"\0\0\0\x04\xff\xff\xff\xff")
    assert (await client.receive()).failure.code == "InvalidRecord.MALFORMED"


@pytest.mark.parametrize("data", [b"", b"x" * (256 * 1024 + 1)])
async def test_bad_pieces_interrupt_the_recording(
    bench: Any, serve_data: Any, connect: Any, frames: Any, data: bytes
) -> None:
    await serve_data(bench)
    client = connect(bench.home.data_socket)
    await client.send(frames.start())
    accepted = (await client.receive()).accepted
    await client.send(frames.data(0, data))
    assert (await client.receive()).failure.code == "InvalidRecord.MALFORMED"
    assert (await bench.node.manager.info(accepted.session_id)).state == INTERRUPTED


async def test_a_position_out_of_all_bounds_is_refused(
    bench: Any, serve_data: Any, connect: Any, frames: Any
) -> None:
    await serve_data(bench)
    client = connect(bench.home.data_socket)
    await client.send(frames.start())
    await client.receive()
    await client.send(frames.data((1 << 64) - 1, b"x"))
    assert (await client.receive()).failure.code == "InvalidRecord.MALFORMED"


async def test_descriptors_that_are_no_files_are_refused(
    bench: Any, serve_data: Any, connect: Any, frames: Any, source: Path
) -> None:
    await serve_data(bench)
    reading, writing = os.pipe()
    directory = os.open("/", os.O_RDONLY)
    write_only = os.open(source, os.O_WRONLY)
    for descriptor in (reading, directory, write_only):
        client = connect(bench.home.data_socket)
        await client.send(frames.start(FILE), descriptor)
        assert (await client.receive()).failure.code == "UsageError"
    for descriptor in (reading, writing, directory, write_only):
        os.close(descriptor)
    assert (await bench.node.manager.list()) == []


async def test_outputs_that_cannot_be_written_safely_are_refused(
    bench: Any, serve_data: Any, connect: Any, frames: Any, source: Path
) -> None:
    await serve_data(bench)
    accepted = await record_stream(connect(bench.home.data_socket), frames, b"x")
    outputs = [
        os.open(source, os.O_RDONLY),
        os.open(source, os.O_WRONLY | os.O_APPEND),
        os.open("/dev/null", os.O_WRONLY),
    ]
    for output in outputs:
        frame = await get(connect(bench.home.data_socket), accepted.session_id, output)
        assert frame.failure.code == "UsageError"
        os.close(output)
    with source.open("rb") as file:
        assert file.read() == CONTENTS


async def test_descriptors_nobody_asked_for_are_closed(
    bench: Any, serve_data: Any, connect: Any, frames: Any, eventually: Eventually
) -> None:
    await serve_data(bench)
    before = count_descriptors()
    reading, writing = os.pipe()
    client = connect(bench.home.data_socket)
    await client.send(frames.start(), writing, writing, writing)
    assert (await client.receive()).failure.code == "UsageError"
    second = connect(bench.home.data_socket)
    await second.send(frames.start())
    await second.receive()
    await second.send(frames.data(0, b"x"), writing)
    await second.receive()
    os.close(writing)
    # Every copy of the writing end is closed: the reading end says so.
    assert await asyncio.to_thread(os.read, reading, 1) == b""
    os.close(reading)
    client.close()
    second.close()
    await eventually(lambda: count_descriptors() <= before)


async def test_whoever_says_nothing_is_sent_away(
    bench: Any, serve_data: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "FIRST_FRAME_TIMEOUT_S", 0.05)
    await serve_data(bench)
    client = connect(bench.home.data_socket)
    await client.send_bytes(b"\0\0")
    assert await client.is_closed()


async def test_connections_are_bounded(make_bench: Any, serve_data: Any, connect: Any, frames: Any) -> None:
    bench = await make_bench(max_connections="2")
    await serve_data(bench)
    held = [connect(bench.home.data_socket) for _ in range(2)]
    for client in held:
        await client.send(frames.start())
        await client.receive()
    third = connect(bench.home.data_socket)
    assert (await third.receive()).failure.code == "Unavailable"
    assert await third.is_closed()
    await held[0].send(frames.finish)
    assert (await held[0].receive()).HasField("recorded")


async def test_on_the_record_socket_each_user_has_a_share(
    make_bench: Any, serve_data: Any, connect: Any, frames: Any
) -> None:
    bench = await make_bench(max_connections_per_user="1")
    await serve_data(bench, may_only_record=True)
    path = bench.home.root / "record.sock"
    first = connect(path)
    await first.send(frames.start())
    await first.receive()
    assert "this user" in (await connect(path).receive()).failure.message


async def test_the_record_socket_only_records_and_knows_who_asks(
    make_bench: Any, serve_data: Any, connect: Any, frames: Any
) -> None:
    bench = await make_bench(retention="10d")
    await serve_data(bench, may_only_record=True)
    path = bench.home.root / "record.sock"
    client = connect(path)
    start = frames.start(user="liar", host="elsewhere", uid=4711)
    start.start.retain_s = 1
    await client.send(start)
    accepted = (await client.receive()).accepted
    assert accepted.metadata.uid == os.getuid()
    assert accepted.metadata.user not in ("liar", "")
    assert accepted.metadata.host == socket.gethostname()
    kept_s = (
        await bench.node.manager.info(accepted.session_id)
    ).retain_until_s - accepted.started_ns // 10**9
    assert kept_s == 10 * 86400
    for refused in (
        data_pb2.ClientFrame(get=data_pb2.GetRecording(session_id=accepted.session_id)),
        data_pb2.ClientFrame(continue_recording=data_pb2.ContinueRecording(session_id=accepted.session_id)),
    ):
        other = connect(path)
        await other.send(refused)
        assert (await other.receive()).failure.code == "UsageError"
    assert (await bench.node.manager.info(accepted.session_id)).state == RECORDING


async def test_a_full_store_is_told_and_shows_in_health(
    make_bench: Any, serve_data: Any, connect: Any, frames: Any
) -> None:
    bench = await make_bench(quota="2M")
    await serve_data(bench)
    client = connect(bench.home.data_socket)
    await client.send(frames.start())
    accepted = (await client.receive()).accepted
    position = 0
    while True:
        await client.send(frames.data(position, os.urandom(200_000)))
        frame = await client.receive()
        if frame.HasField("failure"):
            break
        position = frame.acknowledged.position
    assert frame.failure.code == "StoreFull"
    assert not bench.node.health.serving
    info = await bench.node.manager.info(accepted.session_id)
    assert info.state == INTERRUPTED
    assert position > 0


def test_sockets_have_their_permissions(tmp_path: Path) -> None:
    for mode in (0o600, 0o660):
        path = tmp_path / f"{mode}.sock"
        with open_socket(path, mode, os.getgid()):
            assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with open_socket(path, 0o600, None), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_that_was_never_opened_is_stale_only_if_it_is_ours(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    path.chmod(0)  # as a kill between bind and chmod leaves it
    found, uid = path.lstat(), os.getuid()
    assert is_stale(found, errno.EACCES, uid)
    assert not is_stale(found, errno.EACCES, uid + 1)
    assert not is_stale(found, 0, uid)
    with open_socket(path, 0o600, None):
        assert not is_stale(path.lstat(), errno.EACCES, uid)
    assert is_stale(found, errno.ECONNREFUSED, uid + 1)


def test_a_socket_in_use_and_other_files_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with open_socket(path, 0o600, None), pytest.raises(Conflict, match="another process"):
        open_socket(path, 0o600, None)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(Conflict, match="no socket"):
        open_socket(tmp_path / "file", 0o600, None)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_socket_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot be made"):
        open_socket(tmp_path / "missing" / "s", 0o600, None)


def test_a_group_that_is_not_ours_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, user: int, group: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(LocalError, match="group") as caught:
        open_socket(tmp_path / "s", 0o660, 4711)
    assert "member" in caught.value.hint


async def test_an_error_of_our_own_ends_one_connection_only(
    bench: Any, serve_data: Any, connect: Any, frames: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await serve_data(bench)

    async def fail(request: object) -> None:
        raise ZeroDivisionError("a bug")

    client = connect(bench.home.data_socket)
    with monkeypatch.context() as patch:
        patch.setattr(bench.node.manager, "open_recording", fail)
        await client.send(frames.start())
        assert await client.is_closed()
    await record_stream(connect(bench.home.data_socket), frames, b"still there")
    assert "ZeroDivisionError" in bench.log.getvalue()


def mangle(frame: bytes, rng: random.Random) -> bytes:
    """A frame with some bytes changed, cut off, or repeated."""
    mangled = bytearray(frame)
    for _ in range(rng.randrange(1, 6)):
        match rng.randrange(3):
            case 0:
                mangled[rng.randrange(len(mangled))] = rng.randrange(256)
            case 1:
                del mangled[rng.randrange(1, len(mangled) + 1) :]
            case 2:
                mangled += rng.randbytes(rng.randrange(20))
    return bytes(mangled)


@pytest.mark.parametrize("seed", range(20))
async def test_no_bytes_bring_the_server_down(
    bench: Any, serve_data: Any, connect: Any, frames: Any, eventually: Eventually, seed: int
) -> None:
    await serve_data(bench)
    rng = random.Random(seed)
    good = [
        frames.start(name="n", tags=["t"]),
        frames.data(0, b"some bytes"),
        frames.finish,
        data_pb2.ClientFrame(get=data_pb2.GetRecording(session_id=b"x" * 16)),
        data_pb2.ClientFrame(continue_recording=data_pb2.ContinueRecording(session_id=b"x" * 16)),
    ]
    for _ in range(10):
        client = connect(bench.home.data_socket)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for frame in rng.sample(good, k=rng.randrange(1, 4)):
                encoded = frame.SerializeToString()
                message = len(encoded).to_bytes(4, "big") + encoded
                await client.send_bytes(mangle(message, rng) if rng.random() < 0.7 else message)
        client.close()
    await record_stream(connect(bench.home.data_socket), frames, b"still there")
    registry = bench.node.metrics.registry
    await eventually(lambda: registry.get_sample_value("lucid_connections", {"socket": "data"}) == 0)
    assert "Traceback" not in bench.log.getvalue()
    assert all(info.state != RECORDING for info in (await bench.node.manager.list()))
