"""Plans of faults: written down, played, cut down."""

import asyncio
import random
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidRecord
from simnet.world.faults import Fault, decode_plan, encode_plan, play, shrink_plan
from simnet.world.loop import VirtualLoop

faults = st.builds(
    lambda at_s, kind, nodes, for_s, how: Fault.make(at_s, kind, *nodes, for_s=for_s, **how),
    st.floats(0, 1e6),
    st.sampled_from(["crash", "links"]),
    st.lists(st.integers(0, 99), max_size=4),
    st.floats(0, 1e6),
    st.dictionaries(
        st.sampled_from(["loss", "power_cut", "direction"]),
        st.booleans() | st.integers(0, 9) | st.floats(0, 1) | st.text(max_size=5),
    ),
)


@given(st.lists(faults, max_size=10))
def test_a_plan_is_what_was_written_down(plan: list[Fault]) -> None:
    assert decode_plan(encode_plan(plan)) == plan


@given(st.text(max_size=200) | st.recursive(st.none() | st.integers(), st.lists).map(repr))
def test_anything_else_is_refused(text: str) -> None:
    with suppress(InvalidRecord):
        assert decode_plan(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[1]",
        '[{"at_s": -1, "kind": "crash", "nodes": [], "for_s": 0, "how": {}}]',
        '[{"at_s": 1, "kind": "crash", "nodes": [], "for_s": NaN, "how": {}}]',
        '[{"at_s": 1, "kind": "crash", "nodes": ["x"], "for_s": 0, "how": {}}]',
        '[{"at_s": 1, "kind": "crash", "nodes": [], "for_s": 0, "how": {"x": []}}]',
        '[{"at_s": 1, "kind": "crash", "nodes": [], "for_s": 0, "how": {"at_s": 1}}]',
        "[" * 100_000,
        "[" + ",".join("1" for _ in range(10_001)) + "]",
    ],
)
def test_what_is_wrong_with_a_plan_is_told(text: str) -> None:
    with pytest.raises(InvalidRecord):
        decode_plan(text)


def test_faults_begin_in_time_and_all_are_waited_for() -> None:
    seen: list[tuple[str, float]] = []

    async def main() -> float:
        loop = asyncio.get_running_loop()

        async def suffer(fault: Fault) -> None:
            seen.append((fault.kind, loop.time()))
            await asyncio.sleep(fault.for_s)

        plan = [Fault.make(5, "b", for_s=100), Fault.make(2, "a"), Fault.make(5, "c", for_s=1)]
        await play(plan, lambda fault: asyncio.create_task(suffer(fault)))
        return loop.time()

    assert VirtualLoop().run(main()) == 105
    assert seen == [("a", 2), ("b", 5), ("c", 5)]


def test_a_plan_is_cut_down_to_what_matters_and_shortened() -> None:
    plan = [Fault.make(number, "crash", number, for_s=64) for number in range(40)]
    runs = 0

    def still_fails(some: object) -> bool:
        nonlocal runs
        runs += 1
        return {7, 23} <= {fault.nodes[0] for fault in some if fault.for_s > 5}  # type: ignore[attr-defined]

    smaller = shrink_plan(plan, still_fails)
    assert [(fault.nodes, fault.for_s) for fault in smaller] == [((7,), 8), ((23,), 8)]
    assert runs < 120


def test_what_fails_without_any_fault_has_an_empty_plan() -> None:
    plan = [Fault.make(random.random(), "crash", 1) for _ in range(5)]
    assert shrink_plan(plan, lambda _plan: True) == []
