"""`lucid-node session list`."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from node.cli.options import command

if TYPE_CHECKING:
    from lucid.v1 import control_pb2
    from node.home import Home

STATES = ("recording", "interrupted", "complete", "deleted")


@command("list")
@click.option(
    "--since", metavar="WHEN", help="Started at this date or later, or within this time: 2026-11-01, 7d."
)
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="With this tag; may be given again.")
@click.option("--state", type=click.Choice(STATES), help="In this state [default: all but deleted].")
@click.option("--search", metavar="TEXT", default="", help="Part of name, source, command, user or host.")
def list_command(
    home: "Home", since: str | None, tags: tuple[str, ...], state: str | None, search: str, as_json: bool
) -> None:
    """Lists sessions, the newest last."""
    import time

    from lucid.v1 import session_pb2
    from node.cli.output import describe_session, emit
    from node.control.client import ControlClient

    since_ns = parse_since(since, time.time_ns()) if since else 0
    wanted = session_pb2.State.Value(f"STATE_{state.upper()}") if state else session_pb2.STATE_UNSPECIFIED
    with ControlClient(home) as client:
        found = client.list_sessions(since_ns, tags, wanted, search)
    emit({"sessions": [describe_session(info) for info in found]}, format_sessions(found), as_json=as_json)


def parse_since(text: str, now_ns: int) -> int:
    """A point in time, as Unix nanoseconds: a date or time (local unless it names a zone), or how long ago.

    Raises:
        UsageError: it is neither.
    """
    from datetime import datetime

    from kernel.errors import UsageError
    from node.units import parse_duration

    if re.fullmatch(r"[\d\ssmhdwySMHDWY]+", text) and not text.isdecimal():
        return max(0, now_ns - parse_duration(text) * 1_000_000_000)
    try:
        return max(0, int(datetime.fromisoformat(text).timestamp() * 1e9))
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f'"{text}" is neither a date nor a duration',
            hint='Write "2026-11-01", "2026-11-01T08:00" or "7d".',
        ) from error


def format_sessions(found: "Sequence[control_pb2.SessionInfo]") -> str:
    """Sessions for people, one per line."""
    from node.cli.output import SHORT_ID_LETTERS, format_table, format_time, kind_name, state_name
    from node.units import format_size

    if not found:
        return "No sessions."
    head = ("ID", "STATE", "KIND", "STARTED", ">SIZE", ">STORED", "NAME", "TAGS")
    rows = [
        (
            info.session_id.hex()[:SHORT_ID_LETTERS],
            state_name(info.state) + (" (held)" if info.held else "") + (" (old)" if info.behind else ""),
            kind_name(info.kind),
            format_time(info.started_ns),
            format_size(info.plaintext_bytes),
            format_size(info.stored_bytes),
            _get_name(info),
            ",".join(info.metadata.tags),
        )
        for info in found
    ]
    return format_table(head, rows)


def _get_name(info: "control_pb2.SessionInfo") -> str:
    from lucid.v1 import session_pb2
    from node.cli.output import title

    if info.state == session_pb2.STATE_DELETED:
        return ""
    return "(unreadable)" if info.unreadable else title(info)[:60]
