"""How long a keystroke takes to its echo, in a bare pty and in one that is being recorded.

We own the outer pty, as a terminal emulator does. In it runs the child itself (bare), or a recorder that runs
the same child in a pty of its own. The child puts its terminal into raw mode and answers each byte with
itself, as a line editor does, and ends after a known count of keys. A key is typed only after the one before
was echoed: faster than anybody types, but keys never queue.
"""

import fcntl
import gc
import os
import random
import select
import struct
import subprocess
import termios
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns, sleep

from benchmarks.lucid_node import Node
from benchmarks.measures import Figure, Report, Summary, Verdict, compute_percentile, format_value, interleave
from benchmarks.process import BenchmarkError, end

BARE = "bare pty"
OURS = "lucid-node"
WARM_UP_KEYS = 20
SPACING_S = (0.015, 0.045)
TIMEOUT_MS = 30_000
_READY = b"ready>"
_SIZE = struct.pack("HHHH", 24, 80, 0, 0)
_NS_PER_MS = 1e6


@dataclass(frozen=True)
class Recorder:
    """How to run a child in a recorded terminal.

    Attributes:
        command: the whole command line, from the child's.
        environment: its environment.
        recording: the file that must hold what was typed; None for ours: the node is asked.
    """

    command: Callable[[str], Sequence[str | Path]]
    environment: Mapping[str, str]
    recording: Path | None = None


def measure_terminal(scratch: Path, subjects: list[str], rounds: int, keys: int, report: Report) -> Figure:
    """The figure: `keys` keystrokes per recorder in each of `rounds` interleaved rounds."""
    latencies: dict[str, list[list[float]]] = {}
    with ExitStack() as stack:
        node = _make_node(scratch, stack) if OURS in subjects else None
        recorders = _make_recorders(scratch, subjects, node)
        for number, subject in interleave(list(recorders), rounds):
            report(f"terminal: {subject}, round {number + 1} of {rounds}")
            measured = _type_keys(recorders[subject], keys, random.Random(number))
            latencies.setdefault(subject, []).append(measured)
        if node is not None:
            _check_sessions(node, rounds, keys)
    return _describe(latencies, rounds, keys)


def _make_node(scratch: Path, stack: ExitStack) -> Node:
    directory = scratch / "n"
    directory.mkdir()
    node = Node(directory)
    stack.callback(node.close)
    return node


def _make_recorders(scratch: Path, subjects: list[str], node: Node | None) -> dict[str, Recorder]:
    directory = scratch / "terminal"
    directory.mkdir()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm-256color",
        "SHELL": "/bin/sh",
        "ASCIINEMA_CONFIG_HOME": str(directory),
    }
    typescript, timing, cast = directory / "typescript", directory / "timing", directory / "cast"
    recorders = {
        BARE: Recorder(lambda child: ["sh", "-c", child], environment),
        "script": Recorder(
            lambda child: ["script", "-q", "-e", "-c", child, "-O", typescript, "-T", timing],
            environment,
            typescript,
        ),
        "asciinema": Recorder(
            lambda child: ["asciinema", "rec", "-q", "--overwrite", "-c", child, cast], environment, cast
        ),
    }
    if node is not None:
        recorders[OURS] = Recorder(
            lambda child: node.command("session", "record", "--", "sh", "-c", child),
            environment | node.environment,
        )
    return {name: recorder for name, recorder in recorders.items() if name in (BARE, *subjects)}


