"""Keeping the real world out."""

import asyncio
import contextlib
import os
import random
import secrets
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from time import monotonic as taken_by_name

import nacl.utils
import pytest
from prometheus_client import CollectorRegistry, Counter

from simnet.world.guard import RealWorldTouched, guarded


@pytest.mark.parametrize(
    "use",
    [
        lambda: int(time.time()),
        lambda: time.sleep(0),
        lambda: int(taken_by_name()),
        lambda: int(random.random()),
        lambda: random.SystemRandom().random(),
        lambda: os.urandom(1),
        lambda: secrets.token_bytes(1),
        lambda: str(uuid.uuid4()),
        lambda: nacl.utils.random(1),
        lambda: socket.socket().close(),
        lambda: socket.getaddrinfo("localhost", 1),
        lambda: threading.Thread(target=print).start(),
        lambda: subprocess.Popen(["true"]),
        lambda: bool(os.fork()),
        lambda: os.system("true"),
    ],
)
def test_every_way_out_is_closed_and_named(use: Callable[[], object]) -> None:
    with guarded() as guard, pytest.raises(RealWorldTouched):
        use()
    assert len(guard.touched) == 1, guard.touched
    assert Path(guard.touched[0].split(":")[0]).exists()


def test_who_swallows_the_error_is_found_all_the_same() -> None:
    with guarded() as guard, contextlib.suppress(RealWorldTouched):
        time.time()
    assert "test_guard.py" in guard.touched[0]
    assert "time.time" in guard.touched[0]


def test_afterwards_all_is_as_it_was_even_after_a_failure() -> None:
    before = (time.time, os.urandom, taken_by_name, random.random)
    with pytest.raises(ValueError), guarded():
        raise ValueError
    assert (time.time, os.urandom, taken_by_name, random.random) == before
    assert time.time() and os.urandom(1) and taken_by_name()
    asyncio.run(asyncio.sleep(0))


def test_seeded_randomness_and_counters_are_free() -> None:
    with guarded() as guard:
        random.Random(1).random()
        Counter("c", "c", registry=CollectorRegistry()).inc()
    assert guard.touched == []


def test_it_stands_once() -> None:
    with guarded(), pytest.raises(RuntimeError), guarded():
        pass
