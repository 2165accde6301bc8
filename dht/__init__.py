"""Finding and spreading: recordings on other nodes, and back. Pure decisions, and flow over ports."""
