"""`lucid-node run`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.options import FILE, command
from node.config import SETTINGS, get_default, get_flag

if TYPE_CHECKING:
    from node.home import Home


def _add_settings(function: Any) -> Any:
    for name, setting in reversed(SETTINGS.items()):
        default = get_default(name)
        shown = f" [default: {default}]" if default else ""
        meaning = setting.metadata["meaning"].replace("`", "")
        add = click.option(
            get_flag(name),
            name,
            metavar="VALUE",
            multiple=bool(setting.metadata["flag"]),
            callback=_join,
            help=meaning + shown,
        )
        function = add(function)
    return function


def _join(
    _context: click.Context, _parameter: click.Parameter, value: str | tuple[str, ...] | None
) -> str | None:
    """One text of an option that was given many times; None if it was not given."""
    return ("\n".join(value) or None) if isinstance(value, tuple) else value


@command("run")
@click.option(
    "--passphrase-file",
    metavar="FILE",
    type=FILE,
    help="File that holds the passphrase [default: a systemd credential, else ask].",
)
@_add_settings
def run_command(home: "Home", passphrase_file: str | None, as_json: bool, **flags: str | None) -> int:
    """Runs until SIGTERM or SIGINT; a second signal ends it at once."""
    from node.daemon import run_daemon

    if as_json and flags["log_format"] is None:
        flags["log_format"] = "json"
    file = None if passphrase_file is None else Path(passphrase_file)
    return run_daemon(home, os.environ, flags, file)
