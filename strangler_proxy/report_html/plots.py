"""Plots as inline SVG. Every one has a text beside it that says the same, and shapes differ where colours do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from strangler_proxy import report_words as words
from strangler_proxy.core.reckoning import AFTER_MIRRORING
from strangler_proxy.report_html.element import Html, join, tag

Json = Mapping[str, Any]

ROWS: Final = 40
"""Strata in a plot; the table has all."""
_WIDTH: Final = 900
_NAMES: Final = 340
_ROW: Final = 22
_TOP: Final = 30
_RIGHT: Final = 16
_NAME: Final = 48
_LOWEST_RATE: Final = 1e-5


def rates(strata: Sequence[Json]) -> Html:
    """The interval of each stratum's mismatch rate against its limit, on a logarithmic axis."""
    shown = strata[:ROWS]
    axis = _Axis(_LOWEST_RATE, 1.0)
    rows = []
    for place, each in enumerate(shown):
        y = _TOP + place * _ROW + _ROW / 2
        low, high, limit = each["rate"]["low"], each["rate"]["high"], words.limit_of(each)
        says = f"{words.stratum_name(each)}: {words.rate_words(each)}, limit {words.percent(limit)}, {each['verdict']}"
        left = axis.at(low)
        rows.append(
            tag(
                "g",
                tag("title", says),
                _name(each, y),
                tag("line", x1=left, x2=axis.at(high), y1=y, y2=y, class_=f"interval {_verdict(each)}"),
                tag("line", x1=left, x2=left, y1=y - 5, y2=y + 5, class_=f"interval {_verdict(each)}") if low else None,
                tag("circle", cx=axis.at(high), cy=y, r=4, class_=f"dot {_verdict(each)}"),
                tag("line", x1=axis.at(limit), x2=axis.at(limit), y1=y - _ROW / 2, y2=y + _ROW / 2, class_="limit"),
            )
        )
    grid = axis.grid([(each, words.percent(each)) for each in (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)], len(shown))
    return _plot("Interval of the mismatch rate per stratum, against its limit", len(shown), grid, *rows)


def latencies(strata: Sequence[Json]) -> Html | None:
    """p50 and p99 of both sides, on a logarithmic axis; None where no stratum has them."""
    shown = [each for each in strata if each["latency"] is not None][:ROWS]
    if not shown:
        return None
    values = [value for each in shown for name, value in each["latency"].items() if name.endswith("_ms") and value > 0]
    axis = _Axis(min(values, default=1.0) / 1.5, max(values, default=10.0) * 1.5)
    rows = []
    for place, each in enumerate(shown):
        y, latency = _TOP + place * _ROW + _ROW / 2, each["latency"]
        says = (
            f"{words.stratum_name(each)}: p50 {words.latency_words(latency, 'p50')} ms, "
            f"p99 {words.latency_words(latency, 'p99')} ms, control to candidate"
        )
        rows.append(
            tag(
                "g",
                tag("title", says),
                _name(each, y),
                *_side(axis, latency, "control", y - 4),
                *_side(axis, latency, "candidate", y + 4),
            )
        )
    marks = [(10.0**power, f"{10.0**power:g} ms") for power in range(-3, 7) if axis.holds(10.0**power)]
    return _plot("Latency of control and candidate, p50 and p99", len(shown), axis.grid(marks, len(shown)), *rows)


