"""Who this node is: the keystore, the recovery words, and the only processes that touch either."""
