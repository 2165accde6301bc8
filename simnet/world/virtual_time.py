"""Virtual time as people read and write it: "1d 02:03:04.567", counted from the start of a run."""

import re

from kernel.errors import UsageError
from node.units import parse_duration
from simnet.world.trace import MAX_TIME_NS

_CLOCK = re.compile(r"(?:(\d{1,5})d\s*)?(\d{1,2}):([0-5]\d)(?::([0-5]\d)(?:\.(\d{1,9}))?)?", re.ASCII)
_SECONDS = re.compile(r"(\d{1,9})(?:\.(\d{1,9}))?", re.ASCII)


def format_time(at_ns: int) -> str:
    """A virtual time to the millisecond, cut off: "02:03:04.567", from a day on "1d 02:03:04.567"."""
    seconds, ns = divmod(at_ns, 10**9)
    days, seconds = divmod(seconds, 86400)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ns // 10**6:03}"
    return f"{days}d {clock}" if days else clock


def format_span(span_ns: int) -> str:
    """A length of time, in its two largest units: "340 ms", "3.2 s", "12m 5s", "2h 3m", "1d 4h"."""
    if span_ns < 10**9:
        return f"{span_ns // 10**6} ms"
    if span_ns < 60 * 10**9:
        return f"{span_ns / 10**9:.1f} s"
    seconds = span_ns // 10**9
    if seconds < 3600:
        return f"{seconds // 60}m {seconds % 60}s"
    if seconds < 86400:
        return f"{seconds // 3600}h {seconds // 60 % 60}m"
    return f"{seconds // 86400}d {seconds // 3600 % 24}h"


def parse_time(text: str) -> int:
    """Nanoseconds since the start of the run.

    Args:
        text: as `format_time` writes it, "02:03" (hours, minutes), seconds such as "1.5", or "1d12h".

    Raises:
        UsageError: it is none of these, or later than any trace goes.
    """
    compact = text.strip()
    if found := _CLOCK.fullmatch(compact):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups()[:4])
        at_ns = (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 10**9 + _fraction_ns(found[5])
    elif found := _SECONDS.fullmatch(compact):
        at_ns = int(found[1]) * 10**9 + _fraction_ns(found[2])
    else:
        try:
            at_ns = parse_duration(compact) * 10**9
        except UsageError as error:
            raise UsageError(
                f'"{text}" is no virtual time', hint='Write "1d 02:03:04.567", "02:03", "90" (s) or "1d12h".'
            ) from error
    if at_ns > MAX_TIME_NS:
        raise UsageError(f'"{text}" is later than any trace goes')
    return at_ns


def _fraction_ns(digits: str | None) -> int:
    return int((digits or "0").ljust(9, "0"))
