"""The player on a real terminal."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lucid.v1 import data_pb2
from session import asciicast
from session.asciicast import Code, Header
from tests.unit.node.client.scripted_daemon import ScriptedDaemon, encode, refuse
from tests.unit.node.terminal.person import DEADLINE_S, ROOT, Person

ID = b"i" * 16
# Arguments: socket, options of PlayOptions as JSON.
PLAYER = """
import json, sys
from pathlib import Path
from kernel.errors import LucidError
from node.terminal.player import PlayOptions, play_session
try:
    play_session(Path(sys.argv[1]), b"i" * 16, PlayOptions(**json.loads(sys.argv[2])))
except LucidError as error:
    sys.exit(f"{type(error).__name__}: {error}")
print("END")
"""

Play = Callable[..., Person]


def build_cast(*events: tuple[float, str], columns: int = 80) -> bytes:
    return asciicast.encode_header(Header(columns, 24)) + b"".join(
        asciicast.encode_event(seconds, Code.OUTPUT, text) for seconds, text in events
    )


@pytest.fixture
def daemon() -> Iterator[ScriptedDaemon]:
    with tempfile.TemporaryDirectory(prefix="lucid") as folder:
        daemon = ScriptedDaemon(Path(folder) / "data.sock")
        daemon.start()
        yield daemon
        daemon.kill()
        assert daemon.errors == []


@pytest.fixture
def play(daemon: ScriptedDaemon) -> Iterator[Play]:
    people: list[Person] = []

    def start(**options: object) -> Person:
        people.append(Person(PLAYER, str(daemon.path), json.dumps(options)))
        return people[-1]

    yield start
    for person in people:
        person.close()


def test_it_plays_to_the_end(daemon: ScriptedDaemon, play: Play) -> None:
    daemon.contents[ID] = build_cast((0, "one "), (3600, "two "), (7200, "\x1b[?1049hthree"))
    person = play(idle_limit_s=0.05)
    person.see(b"one two \x1b[?1049hthree\x1b[?1049l")
    person.see(b"END")
    assert person.wait() == 0
    assert person.get_attributes() == person.attributes


def test_it_leaves_only_a_screen_that_was_entered(daemon: ScriptedDaemon, play: Play) -> None:
    daemon.contents[ID] = build_cast((0, "\x1b[?1049hvi"), (0, "\x1b[?1049l$ "))
    person = play()
    person.see(b"\x1b[?1049l$ ")
    person.see(b"\r\n")
    person.see(b"END")
    person.wait()
    assert b"?1049l" not in person.screen


def test_the_speed(daemon: ScriptedDaemon, play: Play) -> None:
    daemon.contents[ID] = build_cast((0, "one "), (1000, "two"))
    started = time.monotonic()
    person = play(speed=500)
    person.see(b"one ")
    person.see(b"two")
    assert time.monotonic() - started >= 2
    person.see(b"END")


def test_keys(daemon: ScriptedDaemon, play: Play) -> None:
    daemon.contents[ID] = build_cast(*((float(second), f"<{second}>") for second in range(0, 1000, 4)))
    person = play()
    person.see(b"<0>")
    person.press(b" ")
    person.press(b"\x1b[C")
    person.see(b"<4>")
    person.press(b"\x1b[C\x1b[C")
    person.see(b"<8><12>")
    person.press(b"\x1b[D")
    person.see(b"\x1b[2J\x1b[H")
    person.see(b"<0><4><8>")
    person.press(b"\x1b[H")
    person.see(b"\x1b[2J\x1b[H")
    person.see(b"<0>")
    assert b"<4>" not in person.screen  # it is still paused
    person.press(b"q")
    person.see(b"END")
    assert person.get_attributes() == person.attributes
    assert len(daemon.requests) == 3  # from the start again for every step back


def test_the_end_key(daemon: ScriptedDaemon, play: Play) -> None:
    daemon.contents[ID] = build_cast(*((float(second), f"<{second}>") for second in range(1000)))
    person = play()
    person.see(b"<0>")
    person.press(b"\x1b[F")
    person.see(b"<999>")
    person.see(b"END")


def test_interrupting_restores_the_terminal(daemon: ScriptedDaemon, play: Play) -> None:
    daemon.contents[ID] = build_cast((0, "one"), (1000, "two"))
    person = play()
    person.see(b"one")
    person.press(b"\x03")
    person.see(b"END")
    assert person.wait() == 0
    assert person.get_attributes() == person.attributes


def test_following_a_live_one(daemon: ScriptedDaemon, play: Play) -> None:
    reading, writing = os.pipe()
    daemon.live = reading
    person = play(follow=True)
    os.write(writing, build_cast((0, "past "), (1000, "present ")))
    person.see(b"past present ")
    os.write(writing, asciicast.encode_event(2000, Code.OUTPUT, "news"))
    person.see(b"news")
    person.press(b"\x1b[H")
    os.close(writing)
    person.press(b"q")
    person.see(b"END")
    assert daemon.requests[0].get.follow


def test_a_smaller_terminal_is_told(daemon: ScriptedDaemon, play: Play) -> None:
    daemon.contents[ID] = build_cast((0, "x"), columns=200)
    person = play()
    person.see(b"recorded on 200x24, this terminal has 80x24")
    person.see(b"END")


def test_damage_is_named_at_the_end(daemon: ScriptedDaemon, play: Play) -> None:
    daemon.contents[ID] = (
        build_cast((0, "x")) + b"\0\0\0\n" + asciicast.encode_event(0.1, Code.MARKER, "lost")
    )
    daemon.findings = [data_pb2.Finding(what="chunk 3 is damaged")]
    person = play()
    person.see(b"at 0.1 s: lost")
    person.see(b"1 lines of the recording could not be read")
    person.see(b"chunk 3 is damaged")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refuse("NotFound"), b"NotFound: scripted"),
        (encode(got=data_pb2.GetDone()), b"InvalidRecord: the recording is empty"),
        (b"\0", b"Unavailable"),
    ],
)
def test_failures(daemon: ScriptedDaemon, play: Play, answer: bytes, said: bytes) -> None:
    daemon.set(answers=lambda frame: answer)
    person = play()
    person.see(said)
    assert person.wait() == 1
    assert person.get_attributes() == person.attributes


def test_without_a_terminal_all_of_it_comes_at_once(daemon: ScriptedDaemon) -> None:
    daemon.contents[ID] = build_cast((0, "one "), (100_000, "two €\n"))
    done = subprocess.run(
        [sys.executable, "-c", PLAYER, str(daemon.path), "{}"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE_S,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
    )
    assert done.stdout.decode() == "one two €\nEND\n"


def test_nobody_reads_the_output(daemon: ScriptedDaemon) -> None:
    daemon.contents[ID] = build_cast(*((float(n), "x" * 1000) for n in range(1000)))
    process = subprocess.Popen(
        [sys.executable, "-c", PLAYER, str(daemon.path), "{}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
    )
    assert process.stdout
    assert process.stderr
    process.stdout.read(1)
    process.stdout.close()
    assert b"BrokenPipeError" in process.stderr.read()
    process.stderr.close()
    process.wait(DEADLINE_S)
