"""Whatever bytes are called a trace: they are read, or refused with the typed error, and shown safely."""

import io
import re
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidRecord
from simnet.world.timeline import MAX_ROWS, Choice, Timeline
from simnet.world.timeline_html import make_page
from simnet.world.timeline_text import render
from simnet.world.trace import Event, Header, Trace
from simnet.world.trace_reader import TraceReader

HEADER = b"lucid-trace\t1\tx\t7\n"
NAMES = st.sampled_from(["n0", "n1", "n2", "n10", "world"])
KINDS = st.sampled_from(["call", "crash", "restart", "partition", "heal", "fail", "odd", "stop"])
EVENTS = st.lists(st.tuples(st.integers(0, 10**13), NAMES, KINDS, st.text(max_size=30)), max_size=60)
LINES = st.lists(
    st.binary(max_size=60)
    | st.from_regex(rb"[0-9]{1,20}\t[a-z]{1,33}\t[a-z]{1,9}\t[ -~\xff]{0,9}\n", fullmatch=True)
    | st.from_regex(rb"end\t[0-9]\t[0-9a-f]{64}\n", fullmatch=True)
    | st.just(b"x" * 5000)
).map(b"".join)


@given(st.binary(max_size=300) | LINES | LINES.map(HEADER.__add__))
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    events: list[Event] = []
    with suppress(InvalidRecord):
        events.extend(TraceReader(io.BytesIO(data)))
    assert len(events) <= data.count(b"\n")


@given(EVENTS, st.integers(40, 200))
def test_any_events_come_back_and_can_be_shown(added: list[tuple[int, str, str, str]], width: int) -> None:
    trace = Trace("x", 7)
    for event in sorted(added):
        trace.add(*event)
    lines = "".join(line + "\n" for line in trace.last_lines).encode()
    reader = TraceReader(io.BytesIO(HEADER + lines))
    timeline = Timeline(Choice())
    for event in reader:
        timeline.add(event)
    assert reader.hash_hex == trace.hash_hex
    assert timeline.count == sum(row.count for row in timeline.rows) == len(added)
    assert timeline.count == sum(mark.count for mark in timeline.marks)
    assert len(timeline.rows) <= MAX_ROWS
    assert all(span.until_ns is None or span.from_ns <= span.until_ns for span in timeline.spans)
    for line in render(Header("x", 7), timeline, width):
        assert line.plain.isprintable()
    page = make_page(Header("x", 7), timeline, trace.hash_hex)
    data = re.findall(r'id="data">([^<]*)</script>', page)
    assert len(data) == 1
