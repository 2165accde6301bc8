"""`lucid-node init`."""

from typing import TYPE_CHECKING

import click

from node.cli.options import FILE, command

if TYPE_CHECKING:
    from node.home import Home


@command("init")
@click.option(
    "--passphrase-file", metavar="FILE", type=FILE, help="File that holds the passphrase [default: ask]."
)
@click.option("--network", metavar="NAME", help="Network that the node belongs to [default: dev].")
def init_command(home: "Home", passphrase_file: str | None, network: str | None, as_json: bool) -> None:
    """Makes the keys of a node, in a process of their own."""
    from node.cli.ceremony import run_ceremony

    options = ["--home", str(home.root)]
    if network is not None:
        options += ["--network", network]
    if passphrase_file is not None:
        options += ["--passphrase-file", passphrase_file]
    run_ceremony(["init", *options], as_json=as_json)
