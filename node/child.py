"""Becomes a program that the kernel kills when the process that started it ends, however that ends.

    python -I -S node/child.py PARENT PROGRAM [ARGUMENT]…

`PARENT` is the starter's process ID. The starter runs this with its main thread: the signal comes when the
*thread* that forked ends. Asking between fork and exec would need code in a forked copy of the starter, which
is not safe once that has threads; a program of its own is. It imports nothing but the standard library.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
EXIT_FAILED = 126


def make_command(program: list[str]) -> list[str]:
    """The command line that runs `program` as a child of this process that does not outlive it."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *program]


def main() -> None:
    """Entry point."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL.value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != int(sys.argv[1]):  # it ended before the kernel was asked
        os._exit(EXIT_FAILED)
    try:
        os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the caller's argument list
    except OSError as error:
        print(f"{sys.argv[2]} cannot be run: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
