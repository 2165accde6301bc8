"""`lucid-node replicas`."""

from typing import TYPE_CHECKING, Any

from node.cli.options import command, session_argument

if TYPE_CHECKING:
    from lucid.v1 import control_pb2
    from node.home import Home

SECOND_NS = 1_000_000_000


@command("replicas")
@session_argument
def replicas_command(home: "Home", session: str, as_json: bool) -> int:
    """Shows which nodes hold copies of a recording."""
    from node.cli.output import emit
    from node.control.client import ControlClient

    with ControlClient(home) as client:
        found = client.list_replicas(session)
    emit(describe_replicas(found), format_replicas(found), as_json=as_json)
    return 0


def describe_replicas(found: "control_pb2.ListReplicasResponse") -> dict[str, Any]:
    """The replicas as JSON."""
    from node.cli.output import format_id, iso_time

    return {
        "session_id": format_id(found.session_id),
        "wanted": found.wanted,
        "held": found.held,
        "pending": found.pending,
        "heads": found.heads,
        "replicas": [
            {
                "chunk": one.index,
                "replica": one.replica,
                "peer_id": one.peer_id,
                "held": one.held,
                "stored": iso_time(one.stored_ns),
                "audited": iso_time(one.audited_ns),
                "until": iso_time(one.until_s * SECOND_NS),
                "trouble": one.trouble,
            }
            for one in found.replicas
        ],
    }


def format_replicas(found: "control_pb2.ListReplicasResponse") -> str:
    """The replicas for people: per holder, then what is wrong."""
    from node.cli.output import format_facts, format_id, format_table, format_time

    summary = f"{found.held} copies of chunks are held; {found.pending} copies are pending, heads included"
    heads = f"{found.heads} of {found.wanted} nodes keep a head that leads to it"
    facts = [("Session", format_id(found.session_id)), ("Replicas", summary), ("Heads", heads)]
    parts = [format_facts(facts)]
    holders: dict[str, list[control_pb2.ReplicaInfo]] = {}
    for one in found.replicas:
        if one.held:
            holders.setdefault(one.peer_id, []).append(one)
    if holders:
        rows = [
            [
                peer_id,
                str(len(held)),
                format_time(max(one.audited_ns for one in held)) or "never",
                format_time(min(one.until_s for one in held) * SECOND_NS),
            ]
            for peer_id, held in sorted(holders.items())
        ]
        parts.append(format_table(["HOLDER", ">CHUNKS", "LAST AUDIT", "LEASED UNTIL"], rows))
    troubles = [one for one in found.replicas if one.trouble]
    if troubles:
        rows = [[str(one.index), str(one.replica), one.peer_id, one.trouble] for one in troubles]
        parts.append(format_table([">CHUNK", ">REPLICA", "ASKED", "TROUBLE"], rows))
    return "\n\n".join(parts)
