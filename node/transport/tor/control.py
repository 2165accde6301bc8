"""A connection to the control socket of a Tor, as far as a node needs it (Tor, control-spec).

One command is on its way at a time, for a bounded time: a reply that does not come in time, or breaks the
format, ends the connection. Events go to a callback. Whoever may read Tor's cookie file is let in; the cookie
itself is never sent (SAFECOOKIE). It is the other side that names that file: it is believed only if it is a
process of this user, of root, or of the owner of the directory that the socket is in.
"""

import asyncio
import contextlib
import hmac
import os
import re
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from kernel.errors import LocalError, Locked, Unavailable
from kernel.ports import Entropy
from kernel.uninterrupted import end_task

TIMEOUT_S = 10.0
MAX_LINE_BYTES = 64 << 10
MAX_REPLY_LINES = 10_000
COOKIE_BYTES = 32
_NONCE_BYTES = 32
_SERVER_HASH_KEY = b"Tor safe cookie authentication server-to-controller hash"
_CLIENT_HASH_KEY = b"Tor safe cookie authentication controller-to-server hash"
_REPLY = re.compile(r"([0-9]{3})([- +])(.*)", re.DOTALL)
_DONE, _EVENT = "2", "650"
"""What worked has a code that begins with 2: 251 if nothing was to do, 252 if something waited for a key."""

OnEvent = Callable[[str], None]
"""Is told of an event: its first line, without the number; an empty one when the connection is gone."""


class TorRefused(LocalError):
    """Tor answered a command with an error."""


