"""What the values of settings may be: each parser takes a text and gives the value.

Raises:
UsageError: the text says nothing that makes sense there.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.domains import NETWORKS
from kernel.errors import InvalidRecord, UsageError
from node.home import MAX_SOCKET_PATH_BYTES

if TYPE_CHECKING:
    from kernel.multiaddr import Multiaddr

MAX_PEERS = 64
MAX_OWNERS = 256
DEFAULT_PORT = 4001
"""Of a node's onion service."""
NOBODY = bytes(32)
"""Stands for no owner: it is no key of Ed25519."""
_OWNER_ID = re.compile("[0-9a-f]{64}")
_ONION = re.compile("onion(?::([0-9]{1,5}))?")


def parse_network(text: str) -> str:
    """The name of a network that this software knows."""
    if text not in NETWORKS:
        raise UsageError(
            f'there is no network "{text}"', hint=f"Known networks: {', '.join(sorted(NETWORKS))}."
        )
    return text


def parse_choice(*choices: str) -> Callable[[str], str]:
    """A parser that takes these words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise UsageError(f'"{text}" is not one of {", ".join(choices)}')
        return text

    return parse


def parse_count(least: int, greatest: int) -> Callable[[str], int]:
    """A parser of whole numbers in a range."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not least <= int(text[:9]) <= greatest:
            raise UsageError(f'"{text}" is no whole number from {least} to {greatest}')
        return int(text)

    return parse


def parse_loopback(text: str) -> str:
    """An IP address of this machine and a port, as "127.0.0.1:9464"."""
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
    parse_count(0, 65535)(port)
    return text


def parse_address(text: str) -> "Multiaddr":
    """The address of a node."""
    try:
        # It loads libsodium, which the command line does without.
        from kernel.multiaddr import parse_multiaddr

        return parse_multiaddr(text)
    except InvalidRecord as error:
        raise UsageError(str(error), hint=error.hint) from error


def parse_listen(text: str) -> str:
    """Where to listen: empty, `onion`, `onion:PORT`, or a loopback multiaddr."""
    if not text:
        return text
    match = _ONION.fullmatch(text)
    if match is not None:
        parse_count(1, 65535)(match[1] or str(DEFAULT_PORT))
        return text
    if not text.startswith("/") or not (address := parse_address(text)).is_loopback or address.device:
        raise UsageError(
            f'"{text}" is no place to listen on',
            hint="Write `onion` or `onion:PORT`; for tests on one machine, /ip4/127.0.0.1/tcp/PORT.",
        )
    return text


def parse_peers(text: str) -> tuple["Multiaddr", ...]:
    """Multiaddrs, with spaces or commas between them."""
    addresses = tuple(dict.fromkeys(parse_address(word) for word in text.replace(",", " ").split()))
    if len(addresses) > MAX_PEERS or any(address.port == 0 for address in addresses):
        raise UsageError(f"{len(addresses)} peers, of which {MAX_PEERS} are the most, each with a port")
    return addresses


def parse_lines(text: str) -> tuple[str, ...]:
    """Lines for a torrc."""
    from node.transport.tor.torrc import check_lines

    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    check_lines(lines)
    return lines


def parse_tor_options(text: str) -> tuple[str, ...]:
    """Options that may stand in a torrc."""
    from node.transport.tor.torrc import check_options

    lines = parse_lines(text)
    check_options(lines)
    return lines


def parse_owners(text: str) -> tuple[bytes, ...]:
    """IDs of owners, or "none"."""
    words = text.replace(",", " ").split()
    if words == ["none"]:
        return (NOBODY,)
    if len(words) > MAX_OWNERS or not all(_OWNER_ID.fullmatch(word) for word in words):
        raise UsageError(
            f"{len(words)} owner IDs, of which {MAX_OWNERS} are the most, each of 64 hex digits",
            hint="`lucid-node id` of a node tells the ID of its owner.",
        )
    return tuple(map(bytes.fromhex, words))


def parse_socket_path(text: str) -> str:
    """An absolute path that a Unix socket can have, or none."""
    if text and (not text.startswith("/") or "\0" in text or len(text.encode()) > MAX_SOCKET_PATH_BYTES):
        raise UsageError(f'"{text}" is no absolute path of at most {MAX_SOCKET_PATH_BYTES} bytes')
    return text


def get_onion_port(listen: str) -> int:
    """The port of the onion service that `listen` asks for; 0 if it asks for none."""
    match = _ONION.fullmatch(listen)
    return 0 if match is None else int(match[1] or DEFAULT_PORT)
