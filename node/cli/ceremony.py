"""Runs the short-lived child that alone touches keys."""

import subprocess
import sys

from node.cli.errors import CommandFailed


def run_ceremony(arguments: list[str], *, as_json: bool) -> None:
    """Runs `python -m node.identity.ceremony`; it talks to the user itself.

    Raises:
        CommandFailed: it failed, and said why.
    """
    # -P: the child is never taken from the directory the user happens to be in.
    command = [sys.executable, "-P", "-m", "node.identity.ceremony", *arguments]
    code = subprocess.run(command + ["--json"] * as_json, check=False).returncode
    if code:
        raise CommandFailed(code if code > 0 else 128 - code)
