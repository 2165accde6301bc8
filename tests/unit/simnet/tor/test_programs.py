"""The tor that a network is made of."""

from pathlib import Path

from simnet.tor import programs
from simnet.tor.programs import read_tail


def test_the_end_of_a_log(tmp_path: Path) -> None:
    assert read_tail(tmp_path / "log") == ""
    (tmp_path / "log").write_text("x" * 5000 + "\nthe end\n")
    assert len(read_tail(tmp_path / "log")) < programs.LOG_TAIL_BYTES
    assert read_tail(tmp_path / "log").endswith("x\nthe end")
