"""One row of the session log: its bytes, its way back, and what is no row."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st
from session_rows import FULL

from lakehouse.sessions.record import (
    RAW_BYTES_MAX,
    AttemptVerdict,
    BriefGrounding,
    BriefRecord,
    DatasetRecord,
    ErrorRecord,
    FinalVerdict,
    FindingRecord,
    SessionAttemptRecord,
    SessionRecord,
    Where,
)
from lakehouse.sessions.row import INTEGER_MAX, cut_raw, encode_attempt, encode_row
from lakehouse.sessions.row_reading import RowBreach, decode_attempt, decode_row
from lakehouse.strict_json.parser import print_canonical

bounded = campaign(60)

strings = st.text(max_size=12)
integers = st.one_of(st.integers(0, 1000), st.integers(0, INTEGER_MAX))
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), strings),
    lambda items: st.one_of(
        st.lists(items, max_size=3),
        st.dictionaries(names, items, max_size=3),
    ),
    max_leaves=6,
)
objects = st.dictionaries(names, values, max_size=4)
canonical_objects = objects.map(print_canonical)
errors = st.builds(ErrorRecord, code=strings, reason=strings, where=st.sampled_from(get_args(Where)), message=strings)
suggestions = st.none() | st.lists(canonical_objects, max_size=2).map(tuple)
findings = st.builds(FindingRecord, code=strings, path=strings, message=strings, suggestions=suggestions)
datasets = st.builds(DatasetRecord, name=strings, version=strings)
briefs = st.builds(
    BriefRecord,
    grounding=st.sampled_from(get_args(BriefGrounding)),
    candidates=st.none() | integers,
    candidates_total=st.none() | integers,
    candidates_total_is_floor=st.booleans(),
    infeasible=st.booleans(),
    degraded=st.booleans(),
    findings=st.none() | st.lists(findings, max_size=2).map(tuple),
    roster=st.none() | strings,
    brief_ms=integers,
)
attempts = st.builds(
    SessionAttemptRecord,
    iteration=integers,
    provider=strings,
    model=strings,
    verdict=st.sampled_from(get_args(AttemptVerdict)),
    span_id=st.none() | strings,
    raw=strings,
    raw_truncated=st.booleans(),
    findings=st.none() | st.lists(findings, max_size=2).map(tuple),
    error=st.none() | errors,
    input_tokens=st.integers(0, 2**60),
    output_tokens=st.integers(0, 2**60),
    chat_ms=integers,
    validate_ms=integers,
    roster=st.none() | strings,
    datasets=st.none() | st.lists(datasets, max_size=2).map(tuple),
    cost_nano_usd=st.none() | st.integers(0, 2**60),
    parse_problem=st.none() | strings,
)
records = st.builds(
    SessionRecord,
    session_id=strings,
    timestamp=strings,
    daemon=strings,
    trace_id=strings,
    caller_trace=st.none() | strings,
    kind=strings,
    provider=strings,
    model=strings,
    prompt=st.text(),
    spec=st.none() | canonical_objects,
    max_iterations=integers,
    final_verdict=st.sampled_from(get_args(FinalVerdict)),
    error=st.none() | errors,
    artifact=st.none() | canonical_objects,
    grounded_in_roster=st.none() | st.booleans(),
    attempts=st.lists(attempts, max_size=3).map(tuple),
    duration_ms=integers,
    caller=st.none() | strings,
    brief=st.none() | briefs,
    token_budget_spent=st.booleans(),
    no_progress=st.booleans(),
    try_number=st.integers(1, INTEGER_MAX),
    request_digest=st.none() | strings,
)

LEAST = replace(
    FULL,
    caller_trace=None,
    spec=None,
    error=None,
    artifact=None,
    grounded_in_roster=None,
    attempts=(),
    prompt="",
    caller=None,
    brief=None,
    token_budget_spent=False,
    no_progress=False,
    try_number=1,
    request_digest=None,
)


def test_a_full_row_has_these_bytes() -> None:
    error = '{"code":"UNAVAILABLE","reason":"CHATD_UNREACHABLE","where":"iterate","message":"chatd cannot be reached."}'
    assert encode_row(FULL).decode() == (
        '{"schema":"session.iterate.v1","session_id":"s-1","timestamp":"2026-03-01T06:00:00.000001Z",'
        '"daemon":"iterate","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","caller_trace":"order 1","kind":"fill",'
        '"provider":"openai","model":"m","prompt":"fill <3> & more\\n","spec":{"n":1e+21},"max_iterations":3,'
        f'"iterations":2,"final_verdict":"infra_error","error":{error},"artifact":{{"id":18446744073709551617}},'
        '"grounded_in_roster":false,"attempts":[{"iteration":1,"provider":"openai","model":"m","verdict":"rejected",'
        '"span_id":"00f067aa0ba902b7","raw":"{\\"id\\":\\"é\\"}","raw_truncated":true,"findings":[{"code":'
        '"PHANTOM_WORKER","path":"/id","message":"no worker é","suggestions":[{"id":"W-1"},{}]}],'
        f'"error":{error},"input_tokens":5,'
        '"output_tokens":6,"chat_ms":7,"validate_ms":8,"roster":"v1","datasets":[{"name":"skus","version":"v2"}],'
        '"cost_nano_usd":9,"parse_problem":"it refused"},{"iteration":2,"provider":"","model":"",'
        '"verdict":"infra_error","raw":"","input_tokens":0,"output_tokens":0,"chat_ms":0,"validate_ms":0,'
        '"cost_nano_usd":0}],"input_tokens":5,"output_tokens":6,"duration_ms":9,"caller":"desk",'
        '"brief":{"grounding":"candidates","candidates":2,"candidates_total":3,"candidates_total_is_floor":true,'
        '"infeasible":true,"degraded":true,"findings":[{"code":"TOO_FEW_QUALIFY","path":"","message":"3 of 20 qualify",'
        '"suggestions":[]}],"roster":"v1","brief_ms":4},"token_budget_spent":true,"no_progress":true,"try":2,'
        '"request_digest":"sha256:0123456789abcdef0123456789abcdef","cost_nano_usd":9}\n'
    )


def test_a_row_without_optional_keys_has_these_keys() -> None:
    assert list(json.loads(encode_row(LEAST))) == [
        "schema", "session_id", "timestamp", "daemon", "trace_id", "kind", "provider", "model", "prompt",
        "max_iterations", "iterations", "final_verdict", "attempts", "input_tokens", "output_tokens", "duration_ms",
    ]  # fmt: skip


def test_empty_values_are_values() -> None:
    attempt = SessionAttemptRecord(iteration=1, verdict="rejected", findings=(), span_id="", roster="")
    row = json.loads(encode_row(replace(LEAST, caller_trace="", spec="{}", artifact="{}", attempts=(attempt,))))
    assert (row["caller_trace"], row["spec"], row["artifact"]) == ("", {}, {})
    assert (row["attempts"][0]["findings"], row["attempts"][0]["span_id"], row["attempts"][0]["roster"]) == ([], "", "")


@bounded
@given(records)
def test_a_record_becomes_one_line_whose_record_becomes_the_same_line(record: SessionRecord) -> None:
    line = encode_row(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    decoded = decode_row(line)
    assert encode_row(decoded) == line
    assert decode_row(line[:-1]) == decoded
    assert json.loads(line)["prompt"] == "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in record.prompt)


@bounded
@given(attempts)
def test_an_attempt_stands_in_the_row_as_the_journal_holds_it(attempt: SessionAttemptRecord) -> None:
    text = encode_attempt(attempt)
    assert text.encode() in encode_row(replace(LEAST, attempts=(attempt,)))
    assert encode_attempt(decode_attempt(json.loads(text))) == text


def test_lone_surrogates_in_any_place_become_the_replacement_character() -> None:
    bad = "x\ud800"
    error = ErrorRecord(bad, bad, "chatd", bad)
    attempt = replace(
        FULL.attempts[0],
        provider=bad,
        raw=bad,
        findings=(FindingRecord(bad, bad, bad),),
        error=error,
        roster=bad,
        span_id=bad,
    )
    record = replace(FULL, prompt=bad, spec=f'{{"a":"{bad}"}}', artifact=f'{{"{bad}":1}}', error=error, model=bad)
    line = encode_row(replace(record, attempts=(attempt,), caller_trace=bad, session_id=bad)).decode()
    assert line.count("x\ufffd") == 19
    assert encode_row(decode_row(line.encode())) == line.encode()


@pytest.mark.parametrize("value", [-1, 2**63, True, 1.0])
@pytest.mark.parametrize("field", ["max_iterations", "duration_ms"])
def test_integers_that_a_row_cannot_hold_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{field} is .*: a row holds integers of 0 to 2\^63-1"):
        encode_row(replace(FULL, **{field: value}))


def test_the_totals_are_bounded_too() -> None:
    big = SessionAttemptRecord(iteration=1, verdict="rejected", input_tokens=INTEGER_MAX)
    encode_row(replace(LEAST, attempts=(big,)))
    with pytest.raises(ValueError, match="input_tokens is"):
        encode_row(replace(LEAST, attempts=(big, replace(big, input_tokens=1))))
    with pytest.raises(ValueError, match="chat_ms is -1"):
        encode_attempt(replace(big, chat_ms=-1))


@pytest.mark.parametrize("text", ["", "[]", '{"a":1}\n', '{\n"a":1}', "null"])
@pytest.mark.parametrize("field", ["spec", "artifact"])
def test_a_text_that_would_break_the_line_is_refused(field: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"{field} is not the canonical text"):
        encode_row(replace(FULL, spec=text) if field == "spec" else replace(FULL, artifact=text))


def changed(path: str, value: Any) -> bytes:
    row = json.loads(encode_row(FULL))
    *way, last = [int(step) if step.isdigit() else step for step in path.strip("/").split("/")]
    at = row
    for step in way:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return json.dumps(row).encode()


@pytest.mark.parametrize(
    ("line", "kind", "problem"),
    [
        (b"", "blank", "the line is empty"),
        (b" \r\n", "blank", "the line is empty"),
        (encode_row(FULL)[:200], "torn", "not JSON at line 1"),
        (encode_row(FULL)[:200] + encode_row(FULL), "torn", "not JSON at line 1"),
        (encode_row(FULL)[100:], "torn", "not JSON at line 1"),
        (b"\xff\xfe", "torn", "not UTF-8"),
        (b"[" * 200_000, "torn", "nested deeper than 106"),
        (b"17", "torn", "not a JSON object"),
        (b"{}", "foreign", "its schema is not session.iterate.v1"),
        (b'{"schema":"session.iterate.v2"}', "foreign", "its schema is not session.iterate.v1"),
        (b'{"schema":"session.iterate.v1"}', "invalid", "/session_id is absent: a string is expected"),
        (changed("prompt", 7), "invalid", "/prompt is 7: a string is expected"),
        (changed("prompt", None), "invalid", "/prompt is None: a string is expected"),
        (changed("caller_trace", None), "invalid", "/caller_trace is None"),
        (changed("spec", []), "invalid", "/spec is []: an object is expected"),
        (changed("max_iterations", -1), "invalid", "/max_iterations is -1"),
        (changed("duration_ms", 2**63), "invalid", "/duration_ms is 9223372036854775808"),
        (changed("duration_ms", 1.5), "invalid", "/duration_ms is 1.5"),
        (changed("final_verdict", "won"), "invalid", "/final_verdict is 'won': one of accepted"),
        (changed("grounded_in_roster", 1), "invalid", "/grounded_in_roster is 1: true or false"),
        (changed("error/where", "mars"), "invalid", "/error/where is 'mars'"),
        (changed("attempts", {}), "invalid", "/attempts is {}: an array is expected"),
        (changed("attempts/0", 1), "invalid", "/attempts is [1, "),
        (changed("attempts/1/raw", ...), "invalid", "/attempts/1/raw is absent"),
        (changed("attempts/0/findings/0/code", ...), "invalid", "/attempts/0/findings/0/code is absent"),
        (changed("iterations", 3), "invalid", "/iterations is 3, but the attempts make 2"),
        (changed("input_tokens", 4), "invalid", "/input_tokens is 4, but the attempts make 5"),
        (changed("cost_nano_usd", 4), "invalid", "/cost_nano_usd is 4, but the attempts make 9"),
        (changed("cost_nano_usd", ...), "invalid", "/cost_nano_usd is None, but the attempts make 9"),
        (changed("attempts/0/cost_nano_usd", ...), "invalid", "/cost_nano_usd is 9, but the attempts make None"),
        (changed("attempts/0/datasets", {}), "invalid", "/attempts/0/datasets is {}: an array is expected"),
        (changed("attempts/0/datasets/0/version", ...), "invalid", "/attempts/0/datasets/0/version is absent"),
        (changed("attempts/0/findings/0/suggestions", ["x"]), "invalid", "/attempts/0/findings/0/suggestions is"),
        (changed("attempts/0/parse_problem", 5), "invalid", "/attempts/0/parse_problem is 5: a string"),
        (changed("caller", 5), "invalid", "/caller is 5: a string"),
        (changed("brief", []), "invalid", "/brief is []: an object"),
        (changed("brief/grounding", "none"), "invalid", "/brief/grounding is 'none': one of form, candidates"),
        (changed("brief/brief_ms", ...), "invalid", "/brief/brief_ms is absent"),
        (changed("no_progress", "yes"), "invalid", "/no_progress is 'yes': true or false"),
        (changed("try", 1), "invalid", "/try is 1: an integer of 2 and up"),
    ],
)
def test_what_is_no_row_is_named_by_kind_and_place(line: bytes, kind: str, problem: str) -> None:
    with pytest.raises(RowBreach) as caught:
        decode_row(line)
    assert caught.value.kind == kind
    assert problem in caught.value.problem
    assert len(caught.value.problem) < 400


def test_unknown_keys_are_ignored_and_white_space_and_key_order_do_not_matter() -> None:
    row = json.loads(encode_row(FULL))
    row["new_in_v1"] = {"a": 1}
    row["attempts"][0]["later"] = 0.5
    row["attempts"][0]["findings"][0]["hint"] = None
    row["brief"]["later"] = []
    shuffled = json.dumps(dict(reversed(row.items())), indent=None).encode() + b"\r\n"
    assert decode_row(shuffled) == decode_row(encode_row(FULL)) == FULL


def test_a_row_with_an_artifact_of_depth_a_hundred_reads_back() -> None:
    deep = '{"a":' * 99 + "{}" + "}" * 99
    attempt = replace(FULL.attempts[0], findings=(FindingRecord("X", "", "", (deep,)),))
    record = replace(FULL, artifact=deep, attempts=(attempt,))
    assert decode_row(encode_row(record)) == record


@pytest.mark.parametrize(
    ("text", "kept", "truncated"),
    [
        ("", "", False),
        ("a" * RAW_BYTES_MAX, "a" * RAW_BYTES_MAX, False),
        ("a" * RAW_BYTES_MAX + "b", "a" * RAW_BYTES_MAX, True),
        ("é" * (RAW_BYTES_MAX // 2), "é" * (RAW_BYTES_MAX // 2), False),
        ("aé" + "é" * (RAW_BYTES_MAX // 2), "aé" + "é" * (RAW_BYTES_MAX // 2 - 2), True),
        ("xyz" + "😀" * (RAW_BYTES_MAX // 4), "xyz" + "😀" * (RAW_BYTES_MAX // 4 - 1), True),
        ("\ud800" * RAW_BYTES_MAX, "\ufffd" * (RAW_BYTES_MAX // 3), True),
    ],
    ids=["empty", "full", "one-over", "two-byte-full", "two-byte-cut", "four-byte-cut", "surrogates"],
)
def test_raw_is_cut_on_a_character_boundary(text: str, kept: str, *, truncated: bool) -> None:
    assert cut_raw(text) == (kept, truncated)


@bounded
@given(st.text(min_size=1, max_size=3), st.integers(-2, 2))
def test_a_cut_raw_is_the_longest_beginning_that_fits(unit: str, more: int) -> None:
    size = len(unit.encode(errors="surrogatepass"))
    text = unit * max(0, RAW_BYTES_MAX // size + more)
    kept, truncated = cut_raw(text)
    data = kept.encode(errors="surrogatepass")
    assert truncated == (len(text.encode(errors="surrogatepass")) > RAW_BYTES_MAX)
    assert len(data) <= RAW_BYTES_MAX
    if truncated:
        following = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)[len(kept)]
        assert len(data) + len(following.encode()) > RAW_BYTES_MAX
