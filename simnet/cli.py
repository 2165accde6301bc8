"""`lucid-simnet`: many nodes on one machine."""

import sys


def main() -> None:
    """Runs the command line."""
    sys.exit("lucid-simnet: nothing here yet")
