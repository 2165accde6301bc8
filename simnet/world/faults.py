"""Faults as data: a plan says what goes wrong, where, when and for how long.

Rules:
- A plan is drawn from a seed before the run, and is all that goes wrong in it; so it can be written down, cut
  down to what matters, and played again.
- Faults overlap as they come. Of the conditions of a link the worst of all that hold count. What ends
  restores what was there without it.
- Each kind is one function that begins it and, after `for_s`, one that ends it.
"""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kernel.errors import InvalidRecord, Reason

MAX_FAULTS = 10_000
Value = float | int | bool | str


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        at_s: virtual seconds after the start of the plan.
        kind: one of `simnet.world.mishaps.KINDS`.
        nodes: numbers of the machines that it hits; what several mean, the kind says.
        for_s: how long it lasts.
        how: more, by name; the kind says what. See `get`.
    """

    at_s: float
    kind: str
    nodes: tuple[int, ...]
    for_s: float = 0.0
    how: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def make(cls, at_s: float, kind: str, *nodes: int, for_s: float = 0.0, **how: Value) -> "Fault":
        """A fault, with its details by name."""
        return cls(at_s, kind, nodes, for_s, tuple(sorted(how.items())))

    def get(self, name: str, default: Value) -> Value:
        """A detail of it."""
        return dict(self.how).get(name, default)

    def __str__(self) -> str:
        who = " ".join(f"n{node}" for node in self.nodes)
        how = "".join(f" {name}={value}" for name, value in self.how)
        return f"{self.kind} {who}{how} for {self.for_s:g} s"


Plan = Sequence[Fault]
MakePlan = Callable[[random.Random, int], Plan]
"""Draws a plan for so many nodes."""


def no_faults(_rng: random.Random, _nodes: int) -> Plan:
    """The plan in which nothing goes wrong."""
    return ()


def encode_plan(plan: Plan) -> str:
    """A plan as JSON, a fault a line."""
    lines = ",\n ".join(
        json.dumps(
            {"at_s": f.at_s, "kind": f.kind, "nodes": list(f.nodes), "for_s": f.for_s, "how": dict(f.how)}
        )
        for f in plan
    )
    return f"[{lines}]\n"


def decode_plan(text: str) -> list[Fault]:
    """A plan from JSON.

    Raises:
        InvalidRecord: MALFORMED or TOO_LARGE.
    """
    try:
        rows = json.loads(text)
        if not isinstance(rows, list) or len(rows) > MAX_FAULTS:
            raise InvalidRecord(Reason.TOO_LARGE, f"a plan is a list of at most {MAX_FAULTS} faults")
        return [_decode(row) for row in rows]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidRecord(Reason.MALFORMED, f"this is no plan of faults: {error!r}") from error


def _decode(row: Any) -> Fault:
    how = {str(name): value for name, value in row["how"].items()}
    if not all(isinstance(value, Value) for value in how.values()):
        raise ValueError("what a fault is like are numbers, words, yes or no")
    at_s, for_s = float(row["at_s"]), float(row["for_s"])
    if not (0 <= at_s < 1e9 and 0 <= for_s < 1e9):
        raise ValueError("times are seconds, not negative")
    return Fault.make(at_s, str(row["kind"]), *map(int, row["nodes"]), for_s=for_s, **how)


def shrink_plan(plan: Plan, still_fails: Callable[[Plan], bool]) -> list[Fault]:
    """A smaller plan that still fails: by leaving out faults (Zeller's ddmin), then by making them shorter.

    Args:
        plan: it fails.
        still_fails: runs a plan.
    """
    left, parts = list(plan), 2
    while len(left) > 1:
        size = -(-len(left) // parts)
        without = [left[:start] + left[start + size :] for start in range(0, len(left), size)]
        found = next((one for one in without if still_fails(one)), None)
        if found is not None:
            left, parts = found, max(parts - 1, 2)
        elif size == 1:
            break
        else:
            parts = min(parts * 2, len(left))
    if len(left) == 1 and still_fails([]):
        return []
    for place, fault in enumerate(left):
        shorter = fault
        while shorter.for_s > 1 and still_fails(
            [*left[:place], halved := replace(shorter, for_s=shorter.for_s / 2), *left[place + 1 :]]
        ):
            shorter = halved
        left[place] = shorter
    return left


async def play(plan: Plan, begin: Callable[[Fault], asyncio.Task[None]]) -> None:
    """Begins each fault at its time; returns when all have ended."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    running = []
    for fault in sorted(plan, key=lambda fault: fault.at_s):
        await asyncio.sleep(start_s + fault.at_s - loop.time())
        running.append(begin(fault))
    await asyncio.gather(*running)
