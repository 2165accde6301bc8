"""What ends a supervisor: a signal, or the end of the process that it works for."""

import asyncio
import os
import signal
from collections.abc import Callable


def call_at_end(end: Callable[[], object], pid: int | None) -> None:
    """Has `end` called in the running event loop for every signal to end, and when a process ends.

    Args:
        end: is called at once, too, if that process has ended already.
        pid: of the process; None: of none.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup(1)
            loop.add_signal_handler(number, end)
    if pid is None:
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        end()
        return

    def on_end() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        end()

    loop.add_reader(descriptor, on_end)
