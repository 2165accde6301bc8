"""A peer whose Tor is killed is reached again each time; calls outlive the circuits that they take."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.tor import Pair, measure_recoveries, measure_soak, running_pair


@pytest.fixture
def called_pair(tmp_path: Path, client_options: list[str]) -> Iterator[Pair]:
    with running_pair(tmp_path / "n", client_options) as pair:
        yield pair


@pytest.mark.parametrize(
    ("kills", "soak_s"), [(1, 12.0), pytest.param(30, 600.0, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_every_call_succeeds_in_the_end(called_pair: Pair, kills: int, soak_s: float) -> None:
    assert len(measure_recoveries(called_pair, kills)) == kills  # it gives up after some minutes
    soak = measure_soak(called_pair, soak_s)
    assert soak.failed == 0
    assert soak.closed > 0
    assert len(soak.seconds) > soak_s / 12
