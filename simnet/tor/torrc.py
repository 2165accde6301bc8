"""What each process of the network is told: the lines of its torrc. Pure; manual: tor(1).

Three authorities vote once, when every node has uploaded its descriptor: until then the vote is far away
(`VOTING_INTERVAL_S`), and a reload with another phase brings it near. So the first consensus has all nodes in
it, on a slow machine too, and is the only one for half an hour. Nothing is reachable by, or leaves through,
anything but loopback.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simnet.addresses import HOST
from simnet.tor.keys import NodeKeys

VOTING_INTERVAL_S = 1800  # tor wants a divisor of half an hour
VOTE_DELAY_S = 2  # the least that tor takes
DIST_DELAY_S = 2
BANDWIDTH = 10
BANDWIDTH_FILE = "bandwidth"


@dataclass(frozen=True, slots=True)
class TorNode:
    """A node of the network.

    Attributes:
        keys: who it is.
        folder: its data directory.
        or_port: where it serves other nodes.
        dir_port: where it serves the directory; None: it is no authority.
    """

    keys: NodeKeys
    folder: Path
    or_port: int
    dir_port: int | None


def quote(path: Path) -> str:
    """A path as a quoted string of a torrc."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def compute_phase(vote_at_s: int) -> int:
    """The voting offset with which a consensus becomes valid at a unix time."""
    return vote_at_s % VOTING_INTERVAL_S


def write_client_lines(nodes: Sequence[TorNode]) -> list[str]:
    """What a client, a service or a relay needs, to be part of this network and of no other."""
    authorities = [
        f"DirAuthority {node.keys.name} orport={node.or_port} no-v2 v3ident={node.keys.authority_fingerprint}"
        f" {HOST}:{node.dir_port} {node.keys.fingerprint}"
        for node in nodes
        if node.dir_port is not None
    ]
    return [
        "TestingTorNetwork 1",
        *authorities,
        f"OutboundBindAddress {HOST}",
        "GeoIPFile /dev/null",
        "GeoIPv6File /dev/null",
        # A client learns that circuits take milliseconds here, and would give up on those of a busy moment.
        "LearnCircuitBuildTimeout 0",
        "CircuitBuildTimeout 10",
    ]


def write_node_lines(node: TorNode, client_lines: Sequence[str], vote_at_s: int) -> list[str]:
    """The torrc of a node.

    Args:
        node: which.
        client_lines: of the network, see `write_client_lines`.
        vote_at_s: unix time at which the next consensus is to become valid; a relay does not care.
    """
    lines = [
        *client_lines,
        "Log notice stdout",
        f"DataDirectory {quote(node.folder)}",
        f"Nickname {node.keys.name}",
        f"Address {HOST}",
        "SocksPort 0",
        f"ORPort {HOST}:{node.or_port} IPv4Only",
        "AssumeReachable 1",
        "ExitRelay 0",
    ]
    if node.dir_port is None:
        return lines
    return [
        *lines,
        f"DirPort {HOST}:{node.dir_port}",
        "AuthoritativeDirectory 1",
        "V3AuthoritativeDirectory 1",
        "ContactInfo lab",
        f"TestingV3AuthInitialVotingInterval {VOTING_INTERVAL_S}",
        f"TestingV3AuthInitialVoteDelay {VOTE_DELAY_S}",
        f"TestingV3AuthInitialDistDelay {DIST_DELAY_S}",
        f"TestingV3AuthVotingStartOffset {compute_phase(vote_at_s)}",
        f"V3AuthVotingInterval {VOTING_INTERVAL_S}",
        f"V3AuthVoteDelay {VOTE_DELAY_S}",
        f"V3AuthDistDelay {DIST_DELAY_S}",
        "V3AuthNIntervalsValid 3",
        f"V3BandwidthsFile {quote(node.folder / BANDWIDTH_FILE)}",
        "TestingDirAuthVoteGuard *",
        "TestingDirAuthVoteHSDir *",
        "TestingDirAuthVoteExit *",
        "TestingMinExitFlagThreshold 0",
    ]


def write_bandwidths(nodes: Sequence[TorNode], now_s: int) -> str:
    """The authorities' bandwidth file: without one, paths are chosen by measurements that nobody made."""
    lines = [f"node_id=${node.keys.fingerprint} bw={BANDWIDTH} nick={node.keys.name}" for node in nodes]
    return "\n".join([str(now_s), *lines, ""])
