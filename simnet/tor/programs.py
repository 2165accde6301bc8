"""The tor that is installed: where it is, whether it is new enough, and how it is started."""

import re
import shutil
import subprocess
from pathlib import Path

from kernel.errors import Unavailable
from simnet.homes import get_environment
from simnet.process import Child

INSTALL_HINT = "Run: sudo apt-get install -y tor"
MIN_VERSION = (0, 4, 8)
VERSION_TIMEOUT_S = 10.0
LOG_TAIL_BYTES = 2000


def find_program(name: str) -> str:
    """The absolute path of a program.

    Raises:
        Unavailable: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} is not installed", hint=INSTALL_HINT)
    return found


def find_tor() -> str:
    """The absolute path of a tor that is new enough.

    Raises:
        Unavailable: it is not installed, does not run, or is too old.
    """
    tor = find_program("tor")
    try:
        done = subprocess.run(
            [tor, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            env=get_environment(),
            timeout=VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{tor} does not run: {error}", hint=INSTALL_HINT) from error
    version = parse_version(done.stdout)
    if version is None or version < MIN_VERSION:
        wanted, got = (format_version(one) if one else "unknown" for one in (MIN_VERSION, version))
        raise Unavailable(f"{tor} is too old: version {wanted} is needed, it is {got}", hint=INSTALL_HINT)
    return tor


def parse_version(text: str) -> tuple[int, ...] | None:
    """The version in what `tor --version` prints; None if there is none."""
    match = re.match(r"Tor version (\d{1,4}(?:\.\d{1,4}){2,3})", text)
    return tuple(map(int, match[1].split("."))) if match else None


def format_version(version: tuple[int, ...]) -> str:
    """A version as it is written."""
    return ".".join(map(str, version))


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
