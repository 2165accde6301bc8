import os
import socket
import tarfile
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from kernel.errors import NotFound, StoreFull, Unavailable, UsageError
from lucid.v1 import data_pb2, session_pb2
from node.client import frames
from node.client import link as link_module
from node.client.recording import record_directory, record_file, record_stream
from node.client.request import RecordRequest
from tests.unit.node.client.scripted_daemon import ScriptedDaemon, refuse

REQUEST = RecordRequest(name="demo", tags=("a", "b"), retain_s=60)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives a lost daemon up at once."""
    monkeypatch.setattr(link_module, "RECONNECT_S", 0.2)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_a_file_is_passed(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"contents" * 1000)
    told: list[data_pb2.TransferProgress] = []
    done = record_file(daemon.path, path, REQUEST, told.append)
    assert done.plaintext_bytes == 8000
    assert daemon.session.data == path.read_bytes()
    assert [progress.plaintext_bytes for progress in told] == [8000]
    start = daemon.session.request
    assert (start.kind, start.retain_s) == (session_pb2.SOURCE_KIND_FILE, 60)
    assert (start.metadata.name, list(start.metadata.tags)) == ("demo", ["a", "b"])
    assert start.metadata.source == str(path)
    assert start.metadata.source_bytes == 8000
    assert start.metadata.source_modified_ns == path.stat().st_mtime_ns
    assert start.metadata.host == socket.gethostname()


def test_a_file_is_passed_again_to_the_next_daemon(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"contents")
    daemon.set(reads_files=False)
    outcome: list[data_pb2.RecordingDone] = []
    thread = threading.Thread(target=lambda: outcome.append(record_file(daemon.path, path, REQUEST)))
    thread.start()
    daemon.wait(daemon.is_open)
    session = daemon.session
    daemon.kill()
    session.data, session.position = bytearray(b"cont"), 4
    daemon.set(reads_files=True)
    daemon.start()
    thread.join(30)
    assert outcome[0].plaintext_bytes == 8
    assert session.data == b"contents"
    assert session.resumptions == 1


def test_what_is_no_file_is_refused(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError):
        record_file(daemon.path, tmp_path / "fifo", REQUEST)
    with pytest.raises(UsageError):
        record_file(daemon.path, tmp_path, REQUEST)
    with pytest.raises(NotFound):
        record_file(daemon.path, tmp_path / "none", REQUEST)
    with pytest.raises(NotFound):
        record_directory(daemon.path, tmp_path / "none", REQUEST)
    with pytest.raises(UsageError):
        record_directory(daemon.path, Path("/dev/null"), REQUEST)
    assert daemon.sessions == {}


def test_the_owner_goes_on_in_a_session(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"contents")
    record_file(daemon.path, path, REQUEST)
    session = daemon.session
    session.data, session.position = bytearray(b"co"), 2
    record_file(daemon.path, path, RecordRequest(session_id=session.session_id))
    assert session.data == b"contents"
    assert daemon.requests[-1].continue_recording.resume_token == b""
    with pytest.raises(UsageError):
        record_directory(daemon.path, tmp_path, RecordRequest(session_id=session.session_id))
    with pytest.raises(UsageError):
        record_file(daemon.path, path, RecordRequest(session_id=b"short"))


def test_a_stream(daemon: ScriptedDaemon, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    data = os.urandom(3 << 20)

    def feed() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=feed)
    thread.start()
    record_stream(daemon.path, reading, REQUEST)
    thread.join()
    assert daemon.session.data == data
    assert daemon.session.finish == data_pb2.FinishRecording()
    assert daemon.session.request.kind == session_pb2.SOURCE_KIND_STREAM


def test_standard_input_that_is_a_file_is_passed(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"contents")
    with path.open("rb") as file:
        record_stream(daemon.path, file.fileno(), REQUEST)
    assert daemon.session.data == b"contents"
    assert daemon.session.request.kind == session_pb2.SOURCE_KIND_FILE


def test_a_slow_daemon_slows_the_source(daemon: ScriptedDaemon, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    daemon.set(acknowledges=False)
    taken = 0
    has_ended = threading.Event()

    def feed() -> None:
        nonlocal taken
        for _ in range(48):
            taken += os.write(writing, bytes(256 << 10))
        os.close(writing)
        has_ended.set()

    feeder = threading.Thread(target=feed)
    recorder = threading.Thread(target=record_stream, args=(daemon.path, reading, REQUEST))
    feeder.start()
    recorder.start()
    least = link_module.WINDOW_BYTES - frames.MAX_PIECE_BYTES
    daemon.wait(lambda: daemon.sessions and daemon.session.position >= least)
    assert not has_ended.is_set()
    assert taken <= link_module.WINDOW_BYTES + (512 << 10)
    daemon.kill()
    daemon.set(acknowledges=True)
    daemon.start()
    feeder.join(30)
    recorder.join(30)
    assert daemon.session.data == bytes(48 * 256 << 10)


@pytest.mark.usefixtures("impatient")
def test_a_stream_without_daemon_fails(daemon: ScriptedDaemon, pipe: tuple[int, int]) -> None:
    reading, _ = pipe
    failures: list[Exception] = []

    def record() -> None:
        try:
            record_stream(daemon.path, reading, REQUEST)
        except Unavailable as error:
            failures.append(error)

    thread = threading.Thread(target=record)
    thread.start()
    daemon.wait(daemon.is_open)
    daemon.kill()
    thread.join(30)
    assert "no progress" in str(failures[0])


def test_a_refused_stream(daemon: ScriptedDaemon, pipe: tuple[int, int]) -> None:
    daemon.set(answers=lambda frame: refuse("StoreFull"))
    with pytest.raises(StoreFull):
        record_stream(daemon.path, pipe[0], REQUEST)


def test_texts_that_cannot_be_sent_are_cleaned(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"contents")
    record_file(daemon.path, path, RecordRequest(name="na\udcffme", tags=("\udcfft",)))
    metadata = daemon.session.request.metadata
    assert (metadata.name, list(metadata.tags)) == ("na\ufffdme", ["\ufffdt"])


def read_tar(data: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=BytesIO(data))


def test_a_directory(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "sub/deep").mkdir(parents=True)
    (top / "sub/file").write_bytes(b"x" * 1_000_000)
    (top / os.fsdecode(b"name \xff")).write_bytes(b"odd")
    os.link(top / "sub/file", top / "twin")
    (top / "link").symlink_to("/etc/passwd")
    (top / "dangling").symlink_to("nowhere")
    os.mkfifo(top / "fifo")
    (top / "sub").chmod(0o750)
    with socket.socket(socket.AF_UNIX) as listener:
        cwd = Path.cwd()
        try:
            os.chdir(top)
            listener.bind("socket")
        finally:
            os.chdir(cwd)
    outcome = record_directory(daemon.path, top, REQUEST)
    assert outcome.unreadable == 0
    assert outcome.done.plaintext_bytes == len(daemon.session.data)
    with read_tar(bytes(daemon.session.data)) as tar:
        names = tar.getnames()
        assert names == [
            "top",
            "top/dangling",
            "top/fifo",
            "top/link",
            os.fsdecode(b"top/name \xff"),
            "top/sub",
            "top/sub/deep",
            "top/sub/file",
            "top/twin",
        ]
        assert tar.getmember("top/link").linkname == "/etc/passwd"
        assert tar.getmember("top/link").issym()
        assert tar.getmember("top/fifo").isfifo()
        assert tar.getmember("top/twin").linkname == "top/sub/file"
        assert tar.getmember("top/sub").mode == 0o750
        member = tar.getmember("top/sub/file")
        assert abs(member.mtime - (top / "sub/file").stat().st_mtime) < 1e-3
        contents = tar.extractfile(member)
        assert contents
        assert contents.read() == b"x" * 1_000_000


def test_the_same_tree_is_the_same_stream(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    for name in "cab":
        (tmp_path / name).write_text(name)
    for _ in range(2):
        record_directory(daemon.path, tmp_path, REQUEST)
    first, second = daemon.sessions.values()
    assert first.data == second.data
