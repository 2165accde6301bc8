import os
import threading
from pathlib import Path

import pytest

from kernel.errors import InvalidRecord, LocalError, NotFound, Unavailable
from lucid.v1 import data_pb2
from node.client.getting import get_recording
from tests.unit.node.client.scripted_daemon import ScriptedDaemon, encode, refuse

ID = b"i" * 16
CONTENTS = b"recorded " * 100_000


def test_into_a_file(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    daemon.contents[ID] = CONTENTS
    with (tmp_path / "out").open("wb") as file:
        done = get_recording(daemon.path, ID, file.fileno(), partial=True, follow=True)
    assert done.plaintext_bytes == len(CONTENTS)
    assert (tmp_path / "out").read_bytes() == CONTENTS
    assert daemon.requests[0].get == data_pb2.GetRecording(session_id=ID, partial=True, follow=True)


def test_into_a_file_that_has_something(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    daemon.contents[ID] = CONTENTS
    path = tmp_path / "out"
    path.write_bytes(b"before ")
    with path.open("ab") as file:
        get_recording(daemon.path, ID, file.fileno())
    assert path.read_bytes() == b"before " + CONTENTS


def test_into_a_pipe_whose_flags_stay(daemon: ScriptedDaemon) -> None:
    daemon.contents[ID] = CONTENTS
    reading, writing = os.pipe()
    got = bytearray()

    def drain() -> None:
        while piece := os.read(reading, 65536):
            got.extend(piece)

    thread = threading.Thread(target=drain)
    thread.start()
    get_recording(daemon.path, ID, writing)
    assert os.get_blocking(writing)
    os.close(writing)
    thread.join()
    os.close(reading)
    assert got == CONTENTS


def test_the_reader_goes(daemon: ScriptedDaemon) -> None:
    daemon.contents[ID] = CONTENTS
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        get_recording(daemon.path, ID, writing)
    os.close(writing)


def test_the_output_is_full(daemon: ScriptedDaemon) -> None:
    daemon.contents[ID] = CONTENTS
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(LocalError, match="No space"):
        get_recording(daemon.path, ID, full.fileno())


@pytest.mark.parametrize("is_file", [True, False])
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refuse("NotFound"), NotFound),
        (encode(accepted=data_pb2.RecordingAccepted()), InvalidRecord),
        (b"\xff\xff\xff\xff", InvalidRecord),
        (b"\0\0", Unavailable),
    ],
)
def test_failures(
    daemon: ScriptedDaemon, tmp_path: Path, answer: bytes, kind: type[Exception], is_file: bool
) -> None:
    daemon.set(answers=lambda frame: answer)
    path = tmp_path / "out" if is_file else Path("/dev/null")
    with path.open("wb") as file, pytest.raises(kind):
        get_recording(daemon.path, ID, file.fileno())


def test_progress_is_told(daemon: ScriptedDaemon) -> None:
    progress = data_pb2.TransferProgress(plaintext_bytes=5, total_bytes=10)
    answer = encode(progress=progress) + encode(got=data_pb2.GetDone(plaintext_bytes=10))
    daemon.set(answers=lambda frame: answer)
    told: list[data_pb2.TransferProgress] = []
    with Path("/dev/null").open("wb") as file:
        assert get_recording(daemon.path, ID, file.fileno(), on_progress=told.append).plaintext_bytes == 10
    assert told == [progress]
