"""Figures by their definitions, the same from JSONL and from Parquet."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from session_rows import PHANTOM, UNREACHABLE, attempt, record, write_segment

from lakehouse.sessions.query.listing import find_rows, list_sessions
from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.query.session_filter import SessionFilter, parse_moment
from lakehouse.sessions.query.stats import SessionStats, session_stats
from lakehouse.sessions.record import ErrorRecord, FindingRecord, SessionRecord
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.upkeep.compaction import compact

COUNT = FindingRecord("COUNT", "/workers", "3 were asked for")
DIED = ErrorRecord("PROCESS_DIED", "PROCESS_DIED", "iterate", "The process died.")
PHANTOMS = attempt(1, verdict="rejected", findings=(COUNT, PHANTOM, PHANTOM))
DEAD = attempt(1, verdict="infra_error", findings=None, error=DIED)
MISCOUNTED = attempt(2, verdict="rejected", findings=(COUNT,))

SESSIONS = (
    record(0, attempts=(attempt(1),), duration_ms=10),
    record(1, attempts=(PHANTOMS, attempt(2)), duration_ms=30),
    record(2, attempts=(PHANTOMS, MISCOUNTED), final_verdict="max_iter_exhausted", grounded_in_roster=False),
    record(30, kind="email", model="haiku", attempts=(attempt(1),)),
    record(31, kind="email", model="haiku", attempts=(), final_verdict="infra_error", error=UNREACHABLE),
    record(180, attempts=(DEAD,), final_verdict="infra_error", error=DIED),
)


@pytest.fixture(params=["jsonl", "parquet"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "sessions.jsonl"
    write_segment(path.with_name("sessions.jsonl.1"), b"".join(map(encode_row, SESSIONS)))
    if request.param == "parquet":
        assert all(outcome.compacted for outcome in compact(path))
    return path


def stats(live: Path, period: Any = "day", **wanted: Any) -> SessionStats:
    with SessionReader(live) as reader:
        return session_stats(reader, SessionFilter(**wanted), period=period)


def test_cost_counts_the_sessions_that_have_a_price(live: Path) -> None:
    totals = stats(live).totals
    assert (totals.cost_nano_usd, totals.priced, totals.cost_nano_usd_per_accepted) == (0, 0, None)

    priced = (
        record(0, attempts=(attempt(1, cost_nano_usd=5),)),
        record(1, attempts=(attempt(1, cost_nano_usd=7, verdict="rejected"),), final_verdict="max_iter_exhausted"),
        record(2, attempts=(attempt(1, cost_nano_usd=100), attempt(2))),
        record(3, attempts=(attempt(1, cost_nano_usd=2**62),)),
    )
    live.write_bytes(b"".join(map(encode_row, priced)))
    totals = stats(live).totals

    assert (totals.cost_nano_usd, totals.priced) == (12 + 2**62, 3)
    assert totals.cost_nano_usd_per_accepted == (12 + 2**62) / 2


def test_totals_and_rates_follow_their_definitions(live: Path) -> None:
    totals = stats(live).totals

    assert (totals.sessions, totals.accepted, totals.exhausted, totals.infra_errors) == (6, 3, 1, 2)
    assert totals.acceptance_rate == 3 / 6
    assert totals.attempts == 7
    # Six attempts were validated; two of them named a phantom, however many findings said so.
    assert (totals.checked_attempts, totals.phantom_attempts, totals.phantom_rate) == (6, 2, 2 / 6)
    assert totals.tokens_per_accepted == 7 * 110 / 3
    assert (totals.grounded, totals.ungrounded) == (5, 1)


def test_groups_are_by_kind_and_model_and_by_period(live: Path) -> None:
    found = stats(live)

    assert [(s.kind, s.model, s.totals.sessions, s.totals.accepted) for s in found.by_model] == [
        ("fill", "gpt-x", 4, 2),
        ("email", "haiku", 2, 1),
    ]
    assert [(s.period, s.totals.sessions) for s in found.by_period] == [
        ("2026-11-20", 3),
        ("2026-11-21", 2),
        ("2026-11-27", 1),
    ]
    assert sum(s.totals.sessions for s in found.by_period_and_model) == 6


def test_weeks_begin_on_monday(live: Path) -> None:
    assert [(s.period, s.totals.sessions) for s in stats(live, "week").by_period] == [
        ("2026-11-16", 5),
        ("2026-11-23", 1),
    ]


def test_attempts_are_distributed_by_outcome(live: Path) -> None:
    bars = [(b.iterations, b.accepted, b.exhausted, b.infra_errors) for b in stats(live).attempts]

    assert bars == [(0, 0, 0, 1), (1, 2, 0, 1), (2, 1, 1, 0)]


def test_infra_errors_are_counted_by_cause(live: Path) -> None:
    causes = [(c.where, c.reason, c.code, c.sessions) for c in stats(live).causes]

    assert causes == [
        ("chatd", "PROVIDER_UNREACHABLE", "UNAVAILABLE", 1),
        ("iterate", "PROCESS_DIED", "PROCESS_DIED", 1),
    ]


def test_rates_of_nothing_are_absent(live: Path) -> None:
    totals = stats(live, kind="none of this kind").totals

    assert (totals.sessions, totals.acceptance_rate, totals.phantom_rate, totals.tokens_per_accepted) == (
        0,
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, [180, 31, 30, 2, 1, 0]),
        ({"verdict": "infra_error"}, [180, 31]),
        ({"kind": "email", "verdict": "accepted"}, [30]),
        ({"model": "haiku"}, [31, 30]),
        ({"since": datetime(2026, 11, 21, 6, 30, 0, 30)}, [180, 31, 30]),  # noqa: DTZ001  naive UTC, as in the views
        ({"until": datetime(2026, 11, 21, 6, 30, 0, 30)}, [2, 1, 0]),  # noqa: DTZ001
        ({"kind": "'; DROP VIEW facts; --"}, []),
    ],
)
def test_the_newest_sessions_that_fit_come_first(live: Path, wanted: dict[str, Any], numbers: list[int]) -> None:
    with SessionReader(live) as reader:
        found = list_sessions(reader, SessionFilter(**wanted), limit=10)

    assert [session.session_id for session in found] == [f"session-{number:04d}" for number in numbers]


def test_a_limit_keeps_the_newest(live: Path) -> None:
    with SessionReader(live) as reader:
        found = list_sessions(reader, SessionFilter(), limit=1)

    assert [(s.session_id, s.timestamp, s.reason) for s in found] == [
        ("session-0180", "2026-11-27T12:30:00.000180Z", "PROCESS_DIED")
    ]


@pytest.mark.parametrize("number", [0, 30])
def test_a_session_is_found_by_either_id_to_the_byte(live: Path, number: int) -> None:
    session = next(s for s in SESSIONS if s.session_id.endswith(f"{number:04d}"))

    for identifier in (session.session_id, session.trace_id):
        with SessionReader(live) as reader:
            assert [line + b"\n" for line in find_rows(reader, identifier)] == [encode_row(session)]


def test_a_session_is_found_by_its_callers_trace_string(tmp_path: Path) -> None:
    session: SessionRecord = record(1, caller_trace='order "7" é')
    live = write_segment(tmp_path / "sessions.jsonl", encode_row(record(0)) + encode_row(session))

    with SessionReader(live) as reader:
        assert [line + b"\n" for line in find_rows(reader, 'order "7" é')] == [encode_row(session)]


def test_an_id_in_a_prompt_is_no_match(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", encode_row(record(1, prompt='see "session-0002"')))

    with SessionReader(live) as reader:
        assert list(find_rows(reader, "session-0002")) == []


NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24", "2026-11-24T00:00:00"),
        ("2026-11-24T10:00:00Z", "2026-11-24T10:00:00"),
        ("2026-11-24T10:00:00+02:00", "2026-11-24T08:00:00"),
        ("2026-11-24T10:00", "2026-11-24T10:00:00"),
        ("90m", "2026-11-24T10:30:00"),
        ("7d", "2026-11-17T12:00:00"),
        ("2w", "2026-11-10T12:00:00"),
    ],
)
def test_moments_are_read_as_utc(text: str, moment: str) -> None:
    assert parse_moment(text, now=NOW) == datetime.fromisoformat(moment)


@pytest.mark.parametrize("text", ["yesterday", "", "7", "999999w", "2026-13-01", "-1d"])
def test_what_is_no_moment_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match=r"give a date \(2026-11-24\)"):
        parse_moment(text, now=NOW)
