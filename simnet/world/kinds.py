"""How each kind of event is shown: the one table, for terminal and page.

A kind that is not in the table is shown all the same, quietly. Colours are names that mean the same in both.
"""

from enum import Enum
from typing import Final, NamedTuple


class Colour(Enum):
    """What a colour stands for; terminal and page each choose the shade."""

    BAD = "bad"
    WARN = "warn"
    GOOD = "good"
    DATA = "data"
    CALL = "call"
    STORY = "story"
    PLAIN = "plain"


class Look(NamedTuple):
    """How a kind is shown.

    Attributes:
        mark: one letter that stands for it in a lane.
        colour: of the mark.
        is_loud: is each event worth a line of its own? Others are folded first.
    """

    mark: str
    colour: Colour
    is_loud: bool = False


LOOKS: Final[dict[str, Look]] = {
    "start": Look("●", Colour.GOOD),
    "stop": Look("○", Colour.PLAIN, is_loud=True),
    "crash": Look("✕", Colour.BAD, is_loud=True),
    "restart": Look("●", Colour.GOOD, is_loud=True),
    "partition": Look("≠", Colour.WARN, is_loud=True),
    "heal": Look("=", Colour.GOOD, is_loud=True),
    "fault": Look("↯", Colour.WARN, is_loud=True),
    "over": Look("=", Colour.GOOD, is_loud=True),
    "wipe": Look("∅", Colour.BAD, is_loud=True),
    "step": Look("▶", Colour.STORY, is_loud=True),
    "check": Look("✓", Colour.GOOD, is_loud=True),
    "fail": Look("✖", Colour.BAD, is_loud=True),
    "lost": Look("!", Colour.WARN),
    "log": Look("·", Colour.PLAIN),
    "restore": Look("◆", Colour.GOOD),
    "record": Look("■", Colour.DATA),
    "chunk": Look("▪", Colour.DATA),
    "receipt": Look("▫", Colour.DATA),
    "call": Look("∙", Colour.CALL),
    "status": Look("∙", Colour.PLAIN),
}
OTHER: Final = Look("∘", Colour.PLAIN)

FAILURES: Final = frozenset({"fail"})
"""Kinds that mean that the run went wrong."""

SPANS: Final[dict[str, frozenset[str]]] = {
    "crash": frozenset({"restart", "start"}),
    "stop": frozenset({"restart", "start"}),
    "partition": frozenset({"heal"}),
}
"""Kinds that begin a time of trouble, and those that end it."""


def get_look(kind: str) -> Look:
    """How a kind is shown."""
    return LOOKS.get(kind, OTHER)
