"""What the owner of a node may set.

Precedence: defaults < lucid.toml in the home < LUCID_… in the environment < flags. Every setting has one
name: `quota` in the file is `LUCID_QUOTA` in the environment. An unknown name is an error that tells the
nearest known one. What a recording client may set stands in its own file (`node/client/config.py`), because
that client may be another user.
"""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel.domains import NETWORKS
from kernel.errors import InvalidRecord, UsageError
from node.home import MAX_SOCKET_PATH_BYTES, Home
from node.units import parse_duration, parse_size

if TYPE_CHECKING:
    from kernel.multiaddr import Multiaddr

MAX_FILE_BYTES = 64 << 10
MAX_PEERS = 64
MAX_OWNERS = 256
NOBODY = bytes(32)
"""Stands for no owner: it is no key of Ed25519."""
_OWNER_ID = re.compile("[0-9a-f]{64}")
_PREFIX = "LUCID_"
_CLIENT_PREFIX = "LUCID_CLIENT_"
# Read by other parts of the software, or set by it for child processes.
_OTHER_VARIABLES = frozenset({"LUCID_HOME", "LUCID_SESSION_ID", "LUCID_ANCHOR_CONTRACT_ADDRESS"})


def _parse_network(text: str) -> str:
    if text not in NETWORKS:
        raise UsageError(
            f'there is no network "{text}"', hint=f"Known networks: {', '.join(sorted(NETWORKS))}."
        )
    return text


def _parse_choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise UsageError(f'"{text}" is not one of {", ".join(choices)}')
        return text

    return parse


