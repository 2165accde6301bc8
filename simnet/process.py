"""A process that does not outlive its supervisor, and that is signalled only while it is itself.

Each leads a session and process group of its own: Ctrl-C in the supervisor's terminal reaches the supervisor
alone, which ends its children in order. A pidfd tells of the end; the process is reaped after its group was
killed, so no signal of ours can reach a process that was given the same number later.
"""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
from pathlib import Path
from typing import IO

from node.child import make_command

END_TIMEOUT_S = 10.0


class Child:
    """A running process, and its exit status once it has ended. Made on a running event loop.

    Attributes:
        pid: its process ID.
        ended: set when it has ended and is reaped.
        returncode: its exit status, negative for a signal; None while it runs.
    """

    def __init__(self, program: list[str], environment: dict[str, str], output: IO[bytes], errors: IO[bytes]):
        self._process = subprocess.Popen(
            make_command(program),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.ended = asyncio.Event()
        self.returncode: int | None = None
        self._descriptor = os.pidfd_open(self.pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._on_end)

    def _on_end(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.returncode = self._process.wait()
        self.ended.set()

    def terminate(self) -> None:
        """Asks it to end."""
        if not self.ended.is_set():
            self._process.terminate()

    def reload(self) -> None:
        """Asks it to read its settings again (SIGHUP)."""
        if not self.ended.is_set():
            self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """Kills it and all of its group, at once."""
        if not self.ended.is_set():
            os.killpg(self.pid, signal.SIGKILL)

    async def cut(self) -> None:
        """Ends it and all that it started, in whatever group, as a power cut would; all is gone on return."""
        if self.ended.is_set():
            return
        os.killpg(self.pid, signal.SIGSTOP)  # it starts nothing more, and reaps nobody
        started = _open_children(self.pid)
        for descriptor in started:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        self.kill()
        await self.ended.wait()
        for descriptor in started:
            await asyncio.to_thread(select.select, [descriptor], [], [], END_TIMEOUT_S)
            os.close(descriptor)

    async def stop(self, grace_s: float) -> None:
        """Asks it to end, and kills it if it has not after `grace_s`."""
        self.terminate()
        try:
            async with asyncio.timeout(grace_s):
                await self.ended.wait()
        except TimeoutError:
            self.kill()
            await self.ended.wait()


def _open_children(pid: int) -> list[int]:
    """Pidfds of all that a stopped process has started and not reaped."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:  # proc(5): its parent
                found.append(os.pidfd_open(int(stat.parent.name)))
    return found


def describe_end(returncode: int) -> str:
    """How a process ended, in words."""
    if returncode < 0:
        known = {number.value: number.name for number in signal.Signals}
        return f"killed by {known.get(-returncode, f'signal {-returncode}')}"
    return f"ended with status {returncode}"
