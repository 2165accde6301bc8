"""Keeps a Tor for the node: started or attached to, bootstrapped, given its onion services, started anew.

    stopped → starting → bootstrapping → ready
       ↑__________________________________|      whenever Tor ends, is killed, stops answering, or refuses

A Tor of the node's own starts without network; it gets one when its version was looked at and every onion
service was added. Until it is ready nothing is dialled. What the node wants published is kept here, so that
each new Tor is told again.
"""

import asyncio
import base64
import contextlib
import os
import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from kernel.errors import LocalError, LucidError, Unavailable
from kernel.onion import OnionKey
from kernel.ports import Clock, Entropy
from node.logs import Logger
from node.transport.tor.control import TorControl, parse_words
from node.transport.tor.process import TorProcess
from node.transport.tor.program import check_version, parse_version
from node.transport.tor.torrc import TorSettings

POW_VERSION = (0, 4, 9)
"""The first that takes proof of work for services that are added over the control socket."""
SOCKET_TIMEOUT_S = 20.0
POLL_S = 0.1
CHECK_EVERY_S = 10.0
REFETCH_TIMEOUT_S = 5.0
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0
_END_TIMEOUT_S = 2.0
_DONE = 100
_EVENTS = "SETEVENTS STATUS_CLIENT HS_DESC"


class Phase(StrEnum):
    """How far Tor is."""

    STOPPED = "stopped"
    STARTING = "starting"
    BOOTSTRAPPING = "bootstrapping"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class OnionService:
    """What is published.

    Attributes:
        key: of the service.
        port: that clients connect to.
        socket: path of the Unix socket where it is served.
        clients: X25519 public keys (32 bytes) of those who may reach it; none: everybody.
    """

    key: OnionKey
    port: int
    socket: Path
    clients: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class TorState:
    """How Tor is doing.

    Attributes:
        phase: see `Phase`.
        percent: of the bootstrap.
        summary: what it does now, in Tor's words.
        version: of Tor; empty before it was asked.
        trouble: why it is not ready, or was not the last time; empty once it is, and if nothing was wrong.
        hint: what to do about it.
    """

    phase: Phase = Phase.STARTING
    percent: int = 0
    summary: str = ""
    version: str = ""
    trouble: str = ""
    hint: str = ""

    def describe(self) -> str:
        """Why nothing goes through Tor, in words; empty if it is ready."""
        if self.phase is Phase.READY:
            return ""
        if self.phase is Phase.STOPPED and self.trouble:
            return f"Tor is not ready: {self.trouble}"
        doing = f": {self.percent} %, {self.summary}" if self.phase is Phase.BOOTSTRAPPING else ""
        before = f"; before that: {self.trouble}" if self.trouble else ""
        return f"Tor is {self.phase}{doing}{before}"


@dataclass(slots=True)
class _Run:
    """One connection to one Tor."""

    control: TorControl
    process: TorProcess | None
    tunnel: tuple[str, int] | None = None
    added: set[str] = field(default_factory=set)
    uploaded: set[str] = field(default_factory=set)
    fetching: dict[str, list[asyncio.Event]] = field(default_factory=dict)


