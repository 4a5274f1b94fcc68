"""A bar chart in SVG, by plain string work. It follows the reader's light or dark scheme, on a clear background."""

import math
from dataclasses import dataclass
from html import escape

WIDTH, LABEL_WIDTH, VALUE_WIDTH = 760, 250, 90
ROW, BAR, HEADING, TOP = 24, 16, 30, 54

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: 600; }
.heading { font-weight: 600; }
.note { fill: #59636e; }
.axis { stroke: #8c959f; stroke-width: 1; }
.forkhorn { fill: #1a7f37; }
.floor { fill: #8c959f; }
.peer { fill: #54aeff; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .note { fill: #9198a1; }
  .axis { stroke: #656c76; }
  .forkhorn { fill: #3fb950; }
  .floor { fill: #656c76; }
  .peer { fill: #1f6feb; }
}
"""


@dataclass(frozen=True)
class Bar:
    label: str
    kind: str  # forkhorn, floor or peer
    value: float | None  # None: it could not be measured
    text: str  # at the bar's end


def bar_length(value: float, values: list[float], logarithmic: bool, width: float) -> float:
    """At least two pixels; on a logarithmic scale, the smallest value is a tenth of the width."""
    largest = max(values, default=0)
    if value <= 0 or largest <= 0:
        return 2
    if not logarithmic:
        return max(2, width * value / largest)
    smallest = min(value for value in values if value > 0)
    span = math.log10(largest / smallest) or 1
    return width * (0.1 + 0.9 * math.log10(value / smallest) / span)


def svg(title: str, note: str, groups: dict[str, list[Bar]], logarithmic: bool) -> str:
    values = [bar.value for bars in groups.values() for bar in bars if bar.value is not None]
    headings = sum(1 for name in groups if name)
    height = TOP + headings * HEADING + sum(map(len, groups.values())) * ROW + 12
    note += ", logarithmic scale" if logarithmic else ""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(f"{title}: {note}")}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="0" y="18">{escape(title)}</text>',
        f'<text class="note" x="0" y="38">{escape(note)}</text>',
    ]
    at = TOP
    for name, bars in groups.items():
        if name:
            parts.append(f'<text class="heading" x="0" y="{at + 19}">{escape(name)}</text>')
            at += HEADING
        start = at
        for bar in bars:
            parts += row(bar, at, values, logarithmic)
            at += ROW
        parts.append(f'<line class="axis" x1="{LABEL_WIDTH}" y1="{start}" x2="{LABEL_WIDTH}" y2="{at}"/>')
    return "\n".join([*parts, "</svg>", ""])


def row(bar: Bar, at: int, values: list[float], logarithmic: bool) -> list[str]:
    middle = at + ROW / 2 + 5
    label = f'<text x="{LABEL_WIDTH - 8}" y="{middle:.0f}" text-anchor="end">{escape(bar.label)}</text>'
    if bar.value is None:
        return [label, f'<text class="note" x="{LABEL_WIDTH + 8}" y="{middle:.0f}">{escape(bar.text)}</text>']
    length = bar_length(bar.value, values, logarithmic, WIDTH - LABEL_WIDTH - VALUE_WIDTH)
    return [
        label,
        f'<rect class="{bar.kind}" x="{LABEL_WIDTH}" y="{at + (ROW - BAR) // 2}" width="{length:.1f}" height="{BAR}"/>',
        f'<text x="{LABEL_WIDTH + length + 6:.1f}" y="{middle:.0f}">{escape(bar.text)}</text>',
    ]
