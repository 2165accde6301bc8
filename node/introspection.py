"""What every gRPC server of the node offers beside its services: health, and reflection for grpcurl."""

from collections.abc import Callable, Sequence

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from kernel.ports import Clock

HEALTH_EVERY_S = 2.0
_REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"


class Introspection:
    """Health and reflection of one server."""

    def __init__(self, services: Sequence[str], is_serving: Callable[[], bool], clock: Clock) -> None:
        """`services` are the full names of what the server serves; health asks `is_serving` now and then."""
        self._services = tuple(services)
        self._is_serving = is_serving
        self._clock = clock
        self._shown: bool | None = None
        self._health = health.aio.HealthServicer()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Registers both services, reflection under its v1alpha and its v1 name."""
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        server.add_generic_rpc_handlers((_make_reflection_v1(names),))

    async def show(self) -> None:
        """Tells the present health."""
        is_serving = self._is_serving()
        if is_serving == self._shown:
            return
        self._shown = is_serving
        statuses = health_pb2.HealthCheckResponse
        status = statuses.SERVING if is_serving else statuses.NOT_SERVING
        for service in ("", *self._services):
            await self._health.set(service, status)

    async def watch(self) -> None:
        """Keeps health true until it is cancelled."""
        while True:
            await self._clock.sleep(HEALTH_EVERY_S)
            await self.show()


def _make_reflection_v1(names: tuple[str, ...]) -> grpc.GenericRpcHandler:
    """The reflection service again, under its v1 name; the messages are the same."""
    servicer = reflection.aio.ReflectionServicer(names)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(_REFLECTION_V1, {"ServerReflectionInfo": method})
