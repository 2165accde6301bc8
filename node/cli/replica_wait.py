"""Waiting for copies of a fresh recording on other nodes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lucid.v1 import control_pb2
    from node.home import Home

NOT_ENOUGH_PEERS = 5


@dataclass(frozen=True, slots=True)
class ReplicaWish:
    """What a recording waits for.

    Attributes:
        wait_s: at most so many seconds; 0 does not wait.
        required: the command fails if there are fewer replicas than there are to be.
    """

    wait_s: int = 0
    required: bool = False


def wait_for_replicas(
    home: "Home", session_id: bytes, wish: ReplicaWish, *, quiet: bool
) -> "control_pb2.WaitReplicasResponse":
    """Waits as long as wished; returns how far it has come.

    A daemon that does not answer costs the recording nothing: it is complete, and is spread later.
    """
    from kernel.errors import LucidError
    from lucid.v1 import control_pb2
    from node.cli.errors import show_error
    from node.cli.progress import show_progress
    from node.control.client import ControlClient

    latest = control_pb2.WaitReplicasResponse()
    try:
        with (
            ControlClient(home) as client,
            show_progress("Spreading", quiet=quiet or not wish.wait_s, unit="replicas") as show,
        ):
            for latest in client.wait_replicas(session_id.hex(), wish.wait_s):
                show(latest.held, latest.held + latest.pending)
    except LucidError as error:
        show_error(type(error).__name__, f"how it is spread is not known: {error}", error.hint, as_json=quiet)
    return latest


def describe_replicas(replicas: "control_pb2.WaitReplicasResponse") -> str:
    """How far it has come, for people; empty if there is nobody to spread to."""
    if not replicas.wanted:
        return ""
    rest = f", copies that follow by themselves: {replicas.pending}" if replicas.pending else ""
    return f"Replicas {replicas.replicas} of {replicas.wanted}{rest}"


def get_exit_code(exit_code: int, replicas: "control_pb2.WaitReplicasResponse", wish: ReplicaWish) -> int:
    """The exit code of a recording that would otherwise end with `exit_code`."""
    is_short = not replicas.wanted or replicas.replicas < replicas.wanted
    return NOT_ENOUGH_PEERS if wish.required and is_short and not exit_code else exit_code
