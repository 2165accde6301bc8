"""What each tor process is told."""

from pathlib import Path

import pytest

from simnet.tor.keys import CERTIFICATE, NodeKeys
from simnet.tor.torrc import (
    VOTING_INTERVAL_S,
    TorNode,
    compute_phase,
    quote,
    write_bandwidths,
    write_client_lines,
    write_node_lines,
)

CERTIFICATE_TEXT = f"fingerprint {'C' * 40}\ndir-key-expires 2030-01-01 00:00:00\n".encode()
AUTHORITY = TorNode(
    NodeKeys("a0", "A" * 40, {CERTIFICATE: CERTIFICATE_TEXT}), Path("/d/a0"), or_port=1001, dir_port=1002
)
RELAY = TorNode(NodeKeys("r0", "B" * 40, {}), Path("/d/r0"), or_port=1003, dir_port=None)


def test_a_client_trusts_the_authorities_and_nobody_else() -> None:
    lines = write_client_lines([AUTHORITY, RELAY])
    trusted = [line for line in lines if line.startswith("DirAuthority ")]
    assert trusted == [f"DirAuthority a0 orport=1001 no-v2 v3ident={'C' * 40} 127.0.0.1:1002 {'A' * 40}"]
    assert "TestingTorNetwork 1" in lines


def test_every_node_serves_on_loopback_alone() -> None:
    client = write_client_lines([AUTHORITY, RELAY])
    for node in (AUTHORITY, RELAY):
        lines = write_node_lines(node, client, 0)
        assert lines[: len(client)] == client
        ports = [line for line in lines if line.split()[0].endswith("Port") and line != "SocksPort 0"]
        assert all(" 127.0.0.1:" in line for line in ports)
        assert "OutboundBindAddress 127.0.0.1" in lines


def test_only_an_authority_votes() -> None:
    voting = [line for line in write_node_lines(AUTHORITY, [], 7) if "V3Auth" in line]
    assert "TestingV3AuthVotingStartOffset 7" in voting
    assert [line for line in write_node_lines(RELAY, [], 7) if "Auth" in line] == []


@pytest.mark.parametrize("vote_at_s", [0, 1, VOTING_INTERVAL_S - 1, VOTING_INTERVAL_S, 1_795_696_037])
def test_the_phase_brings_a_consensus_at_the_time_that_is_meant(vote_at_s: int) -> None:
    phase = compute_phase(vote_at_s)
    assert 0 <= phase < VOTING_INTERVAL_S
    assert (vote_at_s - phase) % VOTING_INTERVAL_S == 0


def test_every_node_has_the_same_bandwidth() -> None:
    assert write_bandwidths([AUTHORITY, RELAY], 99).splitlines() == [
        "99",
        f"node_id=${'A' * 40} bw=10 nick=a0",
        f"node_id=${'B' * 40} bw=10 nick=r0",
    ]


def test_paths_are_quoted() -> None:
    assert quote(Path('/a b/#"c"\\')) == '"/a b/#\\"c\\"\\\\"'
