"""A Tor process of this node's own."""

import asyncio
import contextlib
import os
import re
import signal
from collections import deque
from pathlib import Path

from kernel.errors import LocalError, Unavailable
from kernel.uninterrupted import end_task
from node.child import make_command
from node.logs import Logger
from node.transport.tor.program import find_program
from node.transport.tor.torrc import TorSettings, make_arguments, make_torrc

STOP_GRACE_S = 5.0
MAX_LINE_BYTES = 16 << 10
KEPT_WARNINGS = 5
_LINE = re.compile(r"\w+ \d+ [\d:.]+ \[(?P<level>\w+)\] (?P<text>.*)")


class TorProcess:
    """One run of Tor. It ends with this process, however that ends."""

    def __init__(self, process: asyncio.subprocess.Process, log: Logger) -> None:
        self.pid = process.pid
        self._process = process
        self._log = log
        self._warnings: deque[str] = deque(maxlen=KEPT_WARNINGS)
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, directory: Path, control: Path, settings: TorSettings, log: Logger) -> "TorProcess":
        """Starts Tor; its control socket is not there yet.

        Args:
            directory: where it keeps its state; made if it is missing.
            control: where its control socket is to be.
            settings: of the owner.
            log: takes what it says.

        Raises:
            Unavailable: it is not installed, or no process can be started.
            LocalError: its directory cannot be made.
        """
        _make_room(directory, control)
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory), "LC_ALL": "C"}
        try:
            process = await asyncio.create_subprocess_exec(
                *make_command([find_program(settings.program), *make_arguments(os.getpid())]),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=environment,
                cwd=directory,
                limit=MAX_LINE_BYTES,
                start_new_session=True,  # Ctrl-C is for the node, which ends its Tor in order
            )
        except OSError as error:
            raise Unavailable(f"Tor cannot be started: {error.strerror}") from error
        log.info("tor started", pid=process.pid)
        tor = cls(process, log)
        try:
            await tor._tell(make_torrc(directory, control, settings))
        except BaseException:
            await tor.stop()
            raise
        return tor

    @property
    def has_ended(self) -> bool:
        """Has it?"""
        return self._process.returncode is not None

    async def wait(self) -> str:
        """Waits for its end; tells how and, in its words, why it ended."""
        status = await self._process.wait()
        await self._reading
        if status < 0:  # what it warned of before is not why
            return f"Tor was killed by {signal.Signals(-status).name}"
        return ": ".join([f"Tor ended with status {status}", *self._warnings])

    async def stop(self) -> None:
        """Ends it, well if it can."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_GRACE_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        finally:
            await end_task(self._reading)

    async def _tell(self, torrc: str) -> None:
        stream = self._process.stdin
        if stream is None:
            raise RuntimeError("Tor was started without a pipe")
        with contextlib.suppress(ConnectionError):  # it has ended: `wait` tells why
            stream.write(torrc.encode())
            await stream.drain()
        stream.close()

    async def _read(self) -> None:
        """Passes on what it says, a line at a time."""
        stream = self._process.stdout
        if stream is None:
            raise RuntimeError("Tor was started without a pipe")
        while True:
            try:
                line = await stream.readline()
            except ValueError:  # a line beyond the limit; what is left of it comes as the next one
                continue
            if not line:
                return
            self._take(line.decode("utf-8", "replace").strip())

    def _take(self, line: str) -> None:
        match = _LINE.fullmatch(line)
        level, text = (match["level"], match["text"]) if match else ("warn", line)  # no word of Tor's
        if level in ("warn", "err"):
            self._warnings.append(text)
            self._log.warning("tor", says=text)
        else:
            self._log.debug("tor", says=text)


def _make_room(directory: Path, control: Path) -> None:
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        directory.chmod(0o700)
        control.unlink(missing_ok=True)
    except OSError as error:
        raise LocalError(f"Tor's directory {directory} cannot be made: {error.strerror}") from error
