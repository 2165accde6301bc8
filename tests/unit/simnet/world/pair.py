"""Two hosts, and a service that answers, streams, collects and waits."""

import asyncio
import functools
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import grpc

from simnet.world.links import Conditions
from simnet.world.loop import VirtualLoop
from simnet.world.network import Network

EOF = grpc.aio.EOF


def in_simulated_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs an asynchronous test on the virtual loop: twenty seconds of a simulated network take no time."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        VirtualLoop().run(test(*args, **kwargs))

    return run


class Pair:
    """A server, a client, and what happened."""

    def __init__(self, seed: int = 1) -> None:
        self.events: list[tuple[float, str, str, str]] = []
        self.network = Network(random.Random(seed), self._on_event)
        self.received: list[bytes] = []
        self.ended: list[str] = []
        self.client, self.server = self.network.host("client"), self.network.host("server")
        self.port = 0

    def _on_event(self, place: str, kind: str, detail: str) -> None:
        self.events.append((self.now, place, kind, detail))

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def start(self) -> Any:
        """Serves, and returns a channel."""
        await self.serve()
        return self.client.dial(self.port)

    async def serve(self) -> grpc.aio.Server:
        server, self.port = self.server.listen(self.port)
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Echo": grpc.unary_unary_rpc_method_handler(self._echo),
            "Talk": grpc.stream_stream_rpc_method_handler(self._talk),
            "Wait": grpc.unary_stream_rpc_method_handler(self._wait),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("pair", methods),))
        await server.start()
        return server

    def block(self, source: str, target: str, *, blocked: bool = True) -> None:
        self.network.set_conditions(source, target, Conditions(blocked=blocked))

    async def _echo(self, request: bytes, context: Any) -> bytes:
        self.received.append(request)
        return request

    async def _talk(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async for request in requests:
                self.received.append(request)
                yield request
            self.ended.append("end of requests")
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise

    async def _wait(self, request: bytes, context: Any) -> None:
        self.received.append(request)
        try:
            await context.write(b"begun")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            try:
                await context.write(b"late")
            except grpc.aio.InternalError:
                self.ended.append("not sent")
            raise


def echo(channel: Any) -> Any:
    return channel.unary_unary("/pair/Echo")


def talk(channel: Any, **more: Any) -> Any:
    return channel.stream_stream("/pair/Talk")(**more)


def wait(channel: Any, **more: Any) -> Any:
    return channel.unary_stream("/pair/Wait")(b"", **more)


async def end_of(call: Any) -> str:
    """The name of the code with which a call ends; what is unread is read."""
    if hasattr(call, "read"):
        try:
            while await call.read() is not EOF:
                pass
        except grpc.aio.AioRpcError:
            pass
    code: grpc.StatusCode = await call.code()
    return code.name
