"""The Tor that is installed: where it is, and whether it is new enough."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from kernel.errors import Unavailable

INSTALL_HINT = "Install it: sudo apt-get install -y tor"
LEAST_VERSION = (0, 4, 8)
ASK_TIMEOUT_S = 10.0
# Debian has Tor where only root looks for programs.
MORE_PLACES = ("/usr/local/sbin", "/usr/sbin")


def find_program(name: str) -> str:
    """The absolute path of a program of Tor's, or of one that is named by its path.

    Raises:
        Unavailable: there is none.
    """
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), *MORE_PLACES))
    # A path is taken as it is: if it cannot be run, whoever runs it tells why.
    found = name if os.sep in name and Path(name).is_file() else shutil.which(name, path=places)
    if found is None:
        raise Unavailable(f"there is no program {name}", hint=INSTALL_HINT)
    return found


def ask_version(program: str) -> str:
    """The version of a Tor, as it says with `--version`.

    Raises:
        Unavailable: it does not run, or does not say.
    """
    try:
        done = subprocess.run(
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={"PATH": os.defpath},
            timeout=ASK_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{program} does not run: {error}", hint=INSTALL_HINT) from error
    match = re.match(r"Tor version (\d{1,4}(?:\.\d{1,4}){2,3})", done.stdout)
    if match is None:
        raise Unavailable(f"{program} does not say its version", hint=INSTALL_HINT)
    return match[1]


def parse_version(text: str) -> tuple[int, ...]:
    """The numbers of a version: "0.4.9.11 (git-…)" → (0, 4, 9, 11); none if it begins with none."""
    match = re.match(r"\d{1,4}(\.\d{1,4})*", text)
    return () if match is None else tuple(map(int, match[0].split(".")))


def check_version(version: str) -> None:
    """Checks that a version is new enough.

    Raises:
        Unavailable: it is not.
    """
    if parse_version(version) < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        raise Unavailable(f"Tor {version} is too old: {least} is the least", hint=INSTALL_HINT)
