"""`lucid-node run`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.options import FILE, command
from node.config import SETTINGS

if TYPE_CHECKING:
    from node.home import Home


def _add_settings(function: Any) -> Any:
    for name, setting in reversed(SETTINGS.items()):
        flag = "--" + name.replace("_", "-")
        shown = "" if setting.default == "" else f" [default: {setting.default}]"
        meaning = setting.metadata["meaning"].replace("`", "")
        function = click.option(flag, name, metavar="VALUE", help=meaning + shown)(function)
    return function


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
