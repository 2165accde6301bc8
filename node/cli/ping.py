"""`lucid-node ping`."""

from typing import TYPE_CHECKING

import click

from node.cli.options import command

if TYPE_CHECKING:
    from node.home import Home


@command("ping")
@click.argument("peer")
def ping_command(home: "Home", peer: str, as_json: bool) -> int:
    """PEER is a node ID, the beginning of one, or an address from `lucid-node peers`.

    It is dialled now if it is not connected. Without an answer the exit code is 5.
    """
    from node.cli.output import emit
    from node.cli.peers import describe_peer, format_peer
    from node.control.client import ControlClient

    with ControlClient(home) as client:
        answer = client.ping_peer(peer)
    answered = answer.round_trip_us > 0
    document = describe_peer(answer.peer)
    document["round_trip_ms"] = answer.round_trip_us / 1000 if answered else None
    text = format_peer(answer.peer)
    if answered:
        text += f"\n    answered in {answer.round_trip_us / 1000:.1f} ms"
    emit(document, text, as_json=as_json)
    return 0 if answered else 5
