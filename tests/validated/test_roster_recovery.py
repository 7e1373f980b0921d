"""The file backend fails closed and recovers by itself; its index is found again, or built anew where it is broken."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rosters import ROOT, people, small_table, until, write_csv
from structlog.testing import capture_logs

from validated.config import RosterTable
from validated.datasets.build import RosterFiles, build
from validated.datasets.file import FileRoster
from validated.datasets.index import RosterIndex
from validated.datasets.store import Store, StoreError, engine_digest
from validated.datasets.worker import Question, RosterUnavailable

ANA = Question(("W-000001",))


def bare(folder: Path, count: int = 8, **changes: Any) -> RosterTable:
    """Return a roster of `count` without companions."""
    rows = [{**people()[0], "worker_id": f"W-{number:06d}"} for number in range(1, count + 1)]
    path = write_csv(folder / "many.csv", rows)
    return small_table(folder, **{"path": path, "assignments_path": None, "do_not_send_path": None, **changes})


async def test_a_file_that_cannot_be_read_at_the_start_is_loaded_by_itself_once_it_can(tmp_path: Path) -> None:
    table = bare(tmp_path, poll_ms=400)
    table.path.rename(tmp_path / "away.csv")
    table.path.symlink_to(tmp_path / "elsewhere.csv")
    async with FileRoster(table, near_ms=100).open() as roster:
        with pytest.raises(RosterUnavailable):
            await roster.look_up(ANA)
        (tmp_path / "away.csv").rename(tmp_path / "elsewhere.csv")
        await until(lambda: roster.version is not None)
        assert "W-000001" in (await roster.look_up(ANA)).found


@pytest.mark.usefixtures("reader_processes")
async def test_a_reader_that_was_killed_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    original = subprocess.Popen

    def killed_once(*args: Any, **kwargs: Any) -> Any:
        process = original(*args, **kwargs)
        started.append(process)
        if len(started) == 1:
            process.kill()
        return process

    monkeypatch.setattr(subprocess, "Popen", killed_once)
    with capture_logs() as logs:
        async with FileRoster(bare(tmp_path), near_ms=100).open() as roster:
            assert roster.version is None
            await until(lambda: roster.version is not None)
    assert len(started) == 2
    assert any("the reader ended with -9" in str(entry.get("problems")) for entry in logs)


async def test_what_is_tried_again_and_again_is_said_once(tmp_path: Path) -> None:
    table = bare(tmp_path)
    table.path.unlink()
    with capture_logs() as logs:
        async with FileRoster(table, near_ms=100).open() as roster:
            await until(lambda: roster.counts()["load_failures"] > 3)
    assert sum(entry["event"] == "roster not loaded" for entry in logs) == 1


@pytest.mark.parametrize(("left", "is_loaded"), [(65, True), (64, False), (1, False)])
async def test_a_roster_that_lost_more_than_half_is_refused(tmp_path: Path, left: int, *, is_loaded: bool) -> None:
    table = bare(tmp_path, 130)
    async with FileRoster(table, near_ms=100).open() as roster:
        with capture_logs() as logs:
            bare(tmp_path, left)
            await until(lambda: sum(roster.counts()[each] for each in ("loads", "load_failures")) == 2)
        assert roster.counts()["rows"] == (left if is_loaded else 130)
        assert roster.state()["refused"] == (not is_loaded)
        if not is_loaded:
            (entry,) = [entry for entry in logs if entry["event"] == "roster not loaded"]
            assert f"130 workers would become {left}" in entry["problems"][0]
            roster.reload()
            await until(lambda: roster.counts()["rows"] == left)


async def test_people_who_all_become_inactive_and_refusals_that_go_are_a_loss_as_well(tmp_path: Path) -> None:
    table = small_table(tmp_path)
    lines = [{"client_id": f"c{number}", "worker_id": "W-000001"} for number in range(10)]
    assert table.do_not_send_path is not None
    write_csv(table.do_not_send_path, lines)
    async with FileRoster(table, near_ms=100).open() as roster:
        write_csv(table.do_not_send_path, lines[:4])
        await until(lambda: roster.counts()["load_failures"] == 1)
        write_csv(table.do_not_send_path, lines)
        write_csv(table.path, [{**person, "active": "false"} for person in people()])
        await until(lambda: roster.counts()["load_failures"] == 2)
        assert (await roster.look_up(Question(("W-000001",), None, None, "C9"))).found["W-000001"].do_not_send
        assert (await roster.look_up(ANA)).found["W-000001"].worker.active


@pytest.mark.parametrize("changes", [{"allow_shrink": True}, {"shrink_max": 1.0}])
async def test_a_loss_may_be_allowed(tmp_path: Path, changes: dict[str, Any]) -> None:
    table = bare(tmp_path, 130, **changes)
    async with FileRoster(table, near_ms=100).open() as roster:
        bare(tmp_path, 1)
        await until(lambda: roster.counts()["rows"] == 1)


async def test_a_file_too_old_is_warned_of_and_may_close_the_gate(tmp_path: Path) -> None:
    table = bare(tmp_path, max_age_s=3600)
    os.utime(table.path, (time.time() - 7200,) * 2)
    with capture_logs() as logs:
        async with FileRoster(table, near_ms=100).open() as roster:
            assert "W-000001" in (await roster.look_up(ANA)).found
            assert roster.state()["too_old"] == 1
            assert roster.state()["age_seconds"] >= 7200
    assert any(entry["event"] == "roster too old" for entry in logs)
    closed = table.model_copy(update={"max_age_action": "close"})
    async with FileRoster(closed, near_ms=100).open() as roster:
        with pytest.raises(RosterUnavailable, match="max_age_s"):
            await roster.look_up(ANA)
        os.utime(table.path)
        await until(lambda: roster.counts()["loads"] == 2)
        assert "W-000001" in (await roster.look_up(ANA)).found


async def test_that_everybody_counts_as_active_is_never_silent(tmp_path: Path) -> None:
    table = bare(tmp_path)
    write_csv(table.path, [{"worker_id": "W-000001", "name": "Ana Silva"}])
    with capture_logs() as logs:
        async with FileRoster(table, near_ms=100).open():
            pass
    (entry,) = [entry for entry in logs if entry["event"] == "roster columns"]
    assert entry["log_level"] == "warning"
    assert entry["defaulted"]["active"] == "everybody counts as active"


def _built(table: RosterTable) -> list[Path]:
    assert table.index_dir is not None
    return [each for each in table.index_dir.iterdir() if not each.name.startswith(".")]


async def test_an_index_is_found_again_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    table = bare(tmp_path)
    for _ in range(2):
        async with FileRoster(table, near_ms=100).open():
            (folder,) = _built(table)
    assert table.index_dir is not None
    assert (table.index_dir.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o700, 0o700)
    assert {each.stat().st_mode & 0o777 for each in folder.iterdir()} == {0o600}
    # The same bytes read by another rule are another index.
    other = table.model_copy(update={"ignore_columns": ("x",)})
    async with FileRoster(other, near_ms=100).open():
        assert len(_built(table)) == 2


async def test_an_index_of_another_state_of_the_program_is_not_answered_from(tmp_path: Path) -> None:
    table = bare(tmp_path)
    async with FileRoster(table, near_ms=100).open():
        (folder,) = _built(table)
    # As a state of the program that wrote it would have named itself: same folder, another digest.
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "engine": "0" * 64}))
    async with FileRoster(table, near_ms=100).open() as roster:
        assert folder not in _built(table)
        assert "W-000001" in (await roster.look_up(ANA)).found


def test_the_engine_digest_is_of_the_sources_that_build_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    before = engine_digest()
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read_bytes(path) + (b"#" if path.name == "names.py" else b""))
    engine_digest.cache_clear()
    after = engine_digest()
    engine_digest.cache_clear()

    assert after != before


@pytest.mark.parametrize("name", ["data.mdb", "manifest.json"])
@pytest.mark.parametrize("at", [0, 4096, 9000, -1])
async def test_a_broken_index_is_built_anew(tmp_path: Path, name: str, at: int) -> None:
    table = bare(tmp_path, 300)
    async with FileRoster(table, near_ms=100).open():
        (folder,) = _built(table)
    broken = bytearray((folder / name).read_bytes())
    broken[min(at, len(broken) - 1)] ^= 0xFF
    (folder / name).write_bytes(broken)
    async with FileRoster(table, near_ms=100).open() as roster:
        assert [each for each in _built(table) if each != folder] == _built(table)
        assert "W-000001" in (await roster.look_up(ANA)).found


async def test_an_index_that_is_open_may_be_removed_and_is_built_anew(tmp_path: Path) -> None:
    table = bare(tmp_path)
    async with FileRoster(table, near_ms=100).open() as roster:
        (folder,) = _built(table)
        for each in folder.iterdir():
            each.unlink()
        folder.rmdir()
        assert "W-000001" in (await roster.look_up(ANA)).found
        roster.reload()
        await until(lambda: roster.counts()["loads"] == 2)
        assert "W-000001" in (await roster.look_up(ANA)).found


def test_the_store_keeps_what_is_in_use_and_the_newest_few(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    indexes: list[Path] = []
    held: list[RosterIndex] = []
    for number in range(7):
        path = write_csv(tmp_path / "w.csv", [{"worker_id": f"W-{number}", "name": "A B"}])
        report = build(RosterFiles.read({"workers": path}), store, rows_max=10, memory_mb=64)
        indexes.append(Path(report["index"]))
        os.utime(indexes[-1] / "manifest.json", (number + 1, number + 1))
        if number == 1:
            held.append(RosterIndex(indexes[-1]))
    dead = store.root / ".building-dead"
    dead.mkdir()
    (dead / ".lock").touch()
    store.sweep()
    assert sorted(each.name for each in store.root.iterdir()) == sorted(
        each.name for each in indexes[4:] + indexes[1:2]
    )
    assert held[0].has("W-1")
    held.clear()
    store.sweep()
    assert len(list(store.root.iterdir())) == 3


def test_a_folder_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(StoreError, match="0700"):
        Store(tmp_path / "open")


async def test_without_a_folder_for_indexes_the_roster_is_loaded_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    with capture_logs() as logs:
        async with FileRoster(bare(tmp_path, index_dir=tmp_path / "open"), near_ms=100).open() as roster:
            assert "W-000001" in (await roster.look_up(ANA)).found
            temporary = roster._loader._temporary
            assert temporary is not None
    assert not temporary.exists()
    assert any(entry["event"] == "no folder for indexes" for entry in logs)


def test_two_processes_that_build_the_same_at_once_both_have_it(tmp_path: Path) -> None:
    write_csv(tmp_path / "w.csv", people())
    code = (
        "import sys; from pathlib import Path; from validated.datasets.build import *; "
        "from validated.datasets.index import RosterIndex\n"
        "store = Store(Path(sys.argv[1])); files = RosterFiles.read({'workers': sys.argv[2]})\n"
        "for _ in range(10):\n"
        "    report = build(files, store, rows_max=100, memory_mb=64); store.sweep()\n"
        "    assert RosterIndex(Path(report['index'])).has('W-000001')\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "store"), str(tmp_path / "w.csv")]
    environ = {**os.environ, "PYTHONPATH": str(ROOT / "services")}
    processes = [subprocess.Popen(command, env=environ) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert 1 <= len(list((tmp_path / "store").iterdir())) <= 3


async def test_the_old_index_is_let_go_of_when_its_last_user_is_done(tmp_path: Path) -> None:
    table = bare(tmp_path)
    async with FileRoster(table, near_ms=100).open() as roster:
        answer = await roster.look_up(ANA)
        (old,) = _built(table)
        bare(tmp_path, 9)
        await until(lambda: roster.counts()["rows"] == 9)
        await asyncio.sleep(0)
        maps = Path("/proc/self/maps").read_text(encoding="utf-8")
        assert str(old) in maps
        assert answer.found["W-000001"].worker.name == "Ana Silva"
        del answer
        assert str(old) not in Path("/proc/self/maps").read_text(encoding="utf-8")
