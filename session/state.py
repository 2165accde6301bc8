"""The life of a session, as a table."""

from enum import Enum

from kernel.errors import Conflict
from lucid.v1.session_pb2 import SessionRow, State


class Step(Enum):
    """What can happen to a session."""

    INTERRUPT = "interrupted"
    RESUME = "resumed"
    CLOSE = "closed"
    DELETE = "deleted"


TRANSITIONS: dict[tuple["State.ValueType", Step], "State.ValueType"] = {
    (State.STATE_RECORDING, Step.INTERRUPT): State.STATE_INTERRUPTED,
    (State.STATE_RECORDING, Step.CLOSE): State.STATE_COMPLETE,
    # Loss of the connection and the client's return may meet.
    (State.STATE_RECORDING, Step.RESUME): State.STATE_RECORDING,
    (State.STATE_INTERRUPTED, Step.INTERRUPT): State.STATE_INTERRUPTED,
    (State.STATE_INTERRUPTED, Step.RESUME): State.STATE_RECORDING,
    (State.STATE_INTERRUPTED, Step.CLOSE): State.STATE_COMPLETE,
    (State.STATE_INTERRUPTED, Step.DELETE): State.STATE_DELETED,
    (State.STATE_COMPLETE, Step.DELETE): State.STATE_DELETED,
}


def name_of(state: "State.ValueType") -> str:
    """The state as people read it: `recording`, `interrupted`, `complete`, `deleted`."""
    return State.Name(state).removeprefix("STATE_").lower()


def check_continuable(row: SessionRow) -> None:
    """Raises `Conflict` if a session was adopted: its checkpoints are those of another device."""
    if row.HasField("adopted"):
        raise Conflict(
            "the session was recorded by another device: here it is read, verified and shared, not continued",
            hint="What is there is read with `session get` or `session play`.",
        )


def step(state: "State.ValueType", what: Step) -> "State.ValueType":
    """The state after `what`.

    Raises:
        Conflict: it cannot happen in this state.
    """
    try:
        return TRANSITIONS[state, what]
    except KeyError:
        raise Conflict(f"a session that is {name_of(state)} cannot be {what.value}") from None
