"""The real child process: its terminal, its memory, and SIGKILL between any two steps."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from kernel.errors import Locked
from node.identity.keystore import Keystore, open_keystore
from node.identity.phrase import decode_phrase

MODULE = [sys.executable, "-P", "-m", "node.identity.ceremony"]

# Kills itself right before the n-th call that touches the disk.
KILLER = """
import os, signal, sys
from node.identity import ceremony, secret_file

class KillingOs:
    def __init__(self, kill_at):
        self.left = kill_at
    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in ("open", "fsync", "link", "replace"):
            return real
        def call(*arguments, **named):
            self.left -= 1
            if self.left == 0:
                sys.stdout.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **named)
        return call

secret_file.os = KillingOs(int(sys.argv[1]))
sys.exit(ceremony.main(sys.argv[2:]))
"""


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(passphrase: bytes) -> Path:
        path = tmp_path / f"{passphrase.decode()}.txt"
        path.touch(0o600)
        path.write_bytes(passphrase)
        return path

    return write


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*MODULE, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def run_killed(step: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-c", KILLER, str(step), *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def open_broken_pipe() -> BinaryIO:
    """The writing end of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "wb")


def open_with_either(path: Path, *passphrases: bytes) -> Keystore:
    for passphrase in passphrases[:-1]:
        try:
            return open_keystore(path, passphrase)
        except Locked:
            continue
    return open_keystore(path, passphrases[-1])


def test_init_killed_between_any_two_steps_leaves_no_keystore_or_a_whole_one(
    tmp_path: Path, passphrase_file: Callable[[bytes], Path]
) -> None:
    file = passphrase_file(b"passphrase")
    outcomes = []
    for step in range(1, 50):
        home = tmp_path / f"home-{step}"
        arguments = ("init", "--json", "--home", home, "--passphrase-file", file)
        result = run_killed(step, *arguments)
        keystore = home / "keystore"
        assert result.returncode in (0, -signal.SIGKILL), result.stderr
        if keystore.exists():
            assert (
                open_keystore(keystore, b"passphrase").identity.peer_id
                == json.loads(result.stdout)["peer_id"]
            )
            decode_phrase(json.loads(result.stdout)["recovery_phrase"])
        else:
            assert run(*arguments).returncode == 0
            assert [entry.name for entry in home.iterdir()] == ["keystore"]
        outcomes.append((result.returncode, "recovery_phrase" in result.stdout))
        if result.returncode == 0:
            break
    assert len(outcomes) > 6
    assert {(-signal.SIGKILL, False), (-signal.SIGKILL, True), (0, True)} == set(outcomes)


def test_change_killed_between_any_two_steps_leaves_a_keystore_that_opens(
    tmp_path: Path, passphrase_file: Callable[[bytes], Path]
) -> None:
    old, new, home = passphrase_file(b"old"), passphrase_file(b"new"), tmp_path / "home"
    assert run("init", "--home", home, "--passphrase-file", old).returncode == 0
    original = (home / "keystore").read_bytes()
    peer_id = open_keystore(home / "keystore", b"old").identity.peer_id
    files = ("--old-passphrase-file", old, "--new-passphrase-file", new)
    for step in range(1, 50):
        (home / "keystore").write_bytes(original)
        result = run_killed(step, "change", "--home", home, *files)
        assert result.returncode in (0, -signal.SIGKILL), result.stderr
        assert open_with_either(home / "keystore", b"old", b"new").identity.peer_id == peer_id
        if result.returncode == 0:
            break
    assert step > 6
    assert open_keystore(home / "keystore", b"new").identity.peer_id == peer_id
    assert [entry.name for entry in home.iterdir()] == ["keystore"]


def test_two_inits_at_once_make_one_node(tmp_path: Path, passphrase_file: Callable[[bytes], Path]) -> None:
    home, file = tmp_path / "home", passphrase_file(b"passphrase")
    command = [*MODULE, "init", "--json", "--home", str(home), "--passphrase-file", str(file)]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    results = [(child.communicate(), child.returncode) for child in children]
    winners = [json.loads(out)["peer_id"] for (out, _), code in results if code == 0]
    assert len(winners) == 1
    assert open_keystore(home / "keystore", b"passphrase").identity.peer_id == winners[0]
    assert {code for _, code in results} == {0, 1}
    assert all(json.loads(err)["error"]["message"] for (_, err), code in results if code)


def test_no_terminal_and_no_file_is_a_usage_error(tmp_path: Path) -> None:
    result = run("init", "--home", tmp_path / "home")
    assert result.returncode == 2
    assert "no terminal" in result.stderr and "--passphrase-file" in result.stderr
    assert not (tmp_path / "home" / "keystore").exists()


def test_words_that_nobody_can_read_make_no_keystore(
    tmp_path: Path, passphrase_file: Callable[[bytes], Path]
) -> None:
    home, file = tmp_path / "home", passphrase_file(b"passphrase")
    command = [*MODULE, "init", "--home", str(home), "--passphrase-file", str(file)]
    with open_broken_pipe() as pipe, Path("/dev/full").open("wb") as full:
        for output in (pipe, full):
            result = subprocess.run(command, check=False, stdout=output, stderr=subprocess.PIPE, text=True)
            assert result.returncode == 1
            assert "could not be shown" in result.stderr and "Traceback" not in result.stderr
            assert list(home.iterdir()) == []


