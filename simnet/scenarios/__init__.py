"""Scenarios of the simulated world, each a story: set-up, what happens, what must hold."""
