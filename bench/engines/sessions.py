"""Sessions of every sort for the table that the engines read: what a row may have and lack."""

from __future__ import annotations

import random
from typing import Any, Final

from session_rows import FULL, HOSTILE_LINES, UNREACHABLE, attempt, record

from lakehouse.sessions.record import BriefRecord, DatasetRecord, FindingRecord, SessionAttemptRecord
from lakehouse.sessions.row import encode_row

PLANTED: Final = "Planted Name"
"""Whom the erasure names."""

_DAYS: Final = ("2024-02-29", "2025-12-31", "2026-01-01", "2026-11-20", "2026-11-21", "2026-11-22")
_TEXTS: Final = (
    "Fill 3 operators in Toledo",
    'quoted "W-1", back\\slash, tab\t, line\n\u2028, NUL-like \x01\x1f\x7f',
    "Café résumé 你好 \U0001f69c e\u0301",
    "",
    "long " * 400,
)
_SPECS: Final = ('{"count":3}', '{"esc":"\\u001f","n":1e+21,"seen":18446744073709551617}', '{"é":[0.1,-1e+300,null]}')
_CODES: Final = ("PHANTOM_WORKER", "WRONG_ROLE", "TOO_FEW")


def rotated_file(host: int, number: int, rows: int, *, is_old: bool) -> bytes:
    """Return the lines of a rotated file. ``is_old``: by a writer that knew no costs, briefs, datasets and tries."""
    draw = random.Random(f"{host} {number}")
    lines = [encode_row(_session(draw, f"s-{number}-{place}", is_old=is_old)) for place in range(rows)]
    if not is_old:
        # The same id on every host, and one that was used again.
        lines += [encode_row(record(number, session_id="shared", try_number=number + 1)), *HOSTILE_LINES]
        lines += [encode_row(FULL)] if number == 1 else []
        lines.append(encode_row(record(3, session_id=f"early-{number}", timestamp="1969-12-31T23:59:59.999999Z")))
        lines.append(encode_row(record(4, session_id=f"undated-{number}", timestamp="not a moment")))
    return b"".join(lines)


def _session(draw: random.Random, session_id: str, *, is_old: bool) -> Any:
    attempts = tuple(_attempt(draw, number, is_old=is_old) for number in range(draw.choice((0, 1, 1, 2, 4))))
    accepted = bool(attempts) and draw.random() < 0.7
    verdict = "accepted" if accepted else draw.choice(("max_iter_exhausted", "infra_error"))
    of_later: dict[str, Any] = {}
    if not is_old:
        of_later = {
            "caller": draw.choice((None, "desk", "agency-7", PLANTED)),
            "brief": draw.choice((None, _brief(draw))),
            "no_progress": draw.random() < 0.1,
            "request_digest": draw.choice((None, f"sha256:{draw.getrandbits(128):032x}")),
        }
    return record(
        session_id=session_id,
        timestamp=f"{draw.choice(_DAYS)}T{draw.randrange(24):02d}:{draw.randrange(60):02d}:59.{draw.randrange(10**6):06d}Z",
        trace_id=f"{draw.getrandbits(128):032x}",
        caller_trace=draw.choice((None, "order-7")),
        kind=draw.choice(("fill", "email")),
        model=draw.choice(("gpt-x", "sonnet-y")),
        prompt=draw.choice(_TEXTS),
        spec=draw.choice((None, *_SPECS)),
        final_verdict=verdict,
        error=UNREACHABLE if verdict == "infra_error" else None,
        artifact=draw.choice(_SPECS) if accepted else None,
        grounded_in_roster=draw.choice((None, True, False)),
        attempts=attempts,
        duration_ms=draw.randrange(10**5),
        **of_later,
    )


def _attempt(draw: random.Random, number: int, *, is_old: bool) -> SessionAttemptRecord:
    verdict = draw.choice(("accepted", "rejected", "unparsable", "infra_error"))
    findings = {"accepted": (), "rejected": tuple(_finding(draw) for _ in range(draw.randint(1, 3)))}.get(verdict)
    of_later: dict[str, Any] = {}
    if not is_old:
        of_later = {
            "datasets": draw.choice((None, (), (DatasetRecord("skus", "v2"), DatasetRecord("prices", "v3")))),
            "cost_nano_usd": draw.choice((None, 0, draw.randrange(10**9))),
            "parse_problem": "it refused" if verdict == "unparsable" else None,
        }
    return attempt(
        number + 1,
        model=draw.choice(("gpt-x-2026", "sonnet-y-2026", "")),
        verdict=verdict,
        raw=draw.choice(_TEXTS),
        raw_truncated=draw.random() < 0.1,
        findings=findings,
        error=UNREACHABLE if verdict == "infra_error" else None,
        input_tokens=draw.randrange(10**6),
        output_tokens=draw.randrange(10**4),
        roster=draw.choice((None, "r1")),
        span_id=draw.choice((None, f"{draw.getrandbits(64):016x}")),
        **of_later,
    )


def _finding(draw: random.Random) -> FindingRecord:
    suggestions = draw.choice((None, (), ('{"id":"W-1"}', '{"id":"W-é","n":7}')))
    return FindingRecord(draw.choice(_CODES), draw.choice(("", "/workers/0")), draw.choice(_TEXTS), suggestions)


def _brief(draw: random.Random) -> BriefRecord:
    return BriefRecord(
        grounding=draw.choice(("form", "candidates")),
        candidates=draw.choice((None, 0, 7)),
        candidates_total=draw.choice((None, 9)),
        infeasible=draw.random() < 0.2,
        findings=draw.choice((None, (_finding(draw),))),
        roster="r1",
        brief_ms=draw.randrange(100),
    )
