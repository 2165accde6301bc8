"""Waiting for what other processes do."""

import time
from collections.abc import Callable

import pytest

DEADLINE_S = 60

Eventually = Callable[[Callable[[], bool]], None]


@pytest.fixture
def eventually() -> Eventually:
    """Polls a condition until it holds."""

    def wait(holds: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.01)

    return wait
