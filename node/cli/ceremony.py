"""Runs the short-lived child that alone touches keys."""

import subprocess
import sys

from node.cli.errors import CommandFailed, show_error

_CODES = {2: "UsageError", 3: "StoreDamaged", 4: "NotFound"}


def run_ceremony(arguments: list[str], *, as_json: bool) -> None:
    """Runs `python -m node.identity.ceremony`; it talks to the user itself.

    Raises:
        CommandFailed: it failed, and said why.
    """
    # -P: the child is never taken from the directory the user happens to be in.
    command = [sys.executable, "-P", "-m", "node.identity.ceremony", *arguments]
    if not as_json:
        code = subprocess.run(command, check=False).returncode
        if code:
            raise CommandFailed(code if code > 0 else 128 - code)
        return
    done = subprocess.run([*command, "--json"], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        message, _, hint = done.stderr.strip().removeprefix("Error: ").partition("\n")
        show_error(_CODES.get(done.returncode, "LocalError"), message, hint, as_json=True)
        raise CommandFailed(done.returncode if done.returncode > 0 else 128 - done.returncode)
    sys.stderr.write(done.stderr)
