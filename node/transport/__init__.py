"""Ways on which nodes reach each other: adapters of `node.ports.Transport`."""
