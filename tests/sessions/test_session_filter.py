"""A filter says the same of a row wherever the row stands, and pages follow one another without a gap."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st
from session_rows import PHANTOM, attempt, record, write_log, write_segment

from lakehouse.sessions.query.listing import Place, list_sessions, place_of
from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.query.session_filter import SessionFilter, folded
from lakehouse.sessions.record import SessionRecord
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.upkeep.compaction import compact

NAMED = replace(PHANTOM, message="W-77 is NOT in it")
ROWS = [
    record(1, prompt="Ten welders in ÅRHUS, ΟΔΟΣ", caller="desk", caller_trace="order 7"),
    record(2, prompt='said "no"\n\tand left', model='m"x'),
    record(3, attempts=(attempt(1, verdict="rejected", findings=(NAMED,)), attempt(2, raw="back\\slash \x1f end"))),
    record(4, kind="email", spec='{"note":"İzmir / Straße"}'),
    record(5, prompt="% _ ' -- ; DROP TABLE sessions", provider="\U0001f69c"),
]


@pytest.fixture(scope="module", params=["plain", "gzip", "parquet", "foreign", "foreign parquet"])
def log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the same rows, each time elsewhere; the last as a writer of another taste spells them."""
    folder = tmp_path_factory.mktemp("log")
    lines = b"".join(map(encode_row, ROWS))
    if "foreign" in request.param:
        spelled = (json.dumps(json.loads(line)).replace("/", r"\/") for line in lines.splitlines())
        lines = "".join(f"{line}\n" for line in spelled).encode()
    if request.param in ("plain", "foreign"):
        return write_segment(folder / "sessions.jsonl", lines)
    write_segment(folder / ("sessions.jsonl.1.gz" if request.param == "gzip" else "sessions.jsonl.1"), lines)
    live = write_segment(folder / "sessions.jsonl", b"")
    if "parquet" in request.param:
        assert all(outcome.compacted for outcome in compact(live))
    return live


def found(live: Path, **wanted: Any) -> list[str]:
    with SessionReader(live) as reader:
        listed = list_sessions(reader, SessionFilter(**wanted), limit=10)
        return sorted(str(session.session_id)[-1] for session in listed)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"text": "århus"}, "1"),
        ({"text": "οδος"}, ""),  # the other sigma
        ({"text": "ΟΔΟΣ"}, "1"),
        ({"text": 'SAID "NO"\n\tand'}, "2"),
        ({"text": "back\\slash \x1f"}, "3"),
        ({"text": "w-77 is not"}, "3"),
        ({"text": "izmir / STRASSE"}, ""),
        ({"text": "izmir / straße"}, "4"),
        ({"text": "\U0001f69c"}, "345"),
        ({"text": "% _ ' --"}, "5"),
        ({"text": "session-0002"}, "2"),
        ({"text": '"prompt"'}, ""),  # keys are no text of a row
        ({"text": "welders", "kind": "email"}, ""),
        ({"trace": f"{3:032x}"}, "2"),
        ({"trace": "order 7"}, "1"),
        ({"trace": "order"}, ""),
        ({"model": 'm"x'}, "2"),
        ({"caller": "desk", "verdict": "accepted"}, "1"),
        ({"kind": "' OR true --"}, ""),
    ],
)
def test_the_same_sessions_are_found_wherever_they_stand(log: Path, wanted: dict[str, str], numbers: str) -> None:
    assert found(log, **wanted) == list(numbers)


def test_case_is_folded_as_duckdb_does_it() -> None:
    """Of every character alone and beside letters: what DuckDB lets through to the exact look is never too little."""
    characters = [chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    text = "".join(f"a{character}b " for character in characters)
    [(lowered,)] = duckdb.execute("SELECT lower(?)", [text]).fetchall()

    assert lowered == folded(text)


@campaign(25)
@given(text=st.text(max_size=6), around=st.tuples(st.text(max_size=3), st.text(max_size=3)))
def test_a_line_that_has_the_text_is_never_passed_over(text: str, around: tuple[str, str]) -> None:
    line = encode_row(record(1, prompt=f"{around[0]}{text.upper()}{around[1]}")).removesuffix(b"\n")
    wanted = SessionFilter(text=text)

    if wanted.fits(json.loads(line), None):
        assert wanted.may_fit(line)


def pages(live: Path, limit: int) -> list[str | None]:
    ids: list[str | None] = []
    before: Place | None = None
    with SessionReader(live) as reader:
        while page := list_sessions(reader, SessionFilter(text="toledo"), limit=limit, before=before):
            ids += [session.session_id for session in page]
            before = place_of(page[-1])
    return ids


@pytest.mark.parametrize("compacted", [False, True])
def test_pages_have_every_session_once_newest_first(tmp_path: Path, compacted: bool) -> None:
    live = write_log(tmp_path)
    same_time: list[SessionRecord] = [
        record(60, session_id=f"same-{number}", timestamp="2026-11-20T10:30:00.000010Z") for number in range(5)
    ]
    undated = [record(61, session_id=f"undated-{number}", timestamp="soon") for number in range(3)]
    write_segment(tmp_path / "sessions.jsonl.7", b"".join(map(encode_row, same_time + undated)), age_s=3700)
    if compacted:
        list(compact(live))

    ids = pages(live, 4)

    assert len(ids) == len(set(ids)) == 58
    assert ids == pages(live, 100)
    assert ids[:2] == ["session-0049", "session-0048"]
    assert ids[-3:] == ["undated-2", "undated-1", "undated-0"]
