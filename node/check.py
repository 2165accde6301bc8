"""A finding of the doctor."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a check found."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        state: what was found.
        what: the same in words.
        hint: what to do about it.
    """

    name: str
    state: Verdict
    what: str
    hint: str = ""
