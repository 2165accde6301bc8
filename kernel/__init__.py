"""What every room shares: ids, keys and signing domains, the Merkle tree, errors, ports."""
