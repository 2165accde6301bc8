"""Can peers reach this node? It calls itself as a stranger would, through the whole network."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kernel.multiaddr import Multiaddr
from kernel.ports import Clock
from node.ports import Dialler
from node.rpc.call_errors import decode_peer_error

ATTEMPTS = 3


async def reach(dialler: Dialler, address: Multiaddr, clock: Clock) -> int:
    """Nanoseconds that a first call to `address` takes, the connection included.

    Raises:
        LucidError: nobody answers there in time.
    """
    started_ns = clock.monotonic_ns()
    channel = dialler.dial(address)
    try:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        await stub.Check(request, timeout=ATTEMPTS * dialler.connect_timeout_s, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        raise decode_peer_error(error, str(address)) from error
    finally:
        await channel.close()
    return clock.monotonic_ns() - started_ns
