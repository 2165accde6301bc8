"""What carries connections, and may let them die without a word, as circuits of Tor do."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

PIECE_BYTES = 1 << 16
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Conduit:
    """Carries connections to a server. `swallow` drops what comes from then on over those that are open."""

    def __init__(self, connect: Callable[[], Awaitable[Streams]]) -> None:
        """`connect` opens one to the server."""
        self.carried: list[asyncio.Event] = []
        self.pieces = 0
        self._connect_on = connect
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, stack: AsyncExitStack) -> int:
        """Listens until the stack is left; the port."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        stack.callback(server.close)
        stack.push_async_callback(self._stop)
        port: int = server.sockets[0].getsockname()[1]
        return port

    def swallow(self) -> None:
        """See the class."""
        for is_dead in self.carried:
            is_dead.set()

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(reader, writer))
        self._tasks.add(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_dead = asyncio.Event()
        self.carried.append(is_dead)
        far_reader, far_writer = await self._connect_on()
        try:
            await asyncio.gather(
                self._pump(reader, far_writer, is_dead), self._pump(far_reader, writer, is_dead)
            )
        finally:
            far_writer.close()
            writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_dead: asyncio.Event
    ) -> None:
        while data := await reader.read(PIECE_BYTES):
            if not is_dead.is_set():
                self.pieces += 1
                writer.write(data)
                await writer.drain()
        if not is_dead.is_set():
            writer.close()