class TorControl:
    """One authenticated connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_event: OnEvent) -> None:
        self._reader = reader
        self._writer = writer
        self._on_event = on_event
        self._turn = asyncio.Lock()
        self._replies: asyncio.Queue[tuple[str, list[str]] | None] = asyncio.Queue(maxsize=1)
        self._reading = asyncio.create_task(self._read())
        self._exchanges: set[asyncio.Task[list[str]]] = set()

    @classmethod
    async def open(cls, path: Path, entropy: Entropy, on_event: OnEvent) -> "TorControl":
        """Connects and authenticates.

        Args:
            path: of the control socket.
            entropy: for the nonce.
            on_event: see `OnEvent`.

        Raises:
            Unavailable: nobody answers there.
            Locked: this user may not control that Tor, or another user listens there.
        """
        try:
            owner = path.parent.stat().st_uid
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(path, limit=MAX_LINE_BYTES)
        except (OSError, TimeoutError) as error:
            raise Unavailable(
                f"the control socket {path} of Tor does not answer: {error or 'too late'}",
                hint="Is Tor running, and does it have this ControlSocket?",
            ) from error
        control = cls(reader, writer, on_event)
        try:
            _check_listener(writer.get_extra_info("socket"), path, owner)
            await control._authenticate(entropy)
        except BaseException:
            await control.close()
            raise
        return control

    async def ask(self, command: str) -> list[str]:
        """Sends a command; returns the lines of the reply, without their numbers.

        The reply is taken even if the caller is cancelled: the next one must not get it.

        Raises:
            TorRefused: Tor answers with an error.
            Unavailable: the connection is gone, or no answer came in time; it is closed then.
        """
        exchange = asyncio.create_task(self._exchange(command))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._on_exchanged)
        return await asyncio.shield(exchange)

    def _on_exchanged(self, exchange: "asyncio.Task[list[str]]") -> None:
        self._exchanges.discard(exchange)
        if not exchange.cancelled():
            exchange.exception()  # whoever asked may no longer wait for it

    async def _exchange(self, command: str) -> list[str]:
        async with self._turn:
            if self._reading.done():
                raise _lost()
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    self._writer.write(command.encode("ascii") + b"\r\n")
                    await self._writer.drain()
                    reply = await self._replies.get()
            except TimeoutError as error:
                self._reading.cancel()
                what = f"Tor has not answered for {TIMEOUT_S:.0f} s"
                raise Unavailable(what, hint="Is it stopped, or the machine overloaded?") from error
            except OSError as error:
                raise _lost() from error
        if reply is None:
            raise _lost()
        code, lines = reply
        if not code.startswith(_DONE):
            # The command itself may hold a key: it is named, not shown.
            raise TorRefused(f"Tor refused {command.split(' ', 1)[0]}: {code} {lines[-1]}")
        return lines

    async def get_info(self, key: str) -> str:
        """What GETINFO tells for one key.

        Raises:
            TorRefused: Tor knows no such key.
            Unavailable: the connection is gone.
        """
        lines = await self.ask(f"GETINFO {key}")
        return lines[0].partition("=")[2] or "\n".join(lines[1:-1])

    @property
    def is_closed(self) -> bool:
        """Is the connection gone?"""
        return self._reading.done()

    async def close(self) -> None:
        """Ends the connection; with it go the onion services that it added."""
        await end_task(self._reading)
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _authenticate(self, entropy: Entropy) -> None:
        lines = await self.ask("PROTOCOLINFO 1")
        auth = next((line for line in lines if line.startswith("AUTH METHODS=")), "AUTH METHODS=")
        methods = auth.removeprefix("AUTH METHODS=").split(" ", 1)[0].split(",")
        if "NULL" in methods:
            await self.ask("AUTHENTICATE")
            return
        quoted = re.search(r'COOKIEFILE="((?:[^"\\]|\\.)*)"', auth)
        if "SAFECOOKIE" not in methods or quoted is None:
            raise Locked("Tor takes no cookie", hint="Set `CookieAuthentication 1` in its torrc.")
        cookie = _read_cookie(Path(re.sub(r"\\(.)", r"\1", quoted[1])))
        nonce = entropy.draw(_NONCE_BYTES)
        challenge = (await self.ask(f"AUTHCHALLENGE SAFECOOKIE {nonce.hex()}"))[0]
        answer = re.fullmatch(
            r"AUTHCHALLENGE SERVERHASH=([0-9A-Fa-f]{64}) SERVERNONCE=([0-9A-Fa-f]{64})", challenge
        )
        if answer is None:
            raise Locked("what answers at the control socket is no Tor: its challenge is malformed")
        message = cookie + nonce + bytes.fromhex(answer[2])
        if not hmac.compare_digest(
            hmac.digest(_SERVER_HASH_KEY, message, "sha256"), bytes.fromhex(answer[1])
        ):
            raise Locked(
                "what answers at the control socket does not know Tor's cookie",
                hint="Another Tor wrote the cookie file meanwhile, or somebody else listens at the socket.",
            )
        proof = hmac.digest(_CLIENT_HASH_KEY, message, "sha256").hex()
        try:
            await self.ask(f"AUTHENTICATE {proof}")
        except TorRefused as error:
            raise Locked(f"{error}", hint="Does the cookie file belong to this Tor?") from error

    async def _read(self) -> None:
        """Takes replies and events apart until the connection ends."""
        try:
            while True:
                code, lines = await self._read_reply()
                if code == _EVENT:
                    self._on_event(lines[0])
                elif self._replies.full():
                    return  # a reply that nobody asked for
                else:
                    self._replies.put_nowait((code, lines))
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            if self._replies.empty():
                self._replies.put_nowait(None)
            self._on_event("")

    async def _read_reply(self) -> tuple[str, list[str]]:
        lines: list[str] = []
        code = ""
        while len(lines) < MAX_REPLY_LINES:
            match = _REPLY.fullmatch(await self._read_line())
            if match is None or match[1] != (code := code or match[1]):
                raise ValueError("no line of this reply")
            lines.append(match[3])
            if match[2] == "+":
                while (line := await self._read_line()) != "." and len(lines) < MAX_REPLY_LINES:
                    lines.append(line.removeprefix("."))
            elif match[2] == " ":
                return match[1], lines
        raise ValueError("too many lines")

    async def _read_line(self) -> str:
        line = await self._reader.readuntil(b"\r\n")
        return line[:-2].decode("utf-8", "replace")


def parse_words(line: str) -> dict[str, str]:
    """The KEY=VALUE and KEY="VALUE" words of a line of Tor."""
    found: Sequence[tuple[str, str, str]] = re.findall(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))', line)
    return {key: re.sub(r"\\(.)", r"\1", quoted) or plain for key, quoted, plain in found}


def _check_listener(connection: socket.socket, path: Path, owner: int) -> None:
    """Whoever gets the private keys of the services is root, this user, or the owner of that directory."""
    user = _get_user(connection)
    if user not in (0, os.geteuid(), owner):
        raise Locked(
            f"user {user} listens at the control socket {path}, and the directory is not theirs",
            hint="Name the control socket of a Tor of this user, or of one with a directory of its own.",
        )


def _get_user(connection: socket.socket) -> int:
    """Who listened at the other end, by the kernel's word (unix(7), SO_PEERCRED)."""
    _process, user, _group = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    )
    return int(user)


def _read_cookie(path: Path) -> bytes:
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            cookie = file.read(COOKIE_BYTES + 1)
    except (OSError, ValueError) as error:
        raise Locked(
            f"Tor's cookie file {path} cannot be read: {error}",
            hint="Let this user read it: on Debian, add it to the group debian-tor.",
        ) from error
    if len(cookie) != COOKIE_BYTES:
        raise Locked(f"Tor's cookie file {path} has {len(cookie)} bytes, not {COOKIE_BYTES}")
    return cookie


def _open_at_once(path: str, flags: int) -> int:
    """Does not wait for whoever would write into a pipe: what is named here is a stranger's word."""
    return os.open(path, flags | os.O_NONBLOCK)


def _lost() -> Unavailable:
    return Unavailable("the connection to Tor is lost", hint="Its log tells why it ended.")
