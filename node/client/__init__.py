"""Client side of the data socket (docs/spec/06-data-socket.md): starts quickly, holds no keys."""
