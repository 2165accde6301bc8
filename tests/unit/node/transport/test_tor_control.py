"""The control connection: what answers is no Tor, has another cookie, is silent, or talks nonsense."""

import asyncio
import contextlib
import hmac
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from kernel.errors import Locked, LucidError, Unavailable
from kernel.uninterrupted import end_task
from node.adapters import SystemEntropy
from node.transport.tor import control as control_module
from node.transport.tor.control import MAX_LINE_BYTES, TorControl, TorRefused, parse_words

COOKIE = bytes(range(32))
SERVER_KEY = b"Tor safe cookie authentication server-to-controller hash"
CLIENT_KEY = b"Tor safe cookie authentication controller-to-server hash"
SERVER_NONCE = bytes(range(100, 132))

Reply = Callable[[str], Awaitable[bytes] | bytes]
Serve = Callable[[Reply], Awaitable[Path]]


class FakeTor:
    """Authenticates as Tor does, and answers the rest by `reply`."""

    def __init__(self, cookie_file: Path, reply: Reply, *, knows: bytes = COOKIE) -> None:
        self._cookie_file = cookie_file
        self._reply = reply
        self._knows = knows
        self._expected = ""

    async def __call__(self, line: str) -> bytes:
        if line.startswith("PROTOCOLINFO"):
            auth = f'250-AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE="{self._cookie_file}"'
            return f"250-PROTOCOLINFO 1\r\n{auth}\r\n250 OK\r\n".encode()
        if line.startswith("AUTHCHALLENGE"):
            message = self._knows + bytes.fromhex(line.split(" ")[2]) + SERVER_NONCE
            proof = hmac.digest(SERVER_KEY, message, "sha256").hex().upper()
            self._expected = hmac.digest(CLIENT_KEY, message, "sha256").hex()
            challenge = f"250 AUTHCHALLENGE SERVERHASH={proof} SERVERNONCE={SERVER_NONCE.hex().upper()}\r\n"
            return challenge.encode()
        if line.startswith("AUTHENTICATE"):
            good = line == f"AUTHENTICATE {self._expected}"
            return b"250 OK\r\n" if good else b"515 Authentication failed\r\n"
        answer = self._reply(line)
        return answer if isinstance(answer, bytes) else await answer


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    async with contextlib.AsyncExitStack() as stack:

        async def start(reply: Reply) -> Path:
            async def answer_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                try:
                    while True:
                        line = (await reader.readuntil(b"\r\n")).decode().strip()
                        answer = reply(line)
                        writer.write(answer if isinstance(answer, bytes) else await answer)
                        await writer.drain()
                except (OSError, asyncio.IncompleteReadError):
                    pass
                finally:
                    writer.close()

            def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                stack.push_async_callback(end_task, asyncio.create_task(answer_all(reader, writer)))

            path = tmp_path / "c"
            server = await asyncio.start_unix_server(on_connection, path)
            stack.callback(server.close)
            return path

        yield start


@pytest.fixture
def cookie_file(tmp_path: Path) -> Path:
    path = tmp_path / "cookie"
    path.write_bytes(COOKIE)
    return path


async def open_control(path: Path, events: list[str] | None = None) -> TorControl:
    seen: list[str] = [] if events is None else events
    return await TorControl.open(path, SystemEntropy(), seen.append)


async def test_replies_of_one_line_of_many_and_with_data_are_read(serve: Serve, cookie_file: Path) -> None:
    def reply(line: str) -> bytes:
        return {
            "GETINFO version": b"250-version=0.4.9.11\r\n250 OK\r\n",
            "GETINFO circuit-status": b"250+circuit-status=\r\n1 BUILT\r\n..dot\r\n.\r\n250 OK\r\n",
            "GETINFO nothing": b'552 Unrecognized key "nothing"\r\n',
        }[line]

    events: list[str] = []
    control = await open_control(await serve(FakeTor(cookie_file, reply)), events)
    assert await control.get_info("version") == "0.4.9.11"
    assert await control.get_info("circuit-status") == "1 BUILT\n.dot"
    with pytest.raises(TorRefused, match="552"):
        await control.get_info("nothing")
    assert not control.is_closed and events == []
    await control.close()
    assert events == [""]


async def test_events_go_to_the_callback_and_not_to_a_command(serve: Serve, cookie_file: Path) -> None:
    events: list[str] = []
    told = b"650 HS_DESC UPLOADED a UNKNOWN b\r\n250-version=1\r\n650 X\r\n250 OK\r\n"
    # An event never stands inside a reply; one that does breaks the format.
    control = await open_control(await serve(FakeTor(cookie_file, lambda _: told)), events)
    with pytest.raises(LucidError):
        await control.ask("GETINFO version")
        await control.ask("GETINFO version")
    assert events[0] == "HS_DESC UPLOADED a UNKNOWN b"
    await control.close()


async def test_a_key_in_a_refused_command_is_not_shown(serve: Serve, cookie_file: Path) -> None:
    control = await open_control(await serve(FakeTor(cookie_file, lambda _: b"512 Bad arguments\r\n")))
    with pytest.raises(TorRefused) as caught:
        await control.ask("ADD_ONION ED25519-V3:c2VjcmV0 Port=1")
    assert "c2VjcmV0" not in str(caught.value)
    await control.close()


