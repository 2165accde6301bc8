"""`lucid-node session prove`."""

import pytest

from kernel.errors import UsageError
from node.cli.session_prove import parse_range


def test_ranges_are_read() -> None:
    assert parse_range("0:4096") == (0, 4096)
    assert parse_range("17:18") == (17, 18)


@pytest.mark.parametrize(
    "text", ["", ":", "1", "1:", ":1", "1:1", "2:1", "-1:5", "a:b", "1:2:3", "1: 2", "\u0663:\u0664"]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_range(text)
