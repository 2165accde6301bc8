"""Addresses of nodes: multiaddrs (libp2p), of the few forms that a node may have.

Rules: docs/spec/09-handshake.md.

    /ip4/127.0.0.1/tcp/PORT            loopback, for tests and simulated networks
    /ip6/::1/tcp/PORT
    /onion3/ADDRESS:PORT               ADDRESS: 56 characters, whose checksum holds
    …/p2p/PEER-ID                      names the node that must answer there

One address has one text: whatever would not be written the same way again is refused.
"""

import base64
import re
from dataclasses import dataclass, replace

from kernel.errors import InvalidRecord, Reason
from kernel.onion import ADDRESS_BYTES, decode_onion
from kernel.peer_id import decode_peer_id, encode_peer_id

MAX_TEXT = 160
MAX_BYTES = 48
_IP4, _IP6, _TCP, _ONION3 = b"\x04", b"\x29", b"\x06", b"\xbd\x03"
_LOOPBACK = {"ip4": ("127.0.0.1", _IP4 + bytes((127, 0, 0, 1))), "ip6": ("::1", _IP6 + bytes(15) + b"\x01")}
_TEXT = re.compile(
    r"/(?:(?P<kind>ip[46])/(?P<host>[0-9a-f.:]+)/tcp/|onion3/(?P<onion>[a-z2-7]{56}):)"
    r"(?P<port>0|[1-9][0-9]{0,4})(?:/p2p/(?P<peer>[1-9A-HJ-NP-Za-km-z]+))?"
)
_HINT = "Write /ip4/127.0.0.1/tcp/PORT or /onion3/ADDRESS:PORT, with /p2p/PEER-ID behind it or without."


@dataclass(frozen=True, slots=True)
class Multiaddr:
    """Where a node can be reached.

    Attributes:
        kind: "ip4", "ip6" (loopback, both) or "onion3".
        host: IP address, or the 56 characters of an onion address.
        port: 0 to 65535; 0 lets the system choose where to listen.
        device: Ed25519 key of the node that must answer; None if any may.
    """

    kind: str
    host: str
    port: int
    device: bytes | None = None

    @property
    def is_loopback(self) -> bool:
        """Does it lead to this machine?"""
        return self.kind in _LOOPBACK

    @property
    def place(self) -> "Multiaddr":
        """The same without the node's ID."""
        return replace(self, device=None)

    def __str__(self) -> str:
        place = f"/onion3/{self.host}:" if self.kind == "onion3" else f"/{self.kind}/{self.host}/tcp/"
        peer = "" if self.device is None else f"/p2p/{encode_peer_id(self.device)}"
        return f"{place}{self.port}{peer}"

    def encode(self) -> bytes:
        """The binary form of the place; the node's ID is left out."""
        port = self.port.to_bytes(2, "big")
        if self.kind == "onion3":
            return _ONION3 + base64.b32decode(self.host.upper()) + port
        return _LOOPBACK[self.kind][1] + _TCP + port


def parse_multiaddr(text: str) -> Multiaddr:
    """The address that a text names.

    Raises:
        InvalidRecord: it is none, or of a form that no node may have.
    """
    match = _TEXT.fullmatch(text) if len(text) <= MAX_TEXT else None
    if match is None or int(match["port"]) > 0xFFFF:
        raise InvalidRecord(Reason.MALFORMED, f'"{text[:MAX_TEXT]}" is no address of a node', hint=_HINT)
    device = None if match["peer"] is None else decode_peer_id(match["peer"])
    if match["onion"] is not None:
        decode_onion(match["onion"])
        return Multiaddr("onion3", match["onion"], int(match["port"]), device)
    if match["host"] != _LOOPBACK[match["kind"]][0]:
        what = f"{match['host']} is no loopback address: nodes are reached over onion services alone"
        raise InvalidRecord(Reason.MALFORMED, what, hint=_HINT)
    return Multiaddr(match["kind"], match["host"], int(match["port"]), device)


def decode_multiaddr(data: bytes) -> Multiaddr:
    """The address that its binary form names.

    Raises:
        InvalidRecord: it is none, or of a form that no node may have.
    """
    for kind, (host, prefix) in _LOOPBACK.items():
        if data[:-2] == prefix + _TCP:
            return Multiaddr(kind, host, int.from_bytes(data[-2:], "big"))
    if len(data) != len(_ONION3) + ADDRESS_BYTES + 2 or not data.startswith(_ONION3):
        raise InvalidRecord(Reason.MALFORMED, "an address of a form that no node may have")
    host = base64.b32encode(data[len(_ONION3) : -2]).decode().lower()
    decode_onion(host)
    return Multiaddr("onion3", host, int.from_bytes(data[-2:], "big"))
