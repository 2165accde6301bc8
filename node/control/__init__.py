"""The control API: how the command line of this machine talks to its node, with gRPC over a Unix socket."""
