"""Logs: one event per line on standard error, JSON for machines, text for people.

Nothing secret is logged: no passphrase, key, token, metadata or byte of a recording. Values under a name that
could hold one are replaced, whatever they are.
"""

import contextlib
import json
import logging
import sys
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

Logger = FilteringBoundLogger

_SECRET_NAMES = ("passphrase", "password", "secret", "token", "metadata", "private", "seed", "phrase", "data")
_FIRST = ("time", "level", "event")


def _hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name in event:
        if any(part in name.lower() for part in _SECRET_NAMES):
            event[name] = "[hidden]"
    return event


def _escape(text: str) -> str:
    """Text without control characters: nothing that is logged can forge a line or drive a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def _render_text(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    trace = event.pop("exception", "")
    rest = " ".join(f"{name}={_escape(str(value))}" for name, value in event.items() if name not in _FIRST)
    line = f"{event['time']} {event['level']:<7} {_escape(str(event['event']))}"
    return (f"{line}  {rest}" if rest else line) + (f"\n{trace}" if trace else "")


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    first = {name: event.pop(name) for name in _FIRST if name in event}
    return json.dumps(first | dict(event), default=str)


class _PatientStream:
    """A stream whose failures are nobody's business: a node records on when its log is full or gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """See `io.TextIOBase.write`."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """See `io.IOBase.flush`."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def make_logger(level: str, style: str, stream: TextIO = sys.stderr) -> Logger:
    """A logger of its own; no other one and nothing global changes.

    Args:
        level: "debug", "info", "warning" or "error": the least that is written.
        style: "json", "text", or "auto": text if `stream` is a terminal.
        stream: where lines go.
    """
    is_text = style == "text" or (style == "auto" and stream.isatty())
    processors: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=not is_text, key="time"),
        structlog.processors.format_exc_info,
        _hide_secrets,
        _render_text if is_text else _render_json,
    ]
    logger: Logger = structlog.wrap_logger(
        structlog.PrintLogger(cast(TextIO, _PatientStream(stream))),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        context_class=dict,
        cache_logger_on_first_use=True,
    )
    return logger
