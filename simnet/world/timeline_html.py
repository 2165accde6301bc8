"""A timeline as one page of HTML that needs nothing else: no network, no file beside it.

The trace is foreign text. It reaches the page as JSON in which no letter can end the element around it, and
the script puts it on screen as text, never as markup. The page's own policy lets no script run but the one
whose hash stands in it, and nothing be loaded.
"""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from simnet.world.kinds import get_look
from simnet.world.notes import make_notes
from simnet.world.timeline import Timeline
from simnet.world.trace import WORLD, Header
from simnet.world.virtual_time import format_span

_ESCAPES = str.maketrans({letter: f"\\u{ord(letter):04x}" for letter in "<>&'\u2028\u2029"})
MAX_STORY = 500


def make_page(header: Header, timeline: Timeline, hash_hex: str, *, remarks: Sequence[str] = ()) -> str:
    """The whole page.

    Args:
        header: which run it is.
        timeline: of its trace.
        hash_hex: identity of the run, or of the part that could be read.
        remarks: more to say about the trace, such as that it is damaged.
    """
    parts = files("simnet.world")
    style = parts.joinpath("timeline.css").read_text("utf-8")
    sources = [parts.joinpath(name).read_text("utf-8") for name in ("timeline.js", "timeline_input.js")]
    script = '"use strict";\n(() => {\n' + "\n".join(sources) + "})();\n"
    frame = parts.joinpath("timeline.html").read_text("utf-8")
    data = make_data(header, timeline, hash_hex, remarks)
    replaced = {
        "SCRIPT_HASH": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "TITLE": html.escape(f"{header.scenario}, seed {header.seed}"),
        "STYLE": style,
        "SCRIPT": script,
        "DATA": json.dumps(data, separators=(",", ":")).translate(_ESCAPES),
    }
    # Split first: what stands in for one mark is not searched for the next.
    pieces = frame.split("@@")
    return "".join(replaced[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def make_data(header: Header, timeline: Timeline, hash_hex: str, remarks: Sequence[str]) -> dict[str, Any]:
    """What the script draws. Rows are arrays: a page may hold 60 000 of them."""
    marks = timeline.marks
    lanes = [WORLD, *timeline.lanes]
    lane_of = {place: number for number, place in enumerate(lanes)}
    kinds = sorted(timeline.kinds)
    kind_of = {kind: number for number, kind in enumerate(kinds)}
    story = [row for row in marks if WORLD in row.places]
    notes = make_notes(timeline, marks, timeline.marks_window_ns)
    if len(story) > MAX_STORY:
        notes.append(f"{len(story) - MAX_STORY} later lines of the story are drawn, and not listed.")
    return {
        "scenario": header.scenario,
        "seed": str(header.seed),
        "hash": hash_hex,
        "length": format_span(timeline.last_ns),
        "count": timeline.count,
        "from": timeline.choice.from_ns,
        "until": max(timeline.end_ns, timeline.choice.from_ns + 1),
        "notes": notes,
        "remarks": list(remarks),
        "window": timeline.marks_window_ns,
        "lanes": lanes,
        "kinds": [
            {
                "name": kind,
                "colour": get_look(kind).colour.value,
                "loud": get_look(kind).is_loud,
                "count": count,
            }
            for kind in kinds
            for count in (timeline.kinds[kind],)
        ],
        "marks": [
            [
                row.at_ns,
                row.until_ns,
                lane_of[next(iter(row.places))],
                kind_of[row.kind],
                row.count,
                row.detail,
            ]
            for row in marks
        ],
        "spans": [
            [span.from_ns, span.until_ns, lane_of[span.place], span.kind, span.detail]
            for span in timeline.spans
        ],
        "failures": [
            [event.at_ns, lane_of[event.place], event.kind, event.detail] for event in timeline.failures
        ],
        "failed": timeline.failed,
        "story": MAX_STORY,
    }
