"""What a node does while it runs, whatever runs it: a daemon, or a simulated world."""

from collections.abc import Coroutine
from typing import Any

from node.compose import Node


async def open_to_peers(node: Node) -> None:
    """Begins to serve other nodes, if the node is to listen.

    Raises:
        UsageError: nothing listens on such an address.
        Conflict: the port is taken.
    """
    # gRPC is loaded here, after the process has been hardened.
    from kernel.multiaddr import parse_multiaddr
    from node.rpc.chunk_servicer import make_chunk_service
    from node.rpc.node_servicer import Standing
    from node.rpc.share_servicer import make_share_service
    from node.rpc.witness_servicer import make_witness_service

    node.peering.prepare(
        lambda: node.health.serving,
        lambda: Standing(node.health.serving, node.hosting.holdings.held_bytes, node.hosting.count_free()),
        [
            make_chunk_service(node.hosting.holdings, node.hosting.heads),
            make_share_service(node.heads.taker, node.log),
            make_witness_service(node.witnessing.witnesses),
        ],
    )
    if node.onions is not None:
        await node.onions.start()
    elif node.config.listen:
        node.peering.announce([await node.peering.open(parse_multiaddr(node.config.listen))])


def list_work(node: Node) -> list[Coroutine[Any, Any, None]]:
    """What runs until the node is stopped: if one of these ends by an error, so does the node."""
    return [
        node.maintain(),
        node.peering.book.run(),
        node.spreading.run(),
        node.witnessing.run(node.manager),
        node.heads.run(),
        *([] if node.onions is None else [node.onions.run()]),
    ]
