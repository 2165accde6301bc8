"""Client side of the data socket (docs/spec/06-data-socket.md): runs in the command line, starts quickly, holds no keys."""
