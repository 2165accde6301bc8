"""`lucid-node session get`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.options import FILE, command, session_argument

if TYPE_CHECKING:
    from lucid.v1 import data_pb2
    from node.home import Home

VERIFICATION_FAILED = 3
STANDARD_OUTPUT = "-"


@command("get")
@session_argument
@click.argument("output", metavar="OUT|-", type=FILE)
@click.option("--partial", is_flag=True, help="Leave damaged parts out (zeros in a file) instead of failing.")
@click.option("--force", is_flag=True, help="Overwrite OUT if it exists.")
def get_command(home: "Home", session: str, output: str, partial: bool, force: bool, as_json: bool) -> int:
    """Writes the plaintext of a recording; a directory comes as a tar archive."""
    from kernel.errors import UsageError
    from node.control.client import ControlClient

    if as_json and output == STANDARD_OUTPUT:
        raise UsageError("standard output cannot hold both the recording and JSON", hint="Name a file.")
    with ControlClient(home) as client:
        info = client.show_session(session)
    return write_recording(
        home,
        info.session_id,
        output,
        partial=partial,
        force=force,
        total=info.plaintext_bytes,
        as_json=as_json,
    )


def write_recording(
    home: "Home", session_id: bytes, output: str, *, partial: bool, force: bool, total: int, as_json: bool
) -> int:
    """Writes a recording to a file or to standard output; returns the exit code."""
    from lucid.v1.data_pb2 import TransferProgress
    from node.cli.output import emit
    from node.cli.output_file import open_output
    from node.cli.progress import show_progress
    from node.client.getting import get_recording

    with show_progress("Reading", quiet=as_json or output == STANDARD_OUTPUT) as show:

        def on_progress(progress: TransferProgress) -> None:
            show(progress.plaintext_bytes, progress.total_bytes or total)

        if output == STANDARD_OUTPUT:
            descriptor = sys.stdout.fileno()
            done = get_recording(
                home.data_socket, session_id, descriptor, partial=partial, on_progress=on_progress
            )
        else:
            with open_output(Path(output), force=force) as descriptor:
                done = get_recording(
                    home.data_socket, session_id, descriptor, partial=partial, on_progress=on_progress
                )
    text = "" if output == STANDARD_OUTPUT else format_outcome(output, done)
    emit(describe_outcome(session_id, output, done), text, as_json=as_json)
    if output == STANDARD_OUTPUT:
        _warn(done)
    return VERIFICATION_FAILED if done.findings else 0


def describe_outcome(session_id: bytes, output: str, done: "data_pb2.GetDone") -> dict[str, Any]:
    """What was written, as JSON."""
    from node.cli.output import format_id
    from node.cli.session_verify import describe_findings

    return {
        "session_id": format_id(session_id),
        "output": output,
        "plaintext_bytes": done.plaintext_bytes,
        "findings": describe_findings(done.findings),
    }


def format_outcome(output: str, done: "data_pb2.GetDone") -> str:
    """What was written, for people."""
    from node.cli.output import format_facts
    from node.cli.session_verify import format_finding
    from node.units import format_size

    facts = [("Written", f"{format_size(done.plaintext_bytes)} to {output}")]
    return format_facts(facts + [("Left out", format_finding(one)) for one in done.findings])


def _warn(done: "data_pb2.GetDone") -> None:
    from node.cli.output import printable
    from node.cli.session_verify import format_finding

    for finding in done.findings:
        print(f"Left out: {printable(format_finding(finding))}", file=sys.stderr)
