"""What nodes say to each other, with gRPC: server, calls, and the peers of this node."""
