"""What a case is run against: a server and its client, over real `grpc.aio` or in a simulated world."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from simnet.world.network import Host, Network

SERVICE = "test.Service"
EOF = grpc.aio.EOF
Handler = Any
Options = Sequence[tuple[str, Any]]
_KINDS = {
    "unary_unary": grpc.unary_unary_rpc_method_handler,
    "unary_stream": grpc.unary_stream_rpc_method_handler,
    "stream_unary": grpc.stream_unary_rpc_method_handler,
    "stream_stream": grpc.stream_stream_rpc_method_handler,
}


@dataclass
class World:
    """Servers and channels of one case; all are closed after it."""

    is_real: bool = True
    servers: list[grpc.aio.Server] = field(default_factory=list)
    channels: list[grpc.aio.Channel] = field(default_factory=list)
    port: int = 0

    def make_server(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        options: Options = (),
        maximum: int | None = None,
        port: int = 0,
    ) -> grpc.aio.Server:
        """A server that is bound; `port` is that of the latest."""
        raise NotImplementedError

    def dial(self, options: Options = ()) -> grpc.aio.Channel:
        """A channel to the latest server."""
        raise NotImplementedError

    async def interpose(self) -> None:
        """Lets channels that are dialled from now on be cut."""
        raise NotImplementedError

    async def cut(self) -> None:
        """Resets all connections; new ones are refused."""
        raise NotImplementedError

    async def serve(self, kind: str, handler: Handler, **more: Any) -> Any:
        """Serves one method of a kind, and returns the multicallable for it; see `make_server`."""
        serializers = more.pop("serializers", {})
        server = self.make_server(**more)
        method = _KINDS[kind](handler, **serializers)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Method": method}),))
        await server.start()
        return self.stub(kind)

    def stub(self, kind: str, channel: grpc.aio.Channel | None = None, **more: Any) -> Any:
        """A multicallable for the method that `serve` serves."""
        made = channel or self.dial(more.pop("options", ()))
        return getattr(made, kind)(f"/{SERVICE}/Method", **more)

    async def close(self) -> None:
        for channel in self.channels:
            await channel.close()
        for server in self.servers:
            await server.stop(None)


@dataclass
class RealWorld(World):
    """`grpc.aio` over loopback, through a proxy that can be cut."""

    proxies: list[asyncio.Server] = field(default_factory=list)
    pipes: list[asyncio.StreamWriter] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def make_server(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        options: Options = (),
        maximum: int | None = None,
        port: int = 0,
    ) -> grpc.aio.Server:
        server = grpc.aio.server(
            interceptors=list(interceptors),
            options=[*options, ("grpc.so_reuseport", 0)],
            maximum_concurrent_rpcs=maximum,
        )
        self.port = server.add_insecure_port(f"127.0.0.1:{port}")
        self.servers.append(server)
        return server

    def dial(self, options: Options = ()) -> grpc.aio.Channel:
        own = ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)
        channel = grpc.aio.insecure_channel(f"ipv4:127.0.0.1:{self.port}", options=[*options, *own])
        self.channels.append(channel)
        return channel

    async def interpose(self) -> None:
        """Puts a proxy before the server: `cut` cuts it."""
        target = self.port

        async def on_connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", target)
            self.pipes += [writer, back]
            self.tasks += [
                asyncio.create_task(_copy(reader, back)),
                asyncio.create_task(_copy(there, writer)),
            ]

        proxy = await asyncio.start_server(on_connected, "127.0.0.1", 0)
        self.proxies.append(proxy)
        self.port = proxy.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        for proxy in self.proxies:
            proxy.close()
        for writer in self.pipes:
            writer.transport.abort()

    async def close(self) -> None:
        await super().close()
        await self.cut()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


@dataclass
class SimulatedWorld(World):
    """The simulated gRPC."""

    is_real: bool = False
    events: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.network = Network(random.Random(1), lambda *event: self.events.append(event))
        self.client: Host = self.network.host("client")
        self.server: Host = self.network.host("server")

    def make_server(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        options: Options = (),
        maximum: int | None = None,
        port: int = 0,
    ) -> grpc.aio.Server:
        server, self.port = self.server.listen(port, interceptors, options, maximum)
        self.servers.append(server)
        return server

    def dial(self, options: Options = ()) -> grpc.aio.Channel:
        channel = self.client.dial(self.port, options)
        self.channels.append(channel)
        return channel

    async def interpose(self) -> None:
        """Nothing is needed."""

    async def cut(self) -> None:
        self.server.crash()


def make_world(name: str) -> RealWorld | SimulatedWorld:
    return RealWorld() if name == "real" else SimulatedWorld()


async def outcome(call: Any) -> tuple[str, Any]:
    """How a call of one answer ends: "OK" and the answer, name and details of its code, or "cancelled"."""
    try:
        return "OK", await call
    except grpc.aio.AioRpcError as error:
        return error.code().name, error.details()
    except asyncio.CancelledError:
        return "cancelled", None


async def read_all(call: Any) -> tuple[list[Any], str]:
    """What a stream answers, read by `read`, and how it ends."""
    messages = []
    try:
        while (message := await call.read()) is not EOF:
            messages.append(message)
    except grpc.aio.AioRpcError as error:
        return messages, error.code().name
    except asyncio.CancelledError:
        return messages, "cancelled"
    return messages, "OK"


async def iterate_all(call: Any) -> tuple[list[Any], str]:
    """What a stream answers, read by `async for`, and how it ends."""
    messages = []
    try:
        async for message in call:
            messages.append(message)
    except grpc.aio.AioRpcError as error:
        return messages, error.code().name
    except asyncio.CancelledError:
        return messages, "cancelled"
    return messages, "OK"


async def catch(awaitable: Any) -> type[BaseException] | None:
    """What kind of error an awaitable ends with."""
    try:
        await awaitable
    except asyncio.CancelledError:
        return asyncio.CancelledError
    except Exception as error:
        return type(error)
    return None


async def settle(holds: Callable[[], bool]) -> None:
    """Lets the loop run until a condition holds."""
    for _ in range(10_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came true")
