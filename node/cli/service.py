"""`lucid-node service install` and `lucid-node service uninstall`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import DIRECTORY, FILE, command

if TYPE_CHECKING:
    from node.home import Home


@command("install")
@click.option(
    "--passphrase-file",
    metavar="FILE",
    type=FILE,
    help="File that holds the passphrase; becomes a credential.",
)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=DIRECTORY,
    help="Where unit files belong [default: systemd's own place].",
)
@click.option("--print", "print_only", is_flag=True, help="Print the unit instead of writing it.")
def install_command(
    home: "Home", passphrase_file: str | None, directory: str | None, print_only: bool, as_json: bool
) -> None:
    """Writes the unit file; starting it is left to the user."""
    from kernel.errors import UsageError
    from node.cli.output import emit
    from node.service import install_unit, make_unit

    unit = make_unit(
        home, Path(passphrase_file) if passphrase_file else None, Path(directory) if directory else None
    )
    if print_only:
        print(unit.text, end="")
        return
    if passphrase_file is None:
        raise UsageError(
            "without a passphrase the node cannot start by itself",
            hint="Put it into a file that only you can read, and add --passphrase-file FILE.",
        )
    install_unit(unit)
    text = f"Wrote {unit.path}. Now run:\n  " + "\n  ".join(unit.commands)
    emit({"unit": str(unit.path), "commands": unit.commands}, text, as_json=as_json)


@command("uninstall")
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    type=DIRECTORY,
    help="Where unit files belong [default: systemd's own place].",
)
def uninstall_command(home: "Home", directory: str | None, as_json: bool) -> None:
    """Removes the unit file; a node that runs goes on until it is stopped."""
    from node.cli.output import emit
    from node.service import uninstall_unit

    unit = uninstall_unit(Path(directory) if directory else None)
    text = f"Removed {unit.path}. Now run:\n  " + "\n  ".join(unit.removal_commands)
    emit({"unit": str(unit.path), "commands": unit.removal_commands}, text, as_json=as_json)
