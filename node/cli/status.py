"""`lucid-node status`."""

from typing import TYPE_CHECKING, Any

from node.cli.options import command

if TYPE_CHECKING:
    from lucid.v1 import control_pb2
    from node.home import Home


@command("status")
def status_command(home: "Home", as_json: bool) -> int:
    """Shows how the daemon is doing; fails if it cannot record."""
    from node.cli.output import emit
    from node.control.client import ControlClient

    with ControlClient(home) as client:
        status = client.get_status()
    emit(describe_status(status), format_status(status), as_json=as_json)
    return 0 if status.serving else 1


def describe_status(status: "control_pb2.GetStatusResponse") -> dict[str, Any]:
    """The status as JSON."""
    from node.cli.onion import describe_tor
    from node.cli.output import iso_time

    return {
        "version": status.version,
        "peer_id": status.peer_id,
        "owner_id": status.owner_id,
        "network": status.network,
        "started": iso_time(status.started_ns),
        "pid": status.pid,
        "serving": status.serving,
        "problems": list(status.problems),
        "blob_bytes": status.blob_bytes,
        "journal_bytes": status.journal_bytes,
        "index_bytes": status.index_bytes,
        "quota_bytes": status.quota_bytes,
        "disk_free_bytes": status.disk_free_bytes,
        "sessions_recording": status.sessions_recording,
        "sessions_interrupted": status.sessions_interrupted,
        "sessions_complete": status.sessions_complete,
        "metrics_address": status.metrics_address,
        "replicas_wanted": status.replicas_wanted,
        "replicas_held": status.replicas_held,
        "transport": status.transport,
        "tor": describe_tor(status.tor) if status.HasField("tor") else None,
        "listen": status.listen,
        "peers_connected": status.peers_connected,
        "peers_known": status.peers_known,
        "held_bytes": status.held_bytes,
    }


def format_status(status: "control_pb2.GetStatusResponse") -> str:
    """The status for people."""
    from node.cli.onion import format_phase, format_reach
    from node.cli.output import format_facts, format_time
    from node.units import format_size

    used = status.blob_bytes + status.journal_bytes
    quota = f" of {format_size(status.quota_bytes)}" if status.quota_bytes else ""
    facts = [
        ("Node", f"{'ready' if status.serving else 'NOT READY'}, version {status.version}, pid {status.pid}"),
        ("Started", format_time(status.started_ns)),
        ("Node ID", status.peer_id),
        ("Owner ID", status.owner_id),
        ("Network", status.network),
        (
            "Sessions",
            f"{status.sessions_recording} recording, {status.sessions_interrupted} interrupted,"
            f" {status.sessions_complete} complete",
        ),
        (
            "Store",
            f"{format_size(used)}{quota} ({format_size(status.blob_bytes)} chunks,"
            f" {format_size(status.journal_bytes)} journals), index {format_size(status.index_bytes)}",
        ),
        ("For others", format_size(status.held_bytes)),
        (
            "Replicas",
            f"{status.replicas_held} of {status.replicas_wanted} copies of chunks on other nodes"
            if status.replicas_wanted
            else "",
        ),
        ("Disk", f"{format_size(status.disk_free_bytes)} free"),
        ("Tor", format_phase(status.tor)),
        ("Reached", format_reach(status.tor)),
        ("Listens", status.listen),
        (
            "Peers",
            f"{status.peers_connected} of {status.peers_known} connected" if status.peers_known else "",
        ),
        ("Metrics", f"http://{status.metrics_address}/metrics" if status.metrics_address else ""),
    ]
    return format_facts(facts + [("Problem", problem) for problem in status.problems])
