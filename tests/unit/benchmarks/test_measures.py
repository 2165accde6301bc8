import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measures import (
    Summary,
    compute_percentile,
    format_value,
    interleave,
    judge_at_most,
    judge_speedup,
)

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 15), (5, 15), (30, 20), (40, 20), (50, 35), (99, 50), (100, 50)]
)
def test_percentiles_are_nearest_rank(percent: float, expected: float) -> None:
    assert compute_percentile([35, 20, 15, 50, 40], percent) == expected


@given(values, st.floats(0, 100))
def test_a_percentile_was_measured_and_is_not_exceeded_by_that_many(
    data: list[float], percent: float
) -> None:
    found = compute_percentile(data, percent)
    assert found in data
    assert sum(value <= found for value in data) * 100 >= percent * len(data) - 1e-6
    assert sum(value < found for value in data) * 100 <= percent * len(data) + 1e-6


@pytest.mark.parametrize(("data", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_impossible_percentiles_are_refused(data: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        compute_percentile(data, percent)


def test_a_summary_tells_median_and_range() -> None:
    summary = Summary.of([3.0, 1.0, 2.0, 10.0])
    assert summary == Summary(2.5, 1.0, 10.0, 4)
    assert summary.cells("seconds") == {"seconds": 2.5, "seconds range": "1.00 to 10.0"}
    assert Summary.of([7.0]).cells("seconds")["seconds range"] is None
    with pytest.raises(ValueError, match="nothing"):
        Summary.of([])


def test_speed_is_judged_against_the_fastest_of_the_others() -> None:
    verdict = judge_speedup("2 times", 1.0, {"slow": 9.0, "fast": 1.9}, 2)
    assert verdict is not None
    assert not verdict.reached
    assert verdict.measured == "1.90 times as fast as fast"
    reached = judge_speedup("2 times", 0.95, {"slow": 9.0, "fast": 1.9}, 2)
    assert reached is not None
    assert reached.reached
    assert judge_speedup("2 times", 1.0, {}, 2) is None


def test_a_bound_may_be_met_exactly_but_not_passed() -> None:
    assert judge_at_most("at most 3", 3.0, 3, "s").reached
    assert judge_at_most("at most 3", 3.001, 3, "s").reached is False


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), ("a", "a"), (12800, "12,800"), (0.0, "0"), (0.034947, "0.0349"), (-0.907, "-0.907"),
     (8.0, "8.00"), (99.96, "100.0"), (1234.5, "1,234")],
)  # fmt: skip
def test_values_are_shown_with_three_digits(value: float | int | str | None, text: str) -> None:
    assert format_value(value) == text


def test_rounds_are_interleaved() -> None:
    assert list(interleave(["a", "b"], 2)) == [(0, "a"), (0, "b"), (1, "a"), (1, "b")]
