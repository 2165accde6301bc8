"""Somebody at a terminal: a pty with a process on it, keys to press, and a screen to look at."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping
from pathlib import Path

DEADLINE_S = 30.0
ROOT = Path(__file__).parents[4]


class Person:
    """Starts a Python program on a terminal of its own; kills it in the end."""

    def __init__(
        self,
        program: str,
        *arguments: str,
        environ: Mapping[str, str] | None = None,
        size: tuple[int, int] = (80, 24),
    ) -> None:
        self.screen = bytearray()
        self.master, slave = os.openpty()
        self.resize(size)
        self.attributes = termios.tcgetattr(slave)
        self._slave_name = os.ttyname(slave)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "HOME": "/nonexistent",
                "TERM": "xterm",
                "SHELL": "/bin/sh",
                "PS1": "$ ",
                "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}",
                **(environ or {}),
            },
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        self._slave: int | None = slave

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def resize(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def look(self, timeout_s: float = 0.05) -> bool:
        """Reads what appears; False if nothing can appear any more."""
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        if poll.poll(timeout_s * 1000):
            try:
                self.screen += os.read(self.master, 65536)
            except OSError:
                return False
        return True

    def see(self, text: bytes) -> None:
        """Waits until `text` is on the screen, and forgets everything up to it."""
        deadline = time.monotonic() + DEADLINE_S
        searched = 0
        while (place := self.screen.find(text, searched)) < 0:
            searched = max(len(self.screen) - len(text), 0)
            can_change = self.look()
            is_late = time.monotonic() > deadline or not (
                can_change and (self.has_more() or self.is_running())
            )
            assert not is_late or text in self.screen, f"{text!r} is not in {bytes(self.screen[-2000:])!r}"
        del self.screen[: place + len(text)]

    def is_running(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> int:
        """The exit status of the program."""
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it goes on: {bytes(self.screen)!r}"
            self.look()
        while self.look(0) and self.has_more():
            continue
        return self.process.returncode

    def get_attributes(self) -> list[object]:
        """Attributes of the terminal now."""
        return list(termios.tcgetattr(self.master))

    def leave(self) -> None:
        """Closes the terminal."""
        if self._slave is not None:
            os.close(self._slave)
            self._slave = None
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.leave()

    def has_more(self) -> bool:
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        return bool(poll.poll(0))
