"""Which onion services a node has: whatever happens, there is one that peers should use."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import Conflict
from node.identity.onion_plan import Onion, begin, compute_wait_s, expire, is_due, promote, rotate

START_S = 1_700_000_000
STEPS = st.lists(st.tuples(st.sampled_from(["rotate", "promote", "expire"]), st.integers(0, 100_000)))


def go(onions: Sequence[Onion], step: str, now_s: int, grace_s: int) -> tuple[Onion, ...]:
    """The next state, as `node.onions` takes it; the same one where a step is refused or nothing is due."""
    if step == "promote":
        return promote(onions, now_s)
    if step == "expire":
        return expire(onions, now_s)
    try:
        return rotate(onions, now_s, grace_s)
    except Conflict:
        return tuple(onions)


@given(STEPS, st.integers(0, 50_000))
def test_there_is_always_one_current_service_and_no_number_comes_twice(
    steps: list[tuple[str, int]], grace_s: int
) -> None:
    now_s, onions, used = START_S, begin(START_S), {0}
    for step, passed_s in steps:
        now_s += passed_s
        before, onions = onions, go(onions, step, now_s, grace_s)
        assert sum(one.is_current for one in onions) == 1
        assert sum(one.is_next for one in onions) <= 1
        assert len(onions) <= 2
        new = {one.index for one in onions} - {one.index for one in before}
        assert all(index > max(used) for index in new)
        used |= new


@given(st.integers(1, START_S), st.integers(0, 1 << 40))
def test_an_old_service_stays_for_its_grace_and_not_a_second_longer(since_s: int, grace_s: int) -> None:
    onions = promote(rotate(begin(since_s), since_s, grace_s), since_s)
    assert len(expire(onions, since_s + grace_s - 1)) == 2
    [left] = expire(onions, since_s + grace_s)
    assert (left.index, left.is_current) == (1, True)


def test_one_rotation_at_a_time() -> None:
    onions = rotate(begin(START_S), START_S, 7200)
    with pytest.raises(Conflict, match="is being published already"):
        rotate(onions, START_S, 7200)
    onions = promote(onions, START_S)
    with pytest.raises(Conflict, match="still served for 1h"):
        rotate(onions, START_S + 3600, 7200)
    assert rotate(expire(onions, START_S + 7200), START_S + 7200, 1)[-1] == Onion(2, 0, grace_s=1)


def test_a_second_promotion_does_not_lengthen_the_grace() -> None:
    onions = promote(rotate(begin(START_S), START_S, 60), START_S)
    assert promote(onions, START_S + 59) == onions


@pytest.mark.parametrize(
    ("onions", "every_s", "now_s", "due", "wait_s"),
    [
        ([Onion(0, 100)], 0, 1 << 40, False, None),
        ([Onion(0, 100)], 50, 149, False, 1.0),
        ([Onion(0, 100)], 50, 150, True, 0.0),
        ([Onion(0, 100), Onion(1, 0)], 50, 150, False, None),
        ([Onion(0, 100, 170), Onion(1, 120)], 50, 175, False, 0.0),
        ([Onion(0, 100, 170), Onion(1, 120)], 50, 150, False, 20.0),
        ([Onion(0, 100)], 50, 20, False, 130.0),  # the clock went back
    ],
)
def test_what_is_due_when(
    onions: list[Onion], every_s: int, now_s: int, due: bool, wait_s: float | None
) -> None:
    assert (is_due(onions, now_s, every_s), compute_wait_s(onions, now_s, every_s)) == (due, wait_s)
