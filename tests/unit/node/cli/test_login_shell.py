import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.cli.login_shell import Invocation, plan
from tests.unit.node.client.scripted_daemon import ScriptedDaemon

ROOT = Path(__file__).parents[4]
SHELL = Path("/bin/bash")
PROGRAM = """
import sys
from pathlib import Path
from node.client import config
original, path = config.load_shell_config, Path(sys.argv.pop(1))
config.load_shell_config = lambda environ: original(environ, system_path=path)
from node.cli.login_shell import main
main()
"""


@pytest.fixture
def daemon() -> Iterator[ScriptedDaemon]:
    with tempfile.TemporaryDirectory(prefix="lucid") as folder:
        daemon = ScriptedDaemon(Path(folder) / "data.sock")
        daemon.start()
        yield daemon
        daemon.kill()
        assert daemon.errors == []


def run_shell(
    config: Path, *arguments: str, given: bytes = b"", **environ: str
) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(config), *arguments],
        input=given,
        capture_output=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", **environ},
    )


def write_config(daemon: ScriptedDaemon, text: str = "") -> Path:
    path = daemon.path.with_name("client.toml")
    path.write_text(f'socket = "{daemon.path}"\n{text}')
    return path


def test_a_login() -> None:
    own = {"SHELL": "/bin/bash", "A": "b"}
    environ = {"SHELL": "/usr/bin/lucid-shell", "A": "b"}
    expected = Invocation(["/bin/bash"], "-bash", "login bash", own, True)
    assert plan([], environ, SHELL, has_terminal=True) == expected
    assert plan(["-l"], environ, SHELL, has_terminal=True) == expected


def test_a_command() -> None:
    own = {"SHELL": "/bin/bash"}
    expected = Invocation(["/bin/bash", "-c", "ls -l"], "bash", "ls -l", own, False)
    assert plan(["-c", "ls -l"], {}, SHELL, has_terminal=False) == expected
    found = plan(["-l", "-c", "ls", "-l"], {}, SHELL, has_terminal=True)
    assert found == Invocation(["/bin/bash", "-c", "ls", "-l"], "-bash", "ls", own, True)


def test_the_command_behind_a_forced_one() -> None:
    environ = {"SSH_ORIGINAL_COMMAND": "rsync --server"}
    found = plan([], environ, SHELL, has_terminal=False)
    assert found
    assert found.command == ["/bin/bash", "-c", "rsync --server"]
    assert "SSH_ORIGINAL_COMMAND" not in found.environ  # a shell inside must not run it again
    # As a login shell it is given the forced command, which needs to know the original one.
    found = plan(["-c", "/usr/bin/forced"], environ, SHELL, has_terminal=False)
    assert found
    assert found.command == ["/bin/bash", "-c", "/usr/bin/forced"]
    assert found.environ["SSH_ORIGINAL_COMMAND"] == "rsync --server"


@pytest.mark.parametrize("arguments", [["ls"], ["-c"], ["--help"], ["-x", "-c", "ls"]])
def test_arguments_that_mean_nothing(arguments: list[str]) -> None:
    assert plan(arguments, {}, SHELL, has_terminal=True) is None


def test_it_records_what_it_runs(daemon: ScriptedDaemon) -> None:
    config = write_config(daemon, 'shell = "/bin/bash"\ntags = ["ssh"]')
    done = run_shell(config, "-c", "cat; echo $SHELL; exit 3", given=b"\0\xff")
    assert (done.stdout, done.stderr, done.returncode) == (b"\0\xff/bin/bash\n", b"", 3)
    metadata = daemon.session.request.metadata
    assert list(metadata.tags) == ["ssh"]
    assert metadata.name == "cat; echo $SHELL; exit 3"
    assert daemon.session.finish and daemon.session.finish.exit_status == 3


def test_without_a_daemon_the_policy_counts(daemon: ScriptedDaemon) -> None:
    daemon.kill()
    done = run_shell(write_config(daemon), "-c", "echo ran")
    assert (done.stdout, done.returncode) == (b"ran\n", 0)
    assert b"NOT BEING RECORDED" in done.stderr
    done = run_shell(write_config(daemon, 'on_recording_failure = "stop"'), "-c", "echo ran")
    assert (done.stdout, done.returncode) == (b"", 1)
    assert b"cannot be recorded" in done.stderr


def test_a_broken_configuration(daemon: ScriptedDaemon) -> None:
    done = run_shell(write_config(daemon, 'shel = "/x"'), "-c", "echo ran")
    assert done.stdout == b"ran\n"
    assert b'there is no setting "shel" Did you mean "shell"?' in done.stderr.replace(b"\n", b" ")
    assert daemon.session.finish  # what is right in it counts: it was recorded
    # Of this one only the policy can be known, and the default socket does not answer.
    done = run_shell(write_config(daemon, 'on_recording_failure = "stop"\n[['), "-c", "echo ran")
    assert (done.stdout, done.returncode) == (b"", 1)
    assert b"is no TOML" in done.stderr
    assert b"cannot be recorded" in done.stderr


def test_arguments_that_mean_nothing_are_refused(daemon: ScriptedDaemon) -> None:
    done = run_shell(write_config(daemon), "--help")
    assert done.returncode == 2
    assert b"usage" in done.stderr
    assert daemon.requests == []


def test_it_is_not_its_own_shell(daemon: ScriptedDaemon, tmp_path: Path) -> None:
    program = tmp_path / "lucid-shell"
    program.write_text(f"#!{sys.executable}\n{PROGRAM}")
    program.chmod(0o755)
    config = write_config(daemon, f'shell = "{program}"')
    done = subprocess.run(
        [program, str(config), "-c", "echo ran"],
        capture_output=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
    )
    assert (done.stdout, done.returncode) == (b"", 1)
    assert b"which is this one" in done.stderr


def test_it_starts_without_what_is_slow() -> None:
    program = (
        "import sys, node.cli.login_shell, node.client.recording\n"
        "import node.terminal.player, node.terminal.recorder\n"
        "print([name for name in ('grpc', 'asyncio', 'rich', 'click', 'nacl') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"},
    )
    assert done.stdout == b"[]\n"
