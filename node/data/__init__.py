"""The data socket: bulk bytes between clients of this machine and the node, past gRPC."""
