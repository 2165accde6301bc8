"""The network's one real transport: onion services of this node's own Tor, and dials through it."""
