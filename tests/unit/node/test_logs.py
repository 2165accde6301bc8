import io
import json

import pytest

from node.logs import make_logger


def test_json_lines_begin_with_time_level_event() -> None:
    stream = io.StringIO()
    make_logger("info", "json", stream).info("recorded", session="ab", chunks=3)
    line = json.loads(stream.getvalue())
    assert list(line)[:3] == ["time", "level", "event"]
    assert (line["level"], line["event"], line["chunks"]) == ("info", "recorded", 3)
    assert line["time"].endswith("Z")


def test_the_level_is_obeyed() -> None:
    stream = io.StringIO()
    log = make_logger("warning", "json", stream)
    log.info("quiet")
    log.warning("loud")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["loud"]


@pytest.mark.parametrize("style", ["json", "text"])
@pytest.mark.parametrize(
    "name", ["passphrase", "resume_token", "Metadata", "private_key", "owner_seed", "data"]
)
def test_secrets_are_hidden_by_name(style: str, name: str) -> None:
    stream = io.StringIO()
    make_logger("info", style, stream).info("event", **{name: "hunter2"})
    assert "hunter2" not in stream.getvalue()
    assert "[hidden]" in stream.getvalue()


@pytest.mark.parametrize("style", ["json", "text"])
def test_nothing_that_is_logged_forges_a_line(style: str) -> None:
    stream = io.StringIO()
    make_logger("info", style, stream).info("event\nfake", why="a\nb\x1b[2J")
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_errors_are_logged_with_their_trace() -> None:
    stream = io.StringIO()
    try:
        raise ValueError("what went wrong")
    except ValueError as error:
        make_logger("info", "text", stream).error("failed", exc_info=error)
    assert "Traceback" in stream.getvalue()
    assert "what went wrong" in stream.getvalue()


def test_loggers_share_nothing() -> None:
    first, second = io.StringIO(), io.StringIO()
    make_logger("info", "json", first)
    make_logger("info", "json", second).info("here")
    assert first.getvalue() == ""
