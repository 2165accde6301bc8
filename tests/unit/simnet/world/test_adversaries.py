"""Adversaries by name; what they do to others, the scenarios show."""

import pytest

from kernel.errors import UsageError
from simnet.world.adversaries import ADVERSARIES, get_adversary


def test_an_unknown_adversary_is_refused() -> None:
    assert all(map(get_adversary, ADVERSARIES))
    with pytest.raises(UsageError, match="no adversary"):
        get_adversary("nobody")
