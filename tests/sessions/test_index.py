"""Goal: the index says where a row stands and never that there is none: whatever the log's files go through, what the
index and the search find is what a reading of every line finds.

Method: random histories of appends, rotations, compressions, compactions, deletions of the index and of its process,
by hypothesis, against a dict.
"""

from __future__ import annotations

import gzip
import itertools
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import zstandard
from campaigns import campaign
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from lakehouse.sessions.index import build, search, texts
from lakehouse.sessions.index.build import IndexBuilder
from lakehouse.sessions.index.search import LogSearch, NotSearchedError
from lakehouse.sessions.index.store import RowIndex, index_folder, remove_index
from lakehouse.sessions.record import SessionRecord, rfc3339
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store.segments import Segment, segment_of
from lakehouse.sessions.upkeep.compaction import compact

NOW_S = time.time()
HOUR_S = 3600.0


_ticks = itertools.count()


def row(
    number: int, *, try_number: int = 1, age_s: float = 0.0, digest: bool = True, verdict: str = "accepted"
) -> bytes:
    return encode_row(
        SessionRecord(
            session_id=f"s-{number}",
            timestamp=rfc3339(int((NOW_S - age_s) * 1e6) + next(_ticks)),
            trace_id="0" * 31 + "1",
            kind="song",
            provider="",
            model="",
            prompt="Sing. " * 1000,  # longer than what is searched by hand below
            max_iterations=1,
            final_verdict=verdict,  # type: ignore[arg-type]  # a parameter
            duration_ms=1,
            try_number=try_number,
            request_digest="sha256:0" if digest else None,
        )
    )


def append(log: Path, *rows: bytes) -> None:
    with log.open("ab") as file:
        file.writelines(rows)


def turn_to_the_end(log: Path, *, recall_hours: float = 24) -> None:
    with closing(RowIndex.open_to_write(index_folder(log))) as index:
        builder = IndexBuilder(log, index, recall_hours=recall_hours)
        for _ in range(1000):
            if not builder.turn():
                return
    raise AssertionError("it has never done")


def found(log: Path, number: int, *, hours: float = 24) -> SessionRecord | None:
    with closing(LogSearch(str(log))) as looking:
        return looking.last_row(f"s-{number}", int((time.time() - hours * HOUR_S) * 1e6))


def compress(path: Path, how: str) -> None:
    """As logrotate does it: read from standard input, so that zstd states no size."""
    data = path.read_bytes()
    if how == "gz":
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
    else:
        writer = zstandard.ZstdCompressor(write_content_size=how == "sized").compressobj(
            size=len(data) if how == "sized" else -1
        )
        path.with_name(path.name + ".zst").write_bytes(writer.compress(data) + writer.flush())
    path.unlink()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "sessions.jsonl"


@pytest.fixture
def _nothing_is_searched_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SEARCHED_BYTES_MAX", 0)


@campaign(8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_to_the_files_the_last_row_of_every_id_is_found(  # noqa: PLR0912  a branch a step
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    log = tmp_path_factory.mktemp("log") / "sessions.jsonl"
    known: dict[int, int] = {}
    rotated = 0
    steps = st.sampled_from(
        [
            "append",
            "append",
            "torn",
            "index",
            "half",
            "rotate",
            "gz",
            "zst",
            "sized",
            "compact",
            "delete",
            "copytruncate",
        ]
    )
    for _ in range(data.draw(st.integers(1, 14))):
        step = data.draw(steps)
        if step == "append":
            for number in data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=4)):
                known[number] = known.get(number, 0) + 1
                append(log, row(number, try_number=known[number], verdict="infra_error", digest=bool(number % 2)))
        elif step == "torn":
            append(log, row(99)[: data.draw(st.integers(1, 300))] + b"\n")
        elif step == "index":
            turn_to_the_end(log)
        elif step == "half":
            with closing(RowIndex.open_to_write(index_folder(log))) as index:
                IndexBuilder(log, index, recall_hours=24).turn()
        elif step == "rotate" and log.exists():
            rotated += 1
            log.rename(log.with_name(f"sessions.jsonl.{rotated}"))
        elif step == "copytruncate" and log.exists():
            rotated += 1
            log.with_name(f"sessions.jsonl.{rotated}").write_bytes(log.read_bytes())
            os.truncate(log, 0)
        elif step in ("gz", "zst", "sized"):
            for path in log.parent.glob("sessions.jsonl.[0-9]*"):
                if path.suffix[1:].isdecimal():
                    compress(path, step)
        elif step == "compact" and rotated:
            for path in log.parent.glob("sessions.jsonl.*"):
                os.utime(path, (NOW_S - 120, NOW_S - 120))
            list(compact(log, settle_s=60))
        elif step == "delete":
            remove_index(log)
    for covered in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            if covered:
                turn_to_the_end(log)
                patch.setattr(search, "_SEGMENTS_MAX", 0)
                patch.setattr(search, "SEARCHED_BYTES_MAX", 5000)  # torn lines, and files of nothing else
            for number in range(10):
                last = found(log, number)
                assert (None if last is None else last.try_number) == known.get(number)
            assert found(log, 99) is None


