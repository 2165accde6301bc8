"""`lucid-node session record`."""

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli.options import FILE, Duration, command
from node.cli.replica_wait import ReplicaWish, describe_replicas, get_exit_code, wait_for_replicas

if TYPE_CHECKING:
    from lucid.v1 import control_pb2, data_pb2
    from node.cli.progress import OnProgress
    from node.client.request import RecordRequest
    from node.home import Home

STANDARD_INPUT = "-"
DEFAULT_WAIT_S = 60
NO_WISH = ReplicaWish()
_COMMAND_KEY = "node.cli.session_record.command"
_FAILURE_CHOICES = ("continue", "stop")


class RecordCommand(click.Command):
    """`record` takes a source, or a command behind "--"; which of the two shows only before click parses."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See `click.Command`."""
        own, _, recorded = _split(args)
        ctx.meta[_COMMAND_KEY] = recorded
        return super().parse_args(ctx, own)


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return arguments, False, []
    place = arguments.index("--")
    return arguments[:place], True, arguments[place + 1 :]


@command("record", cls=RecordCommand)
@click.argument("source", metavar="[FILE | DIR | - | -- CMD...]", type=FILE, required=False)
@click.option("--name", default="", help="What to call it [default: its source].")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="A word to find it by; may be given again.")
@click.option(
    "--retain", type=Duration(), default=0, help="How long to keep it, such as 90d [default: the node's]."
)
@click.option("--record-input/--no-record-input", default=None, help="Terminal: record what is typed, too.")
@click.option(
    "--on-recording-failure", type=click.Choice(_FAILURE_CHOICES), help="Terminal: what to do then."
)
@click.option(
    "--wait",
    "wait_s",
    type=click.IntRange(0, 86_400),
    metavar="SECONDS",
    help="How long to wait for copies on other nodes [default: 60; terminal: 0].",
)
@click.option("--require-replicas", is_flag=True, help="Fail if not all copies are there by then (code 5).")
@click.option("--no-pty", is_flag=True, help="Terminal: run CMD on pipes, 8-bit clean, for scp or rsync.")
@click.pass_context
def record_command(
    context: click.Context,
    home: "Home",
    source: str | None,
    name: str,
    tags: tuple[str, ...],
    retain: int,
    record_input: bool | None,
    on_recording_failure: str | None,
    wait_s: int | None,
    require_replicas: bool,
    no_pty: bool,
    as_json: bool,
) -> int:
    """Records a source; without one, a shell in this terminal."""
    from kernel.errors import UsageError
    from node.client.request import RecordRequest
    from node.control.client import check_daemon

    recorded: list[str] = context.meta[_COMMAND_KEY]
    if source is not None and recorded:
        raise UsageError("both a source and a command are given", hint="Record one of them.")
    check_daemon(home)
    if source is not None:
        if no_pty or record_input is not None or on_recording_failure is not None:
            raise UsageError("--no-pty, --record-input and --on-recording-failure are for terminal sessions")
        request = RecordRequest(name=name, tags=tags, retain_s=retain)
        wish = ReplicaWish(DEFAULT_WAIT_S if wait_s is None else wait_s, require_replicas)
        return record_source(home, source, request, wish, as_json=as_json)
    return record_shell(
        home,
        recorded,
        name=name,
        tags=tags,
        retain_s=retain,
        record_input=record_input,
        on_recording_failure=on_recording_failure,
        has_pty=not no_pty,
        wish=ReplicaWish(wait_s or 0, require_replicas),
        as_json=as_json,
    )


def record_source(
    home: "Home",
    source: str,
    request: "RecordRequest",
    wish: ReplicaWish = NO_WISH,
    *,
    as_json: bool,
) -> int:
    """Records a file, a directory or standard input; returns the exit code."""
    from node.cli.progress import show_progress

    unreadable: list[tuple[str, str]] = []
    with show_progress("Recording", quiet=as_json) as show:
        done = _record_kind(home, source, request, show, unreadable)
    for path, why in unreadable:
        _print_unreadable(path, why)
    replicas = wait_for_replicas(home, done.session_id, wish, quiet=as_json)
    print_recorded(done, replicas, as_json=as_json)
    return get_exit_code(1 if unreadable else 0, replicas, wish)


