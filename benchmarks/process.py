"""Programs under measurement: started, measured as a whole, ended by their process ID."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """A program did not do what was to be measured."""


@dataclass(frozen=True)
class Usage:
    """What one run of a program took.

    Attributes:
        wall_s: from its start until its end, and until `sync` returned where that was asked for.
        run_s: from its start until its end.
        cpu_s: user and system time of the program and the children that it waited for.
        peak_bytes: greatest resident size of one process; None where it is not above our own, which a child
            inherits until it loads its program.
        output: its standard output.
    """

    wall_s: float
    run_s: float
    cpu_s: float
    peak_bytes: int | None
    output: str


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    *,
    directory: Path | None = None,
    sync: bool = False,
) -> Usage:
    """Runs a program to its end.

    Args:
        command: program and arguments.
        environment: its whole environment.
        directory: where to run it.
        sync: writes out dirty pages before the clock starts, and again inside the timing.

    Raises:
        BenchmarkError: it failed; the message ends with what it said last.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as complaints:
        if sync:
            os.sync()
        start = perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=complaints,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        run_s = perf_counter() - start
        if sync:
            os.sync()
        wall_s = perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise BenchmarkError(f"{describe(command)} failed: {_read_tail(complaints.fileno())}")
        output.seek(0)
        text = output.read().decode(errors="replace")
    own_peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_bytes = usage.ru_maxrss * 1024 if usage.ru_maxrss > own_peak_kib else None
    return Usage(wall_s, run_s, usage.ru_utime + usage.ru_stime, peak_bytes, text)


def describe(command: Sequence[str | Path]) -> str:
    """The beginning of a command line, for messages."""
    return " ".join([Path(command[0]).name, *map(str, command[1:4])])


def _read_tail(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, 2000, max(0, size - 2000)).decode(errors="replace").strip()


@contextmanager
def running(
    command: Sequence[str | Path], environment: Mapping[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """A program in the background; on leaving it is asked to end, and after 30 s made to."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            [str(part) for part in command],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        yield process
    finally:
        end(process)


def end(process: "subprocess.Popen[bytes]", grace_s: float = 30) -> None:
    """Ends one process that we started."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def get_cpu_s(pid: int) -> float:
    """User and system time that a running process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def get_tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for member in found:
        for task in Path(f"/proc/{member}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def reset_peak(pid: int) -> None:
    """Forgets the peak resident size of a process and its descendants; needs the right to write there."""
    for member in get_tree(pid):
        Path(f"/proc/{member}/clear_refs").write_text("5")


def get_memory(pid: int) -> dict[str, int]:
    """Bytes of a process and its descendants together: `VmHWM`, `VmRSS`, and `Pss` (shared pages divided)."""
    total = {"VmHWM": 0, "VmRSS": 0, "Pss": 0}
    for member in get_tree(pid):
        for file in ("status", "smaps_rollup"):
            for line in Path(f"/proc/{member}/{file}").read_text().splitlines():
                key, _, value = line.partition(":")
                if key in total:
                    total[key] += int(value.split()[0]) * 1024
    return total


def compute_tree_bytes(directory: Path) -> int:
    """Sizes of all files below a directory."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file())


def touch_memory(size_bytes: int) -> None:
    """Takes so much memory and gives it back, so that the next one to need it finds it ready.

    In a virtual machine the host hands memory out on its first use, and may take it back once it was freed:
    that costs seconds per GiB, and would hit whoever runs first.
    """
    code = "import mmap, sys; mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_POPULATE)"
    run([sys.executable, "-c", code, str(size_bytes)], os.environ)


def warm(path: Path) -> None:
    """Reads a file, so that it is in the page cache."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 22):
            pass
