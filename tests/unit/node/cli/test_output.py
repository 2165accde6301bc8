from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel import errors
from kernel.errors import Conflict, InvalidRecord, LocalError, LucidError, Reason, UsageError
from lucid.v1 import control_pb2, session_pb2
from node.cli.errors import EXIT_CODES, CommandFailed, get_exit_code, report
from node.cli.fields import SESSION
from node.cli.output import (
    describe_session,
    format_facts,
    format_id,
    format_table,
    format_time,
    iso_time,
    printable,
)
from node.cli.output_file import open_output
from node.cli.session_list import parse_since

SECOND_NS = 10**9


@given(st.text())
def test_printable_text_is_printable(text: str) -> None:
    assert printable(text).isprintable()


def test_plain_text_stays() -> None:
    assert printable("naïve 漢字 'quoted'") == "naïve 漢字 'quoted'"


def test_tables_are_aligned() -> None:
    table = format_table(("ID", ">SIZE", "NAME"), [("a", "10", "x\ny"), ("bbb", "5", "")])
    assert table.splitlines() == ["ID   SIZE  NAME", "a      10  x\\ny", "bbb     5"]


def test_facts_without_a_value_are_left_out() -> None:
    assert format_facts([("Name", "x"), ("Longer", ""), ("Ab", "y\x07")]) == "Name  x\nAb    y\\x07"


def test_times_for_programs_are_utc_and_for_people_local() -> None:
    moment_ns = 1_790_000_000_123_456_789
    assert iso_time(moment_ns) == "2026-09-21T14:13:20.123456Z"
    assert iso_time(0) is None
    assert format_time(0) == ""
    shown = format_time(moment_ns).rsplit(" ", 1)[0]
    assert shown == datetime.fromtimestamp(1_790_000_000).strftime("%Y-%m-%d %H:%M:%S")


def test_ids_look_like_uuids() -> None:
    assert format_id(bytes(range(16))) == "00010203-0405-0607-0809-0a0b0c0d0e0f"


def test_a_session_has_exactly_the_fields_of_the_table() -> None:
    assert list(describe_session(control_pb2.SessionInfo(session_id=bytes(16)))) == list(SESSION)


def test_a_session_without_exit_status_has_null() -> None:
    info = control_pb2.SessionInfo(session_id=bytes(16), state=session_pb2.STATE_COMPLETE)
    assert describe_session(info)["exit_status"] is None
    info.has_exit_status = True
    assert describe_session(info)["exit_status"] == 0


def test_every_error_has_a_documented_exit_code() -> None:
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, LucidError):
            error = InvalidRecord(Reason.MALFORMED, "x") if value is InvalidRecord else value("x")
            assert get_exit_code(error) in EXIT_CODES
            assert get_exit_code(error) != 0
    assert get_exit_code(CommandFailed(42)) == 42


def test_an_error_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(UsageError("bad \x1b[2J", hint="do\nthis"), as_json=False) == 2
    assert capsys.readouterr().err == "Error: bad \\x1b[2J\ndo\\nthis\n"


@pytest.mark.parametrize(
    ("text", "since_ns"),
    [
        ("1d", 100 * 86400 * SECOND_NS - 86400 * SECOND_NS),
        ("90d12h", (100 - 90) * 86400 * SECOND_NS - 12 * 3600 * SECOND_NS),
        ("200d", 0),
        ("1970-01-02T00:00:00+00:00", 86400 * SECOND_NS),
        ("1970-01-02T00:00:00Z", 86400 * SECOND_NS),
    ],
)
def test_since(text: str, since_ns: int) -> None:
    assert parse_since(text, 100 * 86400 * SECOND_NS) == since_ns


@pytest.mark.parametrize("text", ["", "yesterday", "12", "2026-13-01", "9999999999999d", "d"])
def test_bad_since(text: str) -> None:
    with pytest.raises(UsageError):
        parse_since(text, 0)


def write(path: Path, data: bytes, *, force: bool = False) -> None:
    import os

    with open_output(path, force=force) as descriptor:
        os.write(descriptor, data)


def test_an_output_is_there_whole(tmp_path: Path) -> None:
    write(tmp_path / "out", b"all")
    assert (tmp_path / "out").read_bytes() == b"all"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(LucidError, match="half way"), open_output(tmp_path / "out", force=False):
        raise LucidError("half way")
    assert list(tmp_path.iterdir()) == []


def test_what_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Conflict), open_output(out, force=False):
        out.write_text("precious")
    assert out.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_overwrites_in_one_step(tmp_path: Path) -> None:
    write(tmp_path / "out", b"old")
    with pytest.raises(Conflict):
        write(tmp_path / "out", b"new")
    with pytest.raises(LucidError), open_output(tmp_path / "out", force=True):
        raise LucidError("half way")
    assert (tmp_path / "out").read_bytes() == b"old"
    write(tmp_path / "out", b"new", force=True)
    assert (tmp_path / "out").read_bytes() == b"new"


def test_an_output_on_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    write(tmp_path / "out", b"all")
    assert (tmp_path / "out").read_bytes() == b"all"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_directories_and_missing_places_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="directory"):
        write(tmp_path, b"x")
    with pytest.raises(LocalError, match="cannot be written"):
        write(tmp_path / "missing" / "out", b"x")


def test_devices_are_written_as_they_are() -> None:
    write(Path("/dev/null"), b"x")
    assert not Path("/dev/null").is_file()
