"""The report: the figures of ``stats`` as one HTML page that needs nothing but a browser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from html import escape
from typing import Final

from lakehouse.sessions.query.charts import SERIES_MAX, Series, ranked_bars, rate_lines, stacked_bars
from lakehouse.sessions.query.inert_text import one_line
from lakehouse.sessions.query.report_style import STYLE
from lakehouse.sessions.query.session_filter import SessionFilter
from lakehouse.sessions.query.stats import FindingCount, SessionStats, Slice, Totals

# A year of days and some; older periods stand in the tables alone.
PERIODS_MAX: Final = 400
ROWS_MAX: Final = 2000
_RANKED_MAX: Final = 12
NAME_CHARS_MAX: Final = 60
_VERDICTS: Final = ("accepted", "exhausted", "infra error")
_HEADS: Final = (
    "Sessions", "Accepted", "Rate", "Exhausted", "Infra", "Attempts", "Phantom", "Tokens / accepted", "Mean ms",
)  # fmt: skip


def render_report(
    stats: SessionStats, findings: Sequence[FindingCount], wanted: SessionFilter, *, source: str, made_at: datetime
) -> str:
    """Return the page. ``source`` names the log in it; ``made_at`` is aware. Every text from the log is inert."""
    subtitle = _subtitle(stats, wanted, source, made_at)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Sessions, {escape(made_at.date().isoformat())}</title><style>{STYLE}</style></head>"
        f"<body><main><header><h1>Sessions</h1><p>{_text(subtitle)}</p></header>{report_body(stats, findings)}"
        "</main></body></html>\n"
    )


def report_body(stats: SessionStats, findings: Sequence[FindingCount]) -> str:
    """Return the figures, charts and tables alone, as HTML for a page with ``STYLE``."""
    if not stats.totals.sessions:
        return f'{_tiles(stats.totals)}<p class="empty">No session fits.</p>'
    charts = "".join(_charts(stats, findings, _periods(stats)))
    return f'{_tiles(stats.totals)}<div class="grid">{charts}</div>{"".join(_tables(stats, findings))}'


def _subtitle(stats: SessionStats, wanted: SessionFilter, source: str, made_at: datetime) -> str:
    times = [part.period for part in stats.by_period if part.period]
    parts = [source, f"{times[0]} to {times[-1]}" if times else "no dated session"]
    parts += (f"{name} {value}" for name, value in wanted.given.items())
    parts.append(f"made {made_at.isoformat(timespec='seconds')}")
    return " · ".join(parts)


def _tiles(totals: Totals) -> str:
    tiles = (
        ("Sessions", _count(totals.sessions), ""),
        ("Accepted", _percent(totals.acceptance_rate), f"{_count(totals.accepted)} sessions"),
        ("Phantom rate", _percent(totals.phantom_rate), f"of {_count(totals.checked_attempts)} validated attempts"),
        ("Attempts a session", _decimal(totals.attempts_per_session), ""),
        ("Tokens per accepted", _whole(totals.tokens_per_accepted), "failed sessions included"),
        ("Infra errors", _count(totals.infra_errors), _percent(_share(totals.infra_errors, totals.sessions))),
    )
    return (
        '<section class="tiles">'
        + "".join(
            f"<div><h2>{name}</h2><strong>{value}</strong><span>{escape(note)}</span></div>"
            for name, value, note in tiles
        )
        + "</section>"
    )


def _charts(stats: SessionStats, findings: Sequence[FindingCount], periods: Sequence[str]) -> list[str]:
    by_period = {part.period: part.totals for part in stats.by_period}
    dated = [by_period.get(period, Totals()) for period in periods]
    outcomes = [
        Series(name, [getattr(totals, key) for totals in dated])
        for name, key in zip(_VERDICTS, ("accepted", "exhausted", "infra_errors"), strict=True)
    ]
    bars = stats.attempts
    attempts = [
        Series(name, [getattr(bar, key) for bar in bars])
        for name, key in zip(_VERDICTS, ("accepted", "exhausted", "infra_errors"), strict=True)
    ]
    causes = [
        (_shown(f"{cause.reason or '?'} in {cause.where or '?'} ({cause.code or '?'})"), cause.sessions)
        for cause in stats.causes
    ]
    accepted = _rates(stats, periods, lambda totals: totals.acceptance_rate)
    phantoms = _rates(stats, periods, lambda totals: totals.phantom_rate)
    tokens = [
        (_name(part), part.totals.tokens_per_accepted)
        for part in stats.by_model
        if part.totals.tokens_per_accepted is not None
    ]
    steps = stats.by_attempt
    by_step = [
        Series("accepted at it", [step.accepted for step in steps]),
        Series("not accepted at it", [step.sessions - step.accepted for step in steps]),
    ]
    costs = [
        (_name(part), part.totals.cost_nano_usd / part.totals.priced) for part in stats.by_model if part.totals.priced
    ]
    times = [(_name(part), part.totals.duration_ms_mean or 0) for part in stats.by_model]
    figures = [
        (f"Sessions by {stats.period}", stacked_bars("Sessions", periods, outcomes, show=_count)),
        (
            "Acceptance rate by kind and model",
            rate_lines("Acceptance rate", periods, accepted, show=_percent),
        ),
        (
            "Attempts a session took",
            stacked_bars("Attempts a session", [str(bar.iterations) for bar in bars], attempts, show=_count),
        ),
        (
            "Acceptance by attempt",
            stacked_bars("Acceptance by attempt", [str(step.iteration) for step in steps], by_step, show=_count),
        ),
        (
            f"Findings by code and {stats.period}",
            stacked_bars("Findings by code", periods, _by_code(findings, periods), show=_count, colours="l"),
        ),
        (
            "Phantom rate by kind and model",
            rate_lines("Phantom rate", periods, phantoms, show=_percent),
        ),
        (
            "Tokens per accepted artifact",
            ranked_bars("Tokens per accepted artifact", tokens[:_RANKED_MAX], colour="l1", show=_count),
        ),
        ("Cost of a session by model", ranked_bars("Cost of a session", costs[:_RANKED_MAX], colour="l4", show=_usd)),
        ("Time of a session by model", ranked_bars("Time of a session", times[:_RANKED_MAX], colour="l3", show=_ms)),
        ("Infra errors by cause", ranked_bars("Infra errors by cause", causes[:_RANKED_MAX], colour="s2", show=_count)),
    ]
    drawn = [
        f"<section><h2>{escape(title)}</h2>{chart}</section>"
        for title, chart in figures
        if "<rect" in chart or "<circle" in chart
    ]
    if not causes:
        drawn.append("<section><h2>Infra errors by cause</h2><p class=empty>None.</p></section>")
    return drawn


def _by_code(findings: Sequence[FindingCount], periods: Sequence[str]) -> list[Series]:
    """Return a series for each code, the most frequent first, and one for the others."""
    counts = {(each.period, each.code): each.findings for each in findings}
    totals: Counter[str] = Counter()
    for each in findings:
        totals[each.code] += each.findings
    codes = sorted(totals, key=lambda code: (not code, -totals[code], code))
    return [Series(_shown(code) or "others", [counts.get((period, code), 0) for period in periods]) for code in codes]


def _rates(stats: SessionStats, periods: Sequence[str], rate: Callable[[Totals], float | None]) -> list[Series]:
    """All sessions first, then the kinds and models with most sessions, as far as there are colours."""
    by_period = {part.period: part.totals for part in stats.by_period}
    series = [Series("all", [rate(by_period.get(period, Totals())) for period in periods])]
    found = {(part.kind, part.provider, part.model, part.period): part.totals for part in stats.by_period_and_model}
    if len(stats.by_model) > 1:
        for part in stats.by_model[: SERIES_MAX - 1]:
            key = (part.kind, part.provider, part.model)
            values = [rate(found.get((*key, period), Totals())) for period in periods]
            if any(value is not None for value in values):
                series.append(Series(_name(part), values))
    return series


def _periods(stats: SessionStats) -> list[str]:
    """Every day or week from the first to the last, those without a session too; the newest ``PERIODS_MAX``."""
    # An archive of before may have a moment of a year that no calendar has.
    found = [part.period for part in stats.by_period if part.period and len(part.period) == len("2026-11-27")]
    if not found:
        return []
    step = timedelta(days=7 if stats.period == "week" else 1)
    last = date.fromisoformat(found[-1])
    first = date.fromisoformat(found[0])
    count = (last - first) // step + 1
    if count > PERIODS_MAX:
        first, count = last - step * (PERIODS_MAX - 1), PERIODS_MAX
    return [(first + step * place).isoformat() for place in range(count)]


def _tables(stats: SessionStats, findings: Sequence[FindingCount]) -> list[str]:
    codes: Counter[str] = Counter()
    for each in findings:
        codes[each.code or "others"] += each.findings
    return [
        _table("By kind and model", ("Kind", "Provider", "Model"), stats.by_model, is_open=True),
        _rows_table(
            "By attempt",
            ("Attempt",),
            ("Sessions", "Accepted", "Rate"),
            (
                ((str(step.iteration),), (_count(step.sessions), _count(step.accepted), _percent(step.acceptance_rate)))
                for step in stats.by_attempt
            ),
        ),
        _rows_table(
            "Findings by code",
            ("Code",),
            ("Findings",),
            (((code,), (_count(count),)) for code, count in codes.most_common()),
        ),
        _table(f"By {stats.period}", (stats.period.capitalize(),), stats.by_period, is_open=False),
        _table(
            f"By {stats.period}, kind and model",
            (stats.period.capitalize(), "Kind", "Provider", "Model"),
            stats.by_period_and_model,
            is_open=False,
        ),
    ]


def _table(title: str, keys: Sequence[str], slices: Sequence[Slice], *, is_open: bool) -> str:
    names = {"Day": "period", "Week": "period"}
    rows = []
    for part in slices[-ROWS_MAX:]:
        totals = part.totals
        texts = [getattr(part, names.get(key, key.lower())) or "-" for key in keys]
        values = (
            _count(totals.sessions), _count(totals.accepted), _percent(totals.acceptance_rate),
            _count(totals.exhausted), _count(totals.infra_errors), _decimal(totals.attempts_per_session),
            _percent(totals.phantom_rate), _whole(totals.tokens_per_accepted), _whole(totals.duration_ms_mean),
        )  # fmt: skip
        rows.append((texts, values))
    return _rows_table(title, keys, _HEADS, rows, is_open=is_open)


def _rows_table(
    title: str,
    keys: Sequence[str],
    heads: Sequence[str],
    rows: Iterable[tuple[Sequence[str], Sequence[str]]],
    *,
    is_open: bool = False,
) -> str:
    """Return a table of texts and, behind them, figures; it can be scrolled by keyboard."""
    head = "".join(f'<th scope="col">{escape(key)}</th>' for key in keys)
    head += "".join(f'<th scope="col" class="n">{escape(key)}</th>' for key in heads)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{_text(text)}</td>" for text in texts)
        + "".join(f'<td class="n">{value}</td>' for value in values)
        + "</tr>"
        for texts, values in rows
    )
    return (
        f"<details{' open' if is_open else ''}><summary>{escape(title)}</summary>"
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def _name(part: Slice) -> str:
    return _shown(" · ".join((part.kind or "-", part.model or "-")))


def _shown(text: str) -> str:
    """Return a text of the log for a chart, which escapes it for HTML."""
    return one_line(text, NAME_CHARS_MAX)


def _text(text: str) -> str:
    return escape(one_line(text, 4 * NAME_CHARS_MAX))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _count(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:,.1f}"


def _usd(nano_usd: float) -> str:
    return f"{nano_usd / 1e9:.6f}".rstrip("0").rstrip(".") + " USD"


def _ms(value: float) -> str:
    return f"{value:,.0f} ms"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"
