"""Signals as something to poll: they interrupt nothing, and none is lost.

A signal that was ignored when this process began (`nohup`) stays ignored.
"""

import os
import signal
from types import FrameType

WATCHED = (
    signal.SIGCHLD,
    signal.SIGCONT,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGWINCH,
)


class SignalPipe:
    """Delivers the WATCHED signals through a descriptor, until it is closed. Main thread only."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._previous_descriptor = signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)
        self._previous = {
            number: signal.signal(number, _ignore) or signal.SIG_DFL
            for number in WATCHED
            if signal.getsignal(number) != signal.SIG_IGN or number == signal.SIGCHLD
        }

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._reading

    def take(self) -> list[int]:
        """Signals that came, each once."""
        try:
            return sorted(set(os.read(self._reading, 4096)))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Signals do again what they did before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_descriptor)
        os.close(self._reading)
        os.close(self._writing)


def _ignore(number: int, frame: FrameType | None) -> None:
    """The wakeup descriptor says it already."""
