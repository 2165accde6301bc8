"""Terminal sessions as a person has them: a recorder process on a real terminal, and a scripted daemon."""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from session import asciicast
from session.asciicast import Event, Header
from tests.unit.node.client.scripted_daemon import ScriptedDaemon, refuse
from tests.unit.node.terminal.person import DEADLINE_S, ROOT, Person

# Arguments: socket, options of TerminalOptions as JSON, seconds until a lost daemon is given up, command.
RECORDER = """
import json, os, sys
from pathlib import Path
from node.client import link
from node.terminal import loop
from node.terminal.recorder import TerminalOptions, record_terminal
link.RECONNECT_S = float(sys.argv[3])
loop.KILL_S = loop.HANG_UP_S = 0.2
options = json.loads(sys.argv[2])
options["session_id"] = bytes.fromhex(options.get("session_id", ""))
outcome = record_terminal(Path(sys.argv[1]), sys.argv[4:], TerminalOptions(**options))
try:
    if outcome.failure:
        os.write(2, f"FAILURE {outcome.failure}\\n".encode())
    os.write(2, f"lost {outcome.lost_bytes} {'closed' if outcome.done else 'open'}\\n".encode())
except OSError:
    pass
sys.exit(outcome.exit_status)
"""

Record = Callable[..., Person]


@pytest.fixture
def daemon() -> Iterator[ScriptedDaemon]:
    with tempfile.TemporaryDirectory(prefix="lucid") as folder:
        daemon = ScriptedDaemon(Path(folder) / "data.sock")
        daemon.start()
        yield daemon
        daemon.kill()
        assert daemon.errors == []


@pytest.fixture
def record(daemon: ScriptedDaemon) -> Iterator[Record]:
    people: list[Person] = []

    def start(
        *command: str, patience_s: float = 30, environ: dict[str, str] | None = None, **options: object
    ) -> Person:
        arguments = [str(daemon.path), json.dumps(options), str(patience_s), *command]
        people.append(Person(RECORDER, *arguments, environ=environ))
        return people[-1]

    yield start
    for person in people:
        person.close()


def run_plain(
    daemon: ScriptedDaemon, command: list[str], given: bytes, **options: object
) -> "subprocess.CompletedProcess[bytes]":
    """Without any terminal."""
    return subprocess.run(
        [sys.executable, "-c", RECORDER, str(daemon.path), json.dumps(options), "30", *command],
        input=given,
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
    )


def read_cast(daemon: ScriptedDaemon) -> tuple[Header, list[Event]]:
    assert all(piece.endswith(b"\n") for piece in daemon.session.pieces)
    first, *lines = bytes(daemon.session.data).splitlines()
    return asciicast.decode_header(first), [asciicast.decode_event(line) for line in lines]


def text_of(daemon: ScriptedDaemon, code: str) -> str:
    return "".join(event.data for event in read_cast(daemon)[1] if event.code == code)


def test_a_shell_is_recorded(daemon: ScriptedDaemon, record: Record) -> None:
    person = record("sh", name="my shell", tags=["x"])
    person.see(b"$ ")
    person.press(b"echo $((6*7)) $LUCID_SESSION_ID $TERM $SHELL; exit 5\r")
    person.see(b"42 01010101010101010101010101010101 xterm /bin/sh")
    assert person.wait() == 5
    header, events = read_cast(daemon)
    assert (header.columns, header.rows, header.title) == (80, 24, "my shell")
    assert header.environment == {"SHELL": "/bin/sh", "TERM": "xterm"}
    assert "42 0101" in text_of(daemon, "o")
    assert [event.seconds for event in events] == sorted(event.seconds for event in events)
    assert {event.code for event in events} == {"o"}
    metadata = daemon.session.request.metadata
    assert list(metadata.command) == ["sh"]
    assert (metadata.columns, metadata.rows, metadata.term) == (80, 24, "xterm")
    assert metadata.tty.startswith("/dev/pts/")
    assert daemon.session.finish and daemon.session.finish.exit_status == 5
    assert not daemon.session.request.records_input


