"""`lucid-node session hold` and `lucid-node session release`."""

from typing import TYPE_CHECKING

from node.cli.options import command, session_argument

if TYPE_CHECKING:
    from node.home import Home


@command("hold")
@session_argument
def hold_command(home: "Home", session: str, as_json: bool) -> None:
    """Puts a session under legal hold."""
    _set_hold(home, session, held=True, as_json=as_json)


@command("release")
@session_argument
def release_command(home: "Home", session: str, as_json: bool) -> None:
    """Ends a legal hold."""
    _set_hold(home, session, held=False, as_json=as_json)


def _set_hold(home: "Home", session: str, *, held: bool, as_json: bool) -> None:
    from node.cli.output import describe_session, emit, format_id
    from node.control.client import ControlClient

    with ControlClient(home) as client:
        info = client.set_hold(session, held)
    state = "is under legal hold: it cannot be deleted" if held else "is no longer under legal hold"
    emit(describe_session(info), f"Session {format_id(info.session_id)} {state}.", as_json=as_json)