def _parse_count(least: int, greatest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not least <= int(text[:9]) <= greatest:
            raise UsageError(f'"{text}" is no whole number from {least} to {greatest}')
        return int(text)

    return parse


def _parse_loopback(text: str) -> str:
    host, _, port = text.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError as error:
        raise UsageError(
            f'"{text}" is no address', hint='Write an IP address and a port: "127.0.0.1:9464".'
        ) from error
    if not address.is_loopback:
        raise UsageError(
            f"{address} is no loopback address", hint="Metrics are served on this machine alone: 127.0.0.1."
        )
    _parse_count(0, 65535)(port)
    return text


def _parse_address(text: str) -> "Multiaddr":
    try:
        # It loads libsodium, which the command line does without.
        from kernel.multiaddr import parse_multiaddr

        return parse_multiaddr(text)
    except InvalidRecord as error:
        raise UsageError(str(error), hint=error.hint) from error


def _parse_listen(text: str) -> str:
    if not text:
        return text
    address = _parse_address(text)
    if not address.is_loopback or address.device is not None:
        raise UsageError(
            f'"{text}" is no loopback address to listen on',
            hint="Write /ip4/127.0.0.1/tcp/PORT; 0 takes one.",
        )
    return text


def _parse_peers(text: str) -> tuple["Multiaddr", ...]:
    addresses = tuple(dict.fromkeys(_parse_address(word) for word in text.replace(",", " ").split()))
    if len(addresses) > MAX_PEERS or any(address.port == 0 for address in addresses):
        raise UsageError(f"{len(addresses)} peers, of which {MAX_PEERS} are the most, each with a port")
    return addresses


def _parse_owners(text: str) -> tuple[bytes, ...]:
    words = text.replace(",", " ").split()
    if words == ["none"]:
        return (NOBODY,)
    if len(words) > MAX_OWNERS or not all(_OWNER_ID.fullmatch(word) for word in words):
        raise UsageError(
            f"{len(words)} owner IDs, of which {MAX_OWNERS} are the most, each of 64 hex digits",
            hint="`lucid-node id` of a node tells the ID of its owner.",
        )
    return tuple(map(bytes.fromhex, words))


def _parse_socket_path(text: str) -> str:
    if text and (not text.startswith("/") or "\0" in text or len(text.encode()) > MAX_SOCKET_PATH_BYTES):
        raise UsageError(f'"{text}" is no absolute path of at most {MAX_SOCKET_PATH_BYTES} bytes')
    return text


def _setting(default: Any, parse: Callable[[str], Any], meaning: str, flag: str = "") -> Any:
    """A setting; `flag` names the option that may be given many times, for a setting that is a list."""
    return field(default=default, metadata={"parse": parse, "meaning": meaning, "flag": flag})


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The settings of a node. The meaning of each stands beside it.

    Attributes:
        home: where the node lives.
    """

    home: Home
    network: str = _setting("dev", _parse_network, "network that the node belongs to")
    quota: int = _setting(
        0, parse_size, "most bytes that recordings may take on disk, such as `20G`; 0 sets no limit"
    )
    hosting_quota: int = _setting(
        0, parse_size, "most bytes to keep for others, such as `100G`; 0: as much as there is room for"
    )
    hosting_quota_per_owner: int = _setting(
        0, parse_size, "most bytes to keep for one other owner; 0 sets no limit"
    )
    hosting_for: tuple[bytes, ...] = _setting(
        (),
        _parse_owners,
        "IDs of the owners for whom to keep anything, 64 hex digits each, an array in the file, with spaces"
        " between them elsewhere, or `none`; the node's own owner is always one; empty: whoever comes",
    )
    limit_up: int = _setting(
        0, parse_size, "most bytes to send to other nodes in a second, such as `500K`; 0 sets no limit"
    )
    limit_down: int = _setting(
        0, parse_size, "most bytes to receive from other nodes in a second; 0 sets no limit"
    )
    retention: int = _setting(
        0,
        parse_duration,
        "time until a recording is erased unless it says otherwise, such as `90d`; 0 keeps it",
    )
    listen: str = _setting(
        "",
        _parse_listen,
        "multiaddr where other nodes reach this one, such as `/ip4/127.0.0.1/tcp/4001`; port 0 takes a free"
        " one (see `status`); empty: nowhere",
    )
    peers: tuple["Multiaddr", ...] = _setting(
        (),
        _parse_peers,
        "multiaddrs of other nodes, each with `/p2p/PEER-ID` behind it or without; an array in the file, with"
        " spaces between them in the environment",
        flag="peer",
    )
    repair_after: int = _setting(
        0,
        parse_duration,
        "time after which copies on a node that is not seen are made again on others; 0: a day",
    )
    metrics_listen: str = _setting(
        "127.0.0.1:0",
        _parse_loopback,
        "loopback address that serves metrics; port 0 takes a free one (see `status`)",
    )
    record_socket: str = _setting(
        "",
        _parse_socket_path,
        "path of a socket over which other users may record, and only record; empty: none",
    )
    record_group: str = _setting(
        "", str, "group that may use `record_socket`; empty: the group of the daemon"
    )
    log_level: str = _setting(
        "info", _parse_choice("debug", "info", "warning", "error"), "least level that is logged"
    )
    log_format: str = _setting(
        "auto",
        _parse_choice("auto", "json", "text"),
        "`json` lines, `text` for people, or `auto`: text on a terminal",
    )
    workers: int = _setting(0, _parse_count(0, 256), "threads that compress and encrypt; 0: one per core")
    max_recordings: int = _setting(
        64, _parse_count(1, 4096), "sessions that may be recorded at the same time"
    )
    max_connections: int = _setting(
        128, _parse_count(2, 8192), "connections to each data socket at the same time"
    )
    max_connections_per_user: int = _setting(
        32, _parse_count(1, 8192), "of these, on `record_socket`, for each user"
    )


SETTINGS = {setting.name: setting for setting in fields(NodeConfig) if "parse" in setting.metadata}


def load_config(home: Home, environment: Mapping[str, str], flags: Mapping[str, str | None]) -> NodeConfig:
    """The settings that hold for this node.

    Args:
        home: the home.
        environment: variables; those that begin with LUCID_ count.
        flags: settings given on the command line; None where a flag was not used.

    Raises:
        UsageError: a setting is unknown or has a wrong value.
    """
    values: dict[str, Any] = {}
    for name, (text, origin) in _collect(home.config, environment, flags).items():
        try:
            values[name] = SETTINGS[name].metadata["parse"](text)
        except UsageError as error:
            raise UsageError(f"{origin}: {error}", hint=error.hint) from error
    return NodeConfig(home=home, **values)


def get_flag(name: str) -> str:
    """The option that gives a setting on the command line."""
    return "--" + (SETTINGS[name].metadata["flag"] or name.replace("_", "-"))


def get_default(name: str) -> str:
    """The default of a setting as it would be written; empty if it sets nothing."""
    default = SETTINGS[name].default
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def nearest(name: str, known: list[str]) -> str:
    """A hint that names the known word nearest to an unknown one."""
    matches = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f'Did you mean "{matches[0]}"?' if matches else f"Known: {', '.join(sorted(known))}."


def _collect(
    path: Path, environment: Mapping[str, str], flags: Mapping[str, str | None]
) -> dict[str, tuple[str, str]]:
    """Texts of all settings that are set, with where they come from; later ones replace earlier ones."""
    texts: dict[str, tuple[str, str]] = {}
    for name, value in _read_file(path).items():
        if name not in SETTINGS:
            raise UsageError(f'{path}: there is no setting "{name}"', hint=nearest(name, list(SETTINGS)))
        texts[name] = (_get_text(path, name, value), f"{path}: {name}")
    variables = {_PREFIX + name.upper(): name for name in SETTINGS}
    for variable in sorted(environment):
        if (
            not variable.startswith(_PREFIX)
            or variable.startswith(_CLIENT_PREFIX)
            or variable in _OTHER_VARIABLES
        ):
            continue
        if variable not in variables:
            raise UsageError(
                f'there is no setting for the environment variable "{variable}"',
                hint=nearest(variable, list(variables)),
            )
        texts[variables[variable]] = (environment[variable], variable)
    for name, text in flags.items():
        if text is not None:
            texts[name] = (text, get_flag(name))
    return texts


def _get_text(path: Path, name: str, value: object) -> str:
    """A value of the file as it would stand in the environment."""
    if isinstance(SETTINGS[name].default, tuple) and isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UsageError(f"{path}: {name} must be a string or a whole number")
    return str(value)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            contents = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if len(contents) > MAX_FILE_BYTES:
        raise UsageError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        return tomllib.loads(contents.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from error
