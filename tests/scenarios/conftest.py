"""Fixtures of the scenarios."""

import pytest

from tests.scenarios.world import World


@pytest.fixture
def world() -> World:
    return World()
