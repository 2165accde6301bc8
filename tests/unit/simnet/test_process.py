"""Children end with their group, and with whoever started them."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from node import child
from simnet.process import Child, describe_end

Eventually = Callable[[Callable[[], bool]], None]

FOREVER = "import signal; print('up', flush=True); signal.pause()"
WITH_GRANDCHILD = "import os, signal\npid = os.fork()\nif pid: print(pid, flush=True)\nsignal.pause()"
WITH_DAUGHTER = (
    "import subprocess, sys, signal\n"
    "print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True)\nsignal.pause()"
)
STUBBORN = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); signal.pause()"


def start(code: str, folder: Path) -> tuple[Child, Path]:
    with (folder / "output").open("wb") as output:
        return Child([sys.executable, "-c", code], dict(os.environ), output, output), Path(output.name)


def read_command(pid: int) -> bytes:
    """Empty for a process that has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


async def test_killing_kills_the_group(tmp_path: Path, eventually: Eventually) -> None:
    running, output = start(WITH_GRANDCHILD, tmp_path)
    eventually(lambda: output.read_text().endswith("\n"))
    grandchild = int(output.read_text())
    assert WITH_GRANDCHILD.encode() in read_command(grandchild)
    running.kill()
    await running.ended.wait()
    assert running.returncode == -signal.SIGKILL
    eventually(lambda: read_command(grandchild) == b"")
    running.kill()  # nothing any more
    running.terminate()


async def test_a_power_cut_ends_what_has_a_group_of_its_own(tmp_path: Path, eventually: Eventually) -> None:
    running, output = start(WITH_DAUGHTER, tmp_path)
    eventually(lambda: output.read_text().endswith("\n"))
    daughter = int(output.read_text())
    assert os.getpgid(daughter) == daughter
    await running.cut()
    assert running.returncode == -signal.SIGKILL
    assert read_command(daughter) == b""
    await running.cut()  # nothing any more


async def test_what_a_child_left_behind_ends_with_it(tmp_path: Path, eventually: Eventually) -> None:
    running, output = start(WITH_GRANDCHILD, tmp_path)
    eventually(lambda: output.read_text().endswith("\n"))
    os.kill(running.pid, signal.SIGTERM)
    await running.ended.wait()
    assert running.returncode == -signal.SIGTERM
    eventually(lambda: read_command(int(output.read_text())) == b"")


@pytest.mark.parametrize(("code", "number"), [(FOREVER, signal.SIGTERM), (STUBBORN, signal.SIGKILL)])
async def test_stopping_asks_first(tmp_path: Path, eventually: Eventually, code: str, number: int) -> None:
    running, output = start(code, tmp_path)
    eventually(lambda: output.read_text() == "up\n")
    await running.stop(grace_s=0.2 if number == signal.SIGKILL else 60)
    assert running.returncode == -number


async def test_exit_status(tmp_path: Path) -> None:
    running, _ = start("raise SystemExit(3)", tmp_path)
    await running.ended.wait()
    assert running.returncode == 3
    assert describe_end(3) == "ended with status 3"
    assert describe_end(-9) == "killed by SIGKILL"
    assert describe_end(-40) == "killed by signal 40"


def test_a_child_is_killed_with_its_parent(eventually: Eventually) -> None:
    starter = (
        "import subprocess, sys, time; from node.child import make_command\n"
        f"command = make_command([sys.executable, '-c', {FOREVER!r}])\n"
        "child = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert b"signal.pause" in read_command(pid)
        parent.kill()
    eventually(lambda: read_command(pid) == b"")


def test_a_child_whose_parent_is_gone_does_not_start() -> None:
    command = [sys.executable, "-I", "-S", child.__file__, "1", sys.executable, "-c", "print('started')"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == child.EXIT_FAILED
    assert done.stdout == b""


def test_what_cannot_be_run_is_told_of(tmp_path: Path) -> None:
    done = subprocess.run(child.make_command([str(tmp_path)]), capture_output=True, text=True, check=False)
    assert done.returncode == child.EXIT_FAILED
    assert done.stderr == f"{tmp_path} cannot be run: Permission denied\n"
