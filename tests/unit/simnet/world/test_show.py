"""`lucid-simnet show`, through the command line."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from node.cli import run
from simnet.commands import root
from simnet.fields import COMMAND_FIELDS
from simnet.world.trace import Trace

NASTY = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>&amp;'\"\\"


def show(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run(["show", *map(str, arguments)], "lucid-simnet", lambda: root)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Trace("churn", 7, tmp_path / "trace") as trace:
        trace.add(0, "n0", "start", "")
        trace.add(10**9, "n1", "call", "put")
        trace.add(2 * 10**9, "n1", "call", "put")
        trace.add(3 * 10**9, "n0", "crash", "power cut")
        trace.add(4 * 10**9, "n1", "fail", NASTY)
    return tmp_path / "trace"


def test_people_see_lanes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = show(capsys, path)
    assert (code, err) == (0, "")
    assert "00:00:01.000  │ ∙  call ×2 n1 for 1.0 s" in out
    assert "00:00:03.000  ✕ │  crash n0  power cut" in out
    assert "1 failed" in out
    assert "\x1b" not in out


def test_json_has_every_documented_field(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = show(capsys, path, "--json", "--kind", "call")
    document = json.loads(out)
    assert code == 0
    assert list(document) == list(COMMAND_FIELDS["show"])
    assert (document["events"], document["chosen_events"], document["failed"]) == (5, 2, 1)
    assert document["complete"]
    assert document["rows"] == [
        {
            "at_ns": 10**9,
            "until_ns": 2 * 10**9,
            "kind": "call",
            "places": {"n1": 2},
            "count": 2,
            "detail": "put",
        }
    ]
    assert document["faults"][0]["until_ns"] is None


def test_a_choice_of_time_and_nodes(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = show(capsys, path, "--from", "00:00:02", "--until", "3", "--node", "n0")
    assert "crash" in out
    assert "call" not in out
    assert show(capsys, path, "--from", "3", "--until", "2")[0] == 2
    assert show(capsys, path, "--from", "soon")[0] == 2


def test_the_page_holds_foreign_text_as_text(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = path.with_suffix(".html")
    code, out, _ = show(capsys, path, "--html", page)
    assert code == 0
    assert str(page) in out
    text = page.read_text("utf-8")
    assert NASTY not in text
    # Two elements of script, as the frame has them: foreign text opened and closed none.
    assert len(re.findall(r"<script", text)) == len(re.findall(r"</script", text)) == 2
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert not set(data) & set("<>&'")
    assert json.loads(data)["failures"][0][3] == NASTY


def test_the_page_loads_nothing_and_runs_its_own_script_alone(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = path.with_suffix(".html")
    show(capsys, path, "--html", page)
    text = page.read_text("utf-8")
    assert not re.search(
        r"https?:|src=|href=|@import|url\(|innerHTML|insertAdjacent|eval\(", text.split('id="data"')[0]
    )
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert not re.search(r"https?:|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|fetch\(", script)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text


def test_a_page_is_not_overwritten_by_accident(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = path.with_suffix(".html")
    page.write_text("mine")
    assert show(capsys, path, "--html", page)[0] == 1
    assert page.read_text() == "mine"
    code, out, _ = show(capsys, path, "--html", page, "--force", "--json")
    assert (code, json.loads(out)["html"]) == (0, str(page))
    assert page.read_text() != "mine"


def test_a_damaged_trace_is_shown_up_to_there(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + b"\xff\n" + b"".join(lines[3:]))
    code, out, _ = show(capsys, path)
    assert code == 3
    assert "call n1  put" in out
    assert "line 4 of the trace" in " ".join(out.split())
    code, out, _ = show(capsys, path, "--json")
    assert (code, json.loads(out)["events"]) == (3, 2)


def test_a_trace_without_an_end_is_shown(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_bytes(path.read_bytes()[:-30])
    code, out, _ = show(capsys, path)
    assert code == 0
    assert "no end" in out


def test_what_is_no_trace_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").write_text("hello\n")
    code, out, err = show(capsys, tmp_path / "x", "--json")
    assert (code, out) == (3, "")
    assert json.loads(err)["error"]["code"] == "InvalidRecord"
    assert show(capsys, tmp_path / "nothing")[0] == 4
    assert show(capsys, tmp_path)[0] == 1
