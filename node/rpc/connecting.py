"""One attempt to connect."""

import asyncio

import grpc

from kernel.errors import Unavailable
from kernel.multiaddr import Multiaddr
from node.ports import Dialler

FIRST_CONNECT_S = 10.0
"""For a first attempt, doubled with each failure: over Tor one that hangs is better begun anew."""
_DECIDED = (
    grpc.ChannelConnectivity.READY,
    grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    grpc.ChannelConnectivity.SHUTDOWN,
)


async def connect(dialler: Dialler, channel: grpc.aio.Channel, address: Multiaddr, failures: int) -> None:
    """Waits until it is known if there is a connection; if there is none, the first call tells why.

    Args:
        dialler: which made the channel.
        channel: not used yet.
        address: where it leads.
        failures: attempts before this one.

    Raises:
        Unavailable: it is not known in time.
    """
    timeout_s = min(dialler.connect_timeout_s, FIRST_CONNECT_S * 2.0 ** min(failures, 16))
    try:
        async with asyncio.timeout(timeout_s):
            while (state := channel.get_state(try_to_connect=True)) not in _DECIDED:
                await channel.wait_for_state_change(state)
    except TimeoutError:
        await dialler.relearn(address)
        raise Unavailable(f"{address.place} has not answered for {timeout_s:.0f} s") from None
