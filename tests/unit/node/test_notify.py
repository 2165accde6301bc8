import os
import socket
from pathlib import Path

import pytest

from node.notify import Notifier


def test_states_arrive(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).send("READY=1")
        assert manager.recv(100) == b"READY=1"


def test_abstract_sockets_are_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0lucid-test-{os.getpid()}")
        Notifier({"NOTIFY_SOCKET": f"@lucid-test-{os.getpid()}"}).send("STOPPING=1")
        assert manager.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize(
    "environment", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}, {"NOTIFY_SOCKET": "relative"}]
)
def test_without_a_manager_nothing_happens(environment: dict[str, str]) -> None:
    Notifier(environment).send("READY=1")


def test_the_watchdog_is_fed_twice_as_often_as_asked() -> None:
    assert Notifier({"WATCHDOG_USEC": "60000000"}).watchdog_s == 30.0
    assert Notifier({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}).watchdog_s == 0.0
    assert Notifier({"WATCHDOG_USEC": "soon"}).watchdog_s == 0.0
