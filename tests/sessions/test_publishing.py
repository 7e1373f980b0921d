"""A compacted segment stands in the table once: after kills, conflicts, lost answers, and two publishers of it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from lake_tables import Killed, compacted, copy_of, lake_at, log_of, segments_of, session_counts, stored_files
from pyiceberg.catalog import MetastoreCatalog
from pyiceberg.exceptions import CommitFailedException, CommitStateUnknownException, ForbiddenError
from session_rows import HOSTILE_LINES, record, rows, write_segment

from lakehouse.sessions.lake import table as table_module
from lakehouse.sessions.lake.columns import arrow_schema
from lakehouse.sessions.lake.errors import LakeUnavailableError, PublishRefusedError
from lakehouse.sessions.lake.publications import Publications
from lakehouse.sessions.lake.publishing import OnStep, Published, publish, segments_in
from lakehouse.sessions.lake.reading import TableReader
from lakehouse.sessions.lake.table import LakeTable
from lakehouse.sessions.lake.unreferenced import referenced
from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store.archive import Archive
from lakehouse.sessions.upkeep.compaction import compact
from lakehouse.sessions.upkeep.merging import merge_days
from lakehouse.sessions.upkeep.rotation import rotate_after


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LakeTable:
    monkeypatch.setattr(table_module, "_WAIT_S", 0.001)
    return lake_at(tmp_path / "lake")


def on(step: str, act: Callable[[], None], *, times: int = 1) -> OnStep:
    """Return a listener that acts the first `times` times that a step is reached."""
    left = [times]

    def listen(reached: str) -> None:
        if reached == step and left[0]:
            left[0] -= 1
            act()

    return listen


def killed() -> None:
    raise Killed


def publish_all(live: Path, lake: LakeTable) -> None:
    list(publish(live, lake))


def once_each(lake: LakeTable, *numbers: int, host: str = "host-a") -> bool:
    return session_counts(lake) == {(host, f"session-{number:04d}"): 1 for number in numbers}


def test_every_row_stands_in_the_table_with_the_values_of_the_view(lake: LakeTable, tmp_path: Path) -> None:
    lines = (rows(*range(30)), *HOSTILE_LINES, encode_row(record(30, caller="ops", attempts=(), error=None)))
    live = compacted(tmp_path / "log", b"".join(lines), rows(31))
    live.write_bytes(rows(99))

    list(publish(live, lake))

    with SessionReader(live) as reader:
        names, expected = reader.query("SELECT * FROM sessions WHERE session_id <> 'session-0099' ORDER BY session_id")
        wanted = [dict(zip(names, row, strict=True)) for row in expected]
    with TableReader(lake) as reader:
        names, rows_found = reader.query("SELECT * FROM sessions ORDER BY session_id")
        found = [dict(zip(names, row, strict=True)) for row in rows_found]
    assert {row.pop("host") for row in found} == {"host-a"}
    assert {row.pop("segment") for row in found} == segments_of(live)
    assert found == wanted
    assert len(found) == 32


def test_a_segment_that_was_published_is_not_looked_for_again(lake: LakeTable, tmp_path: Path) -> None:
    live = log_of(tmp_path / "log", 0, 1)

    first = list(publish(live, lake))
    second = list(publish(live, lake))

    assert [batch.rows for batch in first] == [6]
    assert second == []
    assert once_each(lake, *range(6))


def test_segments_that_stand_merged_are_published_alike(lake: LakeTable, tmp_path: Path) -> None:
    live = log_of(tmp_path / "log", *range(6))
    assert any(day.merged for day in merge_days(live))

    list(publish(live, lake, segments_a_commit=2))

    assert once_each(lake, *range(18))
    found = lake.load().scan(selected_fields=("segment",)).to_arrow().column("segment").to_pylist()
    assert {found.count(segment) for segment in segments_of(live)} == {3}


def test_lines_that_are_no_rows_are_not_published_and_not_looked_at_again(lake: LakeTable, tmp_path: Path) -> None:
    live = compacted(tmp_path / "log", b'{"schema":"other","a":1}\n{"schema":"sess')

    assert [batch.rows for batch in publish(live, lake)] == [0]
    assert list(publish(live, lake)) == []


@pytest.mark.parametrize("step", ["looked", "noted", "written", "committed", "marked", "cleared"])
def test_a_kill_at_any_step_leaves_each_row_once_after_the_next_run(lake: LakeTable, tmp_path: Path, step: str) -> None:
    live = log_of(tmp_path / "log", 0, 1)
    with pytest.raises(Killed):
        list(publish(live, lake, segments_a_commit=1, on_step=on(step, killed)))
    write_segment(live.with_name("sessions.jsonl.1"), rows(6))
    list(compact(live))

    list(publish(live, lake))

    assert once_each(lake, *range(7))
    # And nothing is left of the tries, but what the last one wrote.
    named = {location.rpartition("/")[2] for location in referenced(lake.load())}
    assert stored_files(tmp_path / "lake") <= named


@pytest.mark.parametrize(
    "lost",
    [
        OSError("the answer was lost"),
        CommitStateUnknownException("gateway timeout"),
        # What a transport that asks again by itself makes of a lost answer: its second question meets its own commit.
        CommitFailedException("a conflict, with oneself"),
    ],
)
@pytest.mark.parametrize("landed", [True, False], ids=["landed", "not landed"])
def test_a_commit_of_which_nobody_knows_is_settled_by_looking(
    lake: LakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: Exception, landed: bool
) -> None:
    live = log_of(tmp_path / "log", 0)
    lake.load_to_write()
    catalog = lake._connected()
    commit, left = catalog.commit_table, [2]

    def losing(*args: Any, **kwargs: Any) -> Any:
        answer = commit(*args, **kwargs) if landed or not left[0] else None
        if left[0]:
            left[0] -= 1
            raise lost
        return answer

    monkeypatch.setattr(catalog, "commit_table", losing)

    assert [batch.rows for batch in publish(live, lake)] == [3]
    assert once_each(lake, *range(3))


def test_the_metadata_of_a_commit_that_was_not_to_be_is_removed(
    lake: LakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An engine that is given the folder takes the highest number for the table.
    live = log_of(tmp_path / "log", 0)
    lake.load_to_write()
    write = MetastoreCatalog._write_metadata

    def write_and_die(*args: Any, **kwargs: Any) -> None:
        write(*args, **kwargs)
        raise Killed

    with monkeypatch.context() as killing:
        killing.setattr(MetastoreCatalog, "_write_metadata", staticmethod(write_and_die))
        with pytest.raises(Killed):
            publish_all(live, lake)
    folder = tmp_path / "lake" / "lakehouse" / "sessions" / "metadata"
    (orphan,) = {path.name for path in folder.glob("*.json")} - named_metadata(lake)
    ahead = folder / f"00099-{uuid.uuid4()}.metadata.json"
    ahead.write_bytes(b"of one who is at work")

    publish_all(live, lake)

    assert once_each(lake, *range(3))
    assert {path.name for path in folder.glob("*.json")} == named_metadata(lake) | {ahead.name}
    assert orphan not in named_metadata(lake)


def named_metadata(lake: LakeTable) -> set[str]:
    table = lake.load()
    locations = (table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log))
    return {location.rpartition("/")[2] for location in locations}


@pytest.mark.parametrize("step", ["looked", "written"])
def test_two_publishers_of_one_segment_leave_its_rows_once(lake: LakeTable, tmp_path: Path, step: str) -> None:
    live = log_of(tmp_path / "log", 0, 1)
    other = copy_of(live, tmp_path / "copy")
    done: list[Published] = []

    def at_the_same_time() -> None:
        # In this log's own time between its look and its commit.
        done.extend(publish(other, lake_at(tmp_path / "lake")))

    late = list(publish(live, lake, on_step=on(step, at_the_same_time)))

    assert [batch.rows for batch in done] == [6]
    assert [batch.rows for batch in late] == [0]
    assert once_each(lake, *range(6))
    assert stored_files(tmp_path / "lake") <= {each.rpartition("/")[2] for each in referenced(lake.load())}


def test_two_publishers_of_some_segments_leave_each_once(lake: LakeTable, tmp_path: Path) -> None:
    live = log_of(tmp_path / "log", 0, 1)
    other = copy_of(live, tmp_path / "copy")
    write_segment(live.with_name("sessions.jsonl.1"), rows(6))
    list(compact(live))
    elsewhere = lake_at(tmp_path / "lake", host="host-b")

    list(publish(live, lake, on_step=on("written", lambda: publish_all(other, elsewhere))))

    assert session_counts(lake) == {
        **{("host-b", f"session-{number:04d}"): 1 for number in range(6)},
        ("host-a", "session-0006"): 1,
    }


def test_a_table_whose_retry_somebody_turned_on_has_it_off_again(lake: LakeTable, tmp_path: Path) -> None:
    with lake.load_to_write().transaction() as change:
        change.set_properties({"commit.retry.num-retries": "4"})

    list(publish(log_of(tmp_path / "log", 0), lake))

    assert lake.load().properties["commit.retry.num-retries"] == "0"


def test_a_lost_mark_is_found_in_the_table_even_after_its_snapshot_is_gone(lake: LakeTable, tmp_path: Path) -> None:
    live = log_of(tmp_path / "log", 0, 1)
    list(publish(live, lake, segments_a_commit=1))
    table = lake.load()
    older = [each.snapshot_id for each in table.snapshots() if each.snapshot_id != table.current_snapshot().snapshot_id]  # type: ignore[union-attr]
    table.maintenance.expire_snapshots().by_ids(older).commit()
    for segment in segments_of(live):
        Publications(Archive(live)).unmark(segment)

    assert segments_in(lake.load(), segments_of(live) | {"20260101T000000Z-000000000000"}) == segments_of(live)
    assert [batch.rows for batch in publish(live, lake)] == [0]
    assert once_each(lake, *range(6))


def test_another_table_gets_every_segment_anew(lake: LakeTable, tmp_path: Path) -> None:
    live = log_of(tmp_path / "log", 0)
    list(publish(live, lake))
    second = lake_at(tmp_path / "second")

    assert [batch.rows for batch in publish(live, second)] == [3]


def test_one_log_is_published_by_one_process_at_a_time(lake: LakeTable, tmp_path: Path) -> None:
    live = log_of(tmp_path / "log", 0)

    with Publications(Archive(live)).locked(), pytest.raises(PublishRefusedError, match="another process"):
        list(publish(live, lake))


def test_a_segment_with_a_damaged_file_is_left_and_said(lake: LakeTable, tmp_path: Path) -> None:
    live = log_of(tmp_path / "log", 0, 1)
    next(Archive(live).folder.glob("day=*/*.parquet")).write_bytes(b"PAR1")

    [outcome] = publish(live, lake)

    assert "restore it from a backup" in outcome.reason
    assert lake.load().current_snapshot() is None


def test_a_table_that_is_never_free_is_given_up_after_some_tries(
    lake: LakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = log_of(tmp_path / "log", 0)
    lake.load_to_write()

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("no route to postgresql://me:secret@db/catalog")

    monkeypatch.setattr(lake._connected(), "commit_table", refuse)
    monkeypatch.setattr(table_module, "TRIES_MAX", 2)

    with pytest.raises(LakeUnavailableError, match=r"no row is lost.*me:…@db") as raised:
        list(publish(live, lake))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (ForbiddenError("ForbiddenException: not yours"), "ForbiddenError: ForbiddenException: not yours"),
        (NotImplementedError(), "NotImplementedError: NotImplementedError"),
    ],
)
def test_a_catalog_that_refuses_is_not_asked_again(
    lake: LakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Exception, said: str
) -> None:
    live = log_of(tmp_path / "log", 0)
    lake.load_to_write()
    asked: list[int] = []

    def refuse(*_: Any, **__: Any) -> None:
        asked.append(1)
        raise refusal

    monkeypatch.setattr(lake._connected(), "commit_table", refuse)

    with pytest.raises(LakeUnavailableError, match=f"the catalog refuses, and no row is lost: {said}"):
        list(publish(live, lake))
    assert len(asked) == 1


def test_an_error_of_a_catalogs_own_client_is_one_of_the_catalog(
    lake: LakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = log_of(tmp_path / "log", 0)
    lake.load_to_write()
    commit, errors = lake._connected().commit_table, [EndpointConnectionError(endpoint_url="https://glue.example")]

    def failing(*args: Any, **kwargs: Any) -> Any:
        if errors:
            raise errors.pop()
        return commit(*args, **kwargs)

    monkeypatch.setattr(lake._connected(), "commit_table", failing)

    assert [batch.rows for batch in publish(live, lake)] == [3]


def test_a_table_of_before_a_key_gains_its_column(lake: LakeTable, tmp_path: Path) -> None:
    before = arrow_schema()
    for name in ("cost_nano_usd", "brief"):
        before = before.remove(before.get_field_index(name))
    lake._connected().create_namespace("lakehouse")
    making = lake._connected().create_table_transaction("lakehouse.sessions", schema=before)
    with making, making.update_spec() as spec:
        spec.add_field("timestamp", "day", "timestamp_day")

    list(publish(log_of(tmp_path / "log", 0), lake))

    assert {"cost_nano_usd", "brief"} <= set(lake.load().scan().to_arrow().column_names)
    assert once_each(lake, *range(3))


def test_no_manifest_holds_a_text_of_a_session(lake: LakeTable, tmp_path: Path) -> None:
    live = compacted(tmp_path / "log", encode_row(record(1, caller="Planted Name", session_id="planted-id")))
    list(publish(live, lake))

    [metrics] = lake.load().inspect.files().column("readable_metrics").to_pylist()

    bounded = {name for name, values in metrics.items() if values["lower_bound"] is not None}
    assert bounded == {"timestamp", "segment", "host"}


def test_the_live_file_is_rotated_once_its_first_row_is_old_enough(tmp_path: Path) -> None:
    live = tmp_path / "sessions.jsonl"
    assert rotate_after(live, 1) is None
    live.write_bytes(b"torn\n" + encode_row(record(1, timestamp="2026-11-20T10:00:00.000000Z")))
    ended = 1_795_168_800

    assert rotate_after(live, 600, now_unix_s=ended + 599) is None
    rotated = rotate_after(live, 600, now_unix_s=ended + 600)

    assert rotated is not None
    assert rotated.exists()
    assert not live.exists()
    live.touch()
    assert rotate_after(live, 0) is None, "an empty file"
    assert [outcome.compacted for outcome in compact(live, settle_s=0)] == [True], "its name belongs to the log"


def test_a_folder_without_an_archive_has_nothing_to_publish(lake: LakeTable, tmp_path: Path) -> None:
    assert list(publish(tmp_path / "sessions.jsonl", lake)) == []
    assert not os.path.exists(tmp_path / "sessions.parquet")  # noqa: PTH110
