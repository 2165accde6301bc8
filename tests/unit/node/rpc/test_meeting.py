"""Two real nodes and what stands between them."""

from collections.abc import Awaitable, Callable
from typing import Any

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


async def test_two_nodes_meet_and_each_can_call_the_other(make_meeting: Any, eventually: Eventually) -> None:
    first = await make_meeting(1)
    second = await make_meeting(2, peers=[first.address])
    await eventually(lambda: first.peer(second) is not None and second.peer(first) is not None)
    assert second.peer(first).identity == first.peering.identity
    assert [peer.device for peer in first.peering.book.known()] == [second.device]
    assert await second.peer(first).ping() > 0
    info = await first.peer(second).get_info()
    assert (info.serving, info.held_bytes, info.free_bytes) == (True, 7, 1000)
