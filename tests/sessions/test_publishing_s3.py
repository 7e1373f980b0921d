"""Publishing to S3 by a server that loses answers, a publisher killed by SIGKILL: each row once. `bench/lake.py` does
it at length."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from lake_tables import lake_at, log_of, session_counts
from s3_server import BUCKET, LossyS3, lossy_s3
from session_rows import record, rows

from lakehouse.sessions.lake import table as table_module
from lakehouse.sessions.lake.erasing import Rows, erase_from_table, tombstone
from lakehouse.sessions.lake.publishing import publish
from lakehouse.sessions.lake.reading import TableReader
from lakehouse.sessions.query.listing import find_rows

DIES_AT = """
import os, signal, sys
from pathlib import Path
from lakehouse.sessions.lake.config import LakeConfig
from lakehouse.sessions.lake.publishing import publish
from lakehouse.sessions.lake.table import LakeTable

def on_step(step):
    if step == "committed":
        os.kill(os.getpid(), signal.SIGKILL)

list(publish(sys.argv[1], LakeTable(LakeConfig.model_validate_json(sys.argv[2])), on_step=on_step))
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[LossyS3]:
    with lossy_s3(lost_share=0.04, seed=3) as server:
        yield server


def test_two_publishers_one_killed_after_his_commit_leave_each_row_once_in_a_bucket(
    s3: LossyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "_WAIT_S", 0.01)
    settings = {
        "warehouse": f"s3://{BUCKET}/warehouse",
        "catalog_uri": f"sqlite:///{tmp_path}/catalog.sqlite?timeout=30",
        "properties": s3.properties,
    }
    logs = [log_of(tmp_path / "log-a", 0, 1), log_of(tmp_path / "log-b", 2, 3)]
    with subprocess.Popen(
        [sys.executable, "-c", DIES_AT, str(logs[0]), json.dumps({**settings, "host": "host-a"})], env={**os.environ}
    ) as killed:
        elsewhere = lake_at(tmp_path, **{**settings, "host": "host-b"})
        list(publish(logs[1], elsewhere, segments_a_commit=1))
        assert killed.wait(60) == -signal.SIGKILL

    lake = lake_at(tmp_path, **settings)
    list(publish(logs[0], lake))

    expected = {("host-a", f"session-{n:04d}"): 1 for n in range(6)}
    assert session_counts(lake) == expected | {("host-b", f"session-{n:04d}"): 1 for n in range(6, 12)}
    with TableReader(lake) as reader:
        assert [line + b"\n" for line in find_rows(reader, record(7).session_id)] == [rows(7)]

    erased = Rows(session_ids=("session-0007",))
    done = erase_from_table(lake, erased, tombstone(erased, datetime(2026, 12, 1)), frozenset())  # noqa: DTZ001

    assert done is not None
    assert (done.rows, done.not_reached) == (1, [])
    assert done.files_removed > 0
    assert sum(session_counts(lake).values()) == 11
    assert s3.lost > 0, "a test of lost answers that lost none"
