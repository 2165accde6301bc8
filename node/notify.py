"""Tells the service manager how the daemon is doing (the datagram protocol of sd_notify(3)).

Without NOTIFY_SOCKET in the environment nothing happens. A failure to notify is no failure of the daemon.
"""

import contextlib
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends states such as "READY=1" to the service manager.

    Attributes:
        watchdog_s: seconds between two signs of life; 0 if none are asked for.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "0")
        # Half of the limit, as sd_watchdog_enabled(3) recommends.
        self.watchdog_s = int(microseconds) / 2e6 if mine and microseconds.isdecimal() else 0.0

    def send(self, state: str) -> None:
        """Sends one state; lines are separated by newlines."""
        if not self._address.startswith(("/", "@")):
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.setblocking(False)
            channel.sendto(state.encode(), address)
