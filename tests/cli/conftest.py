"""What the commands' tests share: the sessions of one demo, and a validated that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rosters import small_table
from shared_runs import Demo, RunningValidated

# Where it is set, each process that a test starts would compile all of its modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

LAKEHOUSE = str(Path(sys.executable).parent / "lakehouse")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Run it where the environment names a configuration, a model that wants a key and a roster that is not there."""
    folder = tmp_path_factory.mktemp("demo")
    config, configured_log = folder / "lakehouse.toml", folder / "logs" / "mine.jsonl"
    configured_log.parent.mkdir()
    config.write_text(
        '[chatd.providers.c]\ntype = "anthropic"\ndefault_model = "m"\n'
        f'[iterate]\nsession_log_path = "{configured_log}"\n'
    )
    environ = {
        **os.environ,
        "LAKEHOUSE_CONFIG": str(config),
        "CHATD_DEFAULT_PROVIDER": "c",
        "VALIDATED_ROSTER__PATH": "/nonexistent",
    }
    command = [LAKEHOUSE, "demo", "--json", "--keep", str(folder / "kept")]
    (folder / "kept").mkdir()
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return Demo(json.loads(done.stdout), folder / "kept" / "sessions.jsonl", configured_log)


@pytest.fixture(scope="session")
def grounded_demo() -> str:
    """Return what `lakehouse demo --grounded` says to a person, where no folder for indexes can be made."""
    environ = {**os.environ, "XDG_CACHE_HOME": "/dev/null"}
    command = [LAKEHOUSE, "demo", "--grounded"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningValidated]:
    roster = str(small_table(tmp_path_factory.mktemp("validated")).path)
    process = subprocess.Popen(
        [sys.executable, "-m", "validated"],
        stdout=subprocess.PIPE,
        env={
            "VALIDATED_BIND": "127.0.0.1:0",
            "VALIDATED_ROSTER__PATH": roster,
            "VALIDATED_LOG_FORMAT": "json",
        },
    )
    try:
        assert process.stdout is not None
        address = ""
        while not address:
            line = process.stdout.readline()
            assert line, "validated ended before it listened"
            address = json.loads(line).get("address", "")
        yield RunningValidated(address, roster)
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()
