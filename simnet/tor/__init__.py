"""A private Tor network on loopback: real tor processes that trust nobody but each other."""