class TorSupervisor:
    """Keeps one Tor.

    Attributes:
        state: how it is doing.
    """

    def __init__(
        self,
        directory: Path,
        control: Path,
        settings: TorSettings,
        clock: Clock,
        entropy: Entropy,
        log: Logger,
    ) -> None:
        """`directory` is Tor's, `control` its socket; both for a Tor of our own."""
        self.state = TorState()
        self._directory = directory
        self._socket = settings.control or control
        self._settings = settings
        self._clock = clock
        self._entropy = entropy
        self._log = log
        self._services: dict[str, OnionService] = {}
        self._permits: dict[str, bytes] = {}
        self._run_now: _Run | None = None
        self._changed = asyncio.Event()
        self._wake = asyncio.Event()
        self._failures = 0

    async def run(self) -> None:
        """Keeps it until cancelled; Tor is gone on return, if it was ours."""
        while True:
            try:
                await self._live()
            except LucidError as error:
                self._set(phase=Phase.STOPPED, percent=0, trouble=str(error), hint=error.hint)
                self._log.warning("tor failed", why=str(error))
            self._failures += 1
            await self._clock.sleep(min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(self._failures - 1, 16)))

    @property
    def is_ready(self) -> bool:
        """Can it be dialled through?"""
        return self.state.phase is Phase.READY

    def get_tunnel(self) -> tuple[str, int]:
        """Host and port of Tor's HTTP CONNECT proxy.

        Raises:
            Unavailable: Tor is not ready.
        """
        run = self._run_now
        if not self.is_ready or run is None or run.tunnel is None:
            raise Unavailable(
                self.state.describe() or "Tor is not ready", hint=self.state.hint or "It is tried on."
            )
        return run.tunnel

    async def publish(self, service: OnionService) -> None:
        """Has a service published, now or when there is a Tor; again with every new one."""
        self._services[service.key.host] = service
        self._wake.set()

    async def withdraw(self, host: str) -> None:
        """Ends a service. What is connected through it stays so until the server closes it."""
        self._services.pop(host, None)
        self._wake.set()

    def is_published(self, host: str) -> bool:
        """Has a descriptor of the service been uploaded by the Tor that runs now?"""
        return self._run_now is not None and host in self._run_now.added & self._run_now.uploaded

    async def wait_changed(self) -> None:
        """Returns at the next change of the state, or of what is published."""
        await self._changed.wait()

    async def refetch(self, host: str) -> None:
        """Has Tor fetch the descriptor of a service anew. Returns when it has or has not got one, or soon.

        Tor does so itself where an introduction point refuses. One that does not know yet that the service is
        gone refuses nobody, and Tor would go on asking it.
        """
        run = self._run_now
        if run is None or not self.is_ready:
            return
        decided = asyncio.Event()
        waiting = run.fetching.setdefault(host, [])
        waiting.append(decided)
        try:
            await run.control.ask(f"HSFETCH {host}")
            async with asyncio.timeout(REFETCH_TIMEOUT_S):
                await decided.wait()
        except (LucidError, TimeoutError):
            return
        finally:
            waiting.remove(decided)

    async def authorize(self, host: str, private_key: bytes) -> None:
        """Lets this node's Tor, and each new one, reach a restricted service.

        Args:
            host: of the service.
            private_key: X25519, 32 bytes.

        Raises:
            LucidError: Tor is not there yet, and will be told when it is; or it refuses.
        """
        self._permits[host] = private_key
        if self._run_now is None:
            raise Unavailable(self.state.describe(), hint=self.state.hint)
        await self._permit(self._run_now.control, host, private_key)

    async def _live(self) -> None:
        """One Tor, from its start to its end. Returns or raises when it is gone."""
        self._set(phase=Phase.STARTING, percent=0, summary="")
        process: TorProcess | None = None
        control: TorControl | None = None
        try:
            if self._settings.control is None:
                process = await TorProcess.start(
                    self._directory, self._socket, self._settings, self._log.bind()
                )
                await self._wait_socket(process)
            control = await TorControl.open(self._socket, self._entropy, self._on_event)
            self._run_now = _Run(control, process)
            await self._prepare(self._run_now)
            await self._watch(self._run_now)
        finally:
            self._run_now = None
            self._set(phase=Phase.STOPPED, percent=0)
            if control is not None:
                await control.close()
            if process is not None:
                await process.stop()

    async def _wait_socket(self, process: TorProcess) -> None:
        """Waits until Tor listens for us."""
        ends_ns = self._clock.monotonic_ns() + int(SOCKET_TIMEOUT_S * 1e9)
        while not self._socket.exists():
            if process.has_ended:
                raise LocalError(await process.wait(), hint="Its settings are those named tor_….")
            if self._clock.monotonic_ns() > ends_ns:
                raise Unavailable(f"Tor has not opened {self._socket} within {SOCKET_TIMEOUT_S:.0f} s")
            await self._clock.sleep(POLL_S)

    async def _prepare(self, run: _Run) -> None:
        """Checks the version, adds the services, lets it on the network."""
        version = await run.control.get_info("version")
        self._set(version=version.partition(" ")[0])
        check_version(version)
        if run.process is not None:
            await run.control.ask("TAKEOWNERSHIP")
        await run.control.ask(_EVENTS)
        for host, private_key in list(self._permits.items()):
            await self._permit(run.control, host, private_key)
        await self._settle(run)
        self._set(phase=Phase.BOOTSTRAPPING)
        if run.process is not None:
            await run.control.ask("SETCONF DisableNetwork=0")

    async def _watch(self, run: _Run) -> None:
        """Asks now and then how Tor is doing, and at once when it says something. Raises when it is gone."""
        while not run.control.is_closed:
            self._wake.clear()
            await self._settle(run)
            self._take_bootstrap(await run.control.get_info("status/bootstrap-phase"))
            if self.state.percent == _DONE and not self.is_ready:
                await self._become_ready(run)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_EVERY_S):
                    await self._wake.wait()
        why = "it closed the control connection"
        if run.process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_END_TIMEOUT_S):
                    why = await run.process.wait()
        raise Unavailable(why, hint="It is tried again.")

    async def _become_ready(self, run: _Run) -> None:
        run.tunnel = _find_tunnel(await run.control.get_info("net/listeners/httptunnel"))
        self._failures = 0
        self._set(phase=Phase.READY, trouble="", hint="")
        self._log.info("tor ready", version=self.state.version, tunnel="{}:{}".format(*run.tunnel))

    async def _settle(self, run: _Run) -> None:
        """Adds the services that are to be published, and ends those that are not."""
        for host in [host for host in self._services if host not in run.added]:
            if (service := self._services.get(host)) is not None:
                await self._add(run.control, service)
                run.added.add(host)
        for host in [host for host in run.added if host not in self._services]:
            await run.control.ask(f"DEL_ONION {host}")
            run.added.discard(host)

    async def _permit(self, control: TorControl, host: str, private_key: bytes) -> None:
        encoded = base64.b64encode(private_key).decode()
        await control.ask(f"ONION_CLIENT_AUTH_ADD {host} x25519:{encoded}")

    async def _add(self, control: TorControl, service: OnionService) -> None:
        """Adds a service; what Tor makes of the key must be the address that was computed."""
        flags = ["DiscardPK", "MaxStreamsCloseCircuit", *(["V3Auth"] if service.clients else [])]
        words = [
            "ADD_ONION",
            f"ED25519-V3:{base64.b64encode(service.key.expand()).decode()}",
            f"Flags={','.join(flags)}",
            f"MaxStreams={self._settings.max_streams}",
            f"Port={service.port},unix:{self._get_target(service.socket)}",
            *(f"ClientAuthV3={_encode_base32(client)}" for client in service.clients),
        ]
        if self._settings.pow and parse_version(self.state.version) >= POW_VERSION:
            words += ["PoWDefensesEnabled=1", f"PoWQueueRate={self._settings.pow_rate}"]
        lines = await control.ask(" ".join(words))
        if lines[0] != f"ServiceID={service.key.host}":
            raise LocalError("Tor made another onion address of the key than the node did")

    def _get_target(self, socket: Path) -> str:
        """A socket as Tor finds it: ADD_ONION takes no space in a path; our own Tor is in its directory."""
        if self._settings.control is None:
            return os.path.relpath(socket, self._directory)
        if not re.fullmatch("[!-~]+", str(socket)):
            raise LocalError(
                f"a running Tor cannot be told of {socket}",
                hint="Name a home of ASCII letters, without spaces.",
            )
        return str(socket)

    def _on_event(self, line: str) -> None:
        match line.split(" "):
            case ["HS_DESC", "UPLOADED", host, *_] if self._run_now is not None:
                self._run_now.uploaded.add(host)
                self._tell()
            case ["HS_DESC", "RECEIVED" | "FAILED", host, *_] if self._run_now is not None:
                for decided in self._run_now.fetching.get(host, ()):
                    decided.set()
        self._wake.set()

    def _take_bootstrap(self, line: str) -> None:
        words = parse_words(line)
        warning = f": {words['WARNING']}" if "WARNING" in words else ""
        percent = words.get("PROGRESS", "")
        if not re.fullmatch("[0-9]{1,3}", percent):
            raise Unavailable("it does not tell how far it is", hint="Is that a Tor?")
        self._set(percent=min(_DONE, int(percent)), summary=words.get("SUMMARY", "") + warning)

    def _set(self, **changes: Any) -> None:
        before, self.state = self.state, replace(self.state, **changes)
        if before != self.state:
            self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _find_tunnel(listeners: str) -> tuple[str, int]:
    """Host and port of the first tunnel on loopback, as Tor lists them: "127.0.0.1:1234" "…".

    Raises:
        Unavailable: there is none.
    """
    match = re.search(r'"127\.0\.0\.1:([0-9]{1,5})"', listeners)
    if match is None:
        raise Unavailable(
            "it has no HTTPTunnelPort on 127.0.0.1",
            hint="Add `HTTPTunnelPort 127.0.0.1:auto OnionTrafficOnly` to its torrc.",
        )
    return "127.0.0.1", int(match[1])


def _encode_base32(key: bytes) -> str:
    return base64.b32encode(key).decode().rstrip("=")
