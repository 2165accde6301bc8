"""How the C library keeps memory for the large buffers of chunks (glibc; elsewhere nothing is changed).

By default glibc maps every buffer of a chunk anew and unmaps it at once: each page is faulted in and zeroed
again, and each unmapping stops the other cores. Kept in one heap, two cores need half the time.
The price is memory that stays taken, so it is handed back when nothing is being recorded or read.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_KEPT_BYTES = 32 << 20
_KEPT_BYTES = 256 << 20


def _load_glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def keep_buffers() -> None:
    """From now on large buffers are reused instead of mapped anew."""
    library = _load_glibc()
    if library is not None:
        library.mallopt(_M_ARENA_MAX, 1)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def give_back() -> None:
    """Hands memory that is not in use back to the system."""
    library = _load_glibc()
    if library is not None:
        library.malloc_trim(0)
