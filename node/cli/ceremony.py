"""Runs the short-lived child that alone touches keys."""

import subprocess
import sys

from node.cli.errors import CommandFailed


def run_ceremony(arguments: list[str], *, as_json: bool, capture: bool = False) -> str:
    """Runs `python -m node.identity.ceremony`; it talks to the user itself.

    Args:
        arguments: action and options.
        as_json: let it print JSON.
        capture: return what it prints instead of showing it; errors are shown.

    Raises:
        CommandFailed: it failed, and said why.
    """
    # -P: the child is never taken from the directory the user happens to be in.
    command = [sys.executable, "-P", "-m", "node.identity.ceremony", *arguments]
    output = subprocess.PIPE if capture else None
    done = subprocess.run(command + ["--json"] * as_json, check=False, stdout=output, text=True)
    if done.returncode:
        raise CommandFailed(done.returncode if done.returncode > 0 else 128 - done.returncode)
    return done.stdout or ""
