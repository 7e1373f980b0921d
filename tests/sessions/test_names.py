"""Goal: what rotates a log is followed, and what looks like a copy never counts.

Method: names as logrotate, operators, editors and file managers make them; and names at random around the live one.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lakehouse.sessions.store.names import Compression, LogName, may_be_mistaken, names_of_same_rows, parse_log_name

LIVE = "sessions.jsonl"


@pytest.mark.parametrize(
    ("name", "base", "compression"),
    [
        ("sessions.jsonl", "sessions.jsonl", "none"),
        # logrotate: numbers, dateext with its default and other formats, hourly, extension, compress.
        ("sessions.jsonl.1", "sessions.jsonl.1", "none"),
        ("sessions.jsonl.0", "sessions.jsonl.0", "none"),
        ("sessions.jsonl.12.gz", "sessions.jsonl.12", "gzip"),
        ("sessions.jsonl-20261124", "sessions.jsonl-20261124", "none"),
        ("sessions.jsonl-2026112410", "sessions.jsonl-2026112410", "none"),
        ("sessions.jsonl-20261124.gz", "sessions.jsonl-20261124", "gzip"),
        ("sessions.jsonl-20261124-1795478400.zst", "sessions.jsonl-20261124-1795478400", "zstd"),
        ("sessions.jsonl-1795478400", "sessions.jsonl-1795478400", "none"),
        ("sessions.jsonl-2026-11-24", "sessions.jsonl-2026-11-24", "none"),
        ("sessions.jsonl-202611", "sessions.jsonl-202611", "none"),
        ("sessions.jsonl.1.xz", "sessions.jsonl.1", "other"),
        ("sessions.jsonl-20261124.bz2", "sessions.jsonl-20261124", "other"),
        ("sessions.1.jsonl", "sessions.1.jsonl", "none"),
        ("sessions.1.jsonl.gz", "sessions.1.jsonl", "gzip"),
        ("sessions-20261124.jsonl", "sessions-20261124.jsonl", "none"),
        ("sessions-20261124.jsonl.gz", "sessions-20261124.jsonl", "gzip"),
        # By hand, and by loggers of other languages.
        ("sessions.jsonl.2026-11-24T10:00:00Z.gz", "sessions.jsonl.2026-11-24T10:00:00Z", "gzip"),
        ("sessions.jsonl.2026-11-24T10:00:00+01:00", "sessions.jsonl.2026-11-24T10:00:00+01:00", "none"),
        ("sessions.jsonl.2026-11-24_10-00-00", "sessions.jsonl.2026-11-24_10-00-00", "none"),
        ("sessions.jsonl.20261124T100000Z", "sessions.jsonl.20261124T100000Z", "none"),
        ("sessions-2026-11-24T10-00-00.000.jsonl.gz", "sessions-2026-11-24T10-00-00.000.jsonl", "gzip"),
        ("sessions_20261124.jsonl", "sessions_20261124.jsonl", "none"),
        ("sessions.jsonl-20261124-1", "sessions.jsonl-20261124-1", "none"),
        ("sessions.jsonl.gz", "sessions.jsonl", "gzip"),
    ],
)
def test_rotated_names_belong_to_the_log(name: str, base: str, compression: Compression) -> None:
    assert parse_log_name(LIVE, name) == LogName(base, compression)
    assert not may_be_mistaken(LIVE, name)


@pytest.mark.parametrize(
    "name",
    [
        "sessions.jsonl.bak",
        "sessions.jsonl.1.bak",
        "sessions.jsonl~",
        "sessions.jsonl.~1~",
        "sessions.jsonl.tmp",
        "sessions.jsonl.1.tmp",
        "sessions.jsonl.orig",
        "sessions.jsonl.old",
        "sessions.jsonl.save",
        "sessions.jsonl.1.part",
        "sessions.jsonl.swp",
        "sessions.jsonl.1.gz.tmp",
        "sessions.jsonl.1.zst.gz",
        "sessions.jsonl.1.gz.gz",
        "sessions.jsonl.1.zip",
        "sessions.jsonl.1.1",
        "sessions.jsonl.1-2",
        "sessions.jsonl.1 ",
        "sessions.jsonl.1\n",
        "sessions.jsonl.\u0661",
        "sessions.jsonl-1",
        "sessions.jsonl-20261124-",
        "sessions.jsonl-20261124.copy",
        "sessions_old.jsonl",
        "sessions-copy.jsonl",
        "sessions-copy.jsonl.zst",
        "sessions-2.jsonl",
        "sessions (1).jsonl",
        "sessions (copy).jsonl.gz",
        "sessions - Copy.jsonl",
        "sessions 2.jsonl",
        "Copy of sessions.jsonl",
        "old-sessions.jsonl",
        "sessions.jsonl (copy 1)",
        "sessions.jsonl.sha256",
        "#sessions.jsonl#",
    ],
)
def test_copies_and_backups_do_not_count_and_are_named(name: str) -> None:
    assert parse_log_name(LIVE, name) is None
    assert may_be_mistaken(LIVE, name)


@pytest.mark.parametrize("name", ["sessions.parquet", "x.jsonl", "sessionsets.jsonl", "SESSIONS.JSONL", "sessions", ""])
def test_what_stands_beside_by_chance_is_passed_over_in_silence(name: str) -> None:
    assert parse_log_name(LIVE, name) is None
    assert not may_be_mistaken(LIVE, name)


@pytest.mark.parametrize("live", ["log", "a.b.jsonl", "s[1].jsonl", "x.jsonl.gz", ".hidden", "a+b (c).jsonl", "l.1"])
def test_a_log_may_be_called_as_one_likes(live: str) -> None:
    assert parse_log_name(live, live) == LogName(live, "none")
    assert parse_log_name(live, f"{live}.1.gz") == LogName(f"{live}.1", "gzip")
    assert parse_log_name(live, f"{live}.bak") is None
    assert parse_log_name(live, f"{live}x.1") is None


MARKS = st.text(alphabet="0129.-_T:Z+~ abk\n\u0662", max_size=12)


@given(before=MARKS, after=MARKS, suffix=st.sampled_from(["", ".gz", ".zst", ".xz", ".gz.zst", ".GZ"]))
@example(before="", after="", suffix="")
def test_a_name_belongs_or_is_named_and_only_digits_and_separators_belong(before: str, after: str, suffix: str) -> None:
    name = f"sessions{before}.jsonl{after}{suffix}"
    parsed = parse_log_name(LIVE, name)

    assert not (parsed is not None and may_be_mistaken(LIVE, name))
    if parsed is not None:
        mark = parsed.base.replace("sessions", "").replace(".jsonl", "")
        assert set(mark) <= set("0123456789.-_T:Z+")
        assert not (before and after), "a file is rotated in one way"
        assert all(parse_log_name(LIVE, other) is not None for other in names_of_same_rows(name))
        assert parsed.base in (name, *names_of_same_rows(name))
