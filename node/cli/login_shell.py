"""`lucid-shell`: a login shell and ForceCommand that records what it runs (docs/terminal.md).

Rules:
- `lucid-shell -c CMD` runs CMD; without arguments, SSH_ORIGINAL_COMMAND, which sshd sets for a ForceCommand;
  without that, the real shell as login shell.
- What has no terminal as its standard input runs on pipes, 8-bit clean: scp, sftp and rsync work.
- The real shell and everything else come from the client's configuration (`node/client/config.py`). A broken
  one is reported; it neither locks everybody out nor lets anybody in unrecorded against its word.
- The command sees the real shell as SHELL: what it starts is recorded already.
"""

import contextlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ORIGINAL_COMMAND = "SSH_ORIGINAL_COMMAND"
_USAGE_ERROR = 2


@dataclass(frozen=True, slots=True)
class Invocation:
    """What to run.

    Attributes:
        command: the real shell and its arguments.
        argv0: the name that the shell sees; begins with "-" for a login shell.
        name: what the recording is called.
        environ: the environment of the command.
        has_pty: it runs on a pty.
    """

    command: list[str]
    argv0: str
    name: str
    environ: dict[str, str]
    has_pty: bool


def plan(
    arguments: Sequence[str], environ: Mapping[str, str], shell: Path, *, has_terminal: bool
) -> Invocation | None:
    """What an invocation means; None if it means nothing.

    Args:
        arguments: those after the program's name.
        environ: the environment.
        shell: the real shell.
        has_terminal: standard input is a terminal.
    """
    own = {**environ, "SHELL": str(shell)}
    rest = list(arguments)
    is_login = bool(rest) and rest[0] in ("-l", "--login")
    if is_login:
        del rest[0]
    if rest and (rest[0] != "-c" or len(rest) < 2):
        return None
    original = None if rest else own.pop(ORIGINAL_COMMAND, None)
    if original is not None:
        rest = ["-c", original]
    argv0 = f"-{shell.name}" if is_login or not rest else shell.name
    name = rest[1] if rest else f"login {shell.name}"
    return Invocation([str(shell), *rest], argv0, name, own, has_terminal)


def main() -> None:
    """The entry point; ends the process with the exit status of what it ran."""
    sys.exit(run(sys.argv[1:], os.environ))


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs what is asked for, recorded; returns its exit status."""
    from node.client.config import load_shell_config
    from node.terminal.recorder import TerminalOptions, record_terminal

    config, problems = load_shell_config(environ)
    for problem in problems:
        _say(f"{problem}{' ' + problem.hint if problem.hint else ''}")
    if _is_this(config.shell):
        _say(f"the shell behind this one is set to {config.shell}, which is this one; tell the administrator")
        return 1
    planned = plan(arguments, environ, config.shell, has_terminal=os.isatty(0))
    if planned is None:
        _say(f"these arguments mean nothing: {shlex.join(arguments)} (usage: lucid-shell [-l] [-c COMMAND])")
        return _USAGE_ERROR
    outcome = record_terminal(
        config.socket,
        planned.command,
        TerminalOptions(
            name=config.name or planned.name,
            tags=config.tags,
            record_input=config.record_input,
            on_recording_failure=config.on_recording_failure,
            has_pty=planned.has_pty,
            argv0=planned.argv0,
            environ=planned.environ,
        ),
    )
    if outcome.failure:
        _say(outcome.failure)
    return outcome.exit_status


def _is_this(shell: Path) -> bool:
    try:
        return shell.samefile(sys.argv[0])
    except OSError:
        return False


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(2, f"lucid-shell: {text}\n".encode(errors="replace"))
