"""How commands fail: one line that says what and why, one that says what to do, and an exit code.

With --json an error is one JSON object on standard error: {"error": {"code", "message", "hint"}}. Standard
output then holds nothing, or what was complete before.
"""

import json
import sys

EXIT_CODES = {
    0: "fine",
    1: "failure",
    2: "usage: the command line, a setting or an input makes no sense",
    3: "verification failed: stored bytes are not what was recorded and signed",
    4: "not found",
    5: "not enough peers",
    6: "the daemon is not running",
}
INTERRUPTED = 130


class CommandFailed(Exception):
    """A command has told what went wrong, and ends.

    Attributes:
        exit_code: of the process.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def get_exit_code(error: Exception) -> int:
    """The exit code that stands for an error."""
    from kernel import errors

    match error:
        case CommandFailed():
            return error.exit_code
        case errors.UsageError():
            return 2
        case errors.InvalidRecord() | errors.StoreDamaged():
            return 3
        case errors.NotFound():
            return 4
        case errors.Unavailable():
            return 6
        case errors.LucidError():
            return 1
        case _:
            return 2


def report(error: Exception, *, as_json: bool) -> int:
    """Writes an error to standard error; returns the exit code."""
    if isinstance(error, CommandFailed):
        return error.exit_code
    import click

    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return 2
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f"See: {context.command_path} --help" if context is not None else ""
        message = " ".join(error.format_message().split()).rstrip(".")  # click breaks lines, and indents
        show_error("UsageError", message, hint, as_json=as_json)
    else:
        show_error(type(error).__name__, str(error), getattr(error, "hint", ""), as_json=as_json)
    return get_exit_code(error)


def show_error(code: str, message: str, hint: str, *, as_json: bool) -> None:
    """Writes an error to standard error."""
    from node.cli.output import printable

    if as_json:
        lines = [json.dumps({"error": {"code": code, "message": message, "hint": hint}})]
    else:
        lines = [f"Error: {printable(message)}"] + ([printable(hint)] if hint else [])
    _write("\n".join(lines))


def _write(text: str) -> None:
    """Writes a line to standard error, if somebody is still there to read it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:  # the terminal was closed
        sys.stderr = None


def report_interrupt() -> int:
    """Says that the user broke off."""
    _write("\nInterrupted.")
    return INTERRUPTED
