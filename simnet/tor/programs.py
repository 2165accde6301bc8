"""The tor that is installed: where it is, and whether it is new enough."""

import re
import shutil
import subprocess

from kernel.errors import Unavailable
from simnet.homes import get_environment

INSTALL_HINT = "Run: sudo apt-get install -y tor"
MIN_VERSION = (0, 4, 8)
VERSION_TIMEOUT_S = 10.0
SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"  # not on everybody's PATH


def find_program(name: str) -> str:
    """The absolute path of a program.

    Raises:
        Unavailable: it is not installed.
    """
    environment = get_environment()
    found = shutil.which(name, path=f"{environment.get('PATH', '')}:{SYSTEM_FOLDERS}")
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
