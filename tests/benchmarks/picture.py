"""The picture for the docs: bars of CPU per request, as an SVG that needs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#2f6f9f", "#7aa874", "#c98b3c")
CLIPPED = 25
WIDTH, LABEL, BAR, GAP = 720, 150, 11, 10


def draw(rows: Mapping[str, Sequence[float]], series: Sequence[str]) -> str:
    """Horizontal bars, a group a row; values in microseconds, NaN where there is none.

    What would dwarf all others is cut at the edge.
    """
    all_values = [value for values in rows.values() for value in values if value == value]
    top = max(value for value in all_values if value <= CLIPPED * min(all_values))
    scale = (WIDTH - LABEL - 70) / top
    height = 50 + len(rows) * (BAR * len(series) + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"',
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        '<text x="8" y="16" font-size="13">CPU per request, microseconds (less is better)</text>',
    ]
    for at, name in enumerate(series):
        x = LABEL + at * 120
        parts.append(f'<rect x="{x}" y="24" width="10" height="10" fill="{COLOURS[at]}"/>')
        parts.append(f'<text x="{x + 14}" y="33">{escape(name)}</text>')
    y = 44
    for name, values in rows.items():
        weight = ' font-weight="bold"' if name.startswith("strangler") else ""
        parts.append(f'<text x="8" y="{y + BAR * len(series) / 2 + 4}"{weight}>{escape(name)}</text>')
        for at, value in enumerate(values):
            if value != value:
                continue
            length = min(value, top) * scale
            parts.append(f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR - 1}" fill="{COLOURS[at]}"/>')
            parts.append(f'<text x="{LABEL + length + 4:.1f}" y="{y + BAR - 2}">{value:.1f}</text>')
            y += BAR
        y += GAP
    return "\n".join([*parts, "</svg>"]) + "\n"
