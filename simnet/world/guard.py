"""Nothing real gets into a simulated world: no clock, no randomness, no socket, thread or process.

Rules:
- While the guard stands, the functions of the standard library that give them are replaced, in their own
  module and wherever a loaded module has taken one by name. What opens sockets, threads and processes without
  those functions is caught by an audit hook (PEP 578).
- A use raises, and is remembered with its line: who swallows the exception fails the run all the same.
- A few libraries may look at the clock for what decides nothing, such as how long a collection takes.

What it cannot see: `datetime.now`, default arguments, attributes of classes. The linter has those.
"""

import os
import random
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import nacl.utils

from simnet.world.sealed_loop import SimulationError

_HARMLESS = frozenset({"hypothesis", "logging", "prometheus_client", "structlog"})
_GUARDED: tuple[tuple[Any, str], ...] = (
    (time, "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns sleep"),
    (os, "urandom getrandom"),
    (random, "random randint randrange randbytes getrandbits choice choices sample shuffle uniform seed"),
    (secrets, "token_bytes token_hex token_urlsafe randbelow randbits choice"),
    (uuid, "uuid1 uuid4"),
    (nacl.utils, "random"),
    (threading.Thread, "start"),
)
_AUDITED = frozenset(
    [
        "_thread.start_new_thread",
        "os.exec",
        "os.fork",
        "os.posix_spawn",
        "os.system",
        "socket.__new__",
        "socket.connect",
        "socket.getaddrinfo",
        "subprocess.Popen",
    ]
)


class RealWorldTouched(SimulationError):
    """Something that is simulated has reached for the real thing."""


class Guard:
    """One guarded stretch of a run.

    Attributes:
        touched: what reached for the real world, one line each.
    """

    def __init__(self) -> None:
        self.touched: list[str] = []

    def catch(self, what: str, depth: int) -> RealWorldTouched:
        """Remembers a use of `what`, `depth` frames up; returns what is to be raised."""
        frame = sys._getframe(depth)
        code = frame.f_code
        line = f"{code.co_filename}:{frame.f_lineno} {code.co_qualname} uses {what}"
        self.touched.append(line)
        return RealWorldTouched(line)


_standing: Guard | None = None
_is_hooked = False


def _on_audit(event: str, _: tuple[Any, ...]) -> None:
    if _standing is not None and event in _AUDITED:
        raise _standing.catch(event, 2)


@contextmanager
def guarded() -> Iterator[Guard]:
    """Keeps the real world out.

    Yields:
        The guard, which knows afterwards who reached for it.
    """
    global _standing, _is_hooked  # noqa: PLW0603 - an audit hook cannot be taken away again
    if _standing is not None:
        raise RuntimeError("the guard stands already")
    if not _is_hooked:
        sys.addaudithook(_on_audit)
        _is_hooked = True
    guard = Guard()
    replaced = _replace(_make_substitutes(guard))
    _standing = guard
    try:
        yield guard
    finally:
        _standing = None
        for owner, name, original in replaced:
            setattr(owner, name, original)


def _make_substitutes(guard: Guard) -> dict[int, tuple[Any, Callable[..., Any]]]:
    """By the identity of each guarded function: the function, and what stands in for it."""
    return {
        id(original := getattr(owner, name)): (original, _make_substitute(guard, owner, name, original))
        for owner, names in _GUARDED
        for name in names.split()
    }


def _make_substitute(guard: Guard, owner: Any, name: str, original: Any) -> Callable[..., Any]:
    def substitute(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.partition(".")[0] in _HARMLESS:
            return original(*args, **kwargs)
        raise guard.catch(f"{owner.__name__}.{name}", 2)

    return substitute


def _replace(
    substitutes: dict[int, tuple[Any, Callable[..., Any]]],
) -> list[tuple[Any, str, Any]]:
    """Puts the substitutes where the functions are, and into all loaded modules; returns what stood where."""
    replaced = []
    owners = [owner for owner, _ in _GUARDED if not isinstance(owner, ModuleType)]
    for owner in (*owners, *list(sys.modules.values())):
        for name, value in list(getattr(owner, "__dict__", {}).items()):
            found = substitutes.get(id(value))
            if found is not None and found[0] is value:
                setattr(owner, name, found[1])
                replaced.append((owner, name, value))
    return replaced
