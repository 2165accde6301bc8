"""`lucid-node session prove`."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import command, session_argument

if TYPE_CHECKING:
    from node.home import Home


@command("prove")
@session_argument
@click.option("--out", required=True, metavar="F", help="Where to write the bundle.")
@click.option("--chunk", type=click.IntRange(0, 2**32 - 1), metavar="I", help="Show this chunk, from 0.")
@click.option(
    "--range",
    "stretch",
    metavar="A:B",
    help="Show bytes A up to B of the chunk as it is stored, encrypted, in whole leaves of 4 KiB.",
)
@click.option("--reveal", is_flag=True, help="Add the key of this one chunk: then it can be read.")
@click.option("--force", is_flag=True, help="Overwrite F if it exists.")
def prove_command(
    home: "Home",
    session: str,
    out: str,
    chunk: int | None,
    stretch: str | None,
    reveal: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Writes a proof bundle."""
    from kernel.errors import UsageError
    from lucid.v1 import control_pb2
    from node.cli.output import emit, format_facts, format_id
    from node.cli.output_file import open_output
    from node.control.client import ControlClient
    from node.units import format_size

    if chunk is None and (stretch is not None or reveal):
        raise UsageError("which chunk is to be shown?", hint="Name it with --chunk.")
    first_byte, end_byte = parse_range(stretch) if stretch is not None else (0, 0)
    with ControlClient(home) as client:
        session_id = client.show_session(session).session_id
        bundle = client.prove_session(
            control_pb2.ProveSessionRequest(
                session=session_id.hex(),
                has_chunk=chunk is not None,
                chunk=chunk or 0,
                first_byte=first_byte,
                end_byte=end_byte,
                reveal=reveal,
            )
        )
    with open_output(Path(out), force=force) as descriptor, os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(bundle)
    document = {"session_id": format_id(session_id), "output": out, "bundle_bytes": len(bundle)}
    facts = [
        ("Written", f"{format_size(len(bundle))} to {out}"),
        ("Check", f"lucid-node verify bundle {out}"),
    ]
    emit(document, format_facts(facts), as_json=as_json)


def parse_range(text: str) -> tuple[int, int]:
    """The bounds of "A:B".

    Raises:
        UsageError: it is no range with at least one byte.
    """
    from kernel.errors import UsageError

    found = re.fullmatch(r"([0-9]{1,15}):([0-9]{1,15})", text)
    if found is None or int(found[1]) >= int(found[2]):
        raise UsageError(f'"{text}" is no range', hint="Write 0:4096 for the first 4096 bytes.")
    return int(found[1]), int(found[2])
