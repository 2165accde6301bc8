"""Many nodes on one machine, as real processes."""
