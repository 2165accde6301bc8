"""Starts a supervisor as a process of its own, and waits for it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

from kernel.errors import LocalError, Unavailable
from node.home import Home, lock_holder
from simnet.control import call
from simnet.layout import Cluster, Layout, is_locked, read_cluster
from simnet.progress import Report, report

POLL_S = 0.05
END_TIMEOUT_S = 60.0


def make_command(
    layout: Layout, count: int, options: Sequence[str], pid: int | None, transport: str
) -> list[str]:
    """The command line of `lucid-simnet up`."""
    flags = ["--transport", transport, *([] if pid is None else ["--pid", str(pid)])]
    program = [sys.executable, "-P", "-c", "from simnet.cli import main; main()"]
    return [*program, "up", "--nodes", str(count), "--dir", str(layout.root), *flags, "--", *options]


def start_detached(
    layout: Layout, count: int, options: Sequence[str], pid: int | None, transport: str
) -> Cluster:
    """Starts a cluster that outlives this process; returns when all nodes are healthy.

    Args:
        layout: where.
        count: of nodes.
        options: more options of `lucid-node run`, for every node.
        pid: of a process with which the cluster ends; None: of none.
        transport: how the nodes reach each other, one of `TRANSPORTS`.

    Raises:
        LocalError: it could not be brought up.
    """
    layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = layout.root / "simnet.log"
    with log.open("wb") as output:
        supervisor = subprocess.Popen(
            make_command(layout, count, options, pid, transport),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        return wait_up(layout, supervisor, log, report)
    except BaseException:
        supervisor.terminate()
        supervisor.wait()
        raise


def wait_up(layout: Layout, supervisor: "subprocess.Popen[bytes]", log: Path, report: Report) -> Cluster:
    """Waits until a supervisor that was just started has its cluster up.

    Args:
        layout: where.
        supervisor: its process.
        log: where it writes what it does.
        report: is told that, too.

    Raises:
        LocalError: it ended instead; the message is the error that it wrote.
    """
    shown = ""
    while supervisor.poll() is None:
        if (written := _read(log)) not in ("", shown):
            shown = written
            report(written.splitlines()[-1], False)
        with contextlib.suppress(LocalError):
            if lock_holder(Home(layout.root)) == supervisor.pid:
                call(layout, "status")
                report("", False)
                return read_cluster(layout)
        sleep(POLL_S)
    report("", False)
    said = _read(log)
    raise LocalError(
        said.partition("Error: ")[2] or said or f"lucid-simnet ended with status {supervisor.returncode}"
    )


def _read(log: Path) -> str:
    return log.read_text(errors="replace").strip()


def wait_down(layout: Layout, timeout_s: float) -> None:
    """Waits until no supervisor holds the directory.

    Raises:
        Unavailable: one still does when the time is up.
    """
    deadline = monotonic() + timeout_s
    while is_locked(layout):
        if monotonic() > deadline:
            raise Unavailable(f"the cluster in {layout.root} does not end", hint="Try again, or kill it.")
        sleep(POLL_S)


@contextmanager
def running_cluster(
    directory: Path, count: int, options: Sequence[str] = (), transport: str = "loopback"
) -> Iterator[Layout]:
    """A cluster for as long as the block lasts; it ends, too, when this process does, however that ends.

    Args:
        directory: where.
        count: of nodes.
        options: more options of `lucid-node run`, for every node.
        transport: how the nodes reach each other, one of `TRANSPORTS`.

    Raises:
        LocalError: it could not be brought up.
    """
    layout = Layout(directory.absolute())
    layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = layout.root / "simnet.log"
    with log.open("wb") as output:
        supervisor = subprocess.Popen(
            make_command(layout, count, options, os.getpid(), transport),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_up(layout, supervisor, log, report)
        yield layout
    finally:
        supervisor.terminate()
        try:
            supervisor.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()
