"""What a supervisor makes of what a Tor says, and what it tells each new one; the Tor is a script."""

import asyncio
import base64
import contextlib
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from kernel.errors import Unavailable
from kernel.onion import OnionKey
from kernel.uninterrupted import end_task
from node.adapters import SystemClock, SystemEntropy
from node.logs import make_logger
from node.transport.tor import supervisor as supervisor_module
from node.transport.tor.supervisor import OnionService, Phase, TorState, TorSupervisor
from node.transport.tor.torrc import TorSettings

KEYS = [OnionKey(bytes([number]) * 32) for number in range(4)]
HOSTS = {base64.b64encode(key.expand()).decode(): key.host for key in KEYS}
PROTOCOLINFO = "250-PROTOCOLINFO 1\r\n250-AUTH METHODS=NULL\r\n250 OK"


class ScriptedTor:
    """Answers commands, one connection after the other; `answers` replaces what it says to a first word."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, str] = {}
        self.commands: list[str] = []
        self.services: set[str] = set()
        self.on_command: Callable[[str], Awaitable[None]] | None = None
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.services.clear()
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                command = (await reader.readuntil(b"\r\n")).decode().strip()
                self.commands.append(command)
                if self.on_command is not None:
                    await self.on_command(command)
                writer.write(self.answer(command).encode() + b"\r\n")
        writer.close()

    def answer(self, command: str) -> str:
        first, _, rest = command.partition(" ")
        if (said := self.answers.get(first) or self.answers.get(rest)) is not None:
            return said
        match first, rest.split(" "):
            case "PROTOCOLINFO", _:
                return PROTOCOLINFO
            case "GETINFO", ["version"]:
                return "250-version=0.4.9.11 (git-1)\r\n250 OK"
            case "GETINFO", ["status/bootstrap-phase"]:
                return '250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=100 SUMMARY="Done"\r\n250 OK'
            case "GETINFO", _:
                return '250-net/listeners/httptunnel="127.0.0.1:4444"\r\n250 OK'
            case "ADD_ONION", [key, *_]:
                host = HOSTS[key.removeprefix("ED25519-V3:")]
                assert host not in self.services, "it was added twice"
                self.services.add(host)
                return f"250-ServiceID={host}\r\n250 OK"
            case "DEL_ONION", [host]:
                self.services.remove(host)
        return "250 OK"

    def say(self, event: str) -> None:
        self.writers[-1].write(f"650 {event}\r\n".encode())


@pytest.fixture
async def tor(tmp_path: Path) -> AsyncIterator[ScriptedTor]:
    scripted = ScriptedTor(tmp_path / "ctl")
    server = await asyncio.start_unix_server(scripted.serve, scripted.path)
    yield scripted
    server.close()
    for writer in scripted.writers:
        writer.close()


Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
async def supervisor(
    tor: ScriptedTor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TorSupervisor]:
    monkeypatch.setattr(supervisor_module, "FIRST_RETRY_S", 0.01)
    monkeypatch.setattr(supervisor_module, "LONGEST_RETRY_S", 0.02)
    made = TorSupervisor(
        tmp_path,
        tmp_path / "unused",
        TorSettings(control=tor.path),
        SystemClock(),
        SystemEntropy(),
        make_logger("debug", "json", io.StringIO()),
    )
    running = asyncio.create_task(made.run())
    yield made
    assert not running.done(), "whatever a Tor says, the node goes on"
    await end_task(running)


def make_service(number: int, socket: str = "/s", clients: tuple[bytes, ...] = ()) -> OnionService:
    return OnionService(KEYS[number], 4001, Path(socket), clients)


async def test_every_new_tor_is_told_all_of_it_again(
    tor: ScriptedTor, supervisor: TorSupervisor, eventually: Eventually
) -> None:
    await supervisor.publish(make_service(0))
    await supervisor.publish(make_service(1))
    await eventually(lambda: supervisor.is_ready)
    assert supervisor.get_tunnel() == ("127.0.0.1", 4444)
    await supervisor.authorize(KEYS[3].host, b"k" * 32)
    await supervisor.withdraw(KEYS[1].host)
    await eventually(lambda: tor.services == {KEYS[0].host})
    tor.commands.clear()
    tor.writers[-1].close()
    await eventually(lambda: len(tor.writers) == 2 and supervisor.is_ready)
    assert tor.services == {KEYS[0].host}
    permit = f"ONION_CLIENT_AUTH_ADD {KEYS[3].host} x25519:{base64.b64encode(b'k' * 32).decode()}"
    assert tor.commands.count(permit) == 1


async def test_what_comes_while_tor_is_being_told_is_told_too(
    tor: ScriptedTor, supervisor: TorSupervisor, eventually: Eventually
) -> None:
    async def publish_more(command: str) -> None:
        if command.startswith("ADD_ONION"):
            number = len(tor.services) + 1
            if number < len(KEYS):
                await supervisor.publish(make_service(number))

    tor.on_command = publish_more
    await supervisor.publish(make_service(0))
    await eventually(lambda: tor.services == {key.host for key in KEYS})


async def test_a_service_that_is_withdrawn_while_it_is_added_does_not_stay(
    tor: ScriptedTor, supervisor: TorSupervisor, eventually: Eventually
) -> None:
    async def withdraw(command: str) -> None:
        if command.startswith("ADD_ONION"):
            await supervisor.withdraw(KEYS[0].host)

    await eventually(lambda: supervisor.is_ready)
    tor.on_command = withdraw
    await supervisor.publish(make_service(0))
    await eventually(lambda: any(command.startswith("DEL_ONION") for command in tor.commands))
    await eventually(lambda: not tor.services)
    tor.say(f"HS_DESC UPLOADED {KEYS[0].host} UNKNOWN $1")
    assert not supervisor.is_published(KEYS[0].host)


async def test_a_service_is_published_when_its_descriptor_is_uploaded(
    tor: ScriptedTor, supervisor: TorSupervisor, eventually: Eventually
) -> None:
    await supervisor.publish(make_service(0))
    await eventually(lambda: supervisor.is_ready and bool(tor.services))
    tor.say(f"HS_DESC UPLOADED {KEYS[1].host} UNKNOWN $1")
    tor.say(f"HS_DESC UPLOADED {KEYS[0].host} UNKNOWN $1")
    await eventually(lambda: supervisor.is_published(KEYS[0].host))
    assert not supervisor.is_published(KEYS[1].host)


@pytest.mark.parametrize(
    ("first", "answer", "why"),
    [
        ("version", "250-version=0.4.7.99 (git)\r\n250 OK", "is too old"),
        ("version", "250-version=nonsense\r\n250 OK", "is too old"),
        ("version", "551 no", "Tor refused GETINFO: 551 no"),
        ("SETEVENTS", "552 no", "Tor refused SETEVENTS: 552 no"),
        ("ADD_ONION", "512 no", "Tor refused ADD_ONION: 512 no"),
        ("ADD_ONION", "250-ServiceID=abc\r\n250 OK", "another onion address"),
        ("status/bootstrap-phase", "250-status/bootstrap-phase=PROGRESS=many\r\n250 OK", "how far it is"),
        ("status/bootstrap-phase", "250-status/bootstrap-phase=PROGRESS=-1\r\n250 OK", "how far it is"),
        ("status/bootstrap-phase", "250 OK", "how far it is"),
        ("net/listeners/httptunnel", "250-net/listeners/httptunnel=\r\n250 OK", "no HTTPTunnelPort"),
        (
            "net/listeners/httptunnel",
            '250-net/listeners/httptunnel="192.0.2.1:80" "unix:/x" "127.0.0.11:1" "0.0.0.0:1"\r\n250 OK',
            "no HTTPTunnelPort on 127.0.0.1",
        ),
    ],
)
async def test_a_tor_that_says_something_else_is_left_and_tried_again(
    tor: ScriptedTor, supervisor: TorSupervisor, eventually: Eventually, first: str, answer: str, why: str
) -> None:
    tor.answers[first] = answer
    await supervisor.publish(make_service(0))
    await eventually(lambda: why in supervisor.state.trouble)
    assert not supervisor.is_ready
    with pytest.raises(Unavailable, match="Tor is"):
        supervisor.get_tunnel()
    tor.answers.clear()
    await eventually(lambda: supervisor.is_ready)
    assert (supervisor.state.trouble, supervisor.state.describe()) == ("", "")


async def test_more_than_all_is_not_more_than_all(
    tor: ScriptedTor, supervisor: TorSupervisor, eventually: Eventually
) -> None:
    tor.answers["status/bootstrap-phase"] = "250-status/bootstrap-phase=PROGRESS=999\r\n250 OK"
    await eventually(lambda: supervisor.is_ready)
    assert supervisor.state.percent == 100


@pytest.mark.parametrize("home", ["/a b/s", "/ä/s", "/a\x85b/s"])
async def test_a_running_tor_is_not_told_of_a_path_that_it_cannot_take(
    tor: ScriptedTor, supervisor: TorSupervisor, eventually: Eventually, home: str
) -> None:
    await supervisor.publish(make_service(0, home))
    await eventually(lambda: "cannot be told of" in supervisor.state.trouble)
    assert not tor.services


async def test_a_restricted_service_names_its_clients(
    tor: ScriptedTor, supervisor: TorSupervisor, eventually: Eventually
) -> None:
    await supervisor.publish(make_service(0, clients=(b"c" * 32,)))
    await eventually(lambda: bool(tor.services))
    [command] = [command for command in tor.commands if command.startswith("ADD_ONION")]
    assert "V3Auth" in command
    encoded = base64.b32encode(b"c" * 32).decode().rstrip("=")
    assert command.endswith(f" ClientAuthV3={encoded} PoWDefensesEnabled=1 PoWQueueRate=250")
    assert re.search(
        "Flags=DiscardPK,MaxStreamsCloseCircuit,V3Auth MaxStreams=16 Port=4001,unix:/s ", command
    )


async def test_an_older_tor_is_not_asked_for_proof_of_work(
    tor: ScriptedTor, supervisor: TorSupervisor, eventually: Eventually
) -> None:
    tor.answers["version"] = "250-version=0.4.8.20\r\n250 OK"
    await supervisor.publish(make_service(0))
    await eventually(lambda: bool(tor.services))
    assert "PoW" not in " ".join(tor.commands)


@pytest.mark.parametrize("told", ["RECEIVED", "FAILED"])
async def test_a_descriptor_is_fetched_anew_and_waited_for(
    tor: ScriptedTor, supervisor: TorSupervisor, eventually: Eventually, told: str
) -> None:
    await eventually(lambda: supervisor.is_ready)
    fetching, other = (asyncio.create_task(supervisor.refetch(key.host)) for key in KEYS[:2])
    await eventually(lambda: {f"HSFETCH {key.host}" for key in KEYS[:2]} <= set(tor.commands))
    tor.say(f"HS_DESC REQUESTED {KEYS[0].host} NO_AUTH $A~a id")
    tor.say(f"HS_DESC RECEIVED {KEYS[1].host} NO_AUTH $A~a id")
    await other
    assert not fetching.done()
    both = [fetching, asyncio.create_task(supervisor.refetch(KEYS[0].host))]
    await eventually(lambda: tor.commands.count(f"HSFETCH {KEYS[0].host}") == 2)
    tor.say(f"HS_DESC {told} {KEYS[0].host} NO_AUTH $A~a id")
    await asyncio.gather(*both)
    assert supervisor.is_ready


@pytest.mark.parametrize("answer", ["250 OK", "552 no", None])
async def test_a_descriptor_that_does_not_come_is_not_waited_for_long(
    tor: ScriptedTor,
    supervisor: TorSupervisor,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    answer: str | None,
) -> None:
    monkeypatch.setattr(supervisor_module, "REFETCH_TIMEOUT_S", 0.05)
    await supervisor.refetch(KEYS[0].host)  # there is no Tor yet
    await eventually(lambda: supervisor.is_ready)
    if answer is None:
        tor.on_command = hang_up
    else:
        tor.answers["HSFETCH"] = answer
    await supervisor.refetch(KEYS[0].host)


async def hang_up(command: str) -> None:
    raise ConnectionError


def test_why_nothing_goes_through_tor() -> None:
    assert TorState(Phase.READY, 100).describe() == ""
    assert TorState(Phase.STARTING).describe() == "Tor is starting"
    assert TorState(Phase.STOPPED, trouble="x").describe() == "Tor is not ready: x"
    assert TorState(Phase.STARTING, trouble="x").describe() == "Tor is starting; before that: x"
    assert (
        TorState(Phase.BOOTSTRAPPING, 5, "Connecting").describe() == "Tor is bootstrapping: 5 %, Connecting"
    )
