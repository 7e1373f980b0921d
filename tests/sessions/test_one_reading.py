"""Views, `verify`, `show`, replay and compaction agree, line by line, on what is a row and what it says."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from campaigns import campaign
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from session_rows import FULL, HOSTILE_LINES, attempt, record, write_segment

from lakehouse.cli.sessions_replay import _find
from lakehouse.sessions.query.listing import find_rows
from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.record import SessionRecord
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.row_lines import read_row_line
from lakehouse.sessions.row_reading import RowBreach, decode_row
from lakehouse.sessions.upkeep.compaction import compact
from lakehouse.sessions.upkeep.verification import verify_log

GOOD = encode_row(record(1, attempts=(attempt(1, raw="plain"),), prompt="p", artifact='{"a":1}'))[:-1]
DEEP = b"[" * 120 + b"]" * 120


def other(old: bytes, new: bytes, line: bytes = GOOD) -> bytes:
    assert old in line
    return line.replace(old, new, 1)


def with_key(text: bytes) -> bytes:
    """Return the good row with one more key at its end."""
    return GOOD[:-1] + b"," + text + b"}"


LINES: dict[str, bytes] = {
    "good": GOOD,
    "full": encode_row(FULL)[:-1],
    "every escape": encode_row(record(3, prompt="".join(map(chr, range(0x80))) + "\u2028\ufffd\U0001f69c"))[:-1],
    "NUL in a prompt": encode_row(record(3, prompt="a\0b"))[:-1],
    "NUL in raw": encode_row(record(3, attempts=(attempt(1, raw="a\0b"),)))[:-1],
    "NUL in the id": encode_row(record(3, session_id="a\0b"))[:-1],
    "lone high surrogate": other(b'"prompt":"p"', b'"prompt":"\\ud800"'),
    "lone low surrogate": other(b'"prompt":"p"', b'"prompt":"\\udc00x"'),
    "upper-case lone surrogate": other(b'"prompt":"p"', b'"prompt":"\\uD800"'),
    "surrogates in the wrong order": other(b'"prompt":"p"', b'"prompt":"\\udc00\\ud800"'),
    "lone surrogate in raw": other(b'"raw":"plain"', b'"raw":"\\udfff"'),
    "lone surrogate in the artifact": other(b'{"a":1}', b'{"a":"\\ud83d"}'),
    "lone surrogate in a name of the artifact": other(b'{"a":1}', b'{"\\ud83d":1}'),
    "names equal once surrogates are replaced": other(b'{"a":1}', b'{"\\ud83d":1,"\\ud83e":2}'),
    "lone surrogate in the id": other(b'"session-0001"', b'"session-\\ud800"'),
    "lone surrogate in an unknown key": with_key(b'"x\\ud800":1'),
    "a pair as escapes": other(b'"prompt":"p"', b'"prompt":"\\ud83d\\ude9c"'),
    "a raw surrogate in UTF-8": other(b'"prompt":"p"', b'"prompt":"\xed\xa0\x80"'),
    "duplicate id, other value": with_key(b'"session_id":"second"'),
    "duplicate id, same value": with_key(b'"session_id":"session-0001"'),
    "duplicate schema": with_key(b'"schema":"session.other.v1"'),
    "duplicate schema before": b'{"schema":"session.other.v1",' + GOOD[1:],
    "duplicate unknown name": with_key(b'"x":1,"x":1'),
    "duplicate name in the artifact": other(b'{"a":1}', b'{"a":1,"a":2}'),
    "duplicate name in an attempt": other(b'"raw":"plain"', b'"raw":"plain","raw":"q"'),
    "duplicate by an escape": with_key(b'"session\\u005fid":"second"'),
    "another case of a known name": with_key(b'"SESSION_ID":"second"'),
    "another case before": b'{"Schema":"session.iterate.v1","SESSION_ID":"x",' + GOOD[1:],
    "unknown key": with_key(b'"later":{"deep":[1,2,{"a":null}]}'),
    "schema spelled with an escape": other(b'"session.iterate.v1"', b'"session.iterate.v\\u0031"'),
    "name spelled with an escape": other(b'"schema"', b'"sch\\u0065ma"'),
    "id spelled with an escape": other(b'"session-0001"', b'"session-\\u0030001"'),
    "id with an escaped solidus": other(b'"session-0001"', b'"session\\/0001"'),
    "too deep": with_key(b'"x":' + DEEP),
    "as deep as may be": with_key(b'"x":' + b"[" * 100 + b"]" * 100),
    "brackets within strings": other(b'"prompt":"p"', b'"prompt":"' + b"[{" * 200 + b'"'),
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "blanks around": b"  \t" + GOOD + b" \r",
    "blanks within": other(b'","', b'" ,\t"'),
    "carriage return at the end": GOOD + b"\r",
    "carriage return within": other(b'","', b'",\r"'),
    "form feed around": b"\x0c" + GOOD,
    "non-breaking blank around": b"\xc2\xa0" + GOOD,
    "NUL behind": GOOD + b"\0",
    "NUL before": b"\0" + GOOD,
    "a block of NUL": b"\0" * 512,
    "blank": b"",
    "blanks": b" \t \r",
    "form feed": b"\x0c",
    "two rows glued": GOOD + GOOD,
    "a torn row glued to a good one": GOOD[:40] + GOOD,
    "text behind": GOOD + b" x",
    "a comma behind": GOOD + b",",
    "torn in the middle": GOOD[:100],
    "torn within a string": GOOD[: GOOD.index(b"plain") + 2],
    "torn behind a bracket": GOOD[: GOOD.index(b"}", 200) + 1],
    "torn within a character": b'{"schema":"session.iterate.v1","prompt":"caf\xc3',
    "no UTF-8": other(b'"prompt":"p"', b'"prompt":"\xff"'),
    "no UTF-8 in an unknown key": with_key(b'"x":"\xff"'),
    "overlong UTF-8": other(b'"prompt":"p"', b'"prompt":"\xc0\x80"'),
    "raw control character": other(b'"prompt":"p"', b'"prompt":"\x01"'),
    "raw tab in a string": other(b'"prompt":"p"', b'"prompt":"\t"'),
    "unknown escape": other(b'"prompt":"p"', b'"prompt":"\\x41"'),
    "short escape": other(b'"prompt":"p"', b'"prompt":"\\u00"'),
    "NaN": other(b'{"a":1}', b'{"a":NaN}'),
    "Infinity": other(b'{"a":1}', b'{"a":-Infinity}'),
    "a double that overflows": other(b'{"a":1}', b'{"a":1e999}'),
    "a double that underflows": other(b'{"a":1}', b'{"a":1e-999}'),
    "an exponent": other(b'{"a":1}', b'{"a":1E5}'),
    "minus zero": other(b'{"a":1}', b'{"a":-0}'),
    "a long integer": other(b'{"a":1}', b'{"a":' + b"9" * 400 + b"}"),
    "an integer that is too long": other(b'{"a":1}', b'{"a":' + b"9" * 1001 + b"}"),
    "leading zero": other(b'{"a":1}', b'{"a":01}'),
    "a plus": other(b'{"a":1}', b'{"a":+1}'),
    "trailing comma": GOOD[:-1] + b",}",
    "a comment": other(b'{"a":1}', b'{"a":/*x*/1}'),
    "single quotes": GOOD.replace(b'"', b"'"),
    "an array around": b"[" + GOOD + b"]",
    "null": b"null",
    "text": b'"session.iterate.v1"',
    "no schema": b'{"session_id":"x"}',
    "schema is no text": other(b'"session.iterate.v1"', b"7"),
    "another schema": other(b"session.iterate.v1", b"session.iterate.v2"),
    "schema with a blank": other(b"session.iterate.v1", b"session.iterate.v1 "),
    "schema at the end": b"{" + GOOD.split(b",", 1)[1][:-1] + b',"schema":"session.iterate.v1"}',
    "schema within another object": b'{"x":{"schema":"session.iterate.v1"}}',
    "id is a number": other(b'"session-0001"', b"7"),
    "id is null": other(b'"session-0001"', b"null"),
    "a count as text": other(b'"max_iterations":3', b'"max_iterations":"3"'),
    "a count as a double": other(b'"max_iterations":3', b'"max_iterations":3.0'),
    "a count below zero": other(b'"max_iterations":3', b'"max_iterations":-3'),
    "a count beyond 63 bits": other(b'"max_iterations":3', b'"max_iterations":9223372036854775808'),
    "a count that is true": other(b'"max_iterations":3', b'"max_iterations":true'),
    "iterations that do not fit": other(b'"iterations":1', b'"iterations":2'),
    "tokens that do not add up": other(b'"output_tokens":10,"dur', b'"output_tokens":1,"dur'),
    "no attempts": other(b'"attempts":[', b'"attempt":['),
    "an attempt that is null": other(b'"attempts":[', b'"attempts":[null,'),
    "an unknown verdict": other(b'"final_verdict":"accepted"', b'"final_verdict":"perhaps"'),
    "a verdict that is a list": other(b'"final_verdict":"accepted"', b'"final_verdict":["accepted"]'),
    "an artifact that is text": other(b'{"a":1}', b'"a"'),
    "an artifact that is null": other(b'{"a":1}', b"null"),
    "a flag that is text": with_key(b'"no_progress":"true"'),
    "an optional key that is null": with_key(b'"caller":null'),
    "try of one": with_key(b'"try":1'),
    "a cost that nobody paid": with_key(b'"cost_nano_usd":5'),
    "a brief that is a list": with_key(b'"brief":[]'),
    "a timestamp that is none": other(b'"timestamp":"', b'"timestamp":"soon '),
}  # fmt: skip


def decided(lines: list[bytes]) -> list[SessionRecord]:
    """Return the rows, by the reading that decides."""
    found = []
    for line in lines:
        try:
            found.append(decode_row(line))
        except RowBreach:
            continue
    return found


def said(rows: list[SessionRecord]) -> list[str]:
    return sorted(
        repr(
            (
                row.session_id, row.prompt, _value(row.spec), _value(row.artifact), row.final_verdict, row.duration_ms,
                row.caller, row.try_number, [each.raw for each in row.attempts],
            )
        )
        for row in rows
    )  # fmt: skip


def shown(reader: SessionReader) -> list[str]:
    _, found = reader.query(
        "SELECT session_id, prompt, spec, artifact, final_verdict, duration_ms, caller, coalesce(try, 1),"
        " [a.raw for a in attempts] FROM sessions"
    )
    return sorted(repr((*row[:2], _value(row[2]), _value(row[3]), *row[4:])) for row in found)


def _value(text: str | None) -> Any:
    return None if text is None else repr(json.loads(text))


def assert_one_reading(live: Path, lines: list[bytes]) -> None:
    rows = decided(lines)
    with SessionReader(live) as reader:
        assert shown(reader) == said(rows)
        ids = Counter(row.session_id for row in rows)
        for view in ("facts", "sessions"):
            assert Counter(row[0] for row in reader.query(f"SELECT session_id FROM {view}")[1]) == ids
        _, attempts = reader.query("SELECT session_id, raw FROM attempts")
        assert sorted(attempts) == sorted((row.session_id, each.raw) for row in rows for each in row.attempts)
        found = verify_log(reader.snapshot, canonical=False, problems_max=0)
        assert found.whole == len(rows)
        assert found.whole + found.torn + found.foreign + found.invalid == sum(bool(line.strip()) for line in lines)
        for session_id, count in ids.items():
            assert [decode_row(line).session_id for line in find_rows(reader, session_id)] == [session_id] * count
    for session_id in ids:
        assert decode_row(_find(live, session_id)) in rows


@pytest.mark.parametrize("name", LINES)
def test_the_short_way_accepts_only_what_the_long_way_does(name: str) -> None:
    line = LINES[name]
    rows = decided([line])

    if rows:
        text = read_row_line(line).text
        assert decode_row(text) == rows[0]
    else:
        with pytest.raises(RowBreach):
            read_row_line(line)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_all_readers_agree_on_hostile_lines_before_and_after_compaction(tmp_path: Path, suffix: str) -> None:
    lines = [*LINES.values(), *(line.removesuffix(b"\n") for line in HOSTILE_LINES)]
    live = tmp_path / "sessions.jsonl"
    live.touch()
    write_segment(tmp_path / f"sessions.jsonl.1{suffix}", b"\n".join(lines) + b"\n")

    assert_one_reading(live, lines)
    assert [outcome.compacted for outcome in compact(live)] == [True]
    assert_one_reading(live, lines)


def test_all_readers_agree_where_each_hostile_line_has_a_file_of_its_own(tmp_path: Path) -> None:
    live = tmp_path / "sessions.jsonl"
    live.touch()
    for number, line in enumerate(LINES.values(), 1):
        write_segment(tmp_path / f"sessions.jsonl.{number}", line + b"\n")

    assert_one_reading(live, list(LINES.values()))


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """Return a row in which some bytes are others, are gone, or stand twice."""
    line = bytearray(draw(st.sampled_from([GOOD, encode_row(FULL)[:-1]])))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(line)))
        end = min(len(line), place + draw(st.integers(0, 12)))
        line[place:end] = draw(
            st.sampled_from(
                [b"", b"{", b"}", b'"', b",", b"\\", b"\\ud800", b"\\u0000", b"\0", b"\xff", b" ", b"\r", b"9"]
            )
            | st.just(bytes(line[max(0, place - 30) : place]))
            | st.binary(max_size=3).filter(lambda piece: b"\n" not in piece)
        )
    return bytes(line)


@campaign(4, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(spoiled(), min_size=40, max_size=50))
def test_all_readers_agree_on_spoiled_rows(lines: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        live = Path(folder) / "sessions.jsonl"
        live.touch()
        write_segment(live.with_name("sessions.jsonl.1"), b"\n".join(lines) + b"\n")
        assert_one_reading(live, lines)
        assert [outcome.compacted for outcome in compact(live)] == [True]
        assert_one_reading(live, lines)
