"""Python, Go and Rust: the same rows, the same refusals, and the runner that says so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from parity.writers import Writer, WriterAbsentError, WriterFailedError

from parity import make_fixtures, run, writers


def failing(language: str, output: str, status: int = 0) -> Writer:
    """Return a writer that prints ``output`` whatever it is asked for."""
    script = f"import sys; sys.stdout.write({output!r}); sys.exit({status})"
    return Writer(language, f"iterate-{language}", (sys.executable, "-c", script))


def test_all_fixtures_are_equal_in_three_languages(
    all_writers: list[Writer], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["--require-all", "--fuzz", "1500"]) == 0
    printed = capsys.readouterr().out
    assert "equal: python, go, rust" in printed
    assert printed.count("  ok   ") == len(list(run.FIXTURES.glob("*.json")))


def test_a_refused_artifact_is_told_alike_by_all(all_writers: list[Writer], tmp_path: Path) -> None:
    fixture = tmp_path / "refused.json"
    fixture.write_text(json.dumps(make_fixtures.session(spec='{"a":1e400}', artifact="{}")))
    told = {writer.run("print", fixture) for writer in all_writers}
    assert told == {b'{"refused":"spec","kind":"double_overflow"}\n'}


def test_a_writer_that_ends_with_an_error_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(WriterFailedError, match="exit status 3"):
        failing("go", "", status=3).run("print", tmp_path)


def test_writers_that_print_nothing_fail_the_run() -> None:
    with pytest.raises(WriterFailedError, match="0 whole lines for 2 fixtures"):
        run.rows_of([failing("go", "")], [Path("a.json"), Path("b.json")])


def test_writers_that_print_the_same_error_fail_every_fixture(capsys: pytest.CaptureFixture[str]) -> None:
    count = len(list(run.FIXTURES.glob("*.json")))
    same = [failing(language, "error: no such file\n" * count) for language in ("python", "go", "rust")]
    assert run.check_fixtures(same, update=False) == count
    assert "not JSON" in capsys.readouterr().out


def test_readers_that_refuse_everything_alike_fail_the_random_texts() -> None:
    same = [failing(language, "refused syntax\n" * 200) for language in ("go", "rust")]
    assert run.check_fuzz(same, 200, seed=1) == 1


def test_an_absent_toolchain_is_skipped_in_sight_and_fails_only_where_all_are_required(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda tool: None)
    with pytest.raises(WriterAbsentError, match="go not found"):
        writers.go()
    assert run.main(["--fuzz", "200"]) == 0
    printed = capsys.readouterr().out
    assert "go      skipped: go not found" in printed
    assert "rust    skipped: cargo not found" in printed
    assert "equal: python; skipped: go, rust" in printed
    assert run.main(["--require-all", "--fuzz", "200"]) == 1


def test_goldens_are_written_only_where_all_three_languages_agree(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run, "GOLDEN", tmp_path)
    start = (
        '{"schema":"session.iterate.v1","session_id":"s","timestamp":"2026-03-01T06:00:10.000001Z","daemon":"iterate-'
    )
    rows = {
        language: (f"iterate-{language}", f'{start}{language}"}}'.encode()) for language in ("python", "go", "rust")
    }
    two = {language: rows[language] for language in ("python", "go")}
    odd = rows | {"rust": ("iterate-rust", f'{start}rust","more":1}}'.encode())}
    run.update_golden({"three": rows, "two": two, "odd": odd})
    assert [path.name for path in tmp_path.iterdir()] == ["three.jsonl"]
