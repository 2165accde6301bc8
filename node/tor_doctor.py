"""Looks at the way to other nodes over Tor, step by step, and names the first step that fails.

    program → its settings → process → bootstrap → onion service → reached through the network

What a running daemon knows is asked of it; without one, the program and its settings are tried.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING

from node.check import Check, Verdict
from node.config import NodeConfig
from node.transport.tor.process import INSTALL_HINT
from node.transport.tor.supervisor import LEAST_VERSION, parse_version
from node.transport.tor.torrc import make_torrc

if TYPE_CHECKING:
    from lucid.v1 import control_pb2

VERIFY_TIMEOUT_S = 20.0
_BOOTSTRAP_HINTS = (
    (
        10,
        "It reaches no relay: is this machine online, does its firewall let Tor out? Else: `tor_bridges`.",
    ),
    (14, "It reaches a relay that does not answer: the network may block Tor. Try `tor_bridges`."),
    (50, "It gets no directory: is the clock right, to the hour? Time zone too."),
    (75, "It gets few descriptors: a slow line needs some minutes."),
    (100, "It builds no circuits: wait some minutes; if it stays so, delete the folder tor in the home."),
)


def examine_tor_program(config: NodeConfig) -> Iterator[Check]:
    """Is there a Tor that is new enough, and does it understand its settings?"""
    if config.tor_control:
        yield Check("tor", Verdict.NOTE, f"the daemon attaches to the Tor at {config.tor_control}")
        return
    program = shutil.which(config.tor_program)
    if program is None:
        yield Check("tor", Verdict.WRONG, f"there is no program {config.tor_program}", INSTALL_HINT)
        return
    said = _run([program, "--version"], "")
    match = re.match(r"Tor version ([0-9.]+[0-9])", said)
    if match is None:
        yield Check("tor", Verdict.WRONG, f"{program} does not say its version", INSTALL_HINT)
        return
    if parse_version(match[1]) < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        yield Check(
            "tor", Verdict.WRONG, f"version {match[1]} is too old: {least} is the least", INSTALL_HINT
        )
        return
    yield Check("tor", Verdict.OK, f"{program} is version {match[1]}")
    torrc = make_torrc(config.home.tor, config.home.tor_socket, config.tor_settings, os.getpid())
    said = _run([program, "--defaults-torrc", os.devnull, "--verify-config", "-f", "-"], torrc)
    if "Configuration was valid" in said:
        yield Check("tor settings", Verdict.OK, "Tor understands them")
        return
    why = [line.partition("] ")[2] for line in said.splitlines() if "[warn]" in line or "[err]" in line]
    yield Check("tor settings", Verdict.WRONG, "; ".join(why) or "Tor refuses them", "Correct `tor_…`.")


def examine_tor(tor: "control_pb2.TorStatus") -> Iterator[Check]:
    """What the daemon knows of its Tor."""
    if tor.phase in ("stopped", "starting"):
        state = Verdict.WRONG if tor.trouble else Verdict.NOTE
        yield Check("tor process", state, tor.trouble or f"it is {tor.phase}", tor.hint)
        return
    yield Check("tor process", Verdict.OK, f"version {tor.version} answers")
    if tor.phase == "bootstrapping":
        hint = next((hint for most, hint in _BOOTSTRAP_HINTS if tor.percent < most), "")
        yield Check("tor bootstrap", Verdict.WRONG, f"it is at {tor.percent} %: {tor.summary}", hint)
        return
    yield Check("tor bootstrap", Verdict.OK, "it is done")
    for onion in tor.onions:
        if not onion.published:
            what = f"the {onion.role} service is not published yet: {onion.address}"
            hint = "It takes seconds; if it stays so, the log at level debug tells why."
            yield Check("onion service", Verdict.WRONG, what, hint)
            return
        yield Check("onion service", Verdict.OK, f"the {onion.role} one is published: {onion.address}")
    if tor.reach_trouble:
        hint = "It is tried again every 30 s. A new service: `lucid-node onion rotate`."
        yield Check("reached", Verdict.WRONG, tor.reach_trouble, hint)
    elif tor.reached_ns:
        yield Check("reached", Verdict.OK, f"through the network, in {tor.reach_us / 1e6:.1f} s")


def _run(command: list[str], text: str) -> str:
    """What a program prints, both ways; empty if it cannot be run."""
    try:
        done = subprocess.run(
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=VERIFY_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