def _record_kind(
    home: "Home",
    source: str,
    request: "RecordRequest",
    show: "OnProgress",
    unreadable: list[tuple[str, str]],
) -> "data_pb2.RecordingDone":
    from kernel.errors import LocalError, NotFound
    from lucid.v1.data_pb2 import TransferProgress
    from node.client.recording import record_directory, record_file, record_stream

    def on_progress(progress: TransferProgress) -> None:
        show(progress.plaintext_bytes, progress.total_bytes)

    if source == STANDARD_INPUT:
        return record_stream(home.data_socket, sys.stdin.fileno(), request, on_progress)
    path = Path(source).absolute()
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return record_file(home.data_socket, path, request, on_progress)
        if stat.S_ISDIR(mode):
            outcome = record_directory(
                home.data_socket,
                path,
                request,
                on_progress,
                lambda entry, why: unreadable.append((entry, why)),
            )
            return outcome.done
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no file or directory {source}",
            hint=f"To record a command, write: lucid-node session record -- {source}",
        ) from error
    except OSError as error:
        raise LocalError(f"{source} cannot be read: {error.strerror}") from error
    try:
        return record_stream(home.data_socket, descriptor, request, on_progress)
    finally:
        os.close(descriptor)


def record_shell(
    home: "Home",
    recorded: list[str],
    *,
    name: str = "",
    tags: tuple[str, ...] = (),
    retain_s: int = 0,
    record_input: bool | None = None,
    on_recording_failure: str | None = None,
    has_pty: bool = True,
    session_id: bytes = b"",
    wish: ReplicaWish = NO_WISH,
    as_json: bool,
) -> int:
    """Records a command, or the user's shell, in this terminal; returns the exit status of the command."""
    from node.cli.errors import show_error
    from node.client.config import OnRecordingFailure, load_client_config
    from node.terminal.recorder import TerminalOptions, record_terminal

    config = load_client_config(os.environ)
    options = TerminalOptions(
        name=name or config.name,
        tags=tags or config.tags,
        retain_s=retain_s,
        record_input=config.record_input if record_input is None else record_input,
        on_recording_failure=OnRecordingFailure(on_recording_failure or config.on_recording_failure),
        has_pty=has_pty,
        session_id=session_id,
    )
    outcome = record_terminal(home.data_socket, recorded or [os.environ.get("SHELL") or "/bin/sh"], options)
    exit_code = outcome.exit_status
    if outcome.done is not None:
        replicas = wait_for_replicas(home, outcome.done.session_id, wish, quiet=as_json)
        print_recorded(outcome.done, replicas, as_json=as_json, to_error=not as_json)
        exit_code = get_exit_code(exit_code, replicas, wish)
    if outcome.failure:
        show_error("RecordingFailed", outcome.failure, "", as_json=as_json)
    return exit_code


def describe_recorded(
    done: "data_pb2.RecordingDone", replicas: "control_pb2.WaitReplicasResponse"
) -> dict[str, Any]:
    """A finished recording as JSON."""
    from node.cli.output import format_id, state_name

    return {
        "session_id": format_id(done.session_id),
        "state": state_name(done.state),
        "root": done.root.hex(),
        "chunks": done.chunks,
        "plaintext_bytes": done.plaintext_bytes,
        "stored_bytes": done.stored_bytes,
        "replicas": replicas.replicas,
    }


def print_recorded(
    done: "data_pb2.RecordingDone",
    replicas: "control_pb2.WaitReplicasResponse",
    *,
    as_json: bool,
    to_error: bool = False,
) -> None:
    """Prints what was recorded; to standard error where standard output is the recorded command's."""
    import json

    from node.cli.output import format_id, state_name
    from node.units import format_size

    if as_json:
        text = json.dumps(describe_recorded(done, replicas))
    else:
        text = (
            f"Recorded session {format_id(done.session_id)} ({state_name(done.state)}):"
            f" {format_size(done.plaintext_bytes)} in {done.chunks} chunks,"
            f" {format_size(done.stored_bytes)} stored\nRoot {done.root.hex()}"
        )
        text = "\n".join(filter(None, (text, describe_replicas(replicas))))
    print(text, file=sys.stderr if to_error else sys.stdout)


def _print_unreadable(path: str, why: str) -> None:
    from node.cli.output import printable

    print(f"Not recorded: {printable(path)}: {printable(why)}", file=sys.stderr)
