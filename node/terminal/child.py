"""The recorded command: on a pty of its own, or on pipes.

Rules:
- The command is looked up before a session is opened: one that cannot be run leaves none behind.
- On a pty it leads its own session and has the pty as its terminal; closing the pty hangs it up. So it never
  outlives this process by accident.
- On pipes it stays in this process's group, as if there were no recorder.
"""

import errno
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kernel.errors import LocalError, NotFound

Size = tuple[int, int]
"""Columns and rows."""
_LOCAL_FLAGS, _CHARACTERS = 3, 6  # places in what termios gives


def find_command(name: str, environ: Mapping[str, str]) -> str:
    """The file to execute for `name`.

    Raises:
        NotFound: there is none.
        LocalError: it cannot be executed.
    """
    if "/" not in name:
        path = environ.get("PATH", os.defpath)
        found = shutil.which(name, path=path)
        if found is None:
            if shutil.which(name, mode=os.F_OK, path=path):
                raise LocalError(f"{name}: this user may not execute it")
            raise NotFound(f"{name}: there is no such command")
        return found
    if not Path(name).exists():
        raise NotFound(f"{name}: there is no such file")
    if Path(name).is_dir():
        raise LocalError(f"{name}: it is a directory")
    if not os.access(name, os.X_OK):
        raise LocalError(f"{name}: this user may not execute it")
    return name


class Child:
    """A running command.

    Attributes:
        has_pty: it runs on a pty.
        outputs: descriptors to read its output from, each with the descriptor of this process that it belongs
            to.
        input: descriptor to write its input to; None when that has ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        executable: str,
        environ: Mapping[str, str],
        *,
        pty_size: Size | None,
        attributes: list[Any] | None = None,
    ) -> None:
        """Starts it.

        Args:
            command: what it sees as its arguments, its name first.
            executable: the file to execute.
            environ: its environment.
            pty_size: size of its pty; None: pipes.
            attributes: terminal attributes of its pty; None: nobody types, so nothing is echoed.

        Raises:
            OSError: it cannot be executed.
        """
        self.has_pty = pty_size is not None
        self.outputs: dict[int, int] = {}
        self.input: int | None = None
        if pty_size is not None:
            self._process = self._start_on_pty(command, executable, environ, pty_size, attributes)
        else:
            self._process = self._start_on_pipes(command, executable, environ)
        for descriptor in self._get_descriptors():
            os.set_blocking(descriptor, False)

    def _start_on_pipes(
        self, command: Sequence[str], executable: str, environ: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        pipes = [os.pipe() for _ in range(3)]
        (child_in, self.input), (own_out, child_out), (own_err, child_err) = pipes
        self.outputs = {own_out: 1, own_err: 2}
        try:
            return subprocess.Popen(
                command,
                executable=executable,
                env=environ,
                stdin=child_in,
                stdout=child_out,
                stderr=child_err,
            )
        except BaseException:
            self.close()
            raise
        finally:
            for descriptor in (child_in, child_out, child_err):
                os.close(descriptor)

    def _start_on_pty(
        self,
        command: Sequence[str],
        executable: str,
        environ: Mapping[str, str],
        size: Size,
        attributes: list[Any] | None,
    ) -> "subprocess.Popen[bytes]":
        self._master, slave = os.openpty()
        self._terminal_name = _get_name(slave)
        self.outputs[self._master] = 1
        self.input = self._master
        try:
            self.resize(size)
            if attributes is None:
                attributes = termios.tcgetattr(slave)
                attributes[_LOCAL_FLAGS] &= ~termios.ECHO
            termios.tcsetattr(slave, termios.TCSANOW, attributes)
            return subprocess.Popen(
                command,
                executable=executable,
                env=environ,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
                preexec_fn=_take_terminal,  # noqa: PLW1509 (one system call, and nothing else sets a terminal)
            )
        except BaseException:
            self.close()
            raise
        finally:
            os.close(slave)

    def get_exit_status(self) -> int | None:
        """As shells give it: 128 + signal if one ended the command; None while it runs."""
        code = self._process.poll()
        return 128 - code if code is not None and code < 0 else code

    def read(self, descriptor: int, limit_bytes: int) -> bytes | None:
        """What an output has; b"" if it has ended (and is closed); None if there is nothing now."""
        try:
            data = os.read(descriptor, limit_bytes)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EIO:  # a pty that nobody holds any more
                raise
            data = b""
        if not data:
            self.close_output(descriptor)
        return data

    def write(self, data: bytes) -> int:
        """How much of `data` it took now; all of it counts as taken when it reads no more."""
        if self.input is None:
            return len(data)
        try:
            return os.write(self.input, data)
        except BlockingIOError:
            return 0
        except OSError:
            self.close_input()
            return len(data)

    def close_output(self, descriptor: int) -> None:
        """Reads no more from there."""
        if self.outputs.pop(descriptor, None) is not None and descriptor != self.input:
            os.close(descriptor)

    def close_input(self) -> None:
        """Ends its input: a pipe is closed. A pty stays open for output."""
        if self.input is not None and self.input not in self.outputs:
            os.close(self.input)
        self.input = None

    def is_echoing(self) -> bool:
        """Does its terminal show what is typed? True on pipes."""
        return not self.has_pty or bool(self._get_local_flags() & termios.ECHO)

    def is_line_wise(self) -> bool:
        """Does its terminal gather lines, so that the end of a partial one takes two EOF characters?"""
        return bool(self._get_local_flags() & termios.ICANON)

    def get_eof(self) -> bytes:
        """The character that means the end of input."""
        return bytes(termios.tcgetattr(self._master)[_CHARACTERS][termios.VEOF])

    def has_read_everything(self) -> bool:
        """Is no input left in its pty? An EOF character before that is lost when the mode changes."""
        try:
            slave = os.open(self._terminal_name, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return True
        try:
            waiting = fcntl.ioctl(slave, termios.FIONREAD, bytes(4))
        except OSError:
            return True
        finally:
            os.close(slave)
        return not any(waiting)

    def resize(self, size: Size) -> None:
        """Gives its terminal a new size; the kernel tells its programs."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def send_signal(self, number: int) -> None:
        """Signals the command; on a pty, all of its process group."""
        if self._process.poll() is not None:
            return
        if self.has_pty:
            os.killpg(self._process.pid, number)
        else:
            self._process.send_signal(number)

    def hang_up(self) -> None:
        """Tells it that its terminal has gone."""
        self.send_signal(signal.SIGHUP)
        self.send_signal(signal.SIGCONT)  # a stopped one would never see it

    def close(self) -> None:
        """Closes everything; a pty's programs are hung up by the kernel."""
        for descriptor in self._get_descriptors():
            os.close(descriptor)
        self.outputs.clear()
        self.input = None

    def _get_descriptors(self) -> set[int]:
        return {*self.outputs, *(() if self.input is None else (self.input,))}

    def _get_local_flags(self) -> int:
        return int(termios.tcgetattr(self._master)[_LOCAL_FLAGS])


def _get_name(terminal: int) -> str:
    try:
        return os.ttyname(terminal)
    except OSError:  # as in a container without /dev/pts
        return ""


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
