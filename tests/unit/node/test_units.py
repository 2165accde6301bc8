import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import UsageError
from node.units import format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("1K", 1024),
        ("1.5k", 1536),
        ("512M", 512 << 20),
        ("20G", 20 << 30),
        ("2GiB", 2 << 30),
        (" 1 TB ", 1 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1X", "1GG", "1e9", "٣", "2000P", "1,5G", "9" * 400])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("0", 0),
        ("90d", 90 * 86400),
        ("1d12h", 36 * 3600),
        ("1h 30m", 5400),
        ("2W", 1209600),
        ("1y", 31536000),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "d", "1.5d", "-1d", "1d x", "999999999y", "1d٣h"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (120 << 10, "120 KiB"),
        (1 << 30, "1.0 GiB"),
        (1 << 59, "512 PiB"),
    ],
)
def test_formatted_sizes(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.text())
def test_any_text_is_a_value_or_a_usage_error(text: str) -> None:
    for parse in (parse_size, parse_duration):
        try:
            assert parse(text) >= 0
        except UsageError as error:
            assert str(error)
