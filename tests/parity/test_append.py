"""Writers in three languages append to one path at the same time, and DuckDB reads one stream of whole rows."""

from __future__ import annotations

import fcntl
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

import duckdb
import pytest
from parity.compare import blanked
from parity.run import FIXTURES, golden_of
from parity.writers import Writer

NAMES = (
    "accepted-after-rejections",
    "infra-error-without-attempts",
    "control-characters",
    "line-separators",
    "wide-object",
    "raw-cut-inside-a-character",
)
TIMES = 12
TORN = b'{"schema":"session.iterate.v1","session_id":"torn","timestamp":"2026-03-01T06'
DEADLINE_S = 30

QUERY = """
SELECT daemon, count(*), count(DISTINCT kind), min(json_array_length(attempts))
FROM read_json(?, format = 'newline_delimited', ignore_errors = true, columns = {
    schema: 'VARCHAR', session_id: 'VARCHAR', timestamp: 'VARCHAR', daemon: 'VARCHAR', kind: 'VARCHAR',
    artifact: 'JSON', attempts: 'JSON', duration_ms: 'BIGINT'})
WHERE schema = 'session.iterate.v1' AND duration_ms IS NOT NULL
GROUP BY daemon ORDER BY daemon
"""


@contextmanager
def held(log: Path) -> Iterator[None]:
    """Yield the log's lock, so that writers which start one after another begin together."""
    descriptor = os.open(log, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def wait_for_waiters(log: Path, waiting: set[int]) -> None:
    """Until all processes of ``waiting`` wait for the log's lock."""
    inode = f":{log.stat().st_ino}"
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        # NUMBER: -> FLOCK ADVISORY WRITE PID DEVICE:INODE START END
        locks = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "-> FLOCK" in line]
        if waiting <= {int(fields[5]) for fields in locks if fields[6].endswith(inode)}:
            return
        time.sleep(0.01)
    pytest.fail(f"the writers did not come to the lock within {DEADLINE_S} s")


def append_with_all(writers: list[Writer], log: Path, *, rename_to: Path | None = None) -> None:
    """Run all writers on ``log`` at the same time; rename it under their feet if asked to."""
    paths = [FIXTURES / f"{name}.json" for name in NAMES]
    with ExitStack() as stack:
        with held(log):
            started = [
                stack.enter_context(writer.start("append", "--times", str(TIMES), log, *paths)) for writer in writers
            ]
            # Should the test end early, none of them is left behind.
            for process in started:
                stack.callback(process.kill)
            wait_for_waiters(log, {process.pid for process in started})
            if rename_to is not None:
                log.rename(rename_to)
        for process in started:
            out, told = process.communicate(timeout=DEADLINE_S)
            assert (process.returncode, out, told) == (0, b"", b"")


def assert_whole(lines: list[bytes], writers: list[Writer]) -> None:
    """Every line is one of the fixtures' rows, each as often from each writer as it was asked for."""
    goldens = {golden_of(name): name for name in NAMES}
    seen: Counter[tuple[str, str]] = Counter()
    for line in lines:
        writer = next(writer for writer in writers if f'"daemon":"{writer.daemon}"'.encode() in line[:300])
        seen[writer.daemon, goldens[blanked(line, writer.daemon)]] += 1
    assert seen == {(writer.daemon, name): TIMES for writer in writers for name in NAMES}


def test_three_languages_append_to_one_path_and_duckdb_reads_one_stream(
    all_writers: list[Writer], tmp_path: Path
) -> None:
    log = tmp_path / "sessions.jsonl"
    log.write_bytes(TORN)
    append_with_all(all_writers, log)
    torn, *rows = log.read_bytes().removesuffix(b"\n").split(b"\n")
    assert torn == TORN, "a torn line does not swallow the next row"
    assert_whole(rows, all_writers)
    daemons = [row.partition(b'"daemon":"')[2].partition(b'"')[0] for row in rows]
    assert sum(a != b for a, b in pairwise(daemons)) > 2 * len(all_writers), "the writers took turns"
    with duckdb.connect() as connection:
        read = connection.execute(QUERY, [str(log)]).fetchall()
    assert read == [(writer.daemon, TIMES * len(NAMES), 1, 0) for writer in sorted(all_writers, key=lambda w: w.daemon)]


def test_writers_that_wait_while_the_log_is_renamed_go_on_in_the_new_file(
    all_writers: list[Writer], tmp_path: Path
) -> None:
    log, rotated = tmp_path / "sessions.jsonl", tmp_path / "sessions.jsonl.1"
    log.write_bytes(b"")
    append_with_all(all_writers, log, rename_to=rotated)
    assert rotated.read_bytes() == b"", "who opened the old file gave it up once the path had moved"
    assert_whole(log.read_bytes().removesuffix(b"\n").split(b"\n"), all_writers)
    assert log.stat().st_mode & 0o777 & ~0o640 == 0


def test_each_writer_keeps_a_torn_line_to_itself_and_adds_none_to_a_whole_one(
    all_writers: list[Writer], tmp_path: Path
) -> None:
    name = NAMES[0]
    for writer in all_writers:
        log = tmp_path / writer.language
        log.write_bytes(TORN)
        writer.run("append", "--times", "2", log, FIXTURES / f"{name}.json")
        torn, first, second, rest = log.read_bytes().split(b"\n")
        assert (torn, rest) == (TORN, b"")
        assert blanked(first, writer.daemon) == blanked(second, writer.daemon) == golden_of(name)


def test_no_writer_follows_a_symlink(all_writers: list[Writer], tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "sessions.jsonl"
    target.write_bytes(b"")
    link.symlink_to(target)
    for writer in all_writers:
        with writer.start("append", link, FIXTURES / f"{NAMES[0]}.json") as process:
            _, told = process.communicate(timeout=DEADLINE_S)
        assert process.returncode != 0
        assert told, writer.language
    assert target.read_bytes() == b""
    target.unlink()
    for writer in all_writers:
        with writer.start("append", link, FIXTURES / f"{NAMES[0]}.json") as process:
            process.communicate(timeout=DEADLINE_S)
        assert process.returncode != 0
        assert not target.exists(), f"{writer.language} made the file that the link names"
