"""Goal: the sweep, which looks for a row before it writes one, and the readers go by the same files.

Method: folders full of hostile names, in which every file holds a row of its own; which of the rows the readers show,
and which the sweep's search finds, and what both say of the rest.
"""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from campaigns import campaign
from hypothesis import example, given
from hypothesis import strategies as st
from session_rows import record, rows, session_ids, write_segment

from iterate.session_log.scan import SoughtSession, find_written
from lakehouse.sessions.query.reader import SessionReader
from lakehouse.sessions.record import SessionRecord
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store.append import LogPosition
from lakehouse.sessions.store.archive import Archive, Manifest, new_segment
from lakehouse.sessions.store.log_files import list_log_files
from lakehouse.sessions.upkeep.compaction import compact
from lakehouse.sessions.upkeep.verification import verify_log

LIVE = "sessions.jsonl"
SEGMENTS = tuple(new_segment() for _ in range(2))
BESIDE = st.builds(
    lambda before, after, suffix: f"sessions{before}.jsonl{after}{suffix}",
    st.sampled_from(["", "", "", "", "-20261124", ".2", "_old", "-copy", " (1)", "-2"]),
    st.sampled_from(
        ["", "", ".1", ".2", "-20261124", ".2026-11-24T10:00:00Z", ".bak", "~", ".tmp", ".1.tmp", ".1.bak"]
    ),
    st.sampled_from(["", "", ".gz", ".zst", ".xz", ".zst.gz", ".gz.tmp"]),
)
CLAIMED = st.builds(
    lambda segment, rest: f"sessions.parquet/_claimed/{segment}{rest}",
    st.sampled_from([*SEGMENTS, "20261124", f"copy-of-{SEGMENTS[0]}"]),
    st.sampled_from([".jsonl", ".jsonl.gz", ".jsonl.zst", ".jsonl.bak", ".jsonl.gz.tmp", ".txt"]),
)
OTHERS = st.sampled_from(
    ["x.jsonl", "Copy of sessions.jsonl", ".sessions.jsonl.swp", "sessions.jsonl.1.sha256", "notes"]
)
KINDS = st.sampled_from(["file", "file", "file", "file", "symlink", "folder", "fifo"])


def packed(name: str, data: bytes) -> bytes:
    """As the last suffix says, so that a reader that goes by it sees whole rows."""
    if name.endswith(".gz"):
        return gzip.compress(data)
    return zstandard.compress(data) if name.endswith(".zst") else data


def make(kind: str, path: Path, elsewhere: Path) -> None:
    if kind == "symlink":
        path.symlink_to(elsewhere)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)


def sought(row: SessionRecord) -> SoughtSession:
    return SoughtSession(known=row, ended=True, position=LogPosition(), begun_unix_us=0)


