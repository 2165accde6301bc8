"""Configuration of the client: what `session record` and `lucid-shell` do.

Rules: defaults < file (TOML) < LUCID_CLIENT_… environment < flags of the command. The file is
$LUCID_CLIENT_CONFIG, else DEFAULT_CONFIG_PATH if it exists. Unknown keys are errors that name the nearest
known one.

`lucid-shell` stands between an administrator and the user who logs in: where DEFAULT_CONFIG_PATH exists, it
alone counts, and the environment does not. Nobody shall be locked out by a typing error, and nobody shall get
in unrecorded by one: a setting that is wrong is reported and its default used, and the word of
`on_recording_failure` counts even where the rest of the file cannot be read.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from kernel.errors import UsageError

DEFAULT_CONFIG_PATH = Path("/etc/lucid/client.toml")
DEFAULT_SOCKET_PATH = Path("/run/lucid/record.sock")
CONFIG_VARIABLE = "LUCID_CLIENT_CONFIG"
_PREFIX = "LUCID_CLIENT_"
_MAX_FILE_BYTES = 64 << 10
_STOPS = re.compile(rb"""^[ \t]*["']?on_recording_failure["']?[ \t]*=[ \t]*["']?stop\b""", re.MULTILINE)


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


def load_client_config(environ: Mapping[str, str], *, path: Path | None = None) -> ClientConfig:
    """The configuration from file and environment.

    Args:
        environ: the environment of the process.
        path: the file, where it is not the one that `environ` or the default names.

    Raises:
        UsageError: unreadable file, no TOML, unknown key, or a value of the wrong kind.
    """
    named = environ.get(CONFIG_VARIABLE)
    chosen = path or Path(named or DEFAULT_CONFIG_PATH)
    contents = _read(chosen, is_optional=not named and path is None)
    try:
        values: dict[str, Any] = tomllib.loads(contents.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{chosen} is no TOML: {error}") from error
    config, problems = _apply(ClientConfig(), values, str(chosen))
    config, more = _apply(config, _read_environment(environ), "the environment")
    if problems + more:
        raise (problems + more)[0]
    return config


def load_shell_config(
    environ: Mapping[str, str], *, system_path: Path = DEFAULT_CONFIG_PATH
) -> tuple[ClientConfig, list[UsageError]]:
    """The configuration of `lucid-shell`, and what is wrong with it. Never fails.

    Args:
        environ: the environment of the process; does not count where `system_path` exists.
        system_path: the administrator's file.
    """
    is_system = _exists(system_path)
    path = system_path if is_system else Path(environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG_PATH)
    config = ClientConfig()
    problems: list[UsageError] = []
    try:
        contents = _read(path, is_optional=not is_system and CONFIG_VARIABLE not in environ)
    except UsageError as error:
        # It is there and says nothing: it may say `stop`.
        return replace(config, on_recording_failure=OnRecordingFailure.STOP), [error]
    try:
        values: dict[str, Any] = tomllib.loads(contents.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        values = {}
        problems.append(UsageError(f"{path} is no TOML: {error}"))
    config, more = _apply(config, values, str(path))
    problems += more
    if not is_system:
        config, more = _apply(config, _read_environment(environ), "the environment")
        problems += more
    if problems and _STOPS.search(contents):
        config = replace(config, on_recording_failure=OnRecordingFailure.STOP)
    return config, problems


def _read(path: Path, *, is_optional: bool) -> bytes:
    try:
        with path.open("rb") as file:
            contents = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        if is_optional:
            return b""
        raise UsageError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if len(contents) > _MAX_FILE_BYTES:
        raise UsageError(f"{path} is larger than {_MAX_FILE_BYTES} bytes")
    return contents


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable in sorted(environ):
        if variable.startswith(_PREFIX) and variable != CONFIG_VARIABLE:
            name, text = variable.removeprefix(_PREFIX).lower(), environ[variable]
            values[name] = _FROM_TEXT.get(name, str)(text)
    return values


def _apply(
    config: ClientConfig, values: Mapping[str, Any], origin: str
) -> tuple[ClientConfig, list[UsageError]]:
    """`config` with every value that is right, and an error for each that is not."""
    problems = []
    for name, value in values.items():
        if name not in _CHECKS:
            matches = difflib.get_close_matches(name, _CHECKS, n=1, cutoff=0.4)
            hint = f'Did you mean "{matches[0]}"?' if matches else f"Known: {', '.join(sorted(_CHECKS))}."
            problems.append(UsageError(f'{origin}: there is no setting "{name}"', hint=hint))
            continue
        try:
            checked: dict[str, Any] = {name: _CHECKS[name](value)}
            config = replace(config, **checked)
        except ValueError as error:
            problems.append(UsageError(f"{origin}: {name} {error}"))
    return config, problems


def _check_path(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise ValueError("must be an absolute path")
    return Path(value)


def _check_choice(value: object) -> OnRecordingFailure:
    if not isinstance(value, str) or value not in list(OnRecordingFailure):
        raise ValueError('must be "continue" or "stop"')
    return OnRecordingFailure(value)


def _check_truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _check_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a string")
    return value


def _check_texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of strings")
    return tuple(value)


_CHECKS: dict[str, Callable[[object], object]] = {
    "socket": _check_path,
    "shell": _check_path,
    "on_recording_failure": _check_choice,
    "record_input": _check_truth,
    "name": _check_text,
    "tags": _check_texts,
}
_FROM_TEXT: dict[str, Callable[[str], object]] = {
    "record_input": lambda text: {"true": True, "1": True, "false": False, "0": False}.get(
        text.lower(), text
    ),
    "tags": lambda text: [tag.strip() for tag in text.split(",") if tag.strip()],
}
