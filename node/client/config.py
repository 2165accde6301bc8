"""Configuration of the client: what `session record` and `lucid-shell` do.

Rules: defaults < file (TOML) < LUCID_CLIENT_… environment < flags of the command. The file is $LUCID_CLIENT_CONFIG, else
DEFAULT_CONFIG_PATH if it exists. Unknown keys are errors that name the nearest known one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

DEFAULT_CONFIG_PATH = Path("/etc/lucid/client.toml")
DEFAULT_SOCKET_PATH = Path("/run/lucid/record.sock")


class OnRecordingFailure(StrEnum):
    """What becomes of a terminal session when it can no longer be recorded."""

    CONTINUE = "continue"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Settings of the client.

    Attributes:
        socket: record socket of the daemon (`lucid-shell`; `session record` uses that of its home).
        shell: the real shell behind `lucid-shell`.
        on_recording_failure: what to do when a session cannot be recorded (any more).
        record_input: record what is typed, too (never while the terminal does not echo).
        name: name of the recordings; empty: chosen by the command.
        tags: words that every recording gets.
    """

    socket: Path = DEFAULT_SOCKET_PATH
    shell: Path = Path("/bin/sh")
    on_recording_failure: OnRecordingFailure = OnRecordingFailure.CONTINUE
    record_input: bool = False
    name: str = ""
    tags: tuple[str, ...] = ()


def load_client_config(environ: Mapping[str, str]) -> ClientConfig:
    """The configuration from file and environment.

    Raises:
        UsageError: unreadable file, no TOML, unknown key, or a value of the wrong kind.
    """
    raise NotImplementedError
