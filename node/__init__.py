"""The daemon and its command line: configuration, identity, composition, control API."""
