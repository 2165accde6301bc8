"""`lucid-node session show`."""

import json
import shlex
from typing import TYPE_CHECKING

from node.cli.options import command, session_argument

if TYPE_CHECKING:
    from lucid.v1 import control_pb2
    from node.home import Home


@command("show")
@session_argument
def show_command(home: "Home", session: str, as_json: bool) -> None:
    """Shows one session."""
    from node.cli.output import describe_session, emit
    from node.control.client import ControlClient

    with ControlClient(home) as client:
        info = client.show_session(session)
    document = describe_session(info)
    document["policy"] = json.loads(info.policy) if info.policy else None
    document["manifest"] = json.loads(info.manifest) if info.manifest else None
    emit(document, format_session(info), as_json=as_json)


def format_session(info: "control_pb2.SessionInfo") -> str:
    """A session for people."""
    from kernel.peer_id import encode_peer_id
    from lucid.v1 import session_pb2
    from node.cli.output import format_facts, format_id, format_time, kind_name, state_name
    from node.units import format_size

    if info.state == session_pb2.STATE_DELETED:
        return format_facts(
            [
                ("Session", format_id(info.session_id)),
                ("State", f"{state_name(info.state)}: its bytes and its key are destroyed"),
                ("Deleted", format_time(info.last_change_ns)),
                ("Chunks", str(info.chunks)),
                ("Root", info.root.hex()),
                ("Manifest hash", info.manifest_hash.hex()),
            ]
        )
    metadata = info.metadata
    facts = [
        ("Session", format_id(info.session_id)),
        ("State", state_name(info.state) + (", under legal hold" if info.held else "")),
        ("Reason", info.reason),
        ("Kind", kind_name(info.kind)),
        ("Name", metadata.name),
        ("Tags", ", ".join(metadata.tags)),
        ("Source", metadata.source),
        ("Command", shlex.join(metadata.command)),
        (
            "User",
            f"{metadata.user or '?'} (uid {metadata.uid}) on {metadata.host or '?'} {metadata.tty}".rstrip(),
        ),
        ("Started", format_time(info.started_ns)),
        ("Ended", format_time(info.ended_ns)),
        ("Kept until", format_time(info.retain_until_s * 1_000_000_000)),
        ("Exit status", str(info.exit_status) if info.has_exit_status else ""),
        (
            "Size",
            f"{format_size(info.plaintext_bytes)} in {info.chunks} chunks,"
            f" {format_size(info.stored_bytes)} stored",
        ),
        (
            "Gaps",
            f"{info.gaps} ({info.lost_bytes} bytes known to be lost)" if info.gaps or info.lost_bytes else "",
        ),
        ("Checkpoints", str(info.checkpoints)),
        ("Root", info.root.hex()),
        ("Manifest hash", info.manifest_hash.hex()),
        ("Device", info.device.hex()),
    ]
    if info.sharer:
        facts += [("Owner", info.owner.hex()), ("Shared by", encode_peer_id(info.sharer))]
    elif info.adopted:
        facts.append(("Restored", "it was recorded by another device of this owner"))
    if info.unreadable:
        facts.append(("Unreadable", "no key of this node opens it, or its metadata is damaged"))
    if info.behind:
        facts.append(("Old copy", "witnesses have seen more of it than is here: it signs nothing more"))
    facts += [("Incident", f"{format_time(one.time_ns)}: {one.what}") for one in info.incidents]
    return format_facts(facts)
