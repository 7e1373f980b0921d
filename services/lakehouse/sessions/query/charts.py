"""Charts as inline SVG: no script, no network, colours from the page's style sheet, values in tooltips.

Every chart is one ``<svg>`` that scales with its column. Outcomes have the classes ``s0`` to ``s2``, compared series
``l0`` to ``l5``: the page defines their colours for light and dark. Texts are escaped here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Final

SERIES_MAX: Final = 6

_WIDTH: Final = 640
_HEIGHT: Final = 220
_LEFT: Final = 52
_RIGHT: Final = 12
_TOP: Final = 10
_BOTTOM: Final = 26
_LABELS_MAX: Final = 7
_BAR_HEIGHT: Final = 26

_RATE_TOPS: Final = (0.04, 0.1, 0.2, 0.4, 1.0)
_LARGE_DOTS_MAX: Final = 31
_ROUND: Final = (1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0, 12.0)

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Series:
    """One value for each label; None where there is nothing to show."""

    name: str
    values: Sequence[float | None]


def stacked_bars(
    title: str, labels: Sequence[str], series: Sequence[Series], *, show: Format, colours: str = "s"
) -> str:
    """Return a bar a label, the series on top of each other, the first one lowest."""
    top = _axis_top(max((sum(part.values[i] or 0 for part in series) for i in range(len(labels))), default=0))
    frame = _Frame(len(labels), top)
    marks: list[str] = []
    for place, label in enumerate(labels):
        base = 0.0
        values = "\n".join([label, *(f"{part.name}: {show(part.values[place] or 0)}" for part in series)])
        marks.append(f"<g><title>{escape(values)}</title>")
        # The whole column answers to the pointer, so that a bar one pixel high can be asked as well.
        marks.append(f'<rect class="hit" {frame.column(place, 0, top)}/>')
        for number, part in enumerate(series):
            value = part.values[place] or 0
            if value:
                marks.append(f'<rect class="{colours}{number}" {frame.column(place, base, base + value)}/>')
                base += value
        marks.append("</g>")
    return _chart(title, frame, labels, marks, show) + legend([part.name for part in series], colours)


def rate_lines(title: str, labels: Sequence[str], series: Sequence[Series], *, show: Format) -> str:
    """Return a line a series of rates (0 to 1) over the labels, broken where there is no value."""
    highest = max((value for part in series for value in part.values if value is not None), default=0)
    frame = _Frame(len(labels), next(top for top in _RATE_TOPS if top >= highest))
    radius = 3 if len(labels) <= _LARGE_DOTS_MAX else 1.7
    marks: list[str] = []
    for number, part in enumerate(series):
        for run in _runs(part.values):
            points = " ".join(f"{frame.x(place):.1f},{frame.y(value):.1f}" for place, value in run)
            marks.append(f'<polyline class="line l{number}" points="{points}"/>')
        marks += (
            f'<circle class="l{number}" cx="{frame.x(place):.1f}" cy="{frame.y(value):.1f}" r="{radius}">'
            f"<title>{escape(f'{labels[place]}, {part.name}: {show(value)}')}</title></circle>"
            for place, value in enumerate(part.values)
            if value is not None
        )
    return _chart(title, frame, labels, marks, "{:.0%}".format) + legend([part.name for part in series], "l")


def ranked_bars(title: str, rows: Sequence[tuple[str, float]], *, colour: str, show: Format) -> str:
    """Return a horizontal bar a row, its name above it and its value at its end. ``colour``: a class of the page."""
    top = max((value for _, value in rows), default=0) or 1
    height = max(1, len(rows)) * _BAR_HEIGHT * 1.6
    out = [f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">']
    for place, (name, value) in enumerate(rows):
        y = place * _BAR_HEIGHT * 1.6
        width = max(1.0, (_WIDTH - 90) * value / top)
        out.append(
            f'<g><title>{escape(f"{name}: {show(value)}")}</title><text x="0" y="{y + 13:.1f}">{escape(name)}</text>'
            f'<rect class="{colour}" x="0" y="{y + 19:.1f}" width="{width:.1f}" height="12" rx="2"/>'
            f'<text x="{width + 8:.1f}" y="{y + 29.5:.1f}" class="value">{escape(show(value))}</text></g>'
        )
    out.append("</svg>")
    return "".join(out)


def legend(names: Sequence[str], colours: str) -> str:
    """Return the series' names beside their colours, in order; ``colours``: ``s`` or ``l``."""
    entries = "".join(f'<li><i class="{colours}{number}"></i>{escape(name)}</li>' for number, name in enumerate(names))
    return f'<ul class="legend">{entries}</ul>'


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where a label and a value stand in the picture."""

    count: int
    top: float

    @property
    def step(self) -> float:
        return (_WIDTH - _LEFT - _RIGHT) / max(1, self.count)

    def x(self, place: int) -> float:
        return _LEFT + self.step * (place + 0.5)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * min(value, self.top) / self.top

    def column(self, place: int, low: float, high: float) -> str:
        width = min(48.0, max(0.8, self.step * 0.8))
        y = self.y(high)
        return f'x="{self.x(place) - width / 2:.2f}" y="{y:.2f}" width="{width:.2f}" height="{self.y(low) - y:.2f}"'


def _chart(title: str, frame: _Frame, labels: Sequence[str], marks: list[str], show: Format) -> str:
    out = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">']
    for quarter in range(5):
        value = frame.top * quarter / 4
        y = frame.y(value)
        out.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="axis end" x="{_LEFT - 8}" y="{y + 4:.1f}">{escape(show(value))}</text>')
    out += marks
    every = max(1, ceil(len(labels) / _LABELS_MAX))
    out += (
        f'<text class="axis middle" x="{frame.x(place):.1f}" y="{_HEIGHT - 8}">{escape(labels[place])}</text>'
        for place in range(0, len(labels), every)
    )
    out.append("</svg>")
    return "".join(out)


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Return the stretches of values without a gap, as (place, value); those of one value are only a dot."""
    runs: list[list[tuple[int, float]]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((place, value))
    return [run for run in runs if len(run) > 1]


def _axis_top(highest: float) -> float:
    """Return a round number at or above ``highest`` whose quarters are round, too."""
    if highest <= 4:
        return 4.0
    unit = 10.0 ** floor(log10(highest))
    return next(unit * factor for factor in _ROUND if unit * factor >= highest)
