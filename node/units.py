"""Sizes and durations as people write them.

A size is a number with an optional unit K, M, G, T or P (powers of 1024; "GiB" and "GB" mean the same).
A duration is a number with a unit s, m, h, d, w or y (365 days), or several of them: "1d12h"; or 0.
"""

import re

from kernel.errors import UsageError

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(\d{1,9})\s*([smhdwy])", re.IGNORECASE | re.ASCII)
_SIZE_UNITS = ("", "K", "M", "G", "T", "P")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
MAX_SIZE_BYTES = 1 << 60
MAX_DURATION_S = 200 * _SECONDS["y"]


def parse_size(text: str) -> int:
    """Bytes that a size like "20G" stands for.

    Raises:
        UsageError: it is no size, or greater than 2^60 bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f'"{text}" is no size', hint='Write a number with K, M, G or T, such as "512M" or "20G".'
        )
    size = int(float(match[1]) * 1024 ** _SIZE_UNITS.index(match[2].upper()))
    if size > MAX_SIZE_BYTES:
        raise UsageError(f'the size "{text}" is greater than 2^60 bytes')
    return size


def parse_duration(text: str) -> int:
    """Seconds that a duration like "90d" stands for.

    Raises:
        UsageError: it is no duration, or longer than 200 years.
    """
    compact = text.strip()
    if compact == "0":
        return 0
    parts = _DURATION.findall(compact)
    if not parts or _DURATION.sub("", compact).strip():
        raise UsageError(
            f'"{text}" is no duration', hint='Write numbers with s, m, h, d, w or y, such as "90d".'
        )
    seconds = sum(int(number) * _SECONDS[unit.lower()] for number, unit in parts)
    if seconds > MAX_DURATION_S:
        raise UsageError(f'the duration "{text}" is longer than 200 years')
    return seconds


def format_duration(seconds: float) -> str:
    """A duration for people, in the two greatest units that it has: "2d 3h", "40s"."""
    left, parts = int(seconds), []
    for unit, size in (("d", _SECONDS["d"]), ("h", _SECONDS["h"]), ("m", _SECONDS["m"]), ("s", 1)):
        if left >= size:
            parts.append(f"{left // size}{unit}")
            left %= size
    return " ".join(parts[:2]) or "0s"


def format_size(size_bytes: float) -> str:
    """A size for people: three significant digits and a binary unit."""
    if size_bytes < 1000:
        return f"{int(size_bytes)} B"
    power = 0
    while size_bytes >= 1000 and power < len(_SIZE_UNITS) - 1:
        size_bytes /= 1024
        power += 1
    return f"{size_bytes:.{0 if size_bytes >= 100 else 1}f} {_SIZE_UNITS[power]}iB"
