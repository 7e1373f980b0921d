"""`lakehouse sessions serve` as a command: what it says, whom it warns, how it ends."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from session_rows import rows, write_segment

from lakehouse.cli.sessions import command

LAKEHOUSE = str(Path(sys.executable).parent / "lakehouse")


@contextmanager
def serving(log: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command, and give it with the address that it printed."""
    with subprocess.Popen(
        [LAKEHOUSE, "sessions", "serve", "--log", log, "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().split()[0]
        finally:
            process.kill()


def get(address: str, path: str = "/") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", urlsplit(address).port or 0, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    status, text = response.status, response.read().decode()
    connection.close()
    return status, text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_ends_well_although_a_page_watches(tmp_path: Path, number: signal.Signals) -> None:
    log = write_segment(tmp_path / "sessions.jsonl", rows(1))
    with serving(log, "--langfuse-host", "https://lf.example", "--langfuse-project", "p") as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert "session-0001" in get(address)[1]
        link = f"https://lf.example/project/p/traces/{2:032x}"
        assert f'href="{link}"' in get(address, "/session?id=session-0001")[1]
        watching = http.client.HTTPConnection("127.0.0.1", urlsplit(address).port or 0, timeout=30)
        watching.request("GET", "/live")
        assert watching.getresponse().readline() == b"retry: 3000\n"

        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        watching.close()

    assert (process.returncode, said) == (0, "")


def test_a_wider_bind_and_a_log_that_is_not_there_warn(tmp_path: Path) -> None:
    with serving(tmp_path / "sessions.jsonl", "--host", "0.0.0.0") as (process, address):
        assert get(address)[0] == 503
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)

    warnings = said.splitlines()
    assert len(warnings) == 2
    assert warnings[0].startswith("Warning: there is no session log at ")
    assert warnings[1].startswith("Warning: 0.0.0.0 can be reached from other machines, without a password")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, ["serve", *arguments])


def test_a_port_that_is_taken_is_a_fault_in_words(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("--log", str(tmp_path / "none"), "--port", str(taken.getsockname()[1]))

    assert (result.exit_code, "--host and --port" in result.stderr) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(("--host", "no such host"), "--host"), (("--langfuse-host", "javascript:alert(1)"), "is no web address")],
)
def test_a_wrong_option_is_named(tmp_path: Path, arguments: tuple[str, ...], text: str) -> None:
    result = run("--log", str(tmp_path / "none"), *arguments)

    assert (result.exit_code, text in result.stderr) == (2, True)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lakehouse.sessions.query.viewer", None)

    result = run()

    assert (result.exit_code, "pip install 'lakehouse-iterate[server,page]'" in result.stderr) == (3, True)
