"""What a simulated node logs goes into the trace of the run, without the times and stacks of this machine."""

import logging
from collections.abc import Callable

import structlog
from structlog.typing import EventDict, WrappedLogger

from node.logs import Logger

_LEFT_OUT = frozenset({"event", "level", "exc_info"})


def make_trace_logger(on_line: Callable[[str, str], None]) -> Logger:
    """A logger whose lines are given to `on_line`, as level and text."""

    def pass_on(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        fields = [f"{name}={value}" for name, value in event.items() if name not in _LEFT_OUT]
        error = event.get("exc_info")
        if isinstance(error, BaseException):
            fields.append(f"error={error!r}")
        on_line(method, " ".join([str(event["event"]), *fields]))
        raise structlog.DropEvent

    logger: Logger = structlog.wrap_logger(
        None,
        processors=[pass_on],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        context_class=dict,
    )
    return logger
