"""A small plot: one panel of horizontal bars per heading, as SVG without font or script of its own."""

from collections.abc import Mapping, Sequence
from html import escape

from benchmarks.measures import format_value

PANEL_WIDTH = 460
BAR_LEFT = 110
BAR_LENGTH = 250
ROW_HEIGHT = 28
HEAD_HEIGHT = 44
MARGIN = 20
COLUMNS = 2
OURS = "lucid-node"
_INK, _PAPER, _ACCENT, _GREY = "#1c2733", "#ffffff", "#1f7a8c", "#b4bfc9"

Panels = Mapping[str, Sequence[tuple[str, float]]]


def draw_bars(panels: Panels) -> str:
    """The plot. Each panel has its own scale from zero; our own bars stand out where there are others."""
    items = list(panels.items())
    lines = [items[start : start + COLUMNS] for start in range(0, len(items), COLUMNS)]
    parts: list[str] = []
    top = MARGIN
    for line in lines:
        for column, (heading, bars) in enumerate(line):
            parts += _draw_panel(heading, bars, MARGIN + column * PANEL_WIDTH, top)
        top += HEAD_HEIGHT + ROW_HEIGHT * max(len(bars) for _, bars in line) + MARGIN
    width = 2 * MARGIN + PANEL_WIDTH * min(COLUMNS, max(1, len(items)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{_INK}">\n'
        f'<rect width="{width}" height="{top}" fill="{_PAPER}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _draw_panel(heading: str, bars: Sequence[tuple[str, float]], left: int, top: int) -> list[str]:
    greatest = max((value for _, value in bars), default=0) or 1
    has_others = any(name != OURS for name, _ in bars) and any(name == OURS for name, _ in bars)
    parts = [f'<text x="{left}" y="{top + 18}" font-weight="600">{escape(heading)}</text>']
    for row, (name, value) in enumerate(bars):
        middle = top + HEAD_HEIGHT + row * ROW_HEIGHT
        start, length = left + BAR_LEFT, max(1.0, BAR_LENGTH * max(value, 0) / greatest)
        color = _ACCENT if name == OURS or not has_others else _GREY
        box = f'x="{start}" y="{middle - 9}" width="{length:.1f}" height="18" rx="2"'
        end = f"{start + length + 6:.1f}"
        parts += [
            f'<text x="{start - 8}" y="{middle + 4}" text-anchor="end">{escape(name)}</text>',
            f'<rect {box} fill="{color}"/>',
            f'<text x="{end}" y="{middle + 4}">{format_value(float(value))}</text>',
        ]
    return parts
