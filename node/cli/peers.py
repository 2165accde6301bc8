"""`lucid-node peers`."""

from typing import TYPE_CHECKING, Any

from node.cli.options import command

if TYPE_CHECKING:
    from lucid.v1 import control_pb2
    from node.home import Home


@command("peers")
def peers_command(home: "Home", as_json: bool) -> None:
    """Lists peers, known ones first."""
    from node.cli.output import emit
    from node.control.client import ControlClient

    with ControlClient(home) as client:
        peers = client.list_peers()
    text = "\n".join(format_peer(peer) for peer in peers) or "The node knows no other."
    emit({"peers": [describe_peer(peer) for peer in peers]}, text, as_json=as_json)


def describe_peer(peer: "control_pb2.Peer") -> dict[str, Any]:
    """A peer as JSON."""
    from node.cli.output import iso_time

    return {
        "peer_id": peer.peer_id,
        "owner_id": peer.owner_id,
        "address": peer.address,
        "connected": peer.connected,
        "last_seen": iso_time(peer.last_seen_ns) if peer.last_seen_ns else None,
        "latency_ms": peer.latency_us / 1000 if peer.latency_us else None,
        "software": peer.software,
        "protocol": peer.protocol,
        "trouble": peer.trouble,
    }


def format_peer(peer: "control_pb2.Peer") -> str:
    """A peer for people: two lines."""
    from node.cli.output import format_time, printable

    state = f"connected, {peer.latency_us / 1000:.1f} ms" if peer.connected else f"AWAY: {peer.trouble}"
    seen = f", seen {format_time(peer.last_seen_ns)}" if peer.last_seen_ns else ""
    software = f", {peer.software}, protocol {peer.protocol}" if peer.software else ""
    return f"{peer.peer_id or '(unknown)'}\n    {printable(peer.address + ': ' + state + seen + software)}"
