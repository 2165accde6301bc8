"""`lucid-node session export`."""

from typing import TYPE_CHECKING

import click

from node.cli.options import FILE, command, session_argument

if TYPE_CHECKING:
    from lucid.v1 import control_pb2
    from node.home import Home


@command("export")
@session_argument
@click.option(
    "--cast", "output", metavar="FILE", type=FILE, required=True, help="Asciicast v2 file to write."
)
@click.option("--partial", is_flag=True, help="Leave damaged parts out instead of failing.")
@click.option("--force", is_flag=True, help="Overwrite FILE if it exists.")
def export_command(home: "Home", session: str, output: str, partial: bool, force: bool, as_json: bool) -> int:
    """Writes a terminal recording in the format that asciinema and others play."""
    from kernel.errors import UsageError
    from node.cli.session_get import STANDARD_OUTPUT, write_recording
    from node.control.client import ControlClient

    with ControlClient(home) as client:
        info = client.show_session(session)
    check_terminal(info)
    if as_json and output == STANDARD_OUTPUT:
        raise UsageError("standard output cannot hold both the recording and JSON", hint="Name a file.")
    total = info.plaintext_bytes
    return write_recording(
        home, info.session_id, output, partial=partial, force=force, total=total, as_json=as_json
    )


def check_terminal(info: "control_pb2.SessionInfo") -> None:
    """Checks that a session is a terminal recording.

    Raises:
        UsageError: it is not.
    """
    from kernel.errors import UsageError
    from lucid.v1 import session_pb2
    from node.cli.output import format_id, kind_name

    if info.kind != session_pb2.SOURCE_KIND_TERMINAL:
        raise UsageError(
            f"session {format_id(info.session_id)} records no terminal, but a {kind_name(info.kind)}",
            hint="Write it to a file with `session get`.",
        )
