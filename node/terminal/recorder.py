"""Runs a command, shows it to the user and records it.

Rules:
- The command is looked up first, then the session is opened, then the command runs: nothing runs unrecorded
  that should be recorded, and a command that cannot run leaves no session behind.
- If the session cannot be opened, `on_recording_failure` counts: `stop` runs nothing, `continue` warns and
  runs it unrecorded.
- The command finds the session's ID in LUCID_SESSION_ID: recording inside a recording is allowed, with a word
  of warning.
- The plaintext of the recording is an asciicast (docs/terminal.md).
"""

import gc
import os
import shlex
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kernel.errors import LocalError, LucidError, NotFound, UsageError
from lucid.v1.data_pb2 import RecordingDone
from lucid.v1.session_pb2 import SOURCE_KIND_TERMINAL
from node.client.config import OnRecordingFailure
from node.client.link import RecordingLink
from node.client.request import RecordRequest, build_request, clean_text, describe_origin
from node.terminal.cast import Cast
from node.terminal.child import Child, find_command
from node.terminal.loop import TerminalLoop
from node.terminal.signals import SignalPipe
from node.terminal.user_terminal import UserTerminal
from session.asciicast import Header

SESSION_VARIABLE = "LUCID_SESSION_ID"
NOT_FOUND, NOT_EXECUTABLE = 127, 126
_MAX_NAME = 200
_MAX_COMMAND = 32 << 10


@dataclass(frozen=True, slots=True)
class TerminalOptions:
    """How a command is recorded.

    Attributes:
        name: what the recording is called; the command line if empty.
        tags: words to find it by.
        retain_s: seconds until the node may erase it; 0 keeps it.
        record_input: record what is typed, too (never while the terminal does not echo).
        on_recording_failure: what to do when it can no longer be recorded (from the start on).
        has_pty: False: the command runs on pipes, 8-bit clean, for scp and rsync.
        session_id: 16 bytes: go on in this interrupted session by order of the owner; empty: a new one.
        argv0: what the command sees as its name ("-bash" for a login shell); empty: `command[0]`.
        environ: environment of the command; None: that of this process.
    """

    name: str = ""
    tags: tuple[str, ...] = ()
    retain_s: int = 0
    record_input: bool = False
    on_recording_failure: OnRecordingFailure = OnRecordingFailure.CONTINUE
    has_pty: bool = True
    session_id: bytes = b""
    argv0: str = ""
    environ: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class TerminalOutcome:
    """How a recorded command ended.

    Attributes:
        exit_status: of the command; 128 + signal if a signal killed it; 127 not found, 126 not executable; 1
            if it was refused or ended because it could not be recorded (`on_recording_failure = stop`).
        session_id: 16 bytes; empty if no session was opened.
        done: the session as the daemon closed it; None if it could not be closed (or there is none).
        failure: why the command did not run, or its recording is missing or not complete, in words for the
            user; empty if all is well.
        lost_bytes: bytes of the recording that had to be let go.
    """

    exit_status: int
    session_id: bytes = b""
    done: RecordingDone | None = None
    failure: str = ""
    lost_bytes: int = 0


def record_terminal(socket_path: Path, command: Sequence[str], options: TerminalOptions) -> TerminalOutcome:
    """Runs `command` and records it; uses standard input, output and error of this process. Main thread only.

    What goes wrong with the command or the recording is in the outcome; warnings that cannot wait are written
    to standard error. The terminal is as it was when this returns.

    Raises:
        UsageError: `command` is empty.
        LucidError: the daemon refuses to go on in `options.session_id`.
    """
    if not command:
        raise UsageError("there is no command to record")
    environ = dict(os.environ if options.environ is None else options.environ)
    try:
        executable = find_command(command[0], environ)
    except NotFound as error:
        return TerminalOutcome(NOT_FOUND, failure=str(error))
    except LocalError as error:
        return TerminalOutcome(NOT_EXECUTABLE, failure=str(error))
    terminal, cast = UserTerminal(), Cast()
    if environ.get(SESSION_VARIABLE):
        terminal.warn(f"this terminal is already being recorded, in session {environ[SESSION_VARIABLE]}")
    link, failure = None, ""
    try:
        link = _open_link(socket_path, command, options, terminal, cast)
        environ[SESSION_VARIABLE] = link.accepted.session_id.hex() if link.accepted else ""
    except LucidError as error:
        if options.session_id:
            raise
        failure = f"the session was not recorded: {error}"
        if options.on_recording_failure == OnRecordingFailure.STOP:
            return TerminalOutcome(
                1, failure=f"{command[0]} was not run, because it cannot be recorded: {error}"
            )
        terminal.warn(f"THIS SESSION IS NOT BEING RECORDED: {error}")
    signals = SignalPipe()
    try:
        argv = [options.argv0 or command[0], *command[1:]]
        status, problem = _run(argv, executable, environ, options, terminal, signals, cast, link)
        outcome = _finish(link, cast, status, terminal, signals) if link else TerminalOutcome(status)
        return replace(outcome, failure=problem or outcome.failure or failure)
    finally:
        signals.close()
        if link:
            link.close()


