"""What a node's own Tor is told: its torrc, made from the settings of the node.

The node names everything itself on which safety rests: where Tor listens, who controls it, what it logs. What
an owner adds is taken from a list of options that cannot change that.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kernel.errors import UsageError

MAX_LINES = 64
MAX_LINE_CHARS = 1024
_LINE = re.compile(r"([A-Za-z][A-Za-z0-9]*) +(\S.*)")
# Options with which a client reaches its network better, or another network. None of them opens a listener,
# gives control away, logs, or writes elsewhere; whatever is not named is refused.
_ALLOWED = frozenset(
    name.lower()
    for name in [
        "AvoidDiskWrites",
        "BandwidthBurst",
        "BandwidthRate",
        "CircuitBuildTimeout",
        "CircuitPadding",
        "CircuitStreamTimeout",
        "CircuitsAvailableTimeout",
        "ClientPreferIPv6ORPort",
        "ClientRejectInternalAddresses",
        "ClientUseIPv4",
        "ClientUseIPv6",
        "ConfluxClientUX",
        "ConfluxEnabled",
        "ConnectionPadding",
        "ConnLimit",
        "DirAuthority",
        "EnforceDistinctSubnets",
        "EntryNodes",
        "ExcludeNodes",
        "ExtendAllowPrivateAddresses",
        "FallbackDir",
        "FascistFirewall",
        "FirewallPorts",
        "GeoIPFile",
        "GeoIPv6File",
        "GuardLifetime",
        "HardwareAccel",
        "HeartbeatPeriod",
        "HSLayer2Nodes",
        "HSLayer3Nodes",
        "HTTPSProxy",
        "HTTPSProxyAuthenticator",
        "KeepalivePeriod",
        "LearnCircuitBuildTimeout",
        "LogTimeGranularity",
        "MaxCircuitDirtiness",
        "MaxClientCircuitsPending",
        "MaxMemInQueues",
        "MiddleNodes",
        "NewCircuitPeriod",
        "NumCPUs",
        "NumDirectoryGuards",
        "NumEntryGuards",
        "NumPrimaryGuards",
        "OutboundBindAddress",
        "OutboundBindAddressOR",
        "OutboundBindAddressPT",
        "ReachableAddresses",
        "ReachableORAddresses",
        "ReducedCircuitPadding",
        "ReducedConnectionPadding",
        "Socks4Proxy",
        "Socks5Proxy",
        "Socks5ProxyPassword",
        "Socks5ProxyUsername",
        "StrictNodes",
        "TCPProxy",
        "TestingTorNetwork",
        "UseDefaultFallbackDirs",
        "UseEntryGuards",
        "UseGuardFraction",
        "UseMicrodescriptors",
        "VanguardsLiteEnabled",
    ]
)


@dataclass(frozen=True, slots=True)
class TorSettings:
    """What an owner may say about Tor.

    Attributes:
        program: of Tor.
        control: control socket of a Tor that runs already, to use that one; None: the node starts its own.
        bridges: lines of `Bridge`; none: no bridges are used.
        plugins: lines of `ClientTransportPlugin`.
        options: more lines of its torrc.
        max_streams: that one circuit may open to the node's service.
        pow: demand proof of work from clients while many come (Tor, hspow-spec).
        pow_rate: introductions that are let through in a second while it is demanded.
    """

    program: str = "tor"
    control: Path | None = None
    bridges: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    max_streams: int = 16
    pow: bool = True
    pow_rate: int = 250


def check_lines(lines: Sequence[str]) -> None:
    """Checks that lines cannot be taken for others in a torrc.

    Raises:
        UsageError: they are too many, too long, or hold what a line cannot.
    """
    if len(lines) > MAX_LINES:
        raise UsageError(f"{len(lines)} lines of Tor options; {MAX_LINES} are the most")
    for line in lines:
        # A backslash at the end would take the next line in.
        if len(line) > MAX_LINE_CHARS or not (line.isascii() and line.isprintable()) or line.endswith("\\"):
            raise UsageError(f'"{line[:80]}" cannot stand in a torrc')


def check_options(lines: Sequence[str]) -> None:
    """Checks options that an owner adds to the torrc.

    Raises:
        UsageError: one is no option, or none that may be set here.
    """
    check_lines(lines)
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise UsageError(
                f'"{line[:80]}" is no Tor option', hint='Write "NAME VALUE", as in a torrc, one a line.'
            )
        if match[1].lower() not in _ALLOWED:
            raise UsageError(
                f"the Tor option {match[1]} cannot be set here",
                hint="The node sets it itself, or does without. A Tor of your own: `tor_control`.",
            )


def make_arguments(owner_pid: int) -> list[str]:
    """The command line of a Tor for one node: a torrc that ends too early, or never comes, opens nothing.

    Args:
        owner_pid: process with which it ends.
    """
    return [
        "--defaults-torrc",
        "/dev/null",
        "-f",
        "-",  # a torrc may hold the password of a proxy: it goes through a pipe
        "--DisableNetwork",
        "1",
        "--SocksPort",
        "0",
        "--__OwningControllerProcess",
        str(owner_pid),
    ]


def make_torrc(directory: Path, control: Path, settings: TorSettings) -> str:
    """The torrc of a Tor for one node. It starts without network, until the node has looked at it.

    Args:
        directory: where it keeps its state; of mode 0700.
        control: where its control socket is to be.
        settings: of the owner.
    """
    lines = [
        f"DataDirectory {_quote(str(directory / 'data'))}",
        # All of it is quoted once more: outside of quotes, "#" would begin a comment.
        f"ControlSocket {_quote(f'unix:{_quote(str(control))} RelaxDirModeCheck')}",
        "CookieAuthentication 1",
        "ClientOnly 1",
        # Whoever finds the port reaches onion services and nothing else.
        "HTTPTunnelPort 127.0.0.1:auto OnionTrafficOnly",
        "DormantTimeoutEnabled 0",
        "__ReloadTorrcOnSIGHUP 0",  # the pipe cannot be read a second time
        "Log notice stdout",
    ]
    if settings.bridges:
        lines += ["UseBridges 1", *(f"Bridge {bridge}" for bridge in settings.bridges)]
    lines += [f"ClientTransportPlugin {plugin}" for plugin in settings.plugins]
    return "\n".join([*lines, *settings.options]) + "\n"


def _quote(text: str) -> str:
    """A text as a quoted one of a torrc."""
    for character, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        text = text.replace(character, written)
    return f'"{text}"'