def test_the_terminal_is_raw_meanwhile_and_as_it_was_afterwards(record: Record) -> None:
    person = record("sh", "-c", "echo ready; read line; exit 0")
    person.see(b"ready")
    assert person.get_attributes() != person.attributes
    person.press(b"\r")
    person.wait()
    assert person.get_attributes() == person.attributes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_reach_the_command(daemon: ScriptedDaemon, record: Record, number: signal.Signals) -> None:
    person = record(
        "sh", "-c", f"trap 'echo caught; exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.1; done"
    )
    person.see(b"ready")
    person.process.send_signal(number)
    person.see(b"caught")
    assert person.wait() == 9
    assert person.get_attributes() == person.attributes
    assert "caught" in text_of(daemon, "o")


def test_a_shell_that_ignores_sigterm_is_hung_up(record: Record) -> None:
    person = record("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    person.see(b"ready")
    person.process.terminate()
    assert person.wait() == 128 + signal.SIGHUP


def test_a_killed_command(daemon: ScriptedDaemon, record: Record) -> None:
    person = record("sh", "-c", "echo ready; kill -KILL $$")
    assert person.wait() == 128 + signal.SIGKILL
    assert daemon.session.finish and daemon.session.finish.exit_status == 137


def test_resizes_reach_the_command_and_the_recording(daemon: ScriptedDaemon, record: Record) -> None:
    person = record("sh", "-c", "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done")
    person.see(b"ready")
    person.resize((100, 30))
    person.see(b"30 100")
    person.process.terminate()
    person.wait()
    assert text_of(daemon, "r") == "100x30"


def test_input_is_recorded_except_where_it_is_not_shown(daemon: ScriptedDaemon, record: Record) -> None:
    script = "echo first; read a; stty -echo; echo second; read b; stty echo; echo third; read c"
    person = record("sh", "-c", script, record_input=True)
    for prompt, typed in ((b"first", b"open"), (b"second", b"hidden"), (b"third", b"more")):
        person.see(prompt + b"\r\n")
        person.press(typed + b"\r")
    person.wait()
    assert text_of(daemon, "i") == "open\rmore\r"
    assert b"hidden" not in daemon.session.data
    assert daemon.session.request.records_input


def test_binary_output(daemon: ScriptedDaemon, record: Record) -> None:
    person = record("sh", "-c", "head -c 100000 /dev/urandom; exit 3")
    assert person.wait() == 3
    exact = b""
    events = read_cast(daemon)[1]
    for event, following in zip(events, [*events[1:], None], strict=True):
        if event.code == "o":
            is_exact = following is not None and following.code == "b"
            exact += base64.b64decode(following.data) if is_exact and following else event.data.encode()
    # The pty turns each \n into \r\n, so only the rest can be counted.
    assert len(exact.replace(b"\r\n", b"\n")) in range(99_000, 100_001)


@pytest.mark.parametrize(
    ("command", "status"),
    [("/nonexistent/x", 127), ("no-such-command", 127), ("/etc/passwd", 126), ("/etc", 126)],
)
def test_a_command_that_cannot_run_leaves_no_session(
    daemon: ScriptedDaemon, record: Record, command: str, status: int
) -> None:
    person = record(command)
    assert person.wait() == status
    assert b"FAILURE" in person.screen
    assert daemon.requests == []


def test_a_command_that_the_kernel_refuses(daemon: ScriptedDaemon, record: Record, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nonsense")
    broken.chmod(0o755)
    person = record(str(broken))
    assert person.wait() == 126
    assert daemon.session.finish and daemon.session.finish.exit_status == 126


@pytest.mark.parametrize("has_pty", [True, False])
def test_a_killed_recorder_takes_the_command_with_it(
    daemon: ScriptedDaemon, record: Record, tmp_path: Path, has_pty: bool
) -> None:
    pid_file = tmp_path / "pid"
    person = record("sh", "-c", f"echo $$ >{pid_file}; echo ready; exec cat", has_pty=has_pty)
    person.see(b"ready")
    pid = int(pid_file.read_text())
    person.process.kill()
    deadline = time.monotonic() + DEADLINE_S
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        person.look()
    assert daemon.session.finish is None


def test_a_closed_terminal_ends_the_command(daemon: ScriptedDaemon, record: Record) -> None:
    person = record("sh", "-c", "trap 'echo bye; exit 4' HUP; echo ready; while :; do sleep 0.1; done")
    person.see(b"ready")
    person.leave()
    assert person.process.wait(DEADLINE_S) == 4
    assert "bye" in text_of(daemon, "o")


def test_a_daemon_that_comes_back(daemon: ScriptedDaemon, record: Record) -> None:
    person = record("sh")
    person.see(b"$ ")
    daemon.kill()
    person.press(b"echo while $((20+3))\r")
    person.see(b"while 23")
    daemon.start()
    person.press(b"exit\r")
    assert person.wait() == 0
    assert "while 23" in text_of(daemon, "o")
    assert daemon.session.gaps == []
    assert daemon.session.resumptions == 1
    assert b"lost 0 closed" in person.screen


def test_continue_goes_on_with_a_warning_and_a_gap(daemon: ScriptedDaemon, record: Record) -> None:
    person = record(
        "sh",
        "-c",
        "stty -echo; echo ready; while read n; do head -c $n /dev/zero; echo done $n; done",
        patience_s=0.3,
    )
    person.see(b"ready")
    daemon.kill()
    person.see(b"NOT BEING RECORDED")
    person.press(b"2000000\r")  # more than the window, once each byte is \u0000
    person.see(b"done 2000000")
    daemon.start()
    person.see(b"being recorded again")
    person.press(b"3\r")
    person.see(b"done 3")
    person.press(b"\x04")
    assert person.wait() == 0
    assert b"FAILURE" in person.screen
    (gap,) = daemon.session.gaps
    lost = gap[1] - gap[0]
    assert f"lost {lost} closed".encode() in person.screen
    (marker,) = [event for event in read_cast(daemon)[1] if event.code == "m"]
    assert marker.data.startswith(f"{lost} bytes of this recording were lost")
    assert text_of(daemon, "o").endswith("done 3\r\n")


def test_a_daemon_that_comes_back_before_the_end_gets_what_was_held(
    daemon: ScriptedDaemon, record: Record
) -> None:
    person = record("sh", patience_s=0.3)
    person.see(b"$ ")
    daemon.kill()
    person.see(b"NOT BEING RECORDED")
    person.press(b"echo held $((20+3))\r")
    person.see(b"held 23")
    daemon.start()
    person.press(b"exit 4\r")
    assert person.wait() == 4
    assert b"lost 0 closed" in person.screen
    assert "held 23" in text_of(daemon, "o")


def test_stop_ends_the_command(daemon: ScriptedDaemon, record: Record) -> None:
    person = record(
        "sh",
        "-c",
        "trap '' HUP; echo ready; while :; do sleep 0.1; done",
        patience_s=0.3,
        on_recording_failure="stop",
    )
    person.see(b"ready")
    daemon.kill()
    person.see(b"this session ends")
    assert person.wait() == 1
    assert b"FAILURE the recording was not closed" in person.screen
    assert person.get_attributes() == person.attributes


@pytest.mark.parametrize("is_refused", [True, False])
def test_without_a_daemon(daemon: ScriptedDaemon, record: Record, is_refused: bool) -> None:
    if is_refused:
        daemon.set(answers=lambda frame: refuse("StoreFull"))
    else:
        daemon.kill()
    person = record("sh", "-c", "echo ran; exit 6")
    person.see(b"NOT BEING RECORDED")
    person.see(b"ran")
    assert person.wait() == 6
    person = record("sh", "-c", "echo ran; exit 6", on_recording_failure="stop")
    assert person.wait() == 1
    assert b"ran" not in person.screen.replace(b"was not run", b"")
    assert daemon.sessions == {}


def test_the_end_waits_for_the_daemon_unless_the_user_does_not(
    daemon: ScriptedDaemon, record: Record
) -> None:
    person = record("sh")
    person.see(b"$ ")
    daemon.kill()
    person.press(b"exit 3\r")
    person.see(b"Ctrl-C")
    person.press(b"\x03")
    assert person.wait() == 3
    assert b"FAILURE the recording was not closed" in person.screen


def test_a_slow_daemon_slows_the_command(daemon: ScriptedDaemon, record: Record) -> None:
    daemon.set(acknowledges=False)
    person = record("sh", "-c", "head -c 2000000 /dev/zero; echo done")
    deadline = time.monotonic() + DEADLINE_S
    while not daemon.sessions or daemon.session.position < 7 << 20 or person.has_more():
        assert time.monotonic() < deadline
        person.look()
    assert b"done" not in person.screen
    assert daemon.session.position <= 8 << 20
    daemon.set(acknowledges=True)
    daemon.kill()
    daemon.start()
    person.see(b"done")
    assert person.wait() == 0
    assert text_of(daemon, "o").count("\0") == 2_000_000


def test_the_owner_goes_on_in_the_same_session(daemon: ScriptedDaemon, record: Record) -> None:
    record("sh", "-c", "echo one").wait()
    session = daemon.session
    record("sh", "-c", "echo two", session_id=session.session_id.hex()).wait()
    header, events = read_cast(daemon)
    assert [event.data for event in events if event.code == "o"] == ["one\r\n", "two\r\n"]
    assert [event.code for event in events] == ["o", "m", "r", "o"]
    # The scripted session began in 1970: times go on from there.
    assert events[1].seconds > 1e9
    assert header.timestamp == 1


def test_a_recording_inside_a_recording_is_told(record: Record) -> None:
    person = record("true", environ={"LUCID_SESSION_ID": "77"})
    person.see(b"already being recorded, in session 77")
    assert person.wait() == 0


def test_pipes_are_clean(daemon: ScriptedDaemon) -> None:
    given = bytes(range(256)) * 1000
    done = run_plain(daemon, ["sh", "-c", "cat; echo problem >&2; exit 7"], given, has_pty=False)
    assert done.stdout == given
    assert done.stderr.startswith(b"problem\n")
    assert done.returncode == 7
    assert "problem" in text_of(daemon, "o")
    assert text_of(daemon, "i") == ""


def test_pipes_input_can_be_recorded(daemon: ScriptedDaemon) -> None:
    run_plain(daemon, ["cat"], b"typed", has_pty=False, record_input=True)
    assert text_of(daemon, "i") == "typed"


@pytest.mark.parametrize("given", [b"", b"line\n", b"part", b"a\nb"])
def test_piped_input_ends_on_a_pty(daemon: ScriptedDaemon, given: bytes) -> None:
    done = run_plain(daemon, ["sh", "-c", "cat; echo end"], given)
    assert done.stdout == given.replace(b"\n", b"\r\n") + b"end\r\n"
    assert done.returncode == 0


def test_input_that_nobody_reads(daemon: ScriptedDaemon) -> None:
    done = run_plain(daemon, ["sh", "-c", "exit 2"], bytes(1 << 20), has_pty=False)
    assert done.returncode == 2


def test_output_that_nobody_reads(daemon: ScriptedDaemon, record: Record) -> None:
    for options in ({}, {"has_pty": False}):
        process = subprocess.Popen(
            [sys.executable, "-c", RECORDER, str(daemon.path), json.dumps(options), "30", "yes"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
        )
        assert process.stdout
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(DEADLINE_S) in (128 + signal.SIGHUP, 128 + signal.SIGPIPE)


def test_who_stays_behind_on_pipes_does_not_hold_it_up(daemon: ScriptedDaemon) -> None:
    done = run_plain(daemon, ["sh", "-c", "sleep 60 & echo out"], b"", has_pty=False)
    assert done.stdout == b"out\n"


def test_missing_descriptors_are_no_trouble(daemon: ScriptedDaemon) -> None:
    command = f'exec {sys.executable} -c "$0" "$@" <&-'
    done = subprocess.run(
        ["sh", "-c", command, RECORDER, str(daemon.path), "{}", "30", "sh", "-c", "echo ok"],
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
    )
    assert done.stdout == b"ok\r\n"
    assert text_of(daemon, "o") == "ok\r\n"
