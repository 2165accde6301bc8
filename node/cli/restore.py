"""`lucid-node restore`."""

import json
from typing import TYPE_CHECKING, Any

import click

from node.cli.options import command

if TYPE_CHECKING:
    from lucid.v1 import control_pb2
    from node.home import Home

NO_PEERS, NO_HEADS, NOT_ALL = 5, 4, 1


@command("restore")
@click.option("--phrase-file", metavar="FILE", help="File that holds the 24 recovery words [default: ask].")
@click.option(
    "--peer", "peers", metavar="MULTIADDR", multiple=True, required=True, help="Node to ask; may be repeated."
)
@click.option(
    "--passphrase-file", metavar="FILE", help="File that holds the passphrase of the new node [default: ask]."
)
@click.option("--network", metavar="NAME", help="Network that the node belongs to [default: dev].")
def restore_command(
    home: "Home",
    phrase_file: str | None,
    peers: tuple[str, ...],
    passphrase_file: str | None,
    network: str | None,
    as_json: bool,
) -> int:
    """Makes a new device of the owner, and asks peers for what the lost ones left there.

    What was broken off goes on when it is run again. Recordings themselves are fetched when they are read.
    The exit code is 5 if no peer answers, 4 if no peer keeps a head of this owner, 1 if something did not
    come back.
    """
    from node.cli.ceremony import run_ceremony
    from node.cli.output import emit
    from node.cli.temporary_daemon import daemon_for
    from node.control.head_client import HeadClient

    options = ["--home", str(home.root)]
    given = {"--phrase-file": phrase_file, "--passphrase-file": passphrase_file, "--network": network}
    for flag, value in given.items():
        options += [flag, value] if value is not None else []
    made = run_ceremony(["restore", *options], as_json=as_json, capture=as_json)
    node = json.loads(made) if as_json else {}
    run_options = ["--passphrase-file", passphrase_file] if passphrase_file is not None else []
    run_options += ["--network", network] if network is not None else []
    for peer in peers:
        run_options += ["--peer", peer]
    with daemon_for(home, run_options), HeadClient(home) as client:
        result = client.restore_sessions(lambda progress: _show(progress, quiet=as_json))
    emit(node | describe_restored(result), format_restored(result), as_json=as_json)
    if not result.peers:
        return NO_PEERS
    if not result.heads:
        return NO_HEADS
    return 0 if result.done == result.sessions else NOT_ALL


def describe_restored(result: "control_pb2.RestoreSessionsResponse") -> dict[str, Any]:
    """The result as JSON."""
    return {
        "peers": result.peers,
        "heads": result.heads,
        "sessions": result.sessions,
        "restored": result.restored,
        "known": result.known,
        "problems": list(result.problems),
    }


def format_restored(result: "control_pb2.RestoreSessionsResponse") -> str:
    """The result for people."""
    from node.cli.output import format_facts, printable

    if not result.peers:
        said = "none answers"
    elif not result.heads:
        said = f"{result.peers} answered, and keep no head of this owner"
    else:
        said = f"{result.peers} answered; heads of {result.heads} devices"
    facts = [("Peers", said)]
    if result.heads:
        told = f"{result.restored} of {result.sessions} came back, {result.known} were there before"
        facts.append(("Sessions", told))
    facts += [("Problem", printable(problem)) for problem in result.problems]
    return format_facts(facts)


def _show(progress: "control_pb2.RestoreSessionsResponse", *, quiet: bool) -> None:
    import sys

    if not quiet and sys.stderr.isatty() and progress.sessions:
        print(f"\r{progress.done} of {progress.sessions} sessions", end="\r", file=sys.stderr, flush=True)
