"""The run as a picture: what was accepted, and how well it was chosen; each with its interval of 95 %."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from bench.acceptance.figures import Share
from bench.acceptance.sessions import ArmFigures

_WIDTH, _LABEL, _RIGHT, _BAR, _ROW = 960, 260, 60, 9, 30
_FIRST: Final = "#2563a8"
_WITHIN: Final = "#9fc3e6"
_CHOICE: Final = "#b5651d"
_INK: Final = "#1b1b1b"


def draw(arms: Sequence[ArmFigures]) -> str:
    """Return an SVG document."""
    parts = [_title(24, "Answers that passed the gate: at attempt 1 (dark), within the attempts (light)")]
    y = 44
    for arm in arms:
        parts += [_label(y, arm.arm.name), _bar(y, arm.at_first, _FIRST)]
        if arm.arm.attempts > 1:
            parts.append(_bar(y + _BAR + 2, arm.in_all, _WITHIN))
        y += _ROW
    y += 30
    parts.append(_title(y, "Chosen workers who meet the prompt's wish; the tick is chance"))
    y += 20
    for arm in arms:
        if not arm.in_all.hits:
            continue
        for form, figures in (("slots", arm.of(slots=True)), ("pairs", arm.of(slots=False))):
            choice = figures.choice
            if choice.met.of:
                parts += [_label(y, f"{arm.arm.name}: {form}"), _bar(y + 3, choice.met, _CHOICE)]
                x = _x(choice.by_chance)
                parts.append(f'<rect x="{x - 1:.1f}" y="{y - 2}" width="3" height="19" fill="{_INK}"/>')
                y += _ROW - 6
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 16}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img" '
        'aria-label="Accepted answers and choice quality of each arm">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _x(share: float) -> float:
    return _LABEL + share * (_WIDTH - _LABEL - _RIGHT)


def _title(y: int, text: str) -> str:
    return f'<text x="12" y="{y}" font-size="15" font-weight="600" fill="{_INK}">{escape(text)}</text>'


def _label(y: int, text: str) -> str:
    return f'<text x="{_LABEL - 8}" y="{y + 12}" text-anchor="end" fill="{_INK}">{escape(text)}</text>'


def _bar(y: int, share: Share, colour: str) -> str:
    low, high = share.interval
    value = share.value if share.of else 0.0
    middle = y + _BAR / 2
    return (
        f'<rect x="{_LABEL}" y="{y}" width="{_x(value) - _LABEL:.1f}" height="{_BAR}" fill="{colour}">'
        f"<title>{escape(str(share))}</title></rect>"
        f'<line x1="{_x(low):.1f}" y1="{middle}" x2="{_x(high):.1f}" y2="{middle}" stroke="#555555"/>'
        f'<text x="{_x(max(high, value)) + 5:.1f}" y="{y + _BAR}" font-size="10" fill="#444444">'
        f"{share.hits}/{share.of}</text>"
    )