def mirrored(coverage: Json, drops: Mapping[str, int]) -> Html:
    """What became of eligible requests: compared, or dropped and why."""
    bars = [("compared", coverage["compared"], "matched")]
    dropped_later = sum(count for reason, count in drops.items() if reason in AFTER_MIRRORING)
    others = coverage["mirrored"] - coverage["compared"] - dropped_later
    if others > 0:
        bars.append(("mirrored, proves nothing or waits", others, "inconclusive"))
    ordered = sorted(drops.items(), key=lambda each: (-each[1], each[0]))
    bars += [(f"dropped: {words.printable(reason, 40)}", count, "mismatched") for reason, count in ordered[:ROWS]]
    most = max([coverage["eligible"], 1, *(count for _, count, _ in bars)])
    room = _WIDTH - _NAMES - _RIGHT - 110
    rows = []
    for place, (name, count, kind) in enumerate(bars):
        y = place * _ROW + 4
        width = max(1.0 if count else 0.0, room * count / most)
        rows.append(
            tag(
                "g",
                tag("text", name, x=_NAMES - 8, y=y + 13, text_anchor="end"),
                tag("rect", x=_NAMES, y=y + 2, width=_round(width), height=_ROW - 8, class_=f"bar {kind}"),
                tag("text", f"{count:,}", x=_round(_NAMES + width + 6), y=y + 13),
            )
        )
    height = len(bars) * _ROW + 8
    return _svg("What became of the eligible requests", height, *rows)


def coverage_bar(share: float) -> Html:
    """Compared of eligible as a bar."""
    width = _round(600 * min(1.0, max(0.0, share)))
    return tag(
        "svg",
        tag("title", f"Coverage {words.percent(share)}"),
        tag("rect", x=0, y=0, width=600, height=14, class_="track"),
        tag("rect", x=0, y=0, width=width, height=14, class_="filled"),
        viewBox="0 0 600 14",
        role="img",
        aria_label=f"Coverage {words.percent(share)}",
        class_="coverage",
        preserveAspectRatio="none",
    )


class _Axis:
    """A logarithmic axis between two values, as x of the plot."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = math.log10(low), math.log10(max(high, low * 10))

    def at(self, value: float) -> float:
        """Where a value is; what is outside is at the edge."""
        log = math.log10(value) if value > 0 else self._low
        share = (min(max(log, self._low), self._high) - self._low) / (self._high - self._low)
        return _round(_NAMES + share * (_WIDTH - _NAMES - _RIGHT))

    def holds(self, value: float) -> bool:
        """Is the value on the axis?"""
        return self._low <= math.log10(value) <= self._high

    def grid(self, marks: Sequence[tuple[float, str]], rows: int) -> Html:
        """Lines with labels at these values."""
        bottom = _TOP + rows * _ROW
        return join(
            *(
                tag(
                    "g",
                    tag("line", x1=self.at(value), x2=self.at(value), y1=_TOP - 6, y2=bottom, class_="grid"),
                    tag("text", label, x=self.at(value), y=_TOP - 12, text_anchor=_anchor(self.at(value))),
                )
                for value, label in marks
            )
        )


def _anchor(x: float) -> str:
    return "end" if x > _WIDTH - 40 else "middle"


def _side(axis: _Axis, latency: Json, side: str, y: float) -> list[Html]:
    left, right = axis.at(latency[f"{side}_p50_ms"]), axis.at(latency[f"{side}_p99_ms"])
    return [
        tag("line", x1=left, x2=right, y1=y, y2=y, class_=f"side {side}"),
        *(_mark(side, x, y) for x in (left, right)),
    ]


def _mark(side: str, x: float, y: float) -> Html:
    if side == "control":
        return tag("circle", cx=x, cy=y, r=3.5, class_=f"dot {side}")
    return tag("rect", x=_round(x - 3.5), y=_round(y - 3.5), width=7, height=7, class_=f"dot {side}")


def _name(stratum: Json, y: float) -> Html:
    name = words.stratum_name(stratum)
    shown = name if len(name) <= _NAME else f"{name[: _NAME - 3]}..."
    return tag("text", shown, x=_NAMES - 8, y=y + 4, text_anchor="end")


def _verdict(stratum: Json) -> str:
    return stratum["verdict"] if stratum["verdict"] in words.VERDICTS else ""


def _plot(title: str, rows: int, *children: Html) -> Html:
    return _svg(title, _TOP + rows * _ROW + 6, *children)


def _svg(title: str, height: float, *children: Html) -> Html:
    return tag(
        "svg",
        tag("title", title),
        *children,
        viewBox=f"0 0 {_WIDTH} {_round(height)}",
        role="img",
        aria_label=title,
        class_="plot",
    )


def _round(value: float) -> float:
    return round(value, 1)
