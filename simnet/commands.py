"""The commands of `lucid-simnet`."""

import sys
from collections.abc import Callable
from typing import Any

import click

from kernel.errors import LucidError
from simnet.layout import MAX_NODES, Cluster, Layout, NodeEntry, choose_layout
from simnet.progress import report, report_steps
from simnet.scenario_commands import explore_command, list_command, run_command, shrink_command
from simnet.trace_commands import show_command
from simnet.transports import TRANSPORTS

FOLLOW_S = 0.2
DOWN_TIMEOUT_S = 90.0


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def root() -> None:
    """Run many nodes on this machine, for tests and demonstrations.

    `up` and its companions run real `lucid-node` processes that talk over the loopback interface, or over a
    Tor network of their own; they, their homes and everything else of a cluster live in one directory.
    `tor-network` runs such a Tor network alone.
    `run`, `explore` and `shrink` run the same nodes in a simulated world: one process, virtual time, faults
    from a seed.
    """


for _command in (list_command, run_command, explore_command, shrink_command, show_command):
    root.add_command(_command)


def _with_cluster(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--dir",
        "layout",
        metavar="DIR",
        callback=lambda _context, _parameter, value: choose_layout(value),
        help="Directory of the cluster [default: the one that runs].",
    )(function)


_with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
_with_pid = click.option(
    "--pid", metavar="PID", type=click.IntRange(min=1), help="End when the process PID ends: for tests."
)


@root.command("up")
@click.option(
    "--nodes", "count", metavar="N", type=click.IntRange(1, MAX_NODES), required=True, help="How many."
)
@click.option("--dir", "directory", metavar="DIR", required=True, help="Where the cluster lives.")
@click.option(
    "--transport",
    type=click.Choice(TRANSPORTS),
    default=TRANSPORTS[0],
    show_default=True,
    help="How they reach each other; `tor` is a private network on this machine.",
)
@click.option("--quota", metavar="SIZE", help="Most bytes that each node may store, such as 2G.")
@click.option("--detach", is_flag=True, help="Return when all nodes are healthy; `down` ends them.")
@_with_pid
@_with_json
@click.argument("options", metavar="[-- OPTION...]", nargs=-1, type=click.UNPROCESSED)
def up_command(
    count: int,
    directory: str,
    transport: str,
    quota: str | None,
    detach: bool,
    pid: int | None,
    as_json: bool,
    options: tuple[str, ...],
) -> int:
    """Start a cluster, and run it until Ctrl-C.

    Homes that are there already are used again. What stands behind "--" is added to each `lucid-node run`.
    When all nodes are healthy and connected with each other, DIR/cluster.json tells who they are.
    """
    from dataclasses import asdict

    from node.cli.output import emit
    from simnet.launch import start_detached
    from simnet.supervisor import run_cluster

    layout = choose_layout(directory)
    given = [*(["--quota", quota] if quota else []), *options]
    if detach:
        cluster = start_detached(layout, count, given, pid, transport)
        emit(asdict(cluster), _format_nodes(cluster.nodes), as_json=as_json)
        return 0

    def on_ready(cluster: Cluster) -> None:
        report("")
        shown = f"{_format_nodes(cluster.nodes)}\nCtrl-C ends them."
        emit(asdict(cluster), shown, as_json=as_json)
        sys.stdout.flush()

    run_cluster(layout, count, given, transport=transport, pid=pid, report=report_steps, on_ready=on_ready)
    report("")
    return 0


def _format_nodes(nodes: list[NodeEntry]) -> str:
    from node.cli.output import format_table

    rows = [[str(number), node.id, node.multiaddr, str(node.pid)] for number, node in enumerate(nodes)]
    return format_table([">NODE", "ID", "MULTIADDR", ">PID"], rows)


@root.command("tor-network")
@click.option("--dir", "directory", metavar="DIR", required=True, help="Where the network lives.")
@_with_pid
@_with_json
def tor_network_command(directory: str, pid: int | None, as_json: bool) -> int:
    """Start a private Tor network on this machine, and run it until Ctrl-C.

    Prints the lines with which a tor uses this network and no other. Keys that are there already are used
    again.
    """
    from node.cli.output import emit
    from simnet.tor.network import TorNetwork
    from simnet.tor.run import run_tor_network

    def on_ready(network: TorNetwork) -> None:
        report("")
        lines = network.client_options
        emit({"client_options": lines, "pids": network.pids}, "\n".join(lines), as_json=as_json)
        sys.stdout.flush()
        report("Ctrl-C ends it.", True)

    run_tor_network(choose_layout(directory), pid=pid, report=report, on_ready=on_ready)
    return 0


