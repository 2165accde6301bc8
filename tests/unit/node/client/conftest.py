import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.node.client.scripted_daemon import ScriptedDaemon


@pytest.fixture
def daemon() -> Iterator[ScriptedDaemon]:
    """A running daemon; what it saw must have been in order."""
    with tempfile.TemporaryDirectory(prefix="lucid") as folder:  # short, as socket paths must be
        daemon = ScriptedDaemon(Path(folder) / "data.sock")
        daemon.start()
        yield daemon
        daemon.kill()
        assert daemon.errors == []
