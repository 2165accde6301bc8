"""Can peers reach this node? It calls itself as a stranger would, through the whole network."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kernel.errors import LucidError, Unavailable
from kernel.multiaddr import Multiaddr
from kernel.ports import Clock
from node.ports import Dialler
from node.rpc.call_errors import decode_peer_error
from node.rpc.connecting import connect

ATTEMPTS = 3
PAUSE_S = 2.0
CALL_TIMEOUT_S = 20.0


async def reach(dialler: Dialler, address: Multiaddr, clock: Clock) -> int:
    """Nanoseconds that a first call to `address` takes, the connection included.

    Raises:
        LucidError: nothing can be dialled, or nobody answers there, in some attempts.
    """
    trouble: LucidError = Unavailable(f"{address.place} cannot be reached")
    for failures in range(ATTEMPTS):
        started_ns = clock.monotonic_ns()
        channel = dialler.dial(address)
        try:
            await connect(dialler, channel, address, failures)
            check = health_pb2_grpc.HealthStub(channel).Check
            await check(health_pb2.HealthCheckRequest(), timeout=CALL_TIMEOUT_S)
            return clock.monotonic_ns() - started_ns
        except grpc.aio.AioRpcError as error:
            trouble = decode_peer_error(error, str(address))
        except Unavailable as error:
            trouble = error
        finally:
            await channel.close()
        await clock.sleep(PAUSE_S)
    raise trouble
