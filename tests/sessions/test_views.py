"""The DuckDB views: exact texts, long rows, hostile lines, and nothing but the log within reach."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from session_rows import (
    FULL,
    HOSTILE_LINES,
    PHANTOM,
    UNREACHABLE,
    attempt,
    contents,
    record,
    rows,
    write_log,
    write_segment,
)

from lakehouse.sessions.query import reader as reader_module
from lakehouse.sessions.query import views
from lakehouse.sessions.query.reader import QueryRefusedError, SessionReader
from lakehouse.sessions.record import SessionRecord
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.upkeep.compaction import compact
from lakehouse.strict_json.parser import print_canonical


def query(live: Path, sql: str) -> list[tuple[Any, ...]]:
    with SessionReader(live) as reader:
        return list(reader.query(sql)[1])


def log_of(folder: Path, *records: SessionRecord) -> Path:
    return write_segment(folder / "sessions.jsonl", b"".join(map(encode_row, records)))


def test_every_key_of_a_row_is_a_column_with_its_value(tmp_path: Path) -> None:
    live = log_of(tmp_path, FULL)

    with SessionReader(live) as reader:
        names, found = reader.query("SELECT * FROM sessions")
        row = dict(zip(names, next(found), strict=True))

    wanted = json.loads(encode_row(FULL))
    assert list(row) == list(wanted)
    row["timestamp"] = row["timestamp"].isoformat() + "Z"
    assert (row.pop("spec"), row.pop("artifact")) == (FULL.spec, FULL.artifact)
    del wanted["spec"], wanted["artifact"]
    for finding in (finding for part in (row["brief"], *row["attempts"]) for finding in part["findings"] or ()):
        finding["suggestions"] = [json.loads(each) for each in finding["suggestions"]]
    row["attempts"] = [
        {key: value for key, value in found_attempt.items() if value is not None} for found_attempt in row["attempts"]
    ]
    assert row == wanted


def test_attempts_carry_the_keys_of_their_session(tmp_path: Path) -> None:
    live = log_of(tmp_path, record(1), record(2, attempts=(), final_verdict="infra_error", error=UNREACHABLE))

    found = query(
        live, "SELECT session_id, kind, iteration, verdict, raw, findings, roster FROM attempts ORDER BY iteration"
    )

    phantom = {"code": PHANTOM.code, "path": PHANTOM.path, "message": PHANTOM.message, "suggestions": None}
    assert found == [
        ("session-0001", "fill", 1, "rejected", '{"try":1}', [phantom], "r1"),
        ("session-0001", "fill", 2, "accepted", '{"try":2}', [], "r1"),
    ]


def test_the_attempts_of_each_try_of_an_id_are_told_apart_compacted_or_not(tmp_path: Path) -> None:
    tries = [record(1, attempts=(attempt(1),)), record(2, session_id="session-0001", try_number=2)]
    live = log_of(tmp_path, record(3))
    write_segment(tmp_path / "sessions.jsonl.1", b"".join(map(encode_row, tries)))
    asked = """SELECT "try", iteration FROM attempts WHERE session_id = 'session-0001' ORDER BY coalesce("try", 1), 2"""
    plain = query(live, asked)
    assert all(outcome.compacted for outcome in compact(live))

    assert plain == [(None, 1), (2, 1), (2, 2)]
    assert query(live, asked) == plain
    assert query(live, """SELECT "try" FROM sessions WHERE session_id = 'session-0001' ORDER BY 1 NULLS FIRST""") == [
        (None,),
        (2,),
    ]


def test_parquet_of_before_a_key_has_the_key_as_null(tmp_path: Path) -> None:
    live = log_of(tmp_path, record(2, caller="desk", attempts=(attempt(1, cost_nano_usd=5),)))
    rotated = write_segment(tmp_path / "sessions.jsonl.1", encode_row(record(1)))
    known = dict(views.FACT_COLUMNS)
    older = {name: kind for name, kind in known.items() if list(known).index(name) <= list(known).index("duration_ms")}
    older["attempts"] = re.sub(r", datasets .*(?=\)\[\]$)", "", older["attempts"]).replace(", suggestions JSON[]", "")
    with patch.object(views, "FACT_COLUMNS", older):
        assert all(outcome.compacted for outcome in compact(live))
    assert not rotated.exists()

    found = query(live, "SELECT session_id, caller, cost_nano_usd FROM sessions ORDER BY session_id")
    costs = query(live, "SELECT session_id, cost_nano_usd, datasets FROM attempts ORDER BY session_id, iteration")

    assert found == [("session-0001", None, None), ("session-0002", "desk", 5)]
    assert costs == [("session-0001", None, None), ("session-0001", None, None), ("session-0002", 5, None)]


def test_findings_that_are_absent_are_not_empty_findings(tmp_path: Path) -> None:
    live = log_of(tmp_path, record(1, attempts=(attempt(1, findings=None), attempt(2, findings=()))))

    assert query(live, "SELECT findings FROM attempts ORDER BY iteration") == [(None,), ([],)]


numbers = st.one_of(
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(1e15, 1e25),
    st.floats(1e-9, 1e-4),
)
texts = st.text(
    st.one_of(st.sampled_from('\\"u001FfbBEe+1.\x1f\x0b\x7f/\u2028<&>'), st.characters(exclude_categories=["Cs"])),
    max_size=14,
)
objects = st.dictionaries(
    texts,
    st.recursive(
        st.one_of(st.none(), st.booleans(), numbers, texts),
        lambda items: st.lists(items, max_size=3) | st.dictionaries(texts, items, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
).map(print_canonical)


@settings(derandomize=True, max_examples=5, deadline=None)
@given(artifacts=st.lists(objects, min_size=60, max_size=60))
def test_spec_and_artifact_are_the_rows_text_to_the_byte_before_and_after_compaction(
    tmp_path_factory: pytest.TempPathFactory, artifacts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    records = [record(n, artifact=text, spec=artifacts[-1 - n]) for n, text in enumerate(artifacts)]
    live = folder / "sessions.jsonl"
    write_segment(live.with_name("sessions.jsonl.1"), b"".join(map(encode_row, records)))
    sql = "SELECT artifact, spec FROM sessions ORDER BY timestamp"
    wanted = [(session.artifact, session.spec) for session in records]

    assert query(live, sql) == wanted
    assert all(outcome.compacted for outcome in compact(live))
    assert query(live, sql) == wanted


def test_a_row_of_several_megabytes_is_read(tmp_path: Path) -> None:
    prompt = "é" * 500_000 + "\x01" * 90_000
    raw = '"\\' * 130_000
    session = record(1, prompt=prompt, attempts=tuple(attempt(n, raw=raw) for n in range(1, 11)))
    data = encode_row(record(0)) + encode_row(session) + encode_row(record(2))
    live = write_segment(tmp_path / "sessions.jsonl.1", data).with_name("sessions.jsonl")
    sql = "SELECT session_id, prompt, attempts[10].raw FROM sessions ORDER BY session_id"

    before = query(live, sql)
    assert len(data) > 6_000_000
    assert [row[0] for row in before] == ["session-0000", "session-0001", "session-0002"]
    assert before[1][1:] == (prompt, raw)
    assert all(outcome.compacted for outcome in compact(live))
    assert query(live, sql) == before
    assert query(live, "SELECT sum(length(raw)) FROM attempts WHERE session_id = 'session-0001'") == [(10 * len(raw),)]


def test_a_row_beyond_duckdbs_default_bound_is_read(tmp_path: Path) -> None:
    longest = rows(2)[:-2] + b',"later":"' + b"x" * (40 << 20) + b'"}\n'
    live = write_segment(tmp_path / "sessions.jsonl", rows(1) + longest + rows(3))

    assert query(live, "SELECT count(*), sum(iterations) FROM sessions") == [(3, 6)]


@pytest.mark.parametrize("line", HOSTILE_LINES)
def test_a_hostile_line_leaves_its_neighbours_alone(tmp_path: Path, line: bytes) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(1) + line + rows(2))

    found = query(live, "SELECT session_id FROM sessions WHERE trace_id IS NOT NULL ORDER BY 1")

    assert found == [("session-0001",), ("session-0002",)]


def test_a_torn_last_line_does_not_hide_the_others(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(1, 2) + rows(3)[:-40])

    assert query(live, "SELECT count(*) FROM sessions") == [(2,)]


def test_rows_of_another_schema_are_in_no_view(tmp_path: Path) -> None:
    foreign = rows(2).replace(b"session.iterate.v1", b"session.iterate.v2")
    live = write_segment(tmp_path / "sessions.jsonl", rows(1) + foreign)

    assert query(live, "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM attempts)") == [(1, 2)]


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    row = json.loads(rows(1))
    row["attempts"][0]["later"] = {"x": 1}
    live = write_segment(tmp_path / "sessions.jsonl", json.dumps({**row, "later": [1]}).encode() + b"\n")

    assert query(live, "SELECT session_id, iterations FROM sessions") == [("session-0001", 2)]


def test_a_session_with_two_rows_shows_twice(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", rows(1, 1))

    assert query(live, "SELECT count(*) FROM sessions") == [(2,)]


def test_an_empty_log_has_views_with_columns_and_no_rows(tmp_path: Path) -> None:
    live = write_segment(tmp_path / "sessions.jsonl", b"")

    assert query(live, "SELECT count(prompt) FROM sessions") == [(0,)]
    assert query(live, "SELECT count(raw) FROM attempts") == [(0,)]


@pytest.mark.parametrize("name", ["sessions.jsonl.2.gz", "sessions.jsonl-20261101.zst"])
@pytest.mark.parametrize("content", ["none", "garbage", "cut in the header", "cut", "cut in the checksum"])
def test_a_damaged_archive_is_left_out_and_named(tmp_path: Path, name: str, content: str) -> None:
    live = write_log(tmp_path)
    path = tmp_path / name
    numbers = range(10, 20) if name.endswith("gz") else range(10)
    # With content size and checksum, as the command lines of both write.
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    whole = gzip.compress(rows(*numbers)) if name.endswith("gz") else compressor.compress(rows(*numbers))
    path.write_bytes(
        {
            "none": b"",
            "garbage": b"no archive at all",
            "cut in the header": whole[:3],
            "cut": whole[: len(whole) // 2],
            "cut in the checksum": whole[:-2],
        }[content]
    )

    with SessionReader(live) as reader:
        _, found = reader.query("SELECT count(*) FROM sessions WHERE session_id LIKE 'session-%'")
        assert next(found) == (40,)
        assert f"{name} is damaged" in reader.warnings[0]
        assert reader.warnings == reader.snapshot.unreadable


@pytest.mark.parametrize(
    "sql",
    [
        "DROP VIEW sessions",
        "CREATE TABLE x AS SELECT 1",
        "COPY (SELECT 1) TO 'out.csv'",
        "SET threads = 1",
        "ATTACH 'x.db'",
        "INSTALL httpfs",
        "SELECT 1; SELECT 2",
        "",
        "SELEC 1",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/*')",
    ],
)
def test_a_persons_query_reads_the_log_and_nothing_else(tmp_path: Path, sql: str) -> None:
    live = log_of(tmp_path, record(1))

    with SessionReader(live) as reader:
        with pytest.raises(QueryRefusedError):
            list(reader.query_read_only(sql)[1])
        assert list(reader.query_read_only("FROM sessions SELECT count(*)")[1]) == [(1,)]


INTERRUPTED = """
import os, signal, sys, threading
from lakehouse.sessions.query.reader import SessionReader
# Whoever started the tests may have had it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with SessionReader(sys.argv[1]) as reader:
    reader.query("SELECT 1")
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        reader.query("SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE hash(a.range, b.range) % 7 = 3")
    except KeyboardInterrupt:
        print("interrupted")
"""


def test_ctrl_c_ends_a_running_query(tmp_path: Path) -> None:
    live = log_of(tmp_path, record(1))

    child = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(live)], check=False, timeout=20, capture_output=True, text=True
    )

    assert (child.returncode, child.stdout) == (0, "interrupted\n"), child.stderr


def test_progress_is_reported_as_a_fraction_while_a_query_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_PROGRESS_INTERVAL_S", 0.001)
    live = write_segment(tmp_path / "sessions.jsonl", rows(*range(24)) * 800)
    reported: list[float] = []

    with SessionReader(live, progress=reported.append) as reader:
        assert list(reader.query("SELECT count(prompt) FROM sessions WHERE artifact LIKE '%e+%'")[1]) == [(19_200,)]

    assert reported
    assert all(0 <= done <= 1 for done in reported)


def test_the_views_show_the_same_from_jsonl_and_from_parquet(tmp_path: Path) -> None:
    live = write_log(tmp_path)
    before = contents(live)

    assert all(outcome.compacted for outcome in compact(live))

    after = contents(live)
    for view, shown in before.items():
        assert after[view] == shown, view
