"""`lucid-simnet`: many nodes on one machine."""

import sys
from typing import TYPE_CHECKING

from node.cli import open_missing, run

if TYPE_CHECKING:
    import click


def main() -> None:
    """Entry point of `lucid-simnet`."""
    open_missing()
    sys.exit(run(sys.argv[1:], "lucid-simnet", _load_root))


def _load_root() -> "click.Command":
    from simnet.commands import root

    return root
