"""The simulated world: a whole network in one process, from one seed."""
