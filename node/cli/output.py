"""What commands print: aligned text for people, JSON for programs.

Text that came from elsewhere (names, paths, commands, messages) is printed without control characters: a
recording's name cannot drive the terminal of whoever lists it. JSON holds raw numbers of bytes, and times
as ISO 8601 in UTC.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lucid.v1 import control_pb2, session_pb2

Json = Mapping[str, Any]
SHORT_ID_LETTERS = 8


def printable(text: str) -> str:
    """`text` with everything that is not printable shown as an escape."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def emit(document: Json, text: str, *, as_json: bool) -> None:
    """Prints the outcome of a command: the JSON document, or the text."""
    output = json.dumps(document) if as_json else text
    if output:
        print(output)


def format_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under a head, in columns; columns whose head begins with ">" are aligned to the right."""
    names = [name.removeprefix(">") for name in head]
    cells = [names, *[[printable(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "  ".join(
            cell.rjust(width) if name.startswith(">") else cell.ljust(width)
            for cell, width, name in zip(row, widths, head, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines)


def format_facts(facts: Sequence[tuple[str, str]]) -> str:
    """Names and values, one pair per line; pairs with an empty value are left out."""
    shown = [(name, value) for name, value in facts if value]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {printable(value)}" for name, value in shown)


def format_time(unix_ns: int) -> str:
    """A time for people: local, with its zone; empty for 0."""
    from datetime import datetime

    return (
        datetime.fromtimestamp(unix_ns / 1e9).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z") if unix_ns else ""
    )


def iso_time(unix_ns: int) -> str | None:
    """A time for programs: ISO 8601 in UTC, microseconds; None for 0."""
    from datetime import UTC, datetime

    if not unix_ns:
        return None
    return (
        datetime.fromtimestamp(unix_ns // 1000 / 1e6, UTC)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z")
    )


def format_id(session_id: bytes) -> str:
    """A session ID in text form, as UUIDs are written."""
    digits = session_id.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def state_name(state: "session_pb2.State.ValueType") -> str:
    """A state in lower case, such as "complete"."""
    from lucid.v1 import session_pb2

    return session_pb2.State.Name(state).removeprefix("STATE_").lower()


def kind_name(kind: "session_pb2.SourceKind.ValueType") -> str:
    """A kind of source in lower case, such as "terminal"."""
    from lucid.v1 import session_pb2

    return session_pb2.SourceKind.Name(kind).removeprefix("SOURCE_KIND_").lower()


def describe_session(info: "control_pb2.SessionInfo") -> dict[str, Any]:
    """A session as JSON; the fields are those of `node.cli.fields.SESSION`."""
    from kernel.peer_id import encode_peer_id

    metadata = info.metadata
    return {
        "session_id": format_id(info.session_id),
        "state": state_name(info.state),
        "kind": kind_name(info.kind),
        "name": metadata.name,
        "tags": list(metadata.tags),
        "source": metadata.source,
        "command": list(metadata.command),
        "user": metadata.user,
        "uid": metadata.uid,
        "host": metadata.host,
        "tty": metadata.tty,
        "started": iso_time(info.started_ns),
        "ended": iso_time(info.ended_ns),
        "last_change": iso_time(info.last_change_ns),
        "chunks": info.chunks,
        "plaintext_bytes": info.plaintext_bytes,
        "stored_bytes": info.stored_bytes,
        "lost_bytes": info.lost_bytes,
        "gaps": info.gaps,
        "root": info.root.hex(),
        "checkpoints": info.checkpoints,
        "held": info.held,
        "retain_until": iso_time(info.retain_until_s * 1_000_000_000),
        "reason": info.reason,
        "exit_status": info.exit_status if info.has_exit_status else None,
        "manifest_hash": info.manifest_hash.hex(),
        "device": info.device.hex(),
        "readable": not info.unreadable,
        "behind": info.behind,
        "incidents": [{"time": iso_time(one.time_ns), "what": one.what} for one in info.incidents],
        "owner": info.owner.hex(),
        "shared_by": encode_peer_id(info.sharer) if info.sharer else "",
        "adopted": info.adopted,
    }


def title(info: "control_pb2.SessionInfo") -> str:
    """What to call a session in a list: its name, else its source, else its command."""
    metadata = info.metadata
    return metadata.name or metadata.source or " ".join(metadata.command)
