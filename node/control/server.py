"""The gRPC server of the control socket: the control API, health and reflection (so that grpcurl works).

One interceptor maps errors to status codes and holds every call to its deadline.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import grpc

from kernel.errors import LocalError, LucidError, Unavailable
from kernel.uninterrupted import end_task
from lucid.v1 import control_pb2, control_pb2_grpc
from node.compose import Node
from node.control.failures import encode_trailer, get_status_code
from node.control.limits import MAX_CONCURRENT_CALLS, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, METHODS
from node.control.servicer import ControlServicer
from node.introspection import Introspection

SERVICE = control_pb2.DESCRIPTOR.services_by_name["Control"].full_name
STOP_GRACE_S = 2.0

MaybeHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Behavior = Callable[[Any, Any], Any]


def get_target(path: Path) -> str:
    """The gRPC address of a Unix socket."""
    return f"unix://{quote(str(path))}"


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns errors into status codes, for every method of the control API; keeps deadlines."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        """See `grpc.aio.ServerInterceptor`."""
        handler = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.lstrip("/").partition("/")
        if service != SERVICE or handler is None:
            return handler
        deadline_s = METHODS[method].deadline_s
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._wrap_stream(handler.unary_stream, deadline_s),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.unary_unary is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            self._wrap_unary(handler.unary_unary, deadline_s),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _wrap_unary(self, behavior: Behavior, deadline_s: float | None) -> Behavior:
        async def call(request: Any, context: Any) -> Any:
            async with self._mapping(context, deadline_s):
                return await behavior(request, context)

        return call

    def _wrap_stream(self, behavior: Behavior, deadline_s: float | None) -> Behavior:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._mapping(context, deadline_s):
                async for response in behavior(request, context):
                    yield response

        return call

    @contextlib.asynccontextmanager
    async def _mapping(self, context: Any, deadline_s: float | None) -> AsyncIterator[None]:
        error: LucidError
        try:
            async with asyncio.timeout(deadline_s):
                yield
                return
        except LucidError as raised:
            error = raised
        except TimeoutError:
            error = Unavailable(f"the call took longer than {deadline_s:.0f} s and was ended")
        self._node.on_client_error(error)
        await context.abort(get_status_code(error), str(error), encode_trailer(error))


class ControlServer:
    """The control socket of a node."""

    def __init__(self, node: Node, path: Path) -> None:
        self._node = node
        self._path = path
        self._introspection = Introspection((SERVICE,), lambda: node.health.serving, node.ports.clock)

    async def start(self) -> None:
        """Begins to serve. Whoever calls has the home's lock and a umask that keeps others out.

        Raises:
            LocalError: the socket cannot be made.
        """
        self._server = grpc.aio.server(
            interceptors=[ErrorInterceptor(self._node)],
            options=[
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.max_send_message_length", MAX_RESPONSE_BYTES),
                ("grpc.so_reuseport", 0),
            ],
            maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
        )
        control_pb2_grpc.add_ControlServicer_to_server(ControlServicer(self._node), self._server)
        self._introspection.add_to(self._server)
        try:
            self._server.add_insecure_port(get_target(self._path))
        except RuntimeError as error:
            raise LocalError(f"the socket {self._path} cannot be made: {error}") from error
        self._path.chmod(0o600)
        await self._introspection.show()
        await self._server.start()
        self._watching = asyncio.create_task(self._introspection.watch())

    async def stop(self) -> None:
        """Answers what runs, for a moment, then closes."""
        await end_task(self._watching)
        await self._introspection.show()
        await self._server.stop(STOP_GRACE_S)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
