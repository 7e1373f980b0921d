"""`sessions publish`, `erase` and `--table` as a person runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click.testing
import pytest
from all_bytes import files_with
from session_rows import record, rows, write_segment

from lakehouse.cli.sessions import command
from lakehouse.sessions.row import encode_row

DIES_IN_A_SESSION = """
import os, signal, sys
from dataclasses import replace
from iterate.session_log.journal import Journal
from lakehouse.sessions.row import encode_row
from lakehouse.sessions.store.append import LogFile
from session_rows import record
journal = Journal(sys.argv[1])
journal.open()
begun = record(9, session_id="died", caller="Planted Name", attempts=(), final_verdict="infra_error", artifact=None)
journal.begin(encode_row(begun), LogFile(sys.argv[1]).position())
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    monkeypatch.setenv("LAKEHOUSE_SESSION_LOG", str(folder / "sessions.jsonl"))
    monkeypatch.setenv("LAKE_WAREHOUSE", str(tmp_path / "lake"))
    monkeypatch.setenv("LAKE_HOST", "host-a")
    return write_segment(folder / "sessions.jsonl", rows(*range(3)))


def run(*arguments: str, status: int = 0) -> str:
    result = click.testing.CliRunner().invoke(command, list(arguments))
    assert result.exit_code == status, result.output
    return result.output


def test_what_was_published_is_shown_like_the_log(live: Path) -> None:
    assert "1 segment published, 3 rows added" in run(
        "publish", "--rotate-after", "1m", "--settle-s", "0", "--recall-hours", "0"
    )
    assert "Nothing to publish" in run("publish")

    assert json.loads(run("ls", "--table", "--json")) == json.loads(run("ls", "--json"))
    assert run("show", "session-0001", "--table") == run("show", "session-0001")
    assert json.loads(run("stats", "--table", "--json")) == json.loads(run("stats", "--json"))
    assert json.loads(run("sql", "SELECT host, count(*) AS n FROM sessions GROUP BY ALL", "--table", "--json")) == [
        {"host": "host-a", "n": 3}
    ]
    assert "lakehouse.sessions" in run("show", "nobody", "--table", status=1)


def test_other_engines_are_shown_the_table_of_the_last_commit(live: Path, tmp_path: Path) -> None:
    run("publish", "--rotate-after", "1m", "--settle-s", "0", "--recall-hours", "0")
    metadata = tmp_path / "lake" / "lakehouse" / "sessions" / "metadata"

    state = json.loads(run("table", "--json"))

    assert (state["table"], state["catalog"], state["rows"], state["files"]) == (
        "lakehouse.sessions",
        "lakehouse",
        3,
        1,
    )
    assert state["location"] == (tmp_path / "lake" / "lakehouse" / "sessions").as_uri()
    assert state["metadata"] == max(metadata.glob("*.json")).as_uri()
    text = run("table")
    assert f"metadata  {state['metadata']}" in text
    assert f"snapshot  {state['snapshot_id']} of {state['committed_at'][:10]}" in text
    assert "holds     3 rows in 1 file" in text


