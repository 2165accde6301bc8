"""What the owner of a node may set.

Precedence: defaults < lucid.toml in the home < LUCID_… in the environment < flags. Every setting has one
name: `quota` in the file is `LUCID_QUOTA` in the environment. An unknown name is an error that tells the
nearest known one. What a recording client may set stands in its own file (`node/client/config.py`), because
that client may be another user.
"""

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernel.errors import UsageError
from node.home import Home
from node.setting_values import (
    get_onion_port,
    parse_choice,
    parse_count,
    parse_lines,
    parse_listen,
    parse_loopback,
    parse_network,
    parse_owners,
    parse_peers,
    parse_socket_path,
    parse_tor_options,
)
from node.units import format_duration, parse_duration, parse_size

if TYPE_CHECKING:
    from kernel.multiaddr import Multiaddr
    from node.transport.tor.torrc import TorSettings

MAX_FILE_BYTES = 64 << 10
DAY_S = 86400
_PREFIX = "LUCID_"
_CLIENT_PREFIX = "LUCID_CLIENT_"
# Read by other parts of the software, or set by it for child processes.
_OTHER_VARIABLES = frozenset({"LUCID_HOME", "LUCID_SESSION_ID", "LUCID_ANCHOR_CONTRACT_ADDRESS"})


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
    network: str = _setting("dev", parse_network, "network that the node belongs to")
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
        parse_owners,
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
    transport: str = _setting(
        "tor",
        parse_choice("tor", "loopback"),
        "how nodes reach each other: `tor`, or, for tests on one machine, `loopback`",
    )
    listen: str = _setting(
        "",
        parse_listen,
        "where other nodes reach this one: `onion`, or `onion:PORT`, for an onion service of its own (its"
        " address: `status`); over loopback, such as `/ip4/127.0.0.1/tcp/4001`, where port 0 takes a free"
        " one; empty: nowhere",
    )
    peers: tuple["Multiaddr", ...] = _setting(
        (),
        parse_peers,
        "multiaddrs of other nodes, each with `/p2p/PEER-ID` behind it or without; an array in the file, with"
        " spaces between them in the environment",
        flag="peer",
    )
    onion_rotate_every: int = _setting(
        0, parse_duration, "time after which the onion service is replaced by a new one; 0: only by command"
    )
    onion_grace: int = _setting(
        DAY_S, parse_duration, "time for which a replaced onion service stays, for peers that are away"
    )
    tor_program: str = _setting("tor", str, "program that is started as the node's own Tor")
    tor_control: str = _setting(
        "", parse_socket_path, "control socket of a Tor that runs already, to use that one instead"
    )
    tor_bridges: tuple[str, ...] = _setting(
        (),
        parse_lines,
        "bridges through which Tor enters its network: an array, or one a line",
        flag="tor-bridge",
    )
    tor_plugins: tuple[str, ...] = _setting(
        (),
        parse_lines,
        "lines of `ClientTransportPlugin` that these bridges need: an array, or one a line",
        flag="tor-plugin",
    )
    tor_options: tuple[str, ...] = _setting(
        (),
        parse_tor_options,
        "more options of the node's own Tor, as in a torrc: an array, or one a line",
        flag="tor-option",
    )
    tor_max_streams: int = _setting(
        16, parse_count(1, 65535), "connections that one circuit may open to the onion service"
    )
    tor_pow: str = _setting(
        "on",
        parse_choice("on", "off"),
        "demand proof of work from those who come to the onion service while too many do",
    )
    tor_pow_rate: int = _setting(
        250, parse_count(1, 1_000_000), "of these, how many are let through in a second"
    )
    repair_after: int = _setting(
        0,
        parse_duration,
        "time after which copies on a node that is not seen are made again on others; 0: a day",
    )
    metrics_listen: str = _setting(
        "127.0.0.1:0",
        parse_loopback,
        "loopback address that serves metrics; port 0 takes a free one (see `status`)",
    )
    record_socket: str = _setting(
        "",
        parse_socket_path,
        "path of a socket over which other users may record, and only record; empty: none",
    )
    record_group: str = _setting(
        "", str, "group that may use `record_socket`; empty: the group of the daemon"
    )
    log_level: str = _setting(
        "info", parse_choice("debug", "info", "warning", "error"), "least level that is logged"
    )
    log_format: str = _setting(
        "auto",
        parse_choice("auto", "json", "text"),
        "`json` lines, `text` for people, or `auto`: text on a terminal",
    )
    workers: int = _setting(0, parse_count(0, 256), "threads that compress and encrypt; 0: one per core")
    max_recordings: int = _setting(64, parse_count(1, 4096), "sessions that may be recorded at the same time")
    max_connections: int = _setting(
        128, parse_count(2, 8192), "connections to each data socket at the same time"
    )
    max_connections_per_user: int = _setting(
        32, parse_count(1, 8192), "of these, on `record_socket`, for each user"
    )

    @property
    def uses_tor(self) -> bool:
        """Is any node to be reached over Tor?"""
        return self.transport == "tor" and bool(self.listen or self.peers)

    @property
    def tor_settings(self) -> "TorSettings":
        """What the owner says about Tor."""
        from node.transport.tor.torrc import TorSettings

        return TorSettings(
            program=self.tor_program,
            control=Path(self.tor_control) if self.tor_control else None,
            bridges=self.tor_bridges,
            plugins=self.tor_plugins,
            options=self.tor_options,
            max_streams=self.tor_max_streams,
            pow=self.tor_pow == "on",
            pow_rate=self.tor_pow_rate,
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
    config = NodeConfig(home=home, **values)
    _check_transport(config)
    return config


def _check_transport(config: NodeConfig) -> None:
    """Checks that every address is one that the transport reaches: nothing is ever tried another way."""
    is_tor = config.transport == "tor"
    wrong = [address for address in config.peers if address.is_loopback == is_tor]
    if config.listen and bool(get_onion_port(config.listen)) != is_tor:
        raise UsageError(
            f'listen: "{config.listen}" does not go with the transport {config.transport}',
            hint="Write `onion`. For tests on one machine: --transport loopback." if is_tor else "",
        )
    if wrong:
        hint = "Write /onion3/ADDRESS:PORT. For tests on one machine: --transport loopback." if is_tor else ""
        raise UsageError(f"peers: {wrong[0]} is not reached over the transport {config.transport}", hint=hint)


def get_flag(name: str) -> str:
    """The option that gives a setting on the command line."""
    return "--" + (SETTINGS[name].metadata["flag"] or name.replace("_", "-"))


def get_default(name: str) -> str:
    """The default of a setting as it would be written; empty if it sets nothing."""
    default = SETTINGS[name].default
    if isinstance(default, int) and default and SETTINGS[name].metadata["parse"] is parse_duration:
        return format_duration(default)
    return "\n".join(map(str, default)) if isinstance(default, tuple) else str(default)


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
        return "\n".join(map(str, value))
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
