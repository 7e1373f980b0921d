"""Rows and logs for the tests of what reads the session log."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import zstandard

from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.record import (
    BriefRecord,
    DatasetRecord,
    ErrorRecord,
    FindingRecord,
    SessionAttemptRecord,
    SessionRecord,
)
from lakehouse.sessions.row import encode_row

PHANTOM = FindingRecord("PHANTOM_WORKER", "/workers/0", "W-9 is not in the roster")
UNREACHABLE = ErrorRecord("UNAVAILABLE", "PROVIDER_UNREACHABLE", "chatd", "The model endpoint cannot be reached.")

_ERROR = ErrorRecord("UNAVAILABLE", "CHATD_UNREACHABLE", "iterate", "chatd cannot be reached.")
_FULL_ATTEMPT = SessionAttemptRecord(
    iteration=1,
    provider="openai",
    model="m",
    verdict="rejected",
    span_id="00f067aa0ba902b7",
    raw='{"id":"é"}',
    raw_truncated=True,
    findings=(FindingRecord("PHANTOM_WORKER", "/id", "no worker é", ('{"id":"W-1"}', "{}")),),
    error=_ERROR,
    input_tokens=5,
    output_tokens=6,
    chat_ms=7,
    validate_ms=8,
    roster="v1",
    datasets=(DatasetRecord("skus", "v2"),),
    cost_nano_usd=9,
    parse_problem="it refused",
)
FULL = SessionRecord(
    session_id="s-1",
    timestamp="2026-03-01T06:00:00.000001Z",
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    caller_trace="order 1",
    kind="fill",
    provider="openai",
    model="m",
    prompt="fill <3> & more\n",
    spec='{"n":1e+21}',
    max_iterations=3,
    final_verdict="infra_error",
    error=_ERROR,
    artifact='{"id":18446744073709551617}',
    grounded_in_roster=False,
    attempts=(_FULL_ATTEMPT, SessionAttemptRecord(iteration=2, verdict="infra_error", cost_nano_usd=0)),
    duration_ms=9,
    caller="desk",
    brief=BriefRecord(
        grounding="candidates",
        candidates=2,
        candidates_total=3,
        candidates_total_is_floor=True,
        infeasible=True,
        degraded=True,
        findings=(FindingRecord("TOO_FEW_QUALIFY", "", "3 of 20 qualify", ()),),
        roster="v1",
        brief_ms=4,
    ),
    token_budget_spent=True,
    no_progress=True,
    try_number=2,
    request_digest="sha256:0123456789abcdef0123456789abcdef",
)
"""Every key of a row, and of an attempt, a finding and a brief, with a value of its own."""

# What a reader must survive: torn in the middle of a character, glued, no object, another schema, our name on another
# shape, a NUL block of a crashed file system, valid JSON that DuckDB refuses.
HOSTILE_LINES = (
    b'{"schema":"session.iterate.v1","session_id":"torn","prompt":"caf\xc3\n',
    b'{"schema":"session.iterate.v1"}{"schema":"session.iterate.v1"}\n',
    b"\n",
    b"   \n",
    b"[1,2]\n",
    b'"text"\n',
    b"null\n",
    b'{"schema":"session.other.v3","session_id":7,"attempts":{"a":1},"timestamp":"2026-11-01T23:30:00-05:00"}\n',
    b'{"schema":"session.iterate.v1","session_id":["x"],"timestamp":"soon","iterations":"many","spec":"text"}\n',
    b'{"schema":"session.iterate.v1","attempts":[1,null,{"raw":5,"findings":"none"}],"artifact":null,"prompt":12}\n',
    b"\0\0\0\0\n",
    b'{"schema":"session.iterate.v1","session_id":"lone","prompt":"\\ud800"}\n',
)


def attempt(iteration: int = 1, **fields: Any) -> SessionAttemptRecord:
    values: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-x-2026",
        "verdict": "accepted",
        "span_id": "00f067aa0ba902b7",
        "raw": f'{{"try":{iteration}}}',
        "findings": (),
        "input_tokens": 100,
        "output_tokens": 10,
        "chat_ms": 40,
        "validate_ms": 2,
        "roster": "r1",
    }
    return SessionAttemptRecord(iteration=iteration, **{**values, **fields})


def record(number: int = 0, **fields: Any) -> SessionRecord:
    """Return a session whose second attempt was accepted, an hour of 2026-11-20 and later for each ``number``."""
    values: dict[str, Any] = {
        "session_id": f"session-{number:04d}",
        "timestamp": f"2026-11-{20 + number // 24 % 8:02d}T{number % 24:02d}:30:00.{number:06d}Z",
        "trace_id": f"{number + 1:032x}",
        "kind": "fill",
        "provider": "openai",
        "model": "gpt-x",
        "prompt": 'Fill 3 operators in Toledo, "Café résumé  你好" \U0001f69c\u2028',
        "spec": '{"count":3,"note":"1e21 \\\\u001F","seen":18446744073709551617}',
        "max_iterations": 3,
        "final_verdict": "accepted",
        "artifact": '{"a":[1e+21,1.5e-7,0.1,-1e+300,9007199254740993],"esc":"\\u001f\\u000b 1e21 \\\\u001F","é":null}',
        "grounded_in_roster": True,
        "attempts": (attempt(1, verdict="rejected", findings=(PHANTOM,)), attempt(2)),
        "duration_ms": 90,
    }
    return SessionRecord(**{**values, **fields})


def rows(*numbers: int) -> bytes:
    return b"".join(encode_row(record(number)) for number in numbers)


def write_segment(path: Path, data: bytes, *, age_s: float = 3600.0) -> Path:
    """Write a segment, compressed as its name says, last written ``age_s`` ago."""
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    moment = path.stat().st_mtime - age_s
    os.utime(path, (moment, moment))
    return path


def write_log(folder: Path) -> Path:
    """Return a log of 50 sessions: a live file, one rotated file of each sort, hostile lines among them."""
    live = folder / "sessions.jsonl"
    write_segment(live.with_name("sessions.jsonl-20261101.zst"), rows(*range(10)), age_s=4000)
    write_segment(live.with_name("sessions.jsonl.2.gz"), rows(*range(10, 20)), age_s=3900)
    hostile = [rows(*range(20, 30)), *HOSTILE_LINES, rows(*range(30, 40)), b'{"schema":"session.it']
    write_segment(live.with_name("sessions.jsonl.1"), b"".join(hostile), age_s=3800)
    live.write_bytes(rows(*range(40, 50)))
    return live


def contents(live: Path) -> dict[str, list[str]]:
    """Everything that the views show, in an order of its own."""
    with SessionReader(live) as reader:
        return {
            view: sorted(repr(row) for row in reader.query(f"SELECT * FROM {view}")[1])
            for view in ("sessions", "attempts", "facts")
        }


def session_ids(live: Path) -> list[str]:
    with SessionReader(live) as reader:
        return sorted(str(row[0]) for row in reader.query("SELECT session_id FROM sessions")[1])


def stored_lines_of(paths: Iterable[Path]) -> list[bytes]:
    """Return the lines of plain files that are not blank, in an order of their own."""
    return sorted(line for path in paths for line in path.read_bytes().split(b"\n") if line.strip())


@contextlib.contextmanager
def no_row_gets_into(log_path: Path) -> Iterator[None]:
    """As while another process writes a long row."""
    fd = os.open(log_path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
