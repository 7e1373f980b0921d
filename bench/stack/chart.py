"""The run as a picture: CPU per session by process, at no latency of the model, one bar a variant."""

from __future__ import annotations

import statistics
from html import escape

from bench.stack.report import Cell, Results

_WIDTH, _LABEL, _RIGHT, _BAR, _GAP, _TOP = 960, 210, 150, 18, 8, 46
_COLOURS = {
    "iterate": "#2563a8",
    "chatd": "#6aa5d8",
    "validated": "#9fd3c7",
    "proxy": "#b5651d",
    "loop": "#e3a857",
}


def draw(results: Results) -> str:
    """Return an SVG document."""
    panels = []
    height = 0
    for latency_ms, concurrency in results.tables():
        if latency_ms == 0:
            panel, size = _panel(results, concurrency, height)
            panels.append(panel)
            height += size
    legend, size = _legend(height + 8)
    body = "\n".join([*panels, legend])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height + size + 8}" '
        'font-family="system-ui, sans-serif" font-size="12" role="img" '
        'aria-label="CPU per session of each variant, by process">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _panel(results: Results, concurrency: int, top: int) -> tuple[str, int]:
    bars: list[tuple[str, dict[str, float], float]] = []
    for name in results.names():
        samples = results.samples.get(Cell(name, 0, concurrency))
        if samples:
            cpu = {role: statistics.median(sample.cpu_us[role] for sample in samples) for role in samples[0].cpu_us}
            bars.append((name, cpu, statistics.median(sample.sessions_per_s for sample in samples)))
    longest = max(sum(cpu.values()) for _, cpu, _ in bars)
    scale = (_WIDTH - _LABEL - _RIGHT) / longest
    heading = f"CPU per session, concurrency {concurrency} (model latency 0 ms)"
    parts = [f'<text x="12" y="{top + 26}" font-size="15" font-weight="600" fill="#1b1b1b">{heading}</text>']
    y = top + _TOP
    for name, cpu, rate in bars:
        parts.append(f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end" fill="#1b1b1b">{escape(name)}</text>')
        x = float(_LABEL)
        for role, value in cpu.items():
            width = value * scale
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{_COLOURS[role]}">'
                f"<title>{escape(name)}: {role} {value:.0f} µs</title></rect>"
            )
            x += width
        parts.append(
            f'<text x="{x + 6:.1f}" y="{y + 13}" fill="#444444">{sum(cpu.values()) / 1000:.1f} ms, {rate:.0f}/s</text>'
        )
        y += _BAR + _GAP
    return "\n".join(parts), y - top


def _legend(top: int) -> tuple[str, int]:
    parts = []
    x = _LABEL
    for role, colour in _COLOURS.items():
        parts.append(f'<rect x="{x}" y="{top}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17}" y="{top + 11}" fill="#1b1b1b">{role}</text>')
        x += 110
    return "\n".join(parts), 20
