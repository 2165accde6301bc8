import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.chart import draw_bars
from benchmarks.measures import Figure, Verdict
from benchmarks.report import BEGIN, END, Context, render_json, render_text, write_docs

CONTEXT = Context(
    "2026-01-02T03:04:05+00:00",
    "abc",
    {"processor": "Z80", "memory": "8 GiB"},
    {"restic": "restic 1"},
    {"MiB": 64},
)
FIGURE = Figure(
    "record",
    "Record 64 MiB",
    [
        {"program": "restic", "seconds": 2.0, "peak MB": None},
        {"program": "lucid-node", "seconds": 0.5, "peak MB": None},
    ],
    [Verdict("twice as fast", "4 times", reached=True), Verdict("small", "large", reached=False)],
    ["A note."],
    {"Record, seconds": [("restic", 2.0), ("lucid-node", 0.5)], "a < b & c": [("x", 0.0)]},
)


def test_the_screen_shows_every_row_and_verdict() -> None:
    lines = render_text(CONTEXT, [FIGURE]).splitlines()
    assert "  program     seconds" in lines
    assert "  restic         2.00" in lines
    assert "  lucid-node    0.500" in lines
    assert "  reached      twice as fast: 4 times" in lines
    assert "  NOT reached  small: large" in lines


def test_json_holds_the_unrounded_figures() -> None:
    document = json.loads(render_json(CONTEXT, [FIGURE]))
    assert document["context"]["machine"]["memory"] == "8 GiB"
    assert document["figures"][0]["rows"][1]["seconds"] == 0.5
    assert document["figures"][0]["verdicts"][1]["reached"] is False


def test_the_page_keeps_what_stands_outside_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        write_docs(page, CONTEXT, [FIGURE])
        text = page.read_text()
        assert text.startswith(f"before\n{BEGIN}\n")
        assert text.endswith(f"{END}\nafter\n")
        assert "old" not in text
        assert "| restic | 2.00 |" in text
        assert "| small | large | NOT reached |" in text
        assert "(page-record.svg)" in text
    ElementTree.fromstring((tmp_path / "page-record.svg").read_text())


def test_a_figure_replaces_the_one_of_its_title_and_no_other(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}\n{END}\n")
    others = [Figure(name, f"Title of {name}", [{"what": name}]) for name in ("first", "last")]
    write_docs(page, replace(CONTEXT, commit="older"), [others[0], FIGURE, others[1]])
    write_docs(page, CONTEXT, [FIGURE])
    sections = page.read_text().split("### ")[1:]
    assert [section.partition("\n")[0] for section in sections] == [
        "Title of first",
        "Record 64 MiB",
        "Title of last",
    ]
    assert ["commit older" in section for section in sections] == [True, False, True]


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END}\n{BEGIN}"])
def test_a_page_without_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="has no lines"):
        write_docs(page, CONTEXT, [FIGURE])
    assert page.read_text() == text
    assert list(tmp_path.iterdir()) == [page]


def test_bars_are_as_long_as_their_values() -> None:
    root = ElementTree.fromstring(draw_bars(FIGURE.bars))
    widths = [float(rect.attrib["width"]) for rect in root.iterfind("{*}rect[@rx]")]
    assert widths[0] == pytest.approx(4 * widths[1])
    assert widths[2] == 1
