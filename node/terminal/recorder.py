"""Runs a command in a pty that this process owns, shows it to the user and sends it to the daemon."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lucid.v1.data_pb2 import RecordingDone
from node.client.config import OnRecordingFailure


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
        failure: why the recording is missing or not complete, in words for the user; empty if all is well.
        lost_bytes: bytes of the recording that had to be let go.
    """

    exit_status: int
    session_id: bytes = b""
    done: RecordingDone | None = None
    failure: str = ""
    lost_bytes: int = 0


def record_terminal(socket_path: Path, command: Sequence[str], options: TerminalOptions) -> TerminalOutcome:
    """Runs `command` and records it; uses standard input, output and error of this process.

    What goes wrong with the command or the recording is in the outcome; warnings that cannot wait are written
    to standard error. The terminal is as it was when this returns.

    Raises:
        UsageError: `command` is empty.
        LucidError: the daemon refuses to go on in `options.session_id`.
    """
    raise NotImplementedError
