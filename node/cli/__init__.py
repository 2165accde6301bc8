"""The command line, `lucid-node`.

Each command stands in a module of its own, loaded when it is used; libraries that take long to load are
imported by the functions that need them. The command line holds no keys: what makes or changes keys runs in
a short-lived child (`node/identity/ceremony.py`), and the daemon does the rest.
"""

import os
import sys
from typing import TYPE_CHECKING

from node.cli.errors import CommandFailed, report, report_interrupt, show_error

if TYPE_CHECKING:
    from collections.abc import Callable

    import click


def main() -> None:
    """Entry point of `lucid-node`."""
    open_missing()
    sys.exit(run(sys.argv[1:]))


def open_missing() -> None:
    """Standard streams that the caller closed read nothing and lose what is written."""
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: PTH123, SIM115 - kept open to the end
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115


def _load_root() -> "click.Command":
    from node.cli.groups import root

    return root


def run(
    arguments: list[str], program: str = "lucid-node", load: "Callable[[], click.Command]" = _load_root
) -> int:
    """Runs one command line; returns the exit code of the process.

    Args:
        arguments: without the name of the program.
        program: its name.
        load: gives the group of its commands.
    """
    import click

    from kernel.errors import LucidError

    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in own
    try:
        code = load().main(args=arguments, prog_name=program, standalone_mode=False)
        sys.stdout.flush()
    except (click.ClickException, LucidError, CommandFailed) as error:
        return report(error, as_json=as_json)
    except (click.Abort, KeyboardInterrupt):
        return report_interrupt()
    except BrokenPipeError:
        # Whoever read the output has gone. Python would complain once more when it flushes at the end.
        sys.stdout = None
        return 1
    except UnicodeEncodeError as error:
        show_error("UsageError", f"an argument is no text: {error.reason}", "", as_json=as_json)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        show_error("LocalError", f"{where}{error.strerror or error}", "", as_json=as_json)
        return 1
    return code if isinstance(code, int) else 0