def _type_keys(recorder: Recorder, keys: int, rng: random.Random) -> list[float]:
    """Milliseconds from typing a key to its echo, for each key."""
    count = WARM_UP_KEYS + keys
    child = f"stty raw -echo && printf '{_READY.decode()}' && exec dd bs=1 count={count} status=none"
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, _SIZE)
    process = subprocess.Popen(
        ["setsid", "--ctty", *map(str, recorder.command(child))],
        env=dict(recorder.environment),
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    gc.disable()
    try:
        seen = _read_until(master, _READY)
        latencies = [_type_key(master, rng) for _ in range(count)]
        seen += _read_to_end(master)
        if process.wait(TIMEOUT_MS / 1000) != 0:
            raise BenchmarkError(f"the recorder failed: {seen[-1000:].decode(errors='replace')}")
    finally:
        gc.enable()
        end(process)
        os.close(master)
    if recorder.recording is not None and recorder.recording.stat().st_size < count:
        raise BenchmarkError(f"{recorder.recording.name} does not hold what was typed")
    return latencies[WARM_UP_KEYS:]


def _check_sessions(node: Node, rounds: int, keys: int) -> None:
    """A shell goes on when its recording fails: its exit status alone does not say that all was recorded."""
    sessions = node.list_sessions()
    whole = [
        session
        for session in sessions
        if session["state"] == "complete" and not session["lost_bytes"] and session["plaintext_bytes"] > keys
    ]
    if len(whole) != rounds:
        raise BenchmarkError(f"{len(whole)} of {rounds} terminal sessions are whole: {sessions}")


def _type_key(master: int, rng: random.Random) -> float:
    sleep(rng.uniform(*SPACING_S))
    key = bytes([rng.randrange(ord("a"), ord("z") + 1)])
    start = perf_counter_ns()
    os.write(master, key)
    echo = _read(master)
    latency = perf_counter_ns() - start
    if echo != key:
        raise BenchmarkError(f"typed {key!r}, echoed {echo!r}")
    return latency / _NS_PER_MS


def _read(master: int) -> bytes:
    """What the terminal shows next; nothing at its end."""
    poll = select.poll()
    poll.register(master, select.POLLIN)
    if not poll.poll(TIMEOUT_MS):
        raise BenchmarkError("no echo")
    with suppress(OSError):  # EIO: nobody has the other side open any more
        return os.read(master, 1 << 16)
    return b""


def _read_until(master: int, marker: bytes) -> bytes:
    seen = b""
    while not seen.endswith(marker):
        piece = _read(master)
        if not piece:
            raise BenchmarkError(f"the recorder ended early: {seen.decode(errors='replace')}")
        seen += piece
    return seen


def _read_to_end(master: int) -> bytes:
    seen = b""
    while piece := _read(master):
        seen += piece
    return seen


def _describe(latencies: dict[str, list[list[float]]], rounds: int, keys: int) -> Figure:
    figure = Figure("terminal", "From keystroke to echo")
    percents = (50, 95, 99)
    found: dict[str, dict[int, float]] = {}
    for subject, by_round in latencies.items():
        pooled = [value for measured in by_round for value in measured]
        found[subject] = {percent: compute_percentile(pooled, percent) for percent in percents}
        p99s = [compute_percentile(measured, 99) for measured in by_round]
        figure.rows.append(
            {
                "recorder": subject,
                "keys": len(pooled),
                **{f"p{percent} ms": found[subject][percent] for percent in percents},
                "p99 range": Summary.of(p99s).cells("p99")["p99 range"],
                **{
                    f"added p{percent} ms": found[subject][percent] - found[BARE][percent]
                    for percent in percents
                },
            }
        )
    added = {subject: values[99] - found[BARE][99] for subject, values in found.items() if subject != BARE}
    bars = [(subject, values[99]) for subject, values in found.items()]
    figure.bars["From keystroke to echo, p99, milliseconds"] = bars
    figure.verdicts = _judge(added)
    spacing = " to ".join(f"{1000 * bound:.0f}" for bound in SPACING_S)
    figure.notes = [
        f"{rounds} interleaved rounds of {keys} keys each, {spacing} ms apart, the same sequence for all.",
        "Child: `dd bs=1` on a raw terminal. Added: percentile minus the same percentile of the bare pty.",
        "`script` writes typescript and timing, `asciinema` its own format; neither encrypts or syncs.",
    ]
    return figure


def _judge(added: dict[str, float]) -> list[Verdict]:
    if OURS not in added:
        return []
    ours = added[OURS]
    measured = f"{format_value(ours)} ms"
    bounds = {
        "added p99 at most that of script + 2 ms": ("script", 2),
        "added p99 below asciinema's": ("asciinema", 0),
    }
    return [
        Verdict(target, measured, ours < added[other] + slack)
        for target, (other, slack) in bounds.items()
        if other in added
    ]
