"""The terminal in front of the user: raw while a command runs, and afterwards as it was, whatever happens."""

import atexit
import contextlib
import os
import sys
import termios
import tty
from typing import Any

from node.client.polling import write_all
from node.terminal.child import Size

DEFAULT_SIZE: Size = (80, 24)
READ_BYTES = 32 << 10


class UserTerminal:
    """Standard input, output and error of this process.

    Attributes:
        is_terminal: somebody types.
    """

    def __init__(self) -> None:
        _open_missing()
        self.is_terminal = os.isatty(0)
        self._attributes = termios.tcgetattr(0) if self.is_terminal else None
        self._is_raw = False

    @property
    def attributes(self) -> list[Any] | None:
        """The terminal's attributes as they were at the start."""
        return list(self._attributes) if self._attributes else None

    def get_size(self) -> Size:
        """Columns and rows; DEFAULT_SIZE if there is no terminal, or it does not know."""
        for descriptor in (1, 0, 2):
            with contextlib.suppress(OSError):
                size = os.get_terminal_size(descriptor)
                if size.columns and size.lines:
                    return size.columns, size.lines
        return DEFAULT_SIZE

    def enter_raw(self) -> None:
        """Passes every key on; again after the process was stopped and went on."""
        if not self.is_terminal:
            return
        if not self._is_raw:
            atexit.register(self.restore)
        self._is_raw = True
        with contextlib.suppress(termios.error):
            tty.setraw(0, termios.TCSADRAIN)

    def restore(self) -> None:
        """Makes it as it was."""
        if not self._is_raw or self._attributes is None:
            return
        self._is_raw = False
        atexit.unregister(self.restore)
        with contextlib.suppress(termios.error):  # it may be gone
            termios.tcsetattr(0, termios.TCSANOW, self._attributes)

    def read(self) -> bytes:
        """What was typed; b"" if nothing ever will be.

        Raises:
            BlockingIOError: nothing was typed yet.
        """
        try:
            return os.read(0, READ_BYTES)
        except BlockingIOError:
            raise
        except OSError:  # the terminal has gone
            return b""

    def warn(self, text: str) -> None:
        """Tells the user something that cannot wait, on standard error."""
        line = f"\r\nlucid: {text}\r\n" if self._is_raw else f"lucid: {text}\n"
        with contextlib.suppress(OSError):
            sys.stderr.flush()
            write_all(2, line.encode(errors="replace"))


def _open_missing() -> None:
    """Others must not take the place of standard descriptors that this process was started without."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
