"""`python -m node.cli`: the same as `lucid-node`."""

from node.cli import main

main()
