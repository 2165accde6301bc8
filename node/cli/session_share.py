"""`lucid-node session share`."""

from typing import TYPE_CHECKING

import click

from node.cli.options import command, session_argument

if TYPE_CHECKING:
    from node.home import Home

NO_PEERS = 5


@command("share")
@session_argument
@click.option("--with", "peer", metavar="PEER", required=True, help="Node ID, or the beginning of one.")
def share_command(home: "Home", session: str, peer: str, as_json: bool) -> int:
    """Seals the session's secret to another node, for good: what is shared cannot be taken back.

    The exit code is 5 if the node cannot be reached.
    """
    from kernel.errors import Unavailable
    from node.cli.errors import show_error
    from node.cli.output import emit, format_id
    from node.control.head_client import HeadClient

    with HeadClient(home) as client:
        try:
            shared = client.share_session(session, peer)
        except Unavailable as error:
            show_error("Unavailable", str(error), error.hint, as_json=as_json)
            return NO_PEERS
    document = {"session_id": format_id(shared.session_id), "peer_id": shared.peer_id}
    emit(document, f"{document['peer_id']} reads {document['session_id']} now.", as_json=as_json)
    return 0
