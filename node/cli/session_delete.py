"""`lucid-node session delete`."""

import sys
from typing import TYPE_CHECKING

import click

from node.cli.options import command, session_argument

if TYPE_CHECKING:
    from node.home import Home


@command("delete")
@session_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete_command(home: "Home", session: str, yes: bool, as_json: bool) -> None:
    """Erases a recording: its secrets, its chunks and its journals."""
    from kernel.errors import UsageError
    from node.cli.output import emit, format_id, printable, title
    from node.control.client import ControlClient
    from node.units import format_size

    with ControlClient(home) as client:
        info = client.show_session(session)
        if not yes:
            if not sys.stdin.isatty():
                raise UsageError("nobody is there to ask whether to delete", hint="Add --yes.")
            question = f"Delete session {format_id(info.session_id)} {printable(title(info))} for good?"
            click.confirm(question, abort=True, err=True)
        deleted = client.delete_session(info.session_id.hex())
    document = {"session_id": format_id(deleted.session_id), "freed_bytes": deleted.freed_bytes}
    emit(document, f"Deleted; {format_size(deleted.freed_bytes)} are free again.", as_json=as_json)
