"""`lucid-node onion show`, `onion check` and `onion rotate`."""

from typing import TYPE_CHECKING, Any

import click

from node.cli.options import Duration, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lucid.v1 import control_pb2
    from node.home import Home


@command("show")
def show_command(home: "Home", as_json: bool) -> int:
    """Shows how far Tor is, the onion services, and if they can be reached; fails if Tor is not ready."""
    from kernel.errors import Conflict
    from node.cli.output import emit
    from node.control.client import ControlClient

    with ControlClient(home) as client:
        status = client.get_status()
    if not status.HasField("tor"):
        raise Conflict("this node does not use Tor", hint="Set `listen` to `onion`, or name a peer.")
    emit(describe_tor(status.tor), format_tor(status.tor), as_json=as_json)
    return 0 if status.tor.phase == "ready" else 1


@command("check")
def check_command(home: "Home", as_json: bool) -> int:
    """Dials the onion service anew, through Tor, and tells what `show` does; fails if nobody answers."""
    from node.cli.output import emit
    from node.control.client import ControlClient

    with ControlClient(home) as client:
        checked = client.check_onion()
    emit(describe_tor(checked.tor), format_tor(checked.tor), as_json=as_json)
    return 0 if checked.reached else 1


@command("rotate")
@click.option(
    "--grace",
    metavar="TIME",
    type=Duration(),
    help="Time for which the old one stays, such as 12h; 0 cuts it at once [default: setting onion_grace].",
)
def rotate_command(home: "Home", grace: int | None, as_json: bool) -> None:
    """Publishes a new service, tells all peers, and lets the old one go after a grace time.

    What runs over the old one goes on until then.
    """
    from node.cli.output import emit
    from node.control.client import ControlClient

    with ControlClient(home) as client:
        onions = client.rotate_onion(grace)
    document = {"onions": [_describe_onion(onion) for onion in onions]}
    emit(document, _format_onions(onions), as_json=as_json)


def describe_tor(tor: "control_pb2.TorStatus") -> dict[str, Any]:
    """How a node stands in Tor, as JSON."""
    from node.cli.output import iso_time

    return {
        "phase": tor.phase,
        "percent": tor.percent,
        "summary": tor.summary,
        "version": tor.version,
        "trouble": tor.trouble,
        "hint": tor.hint,
        "tunnel": tor.tunnel,
        "onions": [_describe_onion(onion) for onion in tor.onions],
        "reached": iso_time(tor.reached_ns),
        "reach_ms": tor.reach_us / 1000,
        "reach_trouble": tor.reach_trouble,
    }


def format_tor(tor: "control_pb2.TorStatus") -> str:
    """The same for people."""
    from node.cli.output import format_facts

    facts = format_facts([("Tor", format_phase(tor)), ("Tunnel", tor.tunnel), ("Reached", format_reach(tor))])
    return "\n\n".join(part for part in (facts, _format_onions(tor.onions)) if part)


def format_phase(tor: "control_pb2.TorStatus") -> str:
    """How far Tor is, in one line; empty without Tor."""
    if not tor.phase:
        return ""
    doing = f", {tor.percent} %: {tor.summary}" if tor.phase == "bootstrapping" else ""
    version = f", version {tor.version}" if tor.version else ""
    trouble = f": {tor.trouble} {tor.hint}".rstrip() if tor.trouble else ""
    return f"{tor.phase}{doing}{version}{trouble}"


def format_reach(tor: "control_pb2.TorStatus") -> str:
    """Whether the node reaches itself through the network, in one line; empty if that was not tried."""
    from node.cli.output import format_time

    if tor.reach_trouble:
        return f"NO: {tor.reach_trouble}"
    if not tor.reached_ns:
        return ""
    return f"through the network, {format_time(tor.reached_ns)}, in {tor.reach_us / 1e6:.1f} s"


def _describe_onion(onion: "control_pb2.Onion") -> dict[str, Any]:
    from node.cli.output import iso_time

    return {
        "address": onion.address,
        "role": onion.role,
        "published": onion.published,
        "since": iso_time(onion.since_s * 10**9),
        "until": iso_time(onion.until_s * 10**9),
    }


def _format_onions(onions: "Sequence[control_pb2.Onion]") -> str:
    from node.cli.output import format_table, format_time

    if not onions:
        return ""
    rows = [
        [
            onion.role,
            "yes" if onion.published else "not yet",
            format_time(onion.until_s * 10**9) or "replaced",
            onion.address,
        ]
        for onion in onions
    ]
    return format_table(["Service", "Published", "Until", "Address"], rows)
