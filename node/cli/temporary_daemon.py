"""A daemon for the length of one command, if none runs on the home."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from kernel.errors import LocalError, Unavailable

if TYPE_CHECKING:
    from node.home import Home

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 70.0
LAST_LINES = 4
_POLL_S = 0.05


@contextmanager
def daemon_for(home: "Home", options: Sequence[str]) -> Iterator[None]:
    """A running daemon: the one that runs already, else one that ends with the block.

    Args:
        home: where.
        options: of `lucid-node run`, for a daemon that is started.

    Raises:
        LocalError: it did not start; what it said stands in the message.
    """
    if _answers(home):
        yield
        return
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-P", "-m", "node.cli", "run", "--home", str(home.root), *options]
        daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        try:
            _wait(home, daemon, log)
            yield
        finally:
            daemon.terminate()
            try:
                daemon.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _answers(home: "Home") -> bool:
    from node.control.client import check_daemon

    try:
        check_daemon(home)
    except Unavailable:
        return False
    return True


def _wait(home: "Home", daemon: "subprocess.Popen[bytes]", log: IO[str]) -> None:
    end_s = time.monotonic() + START_TIMEOUT_S
    while not _answers(home):
        if daemon.poll() is not None:
            log.seek(0)
            said = " ".join(log.read(4096).split("\n")[-LAST_LINES:]).strip()
            raise LocalError(f"the daemon did not start: {said or 'it said nothing'}")
        if time.monotonic() > end_s:
            raise LocalError("the daemon did not start in time")
        time.sleep(_POLL_S)