def test_a_change_that_cannot_be_told_is_made_all_the_same(
    tmp_path: Path, passphrase_file: Callable[[bytes], Path]
) -> None:
    home, old, new = tmp_path / "home", passphrase_file(b"old"), passphrase_file(b"new")
    assert run("init", "--home", home, "--passphrase-file", old).returncode == 0
    command = [*MODULE, "change", "--home", str(home)]
    command += ["--old-passphrase-file", str(old), "--new-passphrase-file", str(new)]
    with open_broken_pipe() as pipe:
        result = subprocess.run(command, check=False, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    open_keystore(home / "keystore", b"new")


def test_a_secret_never_shows_in_an_error(tmp_path: Path, passphrase_file: Callable[[bytes], Path]) -> None:
    right, wrong, home = passphrase_file(b"right-secret"), passphrase_file(b"wrong-secret"), tmp_path / "home"
    assert run("init", "--home", home, "--passphrase-file", right).returncode == 0
    right = right.rename(tmp_path / "a")
    wrong = wrong.rename(tmp_path / "b")
    result = run("change", "--home", home, "--old-passphrase-file", wrong, "--new-passphrase-file", right)
    assert result.returncode == 1
    assert "does not open" in result.stderr
    assert "secret" not in result.stderr + result.stdout


def test_no_network_code_is_loaded() -> None:
    code = (
        "import sys, node.identity.ceremony\n"
        "print([name for name in ('grpc', 'libp2p', 'web3', 'lmdb', 'click') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_memory_cannot_be_dumped() -> None:
    code = (
        "import ctypes, resource\n"
        "from node.identity import ceremony\n"
        "ceremony._forbid_memory_dumps()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    result = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "(0, 0) 0"


class Terminal:
    """A child whose controlling terminal is ours."""

    def __init__(self, *arguments: str | Path) -> None:
        self.text = ""
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [*MODULE, *map(str, arguments)])

    def expect(self, piece: str, deadline_s: float = 60) -> None:
        """Reads until `piece` stands in what was not expected before."""
        while piece not in self.text:
            ready, _, _ = select.select([self._master], [], [], deadline_s)
            assert ready, f"{piece!r} never came; got {self.text!r}"
            self.text += os.read(self._master, 4096).decode()
        self.text = self.text.split(piece, 1)[1]

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def finish(self) -> tuple[int, str]:
        """Exit code, and all that came after the last expected piece."""
        while True:
            try:
                data = os.read(self._master, 4096)
            except OSError:  # the child closed its side
                break
            if not data:
                break
            self.text += data.decode()
        _, status = os.waitpid(self.pid, 0)
        os.close(self._master)
        self.pid = 0
        return os.waitstatus_to_exitcode(status), self.text

    def kill(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.finish()


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    children: list[Terminal] = []

    def start(*arguments: str | Path) -> Terminal:
        children.append(Terminal(*arguments))
        return children[-1]

    yield start
    for child in children:
        child.kill()


def test_init_on_a_terminal_asks_twice_and_echoes_nothing(
    tmp_path: Path, terminal: Callable[..., Terminal]
) -> None:
    home = tmp_path / "home"
    child = terminal("init", "--json", "--home", home)
    for prompt in ("New passphrase: ", "Again: "):
        child.expect(prompt)
        child.type("gehëim-passphrase\n")
    code, text = child.finish()
    assert code == 0
    shown = json.loads(text.strip())
    assert "gehëim" not in text
    assert open_keystore(home / "keystore", "gehëim-passphrase".encode()).identity.peer_id == shown["peer_id"]


def test_init_on_a_terminal_with_two_passphrases_makes_nothing(
    tmp_path: Path, terminal: Callable[..., Terminal]
) -> None:
    child = terminal("init", "--home", tmp_path / "home")
    child.expect("New passphrase: ")
    child.type("one\n")
    child.expect("Again: ")
    child.type("other\n")
    code, text = child.finish()
    assert code == 2 and "differ" in text
    assert list((tmp_path / "home").iterdir()) == []


def test_ctrl_c_at_the_prompt_makes_nothing(tmp_path: Path, terminal: Callable[..., Terminal]) -> None:
    child = terminal("init", "--home", tmp_path / "home")
    child.expect("New passphrase: ")
    child.type("half\x03")
    code, text = child.finish()
    assert code == 130 and "Interrupted." in text
    assert list((tmp_path / "home").iterdir()) == []


def test_change_on_a_terminal(
    tmp_path: Path, terminal: Callable[..., Terminal], passphrase_file: Callable[[bytes], Path]
) -> None:
    home = tmp_path / "home"
    assert run("init", "--home", home, "--passphrase-file", passphrase_file(b"old")).returncode == 0
    child = terminal("change", "--home", home)
    for prompt, text in (("Old passphrase: ", "old"), ("New passphrase: ", "new"), ("Again: ", "new")):
        child.expect(prompt)
        child.type(f"{text}\n")
    code, text = child.finish()
    assert code == 0 and "changed" in text
    open_keystore(home / "keystore", b"new")
