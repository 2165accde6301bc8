"""`lucid-node passphrase change`."""

from typing import TYPE_CHECKING

import click

from node.cli.options import FILE, command

if TYPE_CHECKING:
    from node.home import Home


@command("change")
@click.option(
    "--old-passphrase-file",
    metavar="FILE",
    type=FILE,
    help="File that holds the old passphrase [default: ask].",
)
@click.option(
    "--new-passphrase-file",
    metavar="FILE",
    type=FILE,
    help="File that holds the new passphrase [default: ask].",
)
def change_command(
    home: "Home", old_passphrase_file: str | None, new_passphrase_file: str | None, as_json: bool
) -> None:
    """Changes the passphrase, in a process of its own; a running daemon goes on."""
    from node.cli.ceremony import run_ceremony

    options = ["--home", str(home.root)]
    if old_passphrase_file is not None:
        options += ["--old-passphrase-file", old_passphrase_file]
    if new_passphrase_file is not None:
        options += ["--new-passphrase-file", new_passphrase_file]
    run_ceremony(["change", *options], as_json=as_json)