@campaign(24)
@given(
    names=st.dictionaries(st.one_of(BESIDE, BESIDE, CLAIMED, OTHERS), KINDS, max_size=14),
    committed=st.lists(st.sampled_from([*SEGMENTS, f"{SEGMENTS[0]} (copy)"]), max_size=2),
)
@example(names={f"sessions.jsonl.1{suffix}": "file" for suffix in ("", ".gz", ".zst", ".xz")}, committed=[])
@example(names={f"sessions.jsonl.1{suffix}": "file" for suffix in (".gz", ".zst")}, committed=[])
@example(
    names={f"sessions.parquet/_claimed/{segment}.jsonl.gz": "file" for segment in SEGMENTS}, committed=[SEGMENTS[0]]
)
def test_the_sweep_searches_the_files_that_the_readers_read(
    tmp_path_factory: pytest.TempPathFactory, names: dict[str, str], committed: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    live = write_segment(folder / LIVE, encode_row(record(0)))
    archive = Archive(live)
    for wanted in (archive.claimed, archive.manifests):
        wanted.mkdir(parents=True, exist_ok=True)
    elsewhere = write_segment(folder / "elsewhere", encode_row(record(1)))
    for segment in committed:
        made_of = {"source": "sessions.jsonl.9", "source_bytes": 0, "content": ""}
        manifest = Manifest(segment=segment, lines=0, torn=0, files=(), **made_of)  # type: ignore[arg-type]  # by name
        (archive.manifests / f"{segment}.json").write_bytes(manifest.to_json())
    records = {LIVE: record(0)}
    for number, (name, kind) in enumerate(names.items(), 2):
        path = folder / name
        if kind == "file":
            records[name] = record(number)
            path.write_bytes(packed(name, encode_row(record(number))))
        elif not path.exists():
            make(kind, path, elsewhere)
    names_of = {row.session_id: name for name, row in records.items()}

    listing = list_log_files(live)
    with SessionReader(live) as reader:
        warned = " ".join(reader.warnings)
        read = {names_of[name] for (name,) in reader.query("SELECT session_id FROM facts")[1]}
    rows_of = list(records.values())
    result = find_written(str(live), [sought(row) for row in rows_of])
    found = {names_of[rows_of[index].session_id] for index in result.written}

    doubles = {os.path.relpath(file.path, folder) for file in listing.doubles}
    assert read == {os.path.relpath(file.path, folder) for file in listing.files}
    # A file that is being compressed holds the rows of the one beside it, which alone is read.
    assert found - doubles == read
    assert found == read | {name for name in doubles if not name.endswith(".xz")}
    # What has rows of the log that nobody can read makes the sweep wait, and the readers say so.
    assert bool(result.unknown) == (bool(listing.not_read) and len(found) < len(records))
    assert all(file.path.name in warned for file in (*listing.not_read, *listing.doubles))
    for name in set(records) - read - doubles:
        in_log = name in {os.path.relpath(file.path, folder) for file in listing.not_read}
        committed_one = name.startswith("sessions.parquet/") and Path(name).name.partition(".")[0] in committed
        stranger = any(os.path.relpath(path, folder) == name for path in listing.strangers)
        assert in_log or committed_one or stranger or name in ("x.jsonl", "notes") or name.startswith(".")


def test_copies_are_named_by_verify_and_do_not_fail_it(tmp_path: Path) -> None:
    live = write_segment(tmp_path / LIVE, rows(1, 2))
    for name in ("sessions.jsonl.bak", "sessions_old.jsonl", "sessions-copy.jsonl.zst", "sessions.jsonl.1.tmp"):
        write_segment(tmp_path / name, rows(1, 2))

    with SessionReader(live) as reader:
        found = verify_log(reader.snapshot, canonical=False, problems_max=10)
        (notice,) = reader.warnings

    assert found.passed
    assert (found.whole, found.duplicates) == (2, 0)
    assert "sessions-copy.jsonl.zst, sessions.jsonl.1.tmp, sessions.jsonl.bak, sessions_old.jsonl" in notice
    assert "sessions.jsonl.1 or sessions.jsonl-20261126" in notice


def test_so_many_copies_are_counted_and_only_the_first_are_named(tmp_path: Path) -> None:
    live = write_segment(tmp_path / LIVE, rows(1))
    for number in range(300):
        (tmp_path / f"sessions.jsonl.{number}.bak").write_bytes(b"")

    with SessionReader(live) as reader:
        (notice,) = reader.warnings

    assert "and 295 more" in notice
    assert len(notice) < 600


def test_a_rotated_file_in_a_compression_that_is_not_read_fails_verify(tmp_path: Path) -> None:
    live = write_segment(tmp_path / LIVE, rows(1))
    (tmp_path / "sessions.jsonl.1.xz").write_bytes(b"\xfd7zXZ\0")

    with SessionReader(live) as reader:
        found = verify_log(reader.snapshot, canonical=False, problems_max=10)

    assert not found.passed
    assert "sessions.jsonl.1.xz is compressed in a way that is not read" in found.problems[0].detail


@pytest.mark.parametrize("names", [(".gz", ".zst"), ("", ".gz"), ("", ".zst"), ("", ".gz", ".zst"), ("", ".xz")])
def test_one_file_in_two_compressions_counts_once_and_is_not_compacted(tmp_path: Path, names: tuple[str, ...]) -> None:
    live = write_segment(tmp_path / LIVE, rows(9))
    for suffix in names:
        write_segment(tmp_path / f"{LIVE}.1{suffix}", rows(1, 2))

    assert session_ids(live) == ["session-0001", "session-0002", "session-0009"]
    (outcome,) = compact(live, settle_s=0)

    assert (outcome.source, outcome.compacted) == (f"{LIVE}.1{names[0]}", False)
    assert names[1] in outcome.reason
    assert session_ids(live) == ["session-0001", "session-0002", "session-0009"]


def test_a_hard_link_counts_once(tmp_path: Path) -> None:
    live = write_segment(tmp_path / LIVE, rows(1))
    write_segment(tmp_path / f"{LIVE}.1", rows(2))
    os.link(tmp_path / f"{LIVE}.1", tmp_path / f"{LIVE}.2")

    assert session_ids(live) == ["session-0001", "session-0002"]


def test_a_copy_of_a_manifest_commits_nothing(tmp_path: Path) -> None:
    live = write_segment(tmp_path / LIVE, rows(1))
    write_segment(tmp_path / f"{LIVE}.1", rows(2, 3))
    assert [outcome.compacted for outcome in compact(live, settle_s=0)] == [True]
    archive = Archive(live)
    (manifest,) = archive.manifests.iterdir()
    (archive.manifests / f"{manifest.stem} (copy).json").write_bytes(manifest.read_bytes())
    assert session_ids(live) == ["session-0001", "session-0002", "session-0003"]

    (archive.manifests / f"{new_segment()}.json").write_bytes(manifest.read_bytes())

    with SessionReader(live) as reader:
        (warning,) = reader.warnings
    assert f"is the manifest of {manifest.stem}: remove this copy of it" in warning
    assert session_ids(live) == ["session-0001", "session-0002", "session-0003"]


def test_a_second_try_under_the_same_ids_is_another_row() -> None:
    first = record(1)

    assert sought(first).is_written_as(first)
    assert not sought(first).is_written_as(replace(first, prompt="another"))