@pytest.mark.usefixtures("_nothing_is_searched_by_hand")
def test_what_the_index_covers_is_found_without_a_search_and_what_it_does_not_is_not_denied(log: Path) -> None:
    append(log, *(row(number) for number in range(20)))
    with pytest.raises(NotSearchedError):
        found(log, 99)
    turn_to_the_end(log)
    assert found(log, 99) is None
    assert found(log, 7) is not None
    append(log, row(20))
    with pytest.raises(NotSearchedError):
        found(log, 20)
    assert found(log, 7) is not None, "an outcome is the last row of its id"


@pytest.mark.usefixtures("_nothing_is_searched_by_hand")
@pytest.mark.parametrize("how", ["gz", "sized"])
def test_a_rotated_file_stays_covered_when_it_is_compressed(log: Path, how: str) -> None:
    append(log, *(row(number) for number in range(20)))
    turn_to_the_end(log)
    first = log.with_name("sessions.jsonl.1")
    log.rename(first)
    compress(first, how)

    assert found(log, 99) is None
    assert found(log, 7) is not None


@pytest.mark.usefixtures("_nothing_is_searched_by_hand")
def test_a_file_that_a_power_cut_shortened_and_others_wrote_on_is_read_anew(log: Path) -> None:
    append(log, *(row(number) for number in range(20)))
    turn_to_the_end(log)
    os.truncate(log, log.stat().st_size - 3 * len(row(19)))
    append(log, *(row(number) for number in range(30, 36)))

    with pytest.raises(NotSearchedError):
        found(log, 31)
    turn_to_the_end(log)
    assert found(log, 31) is not None
    assert found(log, 19) is None
    assert found(log, 99) is None


@pytest.mark.usefixtures("_nothing_is_searched_by_hand")
def test_a_long_file_is_covered_from_its_end_backwards_as_far_as_sessions_are_recalled(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_PIECE_BYTES", 4096)
    monkeypatch.setattr(build, "_OLDER_ROWS", 20)
    append(log, *(row(number, age_s=48 * HOUR_S) for number in range(200)))
    append(log, *(row(number) for number in range(200, 230)))
    with closing(RowIndex.open_to_write(index_folder(log))) as index:
        builder = IndexBuilder(log, index, recall_hours=24)
        builder.turn()
        builder.turn()
        assert found(log, 229) is not None, "the newest rows come first"
        with pytest.raises(NotSearchedError):
            found(log, 999)
        while builder.turn():
            pass
        with OpenFile(log) as looking:
            head = texts.head_hash(looking)
        assert head is not None
        text = index.text(head)
        assert text is not None
        assert text.begin > 0, "what is too old is not read"
    assert found(log, 999) is None
    assert found(log, 201) is not None
    with pytest.raises(NotSearchedError):
        found(log, 5, hours=100)


class OpenFile:
    """The live file, open."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def __enter__(self) -> Segment:
        self._fd = os.open(self._log, os.O_RDONLY)
        return segment_of(self._log, self._fd, "none", live=True)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def test_a_line_that_is_longer_than_a_piece_is_covered(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_PIECE_BYTES", 512)
    append(log, *(row(number) for number in range(5)))
    turn_to_the_end(log)
    append(log, *(row(number) for number in range(5, 8)))
    turn_to_the_end(log)
    monkeypatch.setattr(search, "SEARCHED_BYTES_MAX", 0)

    assert [found(log, number) is not None for number in range(9)] == [True] * 8 + [False]


def test_a_damaged_index_is_made_anew_and_one_of_another_boot_is_not_believed(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, *(row(number) for number in range(5)))
    turn_to_the_end(log)
    monkeypatch.setattr("lakehouse.sessions.index.store._boot", lambda: "another")
    assert RowIndex.open_to_read(index_folder(log)) is None
    monkeypatch.undo()
    file = index_folder(log) / "rows.sqlite"
    file.write_bytes(b"\0" * 100 + os.urandom(5000))
    assert found(log, 3) is not None, "searched by hand"

    assert end(run_child(log, "--once")) == 0

    monkeypatch.setattr(search, "SEARCHED_BYTES_MAX", 0)
    assert found(log, 99) is None


def run_child(log: Path, *arguments: str) -> subprocess.Popen[bytes]:
    services = Path(build.__file__).parents[3]
    return subprocess.Popen(
        [sys.executable, "-m", "lakehouse.sessions.index", str(log), *arguments],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(services)},
    )


def end(child: subprocess.Popen[bytes]) -> int:
    """End a child as the end of its parent does."""
    assert child.stdin is not None
    child.stdin.close()
    return child.wait(20)


def eventually_covered(log: Path, number: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            assert found(log, number) is not None
        except NotSearchedError:
            assert time.monotonic() < until
            time.sleep(0.01)
        else:
            return


@pytest.mark.usefixtures("_nothing_is_searched_by_hand")
def test_of_two_indexers_one_works_and_the_other_takes_over_when_it_is_killed(log: Path) -> None:
    append(log, *(row(number) for number in range(40)))
    first = run_child(log)
    eventually_covered(log, 39)
    second = run_child(log)
    append(log, row(40))
    eventually_covered(log, 40)
    first.kill()
    first.communicate()
    append(log, row(41))
    eventually_covered(log, 41)
    remove_index(log)
    append(log, row(42))
    eventually_covered(log, 42)

    assert end(second) == 0
    assert found(log, 99) is None
