"""How commands reach a running cluster: one line of JSON each way over a Unix socket in its directory.

    {"command": "kill", "node": 1}  →  {"result": …}  or  {"error": {"code", "message", "hint"}}

The directory is the user's own (mode 0700): who can open the socket may do everything.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from kernel import errors
from kernel.errors import LucidError, Unavailable, UsageError
from simnet.layout import Layout

MAX_LINE_BYTES = 64 << 10
READ_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 240.0

Handler = Callable[[str, int], Awaitable[Any]]
"""Carries out a command on a node; its result can be written as JSON."""


async def start_control(layout: Layout, handle: Handler) -> asyncio.Server:
    """Listens for commands. Whoever calls holds the lock of the directory."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                line = await reader.readline()
            writer.write(json.dumps(await _answer(line, handle)).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # whoever asked has gone, or did not end its line
        finally:
            writer.close()

    layout.socket.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(on_connection, layout.socket, limit=MAX_LINE_BYTES)
    layout.socket.chmod(0o600)
    return server


async def _answer(line: bytes, handle: Handler) -> dict[str, Any]:
    try:
        try:
            request = json.loads(line)
            command, node = str(request["command"]), int(request.get("node", -1))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise UsageError("the request is no command") from error
        return {"result": await handle(command, node)}
    except (LucidError, OSError) as error:
        code, hint = type(error).__name__, getattr(error, "hint", "")
        return {"error": {"code": code, "message": str(error), "hint": hint}}


def call(layout: Layout, command: str, node: int = -1) -> Any:
    """Has a running cluster carry out a command; returns its result.

    Raises:
        Unavailable: no cluster runs there, or it does not answer.
        LucidError: what the command failed with.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(CALL_TIMEOUT_S)
            connection.connect(str(layout.socket))
            connection.sendall(json.dumps({"command": command, "node": node}).encode() + b"\n")
            with connection.makefile("rb") as answers:
                line = answers.readline()
        answer = json.loads(line)
    except (OSError, ValueError) as error:
        raise Unavailable(
            f"no cluster runs in {layout.root}: {error}",
            hint=f"Start one: lucid-simnet up --nodes 3 --dir {layout.root}",
        ) from error
    if "error" in answer:
        raise _decode_error(**answer["error"])
    return answer["result"]


def _decode_error(code: str, message: str, hint: str) -> LucidError:
    kind = getattr(errors, code, LucidError)
    if isinstance(kind, type) and issubclass(kind, errors.LocalError):
        return kind(message, hint=hint)
    return LucidError(message, hint=hint)
