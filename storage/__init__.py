"""Where bytes rest: records in LMDB, blob and journal files, behind the ports of the kernel."""
