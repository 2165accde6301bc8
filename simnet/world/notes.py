"""What a view of a timeline does not show, in plain words."""

from collections.abc import Sequence

from simnet.world.timeline import MAX_KINDS, MAX_PLACES, OTHERS, Row, Timeline
from simnet.world.virtual_time import format_span


def make_notes(timeline: Timeline, shown: Sequence[Row], window_ns: int = 0) -> list[str]:
    """Sentences, one for each way in which `shown` is less than the trace; none if it is all of it.

    Args:
        timeline: of the trace.
        shown: its rows or marks in the view.
        window_ns: like events within this time are one mark; 0: no window was needed.
    """
    notes = [
        *(f"The trace has no node {name}." for name in sorted(timeline.choice.nodes - {*timeline.places})),
        *(
            f"Nothing of the kind {name} is there."
            for name in sorted(timeline.choice.kinds - {*timeline.kinds})
        ),
    ]
    if hidden := timeline.count - timeline.chosen:
        notes.append(f"{hidden} of {timeline.count} events are not in your choice.")
    if timeline.chosen > len(shown):
        within = f", those of a lane within {format_span(window_ns)}" if window_ns else ""
        notes.append(f"{timeline.chosen} events are shown as {len(shown)}: like events are folded{within}.")
    if timeline.left_spans:
        notes.append(f"{timeline.left_spans} later times of trouble are not shaded.")
    if timeline.left_failures:
        notes.append(f"{timeline.left_failures} later failures are not listed.")
    if OTHERS in timeline.places:
        notes.append(f'There are more than {MAX_PLACES} places: the rest are in the lane "{OTHERS}".')
    if OTHERS in timeline.kinds:
        notes.append(f'There are more than {MAX_KINDS} kinds: the rest are called "{OTHERS}".')
    return notes
