"""`lucid-node session recover`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from node.cli.options import command

if TYPE_CHECKING:
    from lucid.v1 import control_pb2
    from node.home import Home

_COMMAND_KEY = "node.cli.session_recover.command"


class RecoverCommand(click.Command):
    """`recover` takes an ID, and a command behind "--"."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See `click.Command`."""
        place = args.index("--") if "--" in args else len(args)
        ctx.meta[_COMMAND_KEY] = args[place + 1 :]
        return super().parse_args(ctx, args[:place])


@command("recover", cls=RecoverCommand)
@click.argument("session", metavar="[ID] [-- CMD...]", required=False)
@click.option("--resume", is_flag=True, help="Go on recording in the same session; what was missed is a gap.")
@click.option("--finalize", is_flag=True, help="Close it with what is there [default].")
@click.pass_context
def recover_command(
    context: click.Context, home: "Home", session: str | None, resume: bool, finalize: bool, as_json: bool
) -> int:
    """Finalizes all interrupted sessions, or one; or goes on in one.

    Where witnesses have seen more of a session than this store, an old copy, holds, it is brought up from
    what peers keep first, or stays as it is.
    """
    from kernel.errors import UsageError
    from node.control.client import ControlClient

    recorded: list[str] = context.meta[_COMMAND_KEY]
    if resume and finalize:
        raise UsageError("--resume and --finalize exclude each other")
    if recorded and not resume:
        raise UsageError("a command is only for --resume")
    with ControlClient(home) as client:
        if not resume:
            print_finalized(client.finalize_sessions(session or ""), as_json=as_json)
            return 0
        info = client.show_session(session) if session else find_only_interrupted(client.list_sessions())
    return resume_session(home, info, recorded, as_json=as_json)


def find_only_interrupted(infos: "list[control_pb2.SessionInfo]") -> "control_pb2.SessionInfo":
    """The one interrupted session.

    Raises:
        NotFound: there is none.
        UsageError: there are several.
    """
    from kernel.errors import NotFound, UsageError
    from lucid.v1 import session_pb2
    from node.cli.output import SHORT_ID_LETTERS

    interrupted = [info for info in infos if info.state == session_pb2.STATE_INTERRUPTED]
    if not interrupted:
        raise NotFound("no session is interrupted")
    if len(interrupted) > 1:
        ids = ", ".join(info.session_id.hex()[:SHORT_ID_LETTERS] for info in interrupted[:10])
        raise UsageError(
            f"{len(interrupted)} sessions are interrupted: {ids}", hint="Name the one to resume."
        )
    return interrupted[0]


def resume_session(
    home: "Home", info: "control_pb2.SessionInfo", recorded: list[str], *, as_json: bool
) -> int:
    """Goes on recording in a session, by order of its owner; returns the exit code."""
    from kernel.errors import Conflict, UsageError
    from lucid.v1 import session_pb2
    from node.cli.output import state_name
    from node.cli.session_record import STANDARD_INPUT, record_shell, record_source
    from node.client.request import RecordRequest

    if info.state != session_pb2.STATE_INTERRUPTED:
        raise Conflict(f"the session is {state_name(info.state)}: there is nothing to resume")
    if recorded and info.kind != session_pb2.SOURCE_KIND_TERMINAL:
        raise UsageError("only a terminal session goes on with a command")
    request = RecordRequest(session_id=info.session_id)
    match info.kind:
        case session_pb2.SOURCE_KIND_TERMINAL:
            # Never the command that the recording names: another user of the machine may have written it.
            return record_shell(home, recorded, session_id=info.session_id, as_json=as_json)
        case session_pb2.SOURCE_KIND_FILE:
            check_file(info)
            return record_source(home, info.metadata.source, request, as_json=as_json)
        case session_pb2.SOURCE_KIND_STREAM if not sys.stdin.isatty():
            return record_source(home, STANDARD_INPUT, request, as_json=as_json)
        case session_pb2.SOURCE_KIND_STREAM:
            raise UsageError(
                "the session is a stream, and nothing is piped in",
                hint="Pipe in what follows, or use --finalize.",
            )
        case _:
            raise Conflict(
                "a directory cannot be resumed: its archive would begin anew",
                hint="Use --finalize, then record the directory again.",
            )


def check_file(info: "control_pb2.SessionInfo") -> None:
    """Checks that the recorded file is still there and as it was, before anything changes.

    Raises:
        NotFound: it is gone.
        Conflict: it is shorter than what was recorded, or was changed.
    """
    from kernel.errors import Conflict, NotFound

    path, hint = Path(info.metadata.source), "Use --finalize to keep what was recorded."
    try:
        found = path.stat()
    except OSError as error:
        raise NotFound(f"the recorded file {path} cannot be read: {error.strerror}", hint=hint) from error
    if found.st_size < info.plaintext_bytes + info.lost_bytes:
        raise Conflict(f"{path} is shorter than what was recorded of it", hint=hint)
    if found.st_mtime_ns != info.metadata.source_modified_ns:
        raise Conflict(f"{path} was changed since its recording began", hint=hint)


def print_finalized(finalized: "list[control_pb2.SessionInfo]", *, as_json: bool) -> None:
    """Prints which sessions were finalized."""
    from node.cli.output import describe_session, emit, format_id
    from node.units import format_size

    lines = [
        f"Finalized session {format_id(info.session_id)}: {format_size(info.plaintext_bytes)},"
        f" {info.gaps} gaps"
        for info in finalized
    ]
    document = {"finalized": [describe_session(info) for info in finalized]}
    emit(document, "\n".join(lines) or "No session is interrupted.", as_json=as_json)