def _open_link(
    socket_path: Path, command: Sequence[str], options: TerminalOptions, terminal: UserTerminal, cast: Cast
) -> RecordingLink:
    title = clean_text(options.name or shlex.join(command))
    columns, rows = terminal.get_size()
    metadata = describe_origin()
    metadata.kind = SOURCE_KIND_TERMINAL
    metadata.name = title[:_MAX_NAME]
    metadata.command.extend(_shorten(command))
    metadata.columns, metadata.rows = columns, rows
    request = RecordRequest(options.name, options.tags, options.retain_s, options.session_id)
    link = RecordingLink(
        socket_path,
        build_request(request, metadata, records_input=options.record_input),
        time.monotonic,
        by_lines=True,
        on_gap=cast.describe_gap,
    )
    try:
        accepted = link.wait_accepted()
        environ = {name: os.environ[name] for name in ("SHELL", "TERM") if name in os.environ}
        cast.begin(link, accepted, Header(columns, rows, accepted.started_ns // 10**9, title, environ))
    except BaseException:
        link.close()
        raise
    return link


def _run(
    argv: Sequence[str],
    executable: str,
    environ: dict[str, str],
    options: TerminalOptions,
    terminal: UserTerminal,
    signals: SignalPipe,
    cast: Cast,
    link: RecordingLink | None,
) -> tuple[int, str]:
    """Exit status, and why the command could not be started."""
    pty_size = terminal.get_size() if options.has_pty else None
    try:
        child = Child(argv, executable, environ, pty_size=pty_size, attributes=terminal.attributes)
    except OSError as error:
        return NOT_EXECUTABLE, f"{argv[0]} cannot be executed: {error.strerror}"
    try:
        # What was loaded until here stays: no collection shall search it while somebody waits for an echo.
        gc.freeze()
        if options.has_pty:
            terminal.enter_raw()
        loop = TerminalLoop(
            child,
            terminal,
            signals,
            cast,
            link,
            options.on_recording_failure,
            records_input=options.record_input,
        )
        status = loop.run()
        return (1 if loop.was_stopped else status), ""
    finally:
        terminal.restore()
        child.close()


def _finish(
    link: RecordingLink, cast: Cast, status: int, terminal: UserTerminal, signals: SignalPipe
) -> TerminalOutcome:
    """Waits until the daemon has everything, or is lost for good, or the user does not want to wait."""
    cast.end()
    link.finish(status)
    link.pump()
    if link.loss and not link.is_given_up:
        terminal.warn(f"the recording waits for the daemon; Ctrl-C ends that ({link.loss})")
    is_waiting = True
    while is_waiting and link.done is None and not link.is_given_up:
        if link.poll(signals.fileno()):
            is_waiting = not set(signals.take()) & {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    session_id = link.accepted.session_id if link.accepted else b""
    lost_bytes = link.lost_bytes + (0 if link.done else link.unacknowledged_bytes)
    failure = ""
    if not link.done:
        failure = f"the recording was not closed, {lost_bytes} bytes of it were lost: {link.describe_loss()}"
    elif lost_bytes:
        failure = f"{lost_bytes} bytes of the recording were lost while the daemon was away"
    return TerminalOutcome(status, session_id, link.done, failure, lost_bytes)


def _shorten(command: Sequence[str]) -> list[str]:
    """The command as metadata may hold it."""
    room = _MAX_COMMAND
    shown: list[str] = []
    for argument in command:
        room -= len(argument.encode(errors="surrogateescape")) + 1
        if room < 0:
            return [*shown, "…"]
        shown.append(clean_text(argument))
    return shown