@pytest.mark.parametrize(
    ("variables", "arguments", "status", "said"),
    [
        ({"LAKE_WAREHOUSE": ""}, ("publish",), 3, "set LAKE_WAREHOUSE"),
        ({"LAKE_WAREHOUSE": "s3://bucket/lake"}, ("publish",), 3, "needs a catalog that every machine reaches"),
        ({"LAKE_WAREHOUSE": "lake"}, ("publish",), 2, "must be an absolute path"),
        ({"LAKE_WAREHOUS": "x"}, ("publish",), 2, "did you mean LAKE_WAREHOUSE"),
        ({"LAKE_PROPERTIES": '{"s3.secret-access-key": "x"}'}, ("publish",), 2, "looks like a secret"),
        ({}, ("publish", "--every", "soon"), 2, "60s, 10m, 2h or 1d"),
        ({}, ("publish", "--retention-days", "1"), 2, "must be more than --recall-hours 24"),
        ({}, ("compact", "--retention-days", "1"), 2, "must be more than --recall-hours 24"),
        ({}, ("table",), 3, "`lakehouse sessions publish` makes it"),
        ({}, ("ls", "--table"), 3, "`lakehouse sessions publish` makes it"),
        ({}, ("erase",), 2, "say what to erase"),
        ({"LAKE_WAREHOUSE": ""}, ("erase", "--caller", "x"), 3, "--no-table"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_says_what_to_do(
    live: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    arguments: tuple[str, ...],
    status: int,
    said: str,
) -> None:
    assert live.exists()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert said in run(*arguments, status=status)


def test_a_file_names_the_table_and_holds_no_secret(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAKE_WAREHOUSE")
    config = tmp_path / "config.toml"
    config.write_text(f'[lake]\nwarehouse = "{tmp_path}/other"\ntable = "ours.rows"\n')
    run("publish", "--config", str(config), "--rotate-after", "1m", "--settle-s", "0", "--recall-hours", "0")
    monkeypatch.setenv("LAKEHOUSE_CONFIG", str(config))

    assert len(json.loads(run("ls", "--table", "--json"))) == 3
    config.write_text('[lake]\ncatalog_uri = "postgresql://me:secret@db/c"\n')
    assert "secrets only by environment (LAKE_CATALOG_URI)" in run("publish", status=2)


def test_another_catalog_is_used_by_its_uri(live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = tmp_path / "uri"
    uri.write_text(f"sqlite:///{tmp_path}/shared.sqlite\n")
    monkeypatch.setenv("LAKE_CATALOG_URI_FILE", str(uri))

    run("publish", "--rotate-after", "1m", "--settle-s", "0", "--recall-hours", "0")

    assert (tmp_path / "shared.sqlite").exists()
    assert not (tmp_path / "lake" / "catalog.sqlite").exists()


def test_erase_shows_what_would_go_and_goes_with_yes(live: Path) -> None:
    write_segment(live, encode_row(record(1, caller="Planted Name")) + rows(2))
    run("publish", "--rotate-after", "1m", "--settle-s", "0", "--recall-hours", "0")
    live.write_bytes(encode_row(record(3, caller="Planted Name", session_id="live")))

    would = run("erase", "--caller", "Planted Name")
    assert "2 sessions would go (--yes does it)" in would
    assert len(json.loads(run("ls", "--json"))) == 3

    report: dict[str, Any] = json.loads(run("erase", "--caller", "Planted Name", "--yes", "--json"))

    assert report["sessions"] == ["live", "session-0001"]
    assert report["log"]["rows"] == 2
    assert report["table"]["rows"] == 1
    assert report["langfuse"]["trace_ids"] == [record(1).trace_id, record(3).trace_id]
    assert f'-d \'{{"traceIds": ["{record(1).trace_id}"' in report["langfuse"]["call"]
    assert files_with("Planted Name", live.parent, live.parent.parent / "lake") == []
    assert [each["session_id"] for each in json.loads(run("ls", "--table", "--json"))] == ["session-0002"]


def test_what_a_killed_iterate_left_is_settled_and_erased(live: Path, tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", DIES_IN_A_SESSION, str(live)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert files_with("Planted Name", live.parent) != []

    output = run("erase", "--caller", "Planted Name", "--yes", "--no-table")

    assert "1 session went" in output
    assert files_with("Planted Name", live.parent) == []


def test_a_publisher_beside_iterate_ends_in_order(live: Path) -> None:
    arguments = ["publish", "--every", "1d", "--rotate-after", "1m", "--settle-s", "0", "--recall-hours", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "lakehouse.cli.main", "sessions", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as publisher:
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == "1 segment published, 3 rows added\n"
        publisher.send_signal(signal.SIGTERM)

        assert publisher.wait(30) == 0