async def test_who_does_not_know_the_cookie_is_not_taken_for_tor(serve: Serve, cookie_file: Path) -> None:
    seen: list[str] = []
    tor = FakeTor(cookie_file, lambda _: b"250 OK\r\n", knows=bytes(32))

    async def listen(line: str) -> bytes:
        seen.append(line)
        return await tor(line)

    with pytest.raises(Locked, match="does not know Tor's cookie"):
        await open_control(await serve(listen))
    assert not any(line.startswith("AUTHENTICATE") or COOKIE.hex() in line for line in seen)


async def test_a_tor_with_another_cookie_refuses_us(serve: Serve, cookie_file: Path) -> None:
    async def refuse(line: str) -> bytes:
        if line.startswith("AUTHENTICATE"):
            return b"515 Authentication failed: Wrong length\r\n"
        return await tor(line)

    tor = FakeTor(cookie_file, lambda _: b"")
    with pytest.raises(Locked, match="515"):
        await open_control(await serve(refuse))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"250-AUTH METHODS=HASHEDPASSWORD\r\n250 OK\r\n", "takes no cookie"),
        (b"250-AUTH METHODS=COOKIE\r\n250 OK\r\n", "takes no cookie"),
        (b'250-AUTH METHODS=SAFECOOKIE COOKIEFILE="/nowhere"\r\n250 OK\r\n', "cannot be read"),
        (b"250 OK\r\n", "takes no cookie"),
    ],
)
async def test_other_ways_to_authenticate_are_refused(serve: Serve, answer: bytes, message: str) -> None:
    with pytest.raises(Locked, match=message):
        await open_control(await serve(lambda _: answer))


def write_cookie(cookie_file: Path, size: int) -> None:
    cookie_file.write_bytes(bytes(size))


async def test_a_pipe_in_place_of_the_cookie_is_not_waited_for(serve: Serve, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path / "pipe", "has 0 bytes"), (tmp_path / "nul\0", "cannot be read")):
        with pytest.raises(Locked, match=why):
            await open_control(await serve(FakeTor(path, lambda _: b"")))


@pytest.mark.parametrize("size", [0, 31, 33])
async def test_a_cookie_of_another_length_is_none(serve: Serve, cookie_file: Path, size: int) -> None:
    write_cookie(cookie_file, size)
    with pytest.raises(Locked, match="bytes, not 32"):
        await open_control(await serve(FakeTor(cookie_file, lambda _: b"")))


@pytest.mark.parametrize(
    "nonsense",
    [
        b"hello\r\n",
        b"25 OK\r\n",
        b"250*OK\r\n",
        b"\xff\xfe\r\n",
        b"250-" + b"x" * MAX_LINE_BYTES * 2,
        b"250-x\r\n" * 20_000,
        b"250+data=\r\n" + b"x\r\n" * 20_000,
        b"",
    ],
)
async def test_what_is_no_reply_ends_the_connection(
    serve: Serve, cookie_file: Path, nonsense: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = await open_control(await serve(FakeTor(cookie_file, lambda _: nonsense)))
    monkeypatch.setattr(control_module, "TIMEOUT_S", 0.2)
    with pytest.raises(Unavailable):
        await control.ask("GETINFO version")
    with pytest.raises(Unavailable, match="lost"):
        await control.ask("GETINFO version")
    assert control.is_closed
    await control.close()


async def test_a_reply_that_nobody_asked_for_ends_the_connection(serve: Serve, cookie_file: Path) -> None:
    control = await open_control(await serve(FakeTor(cookie_file, lambda _: b"250 OK\r\n" * 3)))
    await control.ask("SETEVENTS X")
    with pytest.raises(Unavailable):
        while True:
            await control.ask("SETEVENTS X")
            await asyncio.sleep(0)
    await control.close()


async def test_a_reply_to_who_waits_no_longer_is_not_given_to_the_next_one(
    serve: Serve, cookie_file: Path
) -> None:
    late = asyncio.Event()

    async def answer(line: str) -> bytes:
        await late.wait()
        return f"250-{line.split()[-1]}=of {line.split()[-1]}\r\n250 OK\r\n".encode()

    control = await open_control(await serve(FakeTor(cookie_file, answer)))
    asking = asyncio.create_task(control.get_info("version"))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    late.set()
    assert await control.get_info("other") == "of other"
    assert not control.is_closed
    await control.close()


async def test_a_connection_that_ends_while_nobody_waits_is_no_unheard_error(
    serve: Serve, cookie_file: Path
) -> None:
    control = await open_control(await serve(FakeTor(cookie_file, lambda _: asyncio.sleep(600, b""))))
    asking = asyncio.create_task(control.get_info("version"))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await control.close()


async def test_another_users_process_at_the_socket_learns_nothing(
    serve: Serve, cookie_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(line: str) -> bytes:
        asked.append(line)
        return b"250 OK\r\n"

    path = await serve(answer)
    monkeypatch.setattr(control_module, "_get_user", lambda _: 12345)
    with pytest.raises(Locked, match="user 12345 listens at the control socket"):
        await open_control(path)
    assert not asked


async def test_nobody_at_the_socket_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await open_control(tmp_path / "none")


def test_words_of_tor_are_taken_apart() -> None:
    line = r'NOTICE BOOTSTRAP PROGRESS=45 TAG=x SUMMARY="Asking for \"relays\"" WARNING="a=b"'
    assert parse_words(line) == {
        "PROGRESS": "45",
        "TAG": "x",
        "SUMMARY": 'Asking for "relays"',
        "WARNING": "a=b",
    }
