"""`lucid-node session play`."""

from typing import TYPE_CHECKING

import click

from node.cli.options import Number, command, session_argument

if TYPE_CHECKING:
    from node.home import Home


@command("play")
@session_argument
@click.option("--speed", type=Number(0.01, 1000), default=1.0, help="Twice as fast: 2.", show_default=True)
@click.option("--idle-limit", type=Number(0), metavar="S", help="No pause is longer than S seconds.")
@click.option("--follow", is_flag=True, help="Show what is being recorded now, as it happens.")
def play_command(
    home: "Home", session: str, speed: float, idle_limit: float | None, follow: bool, as_json: bool
) -> None:
    """Plays on this terminal. Keys: space pauses, arrows seek by 5 s, Home and End jump, q quits."""
    from node.cli.session_export import check_terminal
    from node.control.client import ControlClient
    from node.terminal.player import PlayOptions, play_session

    with ControlClient(home) as client:
        info = client.show_session(session)
    check_terminal(info)
    play_session(home.data_socket, info.session_id, PlayOptions(speed, idle_limit, follow))
