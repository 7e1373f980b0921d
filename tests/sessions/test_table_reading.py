"""The published table answers like the files of its log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pytest
from lake_tables import compacted, lake_at, session_counts
from pyiceberg.types import LongType
from session_rows import HOSTILE_LINES, record, rows, session_ids, write_segment

from lakehouse.sessions.lake.erasing import expire_days
from lakehouse.sessions.lake.errors import LakeUnavailableError
from lakehouse.sessions.lake.publishing import publish
from lakehouse.sessions.lake.reading import TableReader, table_files
from lakehouse.sessions.lake.table import LakeTable
from lakehouse.sessions.lake.table_source import TableSource
from lakehouse.sessions.query.listing import find_rows, list_sessions
from lakehouse.sessions.query.reader import QueryRefusedError, SessionReader
from lakehouse.sessions.query.session_filter import SessionFilter
from lakehouse.sessions.query.stats import session_stats
from lakehouse.sessions.query.viewer.source import LogSource
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store.archive import Archive
from lakehouse.sessions.store.segments import SessionLogUnavailableError, open_snapshot
from lakehouse.sessions.upkeep.compaction import compact
from lakehouse.sessions.upkeep.erasing_archive import ArchiveEraser
from lakehouse.sessions.upkeep.merging import merge_days
from lakehouse.sessions.upkeep.retention import drop_days, first_kept_day
from lakehouse.sessions.upkeep.verification import verify_log

UNUSUAL = [
    record(70, caller="ops", caller_trace="order-7", grounded_in_roster=False),
    record(71, artifact=None, spec=None, attempts=(), final_verdict="max_iter_exhausted", no_progress=True),
    record(72, prompt='a "quoted" \x1f\x7f\u2028 text', session_id="odd id é"),
]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LakeTable]:
    folder = tmp_path_factory.mktemp("published")
    texts = (rows(*range(40)), *HOSTILE_LINES, rows(40, 41), *map(encode_row, UNUSUAL))
    live = compacted(folder / "log", b"".join(texts), rows(50))
    lake = lake_at(folder / "lake")
    list(publish(live, lake, segments_a_commit=1))
    return live, lake


@pytest.fixture
def readers(published: tuple[Path, LakeTable]) -> Iterator[tuple[SessionReader, TableReader]]:
    live, lake = published
    with SessionReader(live) as of_log, TableReader(lake) as of_table:
        yield of_log, of_table


@pytest.mark.parametrize("view", ["sessions", "attempts", "facts"])
def test_each_view_has_the_same_rows(readers: tuple[SessionReader, TableReader], view: str) -> None:
    of_log, of_table = readers

    expected = sorted(map(repr, of_log.query(f"SELECT * FROM {view}")[1]))
    found = sorted(map(repr, of_table.query(f"SELECT * EXCLUDE (segment, host) FROM {view}")[1]))

    assert found == expected
    assert len(found) > 40


def test_the_newest_sessions_and_the_figures_are_the_same(readers: tuple[SessionReader, TableReader]) -> None:
    of_log, of_table = readers
    wanted = SessionFilter(kind="fill", since=datetime(2026, 11, 20, 5))  # noqa: DTZ001

    assert list_sessions(of_table, wanted, limit=7) == list_sessions(of_log, wanted, limit=7)
    assert session_stats(of_table, wanted, period="day") == session_stats(of_log, wanted, period="day")


@pytest.mark.parametrize("text", ["café RÉSUMÉ", "W-9 is not", '"try":2', "1e21", "nowhere at all", '"quoted"'])
def test_a_text_is_found_in_the_same_sessions(readers: tuple[SessionReader, TableReader], text: str) -> None:
    of_log, of_table = readers
    wanted = SessionFilter(text=text)

    assert list_sessions(of_table, wanted, limit=100) == list_sessions(of_log, wanted, limit=100)


def test_the_pages_show_the_table_as_they_show_a_log(published: tuple[Path, LakeTable]) -> None:
    live, lake = published
    of_log, of_table = LogSource(live, question_s=60), TableSource(lake, question_s=60)

    assert of_table.newest(SessionFilter(), limit=9, before=None) == of_log.newest(
        SessionFilter(), limit=9, before=None
    )
    assert of_table.figures(SessionFilter(), period="day").stats == of_log.figures(SessionFilter(), period="day").stats
    assert of_table.rows("session-0003") == of_log.rows("session-0003")
    assert of_table.follow() is None
    with pytest.raises(SessionLogUnavailableError, match="sessions publish"):
        TableSource(lake_at(live.parent / "none"), question_s=60).rows("x")


@pytest.mark.parametrize("session", [record(3), *UNUSUAL], ids=lambda session: session.session_id)
def test_a_row_is_given_to_the_byte_as_the_log_has_it(
    readers: tuple[SessionReader, TableReader], session: object
) -> None:
    line = encode_row(session)  # type: ignore[arg-type]  # a parameter

    for identifier in (session.session_id, session.trace_id):  # type: ignore[attr-defined]
        assert [found + b"\n" for found in find_rows(readers[1], identifier)] == [line]


def test_a_persons_query_reads_the_table_and_nothing_else(readers: tuple[SessionReader, TableReader]) -> None:
    _, of_table = readers

    assert list(of_table.query_read_only("SELECT host, count(*) FROM sessions GROUP BY ALL")[1]) == [("host-a", 46)]
    for statement in ("SELECT * FROM read_text('/etc/hostname')", "DROP VIEW sessions", "SET threads = 1"):
        with pytest.raises(QueryRefusedError):
            of_table.query_read_only(statement)


def test_a_table_in_which_nothing_stands_yet_is_read_as_empty(tmp_path: Path) -> None:
    lake = lake_at(tmp_path / "lake")
    with pytest.raises(LakeUnavailableError, match="sessions publish"):
        TableReader(lake)
    lake.load_to_write()

    with TableReader(lake) as reader:
        assert list_sessions(reader, SessionFilter(), limit=5) == []
        assert session_stats(reader, SessionFilter(), period="day").totals.sessions == 0


def test_a_table_that_a_later_version_has_widened_is_read_alike(
    published: tuple[Path, LakeTable], tmp_path: Path
) -> None:
    lake = lake_at(tmp_path / "lake")
    with lake.load_to_write().update_schema() as schema:
        schema.add_column("later_key", LongType())
    live = compacted(tmp_path / "log", rows(1))

    list(publish(live, lake))

    with TableReader(lake) as reader:
        assert [line + b"\n" for line in find_rows(reader, "session-0001")] == [rows(1)]


def test_a_snapshot_is_of_its_moment(tmp_path: Path) -> None:
    lake = lake_at(tmp_path / "lake")
    live = compacted(tmp_path / "log", rows(1))
    list(publish(live, lake))
    with TableReader(lake) as reader:
        write_segment(live.with_name("sessions.jsonl.1"), rows(2))
        list(compact(live))
        list(publish(live, lake))

        assert list(reader.query("SELECT count(*) FROM sessions")[1]) == [(1,)]


def test_rows_older_than_they_are_kept_go_from_archive_and_table_as_whole_days(tmp_path: Path) -> None:
    lake = lake_at(tmp_path / "lake")
    live = compacted(tmp_path / "log", rows(*range(30)), rows(*range(30, 60)), rows(*range(60, 70)) + b"torn\n")
    list(merge_days(live))
    list(publish(live, lake))
    before = date(2026, 11, 21)
    assert sum(int(each) < 24 for each in (name[-4:] for name in session_ids(live))) == 24

    assert drop_days(live, before) == 24
    expired = expire_days(lake, before)

    kept = [f"session-{number:04d}" for number in range(24, 70)]
    assert session_ids(live) == kept
    assert {session for _, session in session_counts(lake)} == set(kept)
    assert expired is not None
    assert expired.rows == 24
    assert not list((tmp_path / "lake").rglob("timestamp_day=2026-11-20/*"))
    with open_snapshot(live) as snapshot:
        assert verify_log(snapshot, canonical=False, problems_max=5).unreadable == 0
    assert expire_days(lake, before) is None
    assert drop_days(live, before) == 0


def test_a_retention_that_was_interrupted_refuses_nobody_and_is_ended_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = compacted(tmp_path / "log", rows(*range(30)), rows(*range(30, 40)))
    with monkeypatch.context() as patched:
        patched.setattr(ArchiveEraser, "finish", lambda _self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            drop_days(live, date(2026, 11, 21))
    assert Archive(live).erasing.exists()
    write_segment(live.with_name("sessions.jsonl.1"), rows(0, 41))

    assert [outcome.compacted for outcome in compact(live)] == [True]
    assert drop_days(live, date(2026, 11, 21)) == 1
    assert not Archive(live).erasing.exists()


def test_a_day_is_kept_until_all_of_it_is_old(tmp_path: Path) -> None:
    now = datetime.fromisoformat("2026-11-27T12:00:00+00:00")

    assert first_kept_day(1, now=now) == date(2026, 11, 26)
    assert first_kept_day(0.4, now=now) == date(2026, 11, 27)


def test_reading_a_log_loads_nothing_of_the_table() -> None:
    program = (
        "import sys; import lakehouse.cli.sessions_query, lakehouse.cli.sessions_show, lakehouse.cli.sessions_publish,"
        " lakehouse.cli.sessions_erase; print({'pyiceberg', 'pyarrow', 'pydantic', 'duckdb'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


def test_an_installation_without_the_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog", None)

    with pytest.raises(LakeUnavailableError, match=r"pip install 'lakehouse-iterate\[server,lake\]'"):
        lake_at(tmp_path)


def test_a_table_whose_rows_another_engine_marked_as_deleted_is_refused(
    published: tuple[Path, LakeTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = published[1].load()
    scan = table.scan()
    tasks = list(scan.plan_files())
    tasks[0].delete_files.add(tasks[0].file)
    monkeypatch.setattr(type(scan), "plan_files", lambda _self: tasks)

    with pytest.raises(LakeUnavailableError, match="rewrite_data_files"):
        table_files(table)
