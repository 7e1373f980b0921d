"""The report is one page that needs nothing else, says what the figures say, and runs nothing that a row says."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from session_rows import UNREACHABLE, attempt, record, write_segment

from lakehouse.sessions.query import charts
from lakehouse.sessions.query.charts import Series, ranked_bars, rate_lines, stacked_bars
from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.query.report import PERIODS_MAX, render_report
from lakehouse.sessions.query.session_filter import SessionFilter
from lakehouse.sessions.query.stats import finding_counts, session_stats
from lakehouse.sessions.record import SessionRecord
from lakehouse.sessions.row import encode_row

MADE = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ALL = SessionFilter()


def page(folder: Path, *records: SessionRecord, wanted: SessionFilter = ALL) -> str:
    live = write_segment(folder / "sessions.jsonl", b"".join(map(encode_row, records)))
    with SessionReader(live) as reader:
        found = session_stats(reader, wanted, period="day")
        findings = finding_counts(reader, wanted, period="day")
    return render_report(found, findings, wanted, source="the log", made_at=MADE)


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    html = page(tmp_path, *(record(number) for number in range(60)))

    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|https?://|\son[a-z]+=", html)


def test_what_a_row_says_is_shown_as_text(tmp_path: Path) -> None:
    hostile = "</text><script>alert(1)</script>&\"'"
    html = page(tmp_path, record(1, kind=hostile, model=hostile), wanted=SessionFilter(kind=hostile))

    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_figures_stand_in_the_page(tmp_path: Path) -> None:
    failed = record(40, attempts=(), final_verdict="infra_error", error=UNREACHABLE)
    html = page(tmp_path, record(0), record(1), record(30, kind="email"), failed)

    for text in ("75.0%", "PROVIDER_UNREACHABLE in chatd (UNAVAILABLE)", "2026-11-20 to 2026-11-21", "email · gpt-x"):
        assert text in html


@pytest.mark.parametrize("timestamp", ["99999-01-01T00:00:00Z", "infinity", "-infinity", "2026-01-01 (BC)"])
def test_a_moment_that_no_calendar_has_is_none(tmp_path: Path, timestamp: str) -> None:
    line = encode_row(record(1))
    odd = re.sub(rb'"timestamp":"[^"]*"', f'"timestamp":"{timestamp}"'.encode(), line)
    assert odd != line
    live = write_segment(tmp_path / "sessions.jsonl", encode_row(record(0)) + odd)
    with SessionReader(live) as reader:
        assert list(reader.query("SELECT count(*), count(timestamp) FROM sessions")[1]) == [(2, 1)]
        found = session_stats(reader, ALL, period="day")
        html = render_report(found, finding_counts(reader, ALL, period="day"), ALL, source="the log", made_at=MADE)
    assert "2026-11-20" in html


def test_every_chart_is_well_formed(tmp_path: Path) -> None:
    failed = record(40, attempts=(), final_verdict="infra_error", error=UNREACHABLE)
    html = page(tmp_path, *(record(number, kind=f"k{number % 3}") for number in range(100)), failed)

    drawn = re.findall(r"<svg.*?</svg>", html, re.DOTALL)

    assert len(drawn) == 9
    for svg in drawn:
        assert ET.fromstring(svg).attrib["aria-label"]


def test_a_day_without_sessions_is_a_gap_and_not_left_out(tmp_path: Path) -> None:
    html = page(tmp_path, record(0), record(24 * 3))

    svg = re.findall(r"<svg.*?</svg>", html, re.DOTALL)[0]

    assert len(re.findall(r'class="hit"', svg)) == 4
    assert len(re.findall(r'class="s0"', svg)) == 2


def test_more_periods_than_fit_keep_the_newest(tmp_path: Path) -> None:
    first = date(2020, 1, 1)
    records = [
        record(number, timestamp=f"{first + timedelta(days=number * 10)}T00:00:00.000000Z", attempts=(attempt(1),))
        for number in range(100)
    ]

    svg = re.findall(r"<svg.*?</svg>", page(tmp_path, *records), re.DOTALL)[0]

    assert len(re.findall(r'class="hit"', svg)) == PERIODS_MAX
    assert str(first + timedelta(days=990)) in svg


def test_an_empty_log_gives_a_page_that_says_so(tmp_path: Path) -> None:
    assert "No session fits." in page(tmp_path)


def test_bars_are_as_high_as_their_values() -> None:
    svg = stacked_bars("t", ["a", "b"], [Series("x", [3, 0]), Series("y", [1, 2])], show=str).partition("</svg>")[0]

    heights = [float(height) for height in re.findall(r'class="s[01]" .*? height="([0-9.]+)"', svg)]
    assert heights == pytest.approx([heights[1] * 3, heights[1], heights[1] * 2], abs=0.05)


def test_lines_break_where_there_is_no_value() -> None:
    svg = rate_lines("t", list("abcde"), [Series("x", [0.1, 0.2, None, 0.3, None])], show=str)

    assert len(re.findall("<polyline", svg)) == 1
    assert len(re.findall("<circle", svg)) == 3


@pytest.mark.parametrize("highest", [0, 0.4, 4, 4.1, 99, 100, 101, 12345, 10**9 + 1])
def test_an_axis_ends_at_or_above_the_highest_value(highest: float) -> None:
    top = charts._axis_top(highest)

    assert max(highest, 4) <= top <= max(4, highest * 1.6)


def test_a_bar_of_nothing_is_still_drawn() -> None:
    assert 'width="1.0"' in ranked_bars("t", [("none", 0)], colour="s2", show=str)