@root.command("status")
@_with_cluster
@_with_json
def status_command(layout: Layout, as_json: bool) -> int:
    """Show the nodes of a cluster; fails if not all are healthy."""
    from dataclasses import asdict

    from node.cli.output import emit, format_table
    from node.units import format_size
    from simnet.control import call
    from simnet.layout import read_cluster

    states: list[str] = call(layout, "status")
    nodes = read_cluster(layout).nodes
    rows, documents = [], []
    for number, (node, state) in enumerate(zip(nodes, states, strict=True)):
        facts = _ask(node)
        documents.append(asdict(node) | {"state": state} | facts)
        shown = "healthy" if facts["healthy"] else "not serving" if node.pid else state
        rows.append(
            [
                str(number),
                shown,
                str(node.pid or ""),
                node.grpc,
                str(facts["peers_connected"]),
                format_size(facts["held_bytes"]),
                node.id,
            ]
        )
    healthy = all(document["healthy"] for document in documents)
    head = [">NODE", "STATE", ">PID", "ADDRESS", ">PEERS", ">HELD", "ID"]
    emit({"dir": str(layout.root), "nodes": documents}, format_table(head, rows), as_json=as_json)
    return 0 if healthy else 1


def _ask(node: NodeEntry) -> dict[str, Any]:
    """What a node says about itself."""
    from node.control.client import ControlClient
    from node.home import find_home

    facts = {"healthy": False, "peers_connected": 0, "held_bytes": 0, "blob_bytes": 0}
    if node.pid is None:
        return facts
    try:
        with ControlClient(find_home(node.home, {})) as client:
            status = client.get_status()
    except LucidError:
        return facts
    return {
        "healthy": status.serving,
        "peers_connected": status.peers_connected,
        "held_bytes": status.held_bytes,
        "blob_bytes": status.blob_bytes,
    }


@root.command("kill")
@_with_cluster
@_with_json
@click.argument("node", metavar="I", type=click.IntRange(min=0))
def kill_command(layout: Layout, node: int, as_json: bool) -> None:
    """Kill a node with SIGKILL, as a power cut would."""
    from node.cli.output import emit
    from simnet.control import call

    call(layout, "kill", node)
    emit({"node": node, "state": "killed"}, f"n{node} is killed.", as_json=as_json)


@root.command("start")
@_with_cluster
@_with_json
@click.argument("node", metavar="I", type=click.IntRange(min=0))
def start_command(layout: Layout, node: int, as_json: bool) -> None:
    """Start a node again, with the same home and address; wait until it is healthy."""
    from node.cli.output import emit
    from simnet.control import call
    from simnet.layout import read_cluster

    call(layout, "start", node)
    pid = read_cluster(layout).nodes[node].pid
    emit({"node": node, "state": "running", "pid": pid}, f"n{node} runs, process {pid}.", as_json=as_json)


@root.command("logs")
@_with_cluster
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@click.argument("node", metavar="I", type=click.IntRange(min=0))
def logs_command(layout: Layout, follow: bool, node: int) -> None:
    """Show what the daemon of a node wrote."""
    import shutil
    from time import sleep

    from kernel.errors import NotFound

    path = layout.log(node)
    if not path.exists():
        raise NotFound(f"there is no {path}", hint="See `lucid-simnet status` for the nodes there are.")
    with path.open("rb") as log:
        shutil.copyfileobj(log, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        while follow:
            sleep(FOLLOW_S)
            shutil.copyfileobj(log, sys.stdout.buffer)
            sys.stdout.buffer.flush()


@root.command("down")
@_with_cluster
@_with_json
def down_command(layout: Layout, as_json: bool) -> None:
    """End a cluster; its homes stay."""
    from node.cli.output import emit
    from simnet.control import call
    from simnet.launch import wait_down

    call(layout, "down")
    wait_down(layout, DOWN_TIMEOUT_S)
    emit({"dir": str(layout.root)}, f"The cluster in {layout.root} has ended.", as_json=as_json)
