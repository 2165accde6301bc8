"""What both parts of the demo stand on: talking to the reader, running `lucid-node`, typing at a terminal."""

import errno
import json
import os
import pty
import random
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LUCID = str(Path(sys.executable).with_name("lucid-node"))
MIB = 1 << 20
BOLD, DIM, GREEN, OFF = ("\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[0m") if sys.stdout.isatty() else ("",) * 4


def say(text: str) -> None:
    print(f"\n{BOLD}{text}{OFF}", flush=True)


def show(text: str) -> None:
    print(f"  {text}", flush=True)


def show_lines(text: str) -> None:
    for line in text.splitlines():
        show(line)


def check(what: str, fine: bool) -> None:
    if not fine:
        sys.exit(f"the demo failed: {what}")
    show(f"{GREEN}✓{OFF} {what}")


class Stage:
    """The folder in which the demo happens, what was measured, and short names of long IDs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.figures: list[tuple[str, str]] = []
        self.names: dict[str, str] = {}

    def shorten(self, text: str) -> str:
        """For readers: long IDs by the names that the story gives them, files without the folder."""
        for long, name in self.names.items():
            text = text.replace(long, name)
        return text.replace(f"{self.folder}/", "")

    def show_command(self, *words: str) -> None:
        shown = self.shorten(shlex.join(word for word in words if word != "--json"))
        print(f"  {DIM}$ lucid-node {shown}{OFF}", flush=True)


class Seat:
    """The command line of one node."""

    def __init__(self, stage: Stage, home: Path, environment: dict[str, str] | None = None) -> None:
        self.stage = stage
        self.home = home
        self.environment = os.environ | (environment or {})

    def command(self, *words: str) -> list[str]:
        return [LUCID, "--home", str(self.home), *words]

    def run(self, *words: str, expect: int = 0, quiet: bool = False) -> str:
        if not quiet:
            self.stage.show_command(*words)
        done = subprocess.run(
            [LUCID, *words] if words[0] == "verify" else self.command(*words),
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
        )
        if done.returncode != expect:
            sys.exit(
                f"the demo failed: lucid-node {' '.join(words)} ended with status {done.returncode}, expected"
                f" {expect}\n{done.stdout}{done.stderr}"
            )
        return done.stdout

    def run_json(self, *words: str, expect: int = 0, quiet: bool = False) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.run(*words, "--json", expect=expect, quiet=quiet))
        return document

    def find(self, name: str) -> dict[str, Any]:
        """The session of that name as `session list` shows it; empty if it is not there yet."""
        sessions = self.run_json("session", "list", "--search", name, quiet=True)["sessions"]
        if not sessions:
            return {}
        self.name_session(sessions[0]["session_id"])
        return dict(sessions[0])

    def name_session(self, session_id: str) -> None:
        """From now on the story calls a session by the first letters of its ID, as one may type it."""
        self.stage.names[session_id] = session_id[:8]


class Typist:
    """A person at a terminal in which a session is being recorded."""

    def __init__(self, words: list[str]) -> None:
        self.pid, self.screen = pty.fork()
        if self.pid == 0:
            os.environ.update(PS1="demo$ ", TERM="xterm", HISTFILE="")
            os.execv(words[0], words)
        self.seen = b""

    def watch(self, until: bytes, seconds: float = 30.0) -> None:
        """Shows the screen until `until` appears after what was seen before."""
        end = time.monotonic() + seconds
        while until not in self.seen:
            if time.monotonic() > end:
                sys.exit(f"\nthe demo failed: the terminal did not show {until!r}:\n{self.seen!r}")
            if select.select([self.screen], [], [], 0.1)[0] and not self._read():
                break
        self.seen = self.seen.partition(until)[2]

    def _read(self) -> bytes:
        try:
            data = os.read(self.screen, 65536)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return b""
        self.seen += data
        sys.stdout.write(data.decode(errors="replace").replace("\n", "\n  "))
        sys.stdout.flush()
        return data

    def type(self, line: str) -> None:
        for key in line:
            os.write(self.screen, key.encode())
            time.sleep(0.02)
        os.write(self.screen, b"\r")

    def end(self) -> int:
        while self._read():
            pass
        _, status = os.waitpid(self.pid, 0)
        print(flush=True)
        return os.waitstatus_to_exitcode(status)


def make_file(path: Path, size_mib: int) -> None:
    """Half log lines, half noise, in turns."""
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghiklmnoprstuvw", k=rng.randint(2, 9))) for _ in range(4000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    text = "\n".join(" ".join(rng.choices(words, weights, k=12)) for _ in range(16_000)).encode()[:MIB]
    with path.open("wb") as file:
        for _ in range(size_mib // 2):
            start = rng.randrange(len(text))
            file.write(text[start:] + text[:start] + bytes(MIB - len(text)))
            file.write(rng.randbytes(MIB))


def flip_bit(path: Path) -> None:
    """Changes one bit in the middle of a file; doing it again puts it back."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def is_same(one: Path, other: Path) -> bool:
    return subprocess.run(["cmp", one, other], check=False).returncode == 0
