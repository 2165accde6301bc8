"""The tor that is installed, and how it is started."""

from pathlib import Path

from node.transport.tor.program import ask_version, check_version, find_program
from simnet.homes import get_environment
from simnet.process import Child

LOG_TAIL_BYTES = 2000


def find_tor() -> str:
    """The absolute path of a tor that is new enough.

    Raises:
        Unavailable: it is not installed, does not run, or is too old.
    """
    tor = find_program("tor")
    check_version(ask_version(tor))
    return tor


def start_tor(tor: str, torrc: Path, log: Path) -> Child:
    """Starts tor with one file of settings and no other; it ends when this process does.

    Args:
        tor: the program.
        torrc: its settings.
        log: where what it says goes; replaced.
    """
    with log.open("wb") as output:
        words = [tor, "--defaults-torrc", "/dev/null", "-f", str(torrc)]
        return Child(words, get_environment(), output, output)


def read_tail(log: Path) -> str:
    """The end of a log; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
            return file.read(LOG_TAIL_BYTES).decode(errors="replace").strip()
    except FileNotFoundError:
        return ""
