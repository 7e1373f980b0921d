"""Goal: `lakehouse up` obeys what is configured, says what it takes in its place, and leaves nothing behind.

Method: the installed command in processes of its own, with configuration files and environments that say different
things; and whatever ends it, the processes that it started are looked for in /proc.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from service_starts import Start, starts
from shared_runs import Demo

from lakehouse.cli import up as up_command
from lakehouse.cli.stack import free_port_binds
from lakehouse.clients import IterateClient
from lakehouse.iterate.v1.iterate_pb2 import IterateRequest
from lakehouse.server.config import load
from lakehouse.settings import ConfigError
from lakehouse.validated.v1.validated_pb2 import FillSpec
from validated.config import ValidatedTable

LAKEHOUSE = str(Path(sys.executable).parent / "lakehouse")
EXAMPLE = {
    "VALIDATED_ROSTER__PATH",
    "VALIDATED_ROSTER__ASSIGNMENTS_PATH",
    "VALIDATED_ROSTER__DO_NOT_SEND_PATH",
}
ROSTER = Path(__file__).resolve().parents[2] / "examples" / "roster" / "workers.csv"
HANG_S = 60
OURS = ("LAKEHOUSE_", "VALIDATED_", "CHATD_", "ITERATE_")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def environ(**given: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return clean | free_port_binds() | given


class Up:
    """A running command, and its lines so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self.services = set[int]()
        """Its processes, where they were looked for."""

    async def line_with(self, *words: str) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(HANG_S):
            while True:
                for line in self.lines:
                    if all(word in line for word in words):
                        return line
                line = (await self.process.stdout.readline()).decode()
                assert line, ("it ended", self.lines)
                self.lines.append(line)

    async def ready(self) -> str:
        """Its address."""
        return (await self.line_with("ready: iterate at")).split("iterate at ")[1].split(". ")[0]

    @property
    def text(self) -> str:
        return "".join(self.lines)


@asynccontextmanager
async def up(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> AsyncIterator[Up]:
    process = await asyncio.create_subprocess_exec(
        *(LAKEHOUSE, "up", *arguments),
        env=env or environ(),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=1024 * 1024,
    )
    running = Up(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            send(process.pid, signal.SIGTERM)
        rest, _ = await asyncio.wait_for(process.communicate(), HANG_S)
        running.lines += rest.decode().splitlines(keepends=True)


def ask(address: str) -> None:
    request = IterateRequest(
        kind="fill",
        fill=FillSpec(role="forklift operator", count=3, city="Toledo", state="OH"),
        prompt="Fill 3 forklift operators",
    )
    with IterateClient(address) as client:
        client.iterate(request, timeout_s=30)


def config(folder: Path, **changes: str) -> Path:
    """Return a configuration with a roster and a session log of its own."""
    roster = folder / "mine.csv"
    shutil.copy(ROSTER, roster)
    (folder / "logs").mkdir(exist_ok=True)
    tables = {
        "validated": f'[validated]\n[validated.roster]\npath = "{roster}"\n',
        "chatd": "",
        "iterate": f'[iterate]\nsession_log_path = "{folder}/logs/mine.jsonl"\n',
    }
    file = folder / "lakehouse.toml"
    file.write_text("".join({**tables, **changes}.values()))
    return file


async def end(running: Up, number: signal.Signals) -> None:
    """End it by a signal, and wait until all of its services have ended."""
    send(running.process.pid, number)
    await asyncio.wait_for(running.process.wait(), HANG_S)
    async with asyncio.timeout(HANG_S):
        while alive(running.services):
            await asyncio.sleep(0.02)


class Ended(NamedTuple):
    """A command that was ready, and was ended by a signal together with its services."""

    running: Up
    folder: Path
    number: signal.Signals


@pytest.fixture(scope="module")
async def configured(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """By a file; one session was asked for. Ended by SIGTERM."""
    folder = tmp_path_factory.mktemp("configured")
    async with up(folder, env=environ(LAKEHOUSE_CONFIG=str(config(folder)))) as running:
        await asyncio.to_thread(ask, await running.ready())
        running.services = children_of(running.process.pid)
        await end(running, signal.SIGTERM)
    return Ended(running, folder, signal.SIGTERM)


@pytest.fixture(scope="module")
async def unconfigured(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """By nothing but a level at which nobody logs that it listens: the start is known all the same. Ended by SIGHUP."""
    folder = tmp_path_factory.mktemp("unconfigured")
    quiet = environ(VALIDATED_LOG_LEVEL="error", CHATD_LOG_LEVEL="error", ITERATE_LOG_LEVEL="error")
    async with up(folder, env=quiet) as running:
        await running.ready()
        running.services = children_of(running.process.pid)
        await end(running, signal.SIGHUP)
    return Ended(running, folder, signal.SIGHUP)


@pytest.fixture(scope="module")
async def killed(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("killed")
    async with up(folder) as running:
        await running.ready()
        running.services = children_of(running.process.pid)
        await end(running, signal.SIGKILL)
    return Ended(running, folder, signal.SIGKILL)


def test_what_a_file_says_is_never_replaced_by_a_default(configured: Ended) -> None:
    running, folder, _ = configured

    assert f"path={folder / 'mine.csv'}" in running.text
    assert "example" not in running.text
    assert len((folder / "logs" / "mine.jsonl").read_text().splitlines()) == 1
    assert not (folder / ".lakehouse").exists()


def test_where_nothing_is_configured_the_example_is_announced(unconfigured: Ended) -> None:
    running = unconfigured.running

    announcement = next(line for line in running.lines if "example data" in line)
    assert str(ROSTER) in announcement
    assert "scripted" in announcement
    assert running.lines.index(announcement) == 0


def test_a_flag_goes_over_the_file_and_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = config(tmp_path)
    monkeypatch.setenv("ITERATE_SESSION_LOG_PATH", "/of/the/environment.jsonl")

    set_up = up_command._set_up(file, tmp_path / "other.csv", tmp_path / "elsewhere")

    assert set_up.environ["VALIDATED_ROSTER__PATH"] == str(tmp_path / "other.csv")
    assert set_up.environ["ITERATE_SESSION_LOG_PATH"] == str(tmp_path / "elsewhere" / "sessions.jsonl")


@pytest.mark.parametrize(
    ("environment", "taken"),
    [
        ({}, {*EXAMPLE, "ITERATE_SESSION_LOG_PATH"}),
        ({"VALIDATED_ROSTER__PATH": "/mine.csv"}, {"ITERATE_SESSION_LOG_PATH"}),
        ({"VALIDATED_ROSTER": '{"path": "/mine.csv"}'}, {"ITERATE_SESSION_LOG_PATH"}),
        ({"VALIDATED_ROSTER__BACKEND": "postgres"}, {"ITERATE_SESSION_LOG_PATH"}),
        ({"VALIDATED_ROSTER__POLL_MS": "100"}, {*EXAMPLE, "ITERATE_SESSION_LOG_PATH"}),
        (
            {"VALIDATED_ROSTER__DO_NOT_SEND_PATH": "/mine.csv"},
            {*EXAMPLE, "ITERATE_SESSION_LOG_PATH"} - {"VALIDATED_ROSTER__DO_NOT_SEND_PATH"},
        ),
        ({"ITERATE_SESSION_LOG_PATH": "/mine.jsonl"}, EXAMPLE),
        ({"ITERATE_SESSION_LOG_PATH": ""}, EXAMPLE),
    ],
)
def test_a_default_is_taken_where_the_environment_says_nothing(
    monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], taken: set[str]
) -> None:
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    set_up = up_command._set_up(None, None, None)

    assert set(set_up.environ) == taken
    assert bool(set_up.announcements) == ("VALIDATED_ROSTER__PATH" in taken)


def test_a_file_without_a_session_log_means_none(tmp_path: Path) -> None:
    set_up = up_command._set_up(config(tmp_path, iterate=""), None, None)

    assert (set_up.environ, set_up.session_log, set_up.folder) == ({}, "", None)


@pytest.mark.parametrize(
    "settings", ["", "[chatd.providers.x]\ntype = 'scripted'\n", "[validated.roster]\npoll_ms = 100\n"]
)
def test_a_file_that_leaves_the_roster_open_is_refused(tmp_path: Path, settings: str) -> None:
    file = tmp_path / "lakehouse.toml"
    file.write_text(settings)

    with pytest.raises(ConfigError, match="path is not configured"):
        load("validated", ValidatedTable, file=file, environ={})


async def test_the_hops_that_a_file_names_are_kept(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = config(
        tmp_path,
        chatd=f'[chatd]\nbind = "127.0.0.1:{port}"\n',
        iterate=f'[iterate]\nchatd = "dns:///localhost:{port}"\nvalidated = "127.0.0.1:1"\n',
    )
    env = {name: value for name, value in environ().items() if name != "CHATD_BIND"}

    async with up(tmp_path, "--config", str(file), env=env) as running:
        line = await running.line_with("not ready", "validated at")

    # The one that the file names is not there; the other is reached under the name that the file gives it.
    assert "validated at 127.0.0.1:1 cannot be reached" in line
    assert "chatd at" not in line


async def test_a_model_in_the_environment_is_not_put_on_example_data(tmp_path: Path) -> None:
    async with up(tmp_path, env=environ(CHATD_PROVIDERS__X__TYPE="scripted")) as running:
        await asyncio.wait_for(running.process.wait(), HANG_S)

    assert running.process.returncode == 2
    assert "--roster" in running.text


async def test_ready_is_said_when_health_says_so_and_not_before(tmp_path: Path) -> None:
    file = config(tmp_path)
    roster = tmp_path / "mine.csv"
    roster.unlink()

    async with up(tmp_path, "--config", str(file)) as running:
        await running.line_with("validated", "not ready", str(roster))
        await running.line_with("iterate", "not ready", "validated")
        before = running.text
        shutil.copy(ROSTER, roster)
        await running.ready()

    assert "ready: iterate at" not in before


async def test_the_check_of_all_three_names_what_cannot_work(tmp_path: Path) -> None:
    file = config(
        tmp_path,
        validated='[validated.roster]\npath = "/nonexistent/workers.csv"\n',
        chatd='[chatd.providers.c]\ntype = "anthropic"\ndefault_model = "m"\n',
        iterate='[iterate]\nbind = "localhost"\nsession_log_path = "/nonexistent/sessions.jsonl"\n',
    )
    env = {name: value for name, value in environ().items() if name != "ITERATE_BIND"}

    async with up(tmp_path, "--check", env=env | {"LAKEHOUSE_CONFIG": str(file)}) as running:
        await asyncio.wait_for(running.process.wait(), HANG_S)

    assert running.process.returncode == 2
    for key in (
        "validated.roster.path: /nonexistent/workers.csv",
        "chatd.providers.c: no key",
        "iterate.bind: must be",
    ):
        assert key in running.text, key


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        (
            {"chatd": '[chatd]\nbind = "127.0.0.1:7001"\n', "iterate": '[iterate]\nbind = "localhost:7001"\n'},
            "chatd.bind and iterate.bind are both",
        ),
        (
            {"chatd": '[chatd]\nbind = "unix:/tmp/s"\n', "validated": '[validated]\nbind = "unix:///tmp/s"\n'},
            "validated.bind and chatd.bind are both",
        ),
        (
            {"chatd": "[chatd]\nmetrics_port = 7001\n", "iterate": "[iterate]\nmetrics_port = 7001\n"},
            "chatd.metrics_port and iterate.metrics_port are both 7001",
        ),
        (
            {"chatd": "[chatd]\nmetrics_port = 7001\n", "iterate": '[iterate]\nbind = "0.0.0.0:7001"\n'},
            "chatd.metrics_port and iterate.bind are both 0.0.0.0:7001",
        ),
        ({"iterate": '[lake]\nwarehose = "x"\n'}, "did you mean"),
    ],
)
async def test_the_check_sees_what_no_service_alone_can(tmp_path: Path, tables: dict[str, str], problem: str) -> None:
    env = {name: value for name, value in environ().items() if not name.endswith("_BIND")}
    file = tmp_path / "lakehouse.toml"
    file.write_text("\n".join(tables.values()))

    async with up(tmp_path, "--roster", str(ROSTER), "--check", "--config", str(file), env=env) as running:
        await asyncio.wait_for(running.process.wait(), HANG_S)

    assert running.process.returncode == 2
    assert problem in running.text, running.text


def test_a_taken_address_hides_no_roster_that_cannot_be_read(taken: int) -> None:
    [refused] = starts(
        Start(
            "validated",
            {"VALIDATED_BIND": f"127.0.0.1:{taken}", "VALIDATED_ROSTER__PATH": os.devnull},
            ("--check",),
        )
    )

    assert refused.status == 2
    assert "validated.bind" in refused.output
    assert f"validated.roster.path: {os.devnull}: is neither a file nor a folder" in refused.output


def children_of(pid: int) -> set[int]:
    """Every descendant, as /proc has it."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found, more = set[int](), {pid}
    while more:
        more = {child for child, parent in parents.items() if parent in more}
        found |= more
    return found


def alive(pids: set[int]) -> set[int]:
    def lives(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return {pid for pid in pids if lives(pid)}


@linux_only
@pytest.mark.parametrize("how", ["killed", "unconfigured", "configured"])
def test_whatever_ends_up_ends_its_services(request: pytest.FixtureRequest, how: str) -> None:
    running, _, number = request.getfixturevalue(how)

    assert len(running.services) >= 3
    assert alive(running.services) == set()
    assert running.process.returncode == (-number if number == signal.SIGKILL else 0)


@linux_only
async def test_killed_while_it_starts_it_leaves_nothing_either(tmp_path: Path) -> None:
    async with up(tmp_path) as running:
        services = set[int]()
        async with asyncio.timeout(HANG_S):
            while len(services) < 2:
                await asyncio.sleep(0.01)
                services = children_of(running.process.pid)
        send(running.process.pid, signal.SIGKILL)
        async with asyncio.timeout(HANG_S):
            while alive(services):
                await asyncio.sleep(0.05)


async def test_a_job_in_the_background_of_a_shell_ends_by_ctrl_c_too(tmp_path: Path) -> None:
    # A shell without job control starts such jobs with SIGINT ignored.
    command = f"{LAKEHOUSE} up & echo $!; wait"
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", command), env=environ(), cwd=tmp_path, stdout=asyncio.subprocess.PIPE, limit=1024 * 1024
    )
    assert process.stdout is not None
    running = Up(process)
    try:
        pid = int(await process.stdout.readline())
        await running.ready()
        os.kill(pid, signal.SIGINT)
        await running.line_with("stopping")
    finally:
        rest, _ = await asyncio.wait_for(process.communicate(), HANG_S)
    assert rest.decode().count("stopped") + running.text.count("stopped") == 3


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@linux_only
async def test_a_taken_port_names_the_setting_and_the_process(tmp_path: Path, taken: int) -> None:
    async with up(tmp_path, env=environ(CHATD_BIND=f"127.0.0.1:{taken}")) as running:
        await asyncio.wait_for(running.process.wait(), HANG_S)

    assert running.process.returncode == 3
    assert "chatd.bind" in running.text
    assert f"pid {os.getpid()}" in running.text


@linux_only
def test_the_check_says_who_has_an_address_or_a_socket(tmp_path: Path, taken: int) -> None:
    path = tmp_path / "socket"
    by_socket = Start("chatd", {"CHATD_BIND": f"unix:{path}"}, ("--check",))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        refused = starts(
            Start("chatd", {"CHATD_BIND": f"127.0.0.1:{taken}"}, ("--check",)),
            Start("chatd", {"CHATD_BIND": "127.0.0.1:0", "CHATD_METRICS_PORT": str(taken)}, ("--check",)),
            by_socket,
        )
    [left] = starts(by_socket)

    for each in refused:
        assert each.status == 2
        assert f"pid {os.getpid()}" in each.output
    assert left.status == 0, left.output


@linux_only
@pytest.mark.parametrize("service", ["validated", "chatd", "iterate"])
async def test_hup_never_kills_a_service(tmp_path: Path, service: str) -> None:
    env = environ(VALIDATED_ROSTER__PATH=str(ROSTER))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", service), env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    reloads = 0
    try:
        # From its first moments on, when Python has not set up much yet, to its end.
        async with asyncio.timeout(HANG_S):
            while not caught(process.pid, signal.SIGHUP):
                await asyncio.sleep(0.001)
            send(process.pid, signal.SIGHUP)
            while line := await process.stdout.readline():
                event = json.loads(line)["event"]
                if event == "listening":
                    send(process.pid, signal.SIGHUP)
                if event == "reloading":
                    reloads += 1
                    if reloads == 1:
                        send(process.pid, signal.SIGTERM)
                    send(process.pid, signal.SIGHUP)
    finally:
        if process.returncode is None:
            send(process.pid, signal.SIGTERM)
        await process.wait()

    assert process.returncode == 0
    assert reloads >= 1


def send(pid: int, number: signal.Signals) -> None:
    # Not by the process object, which would take the exit status away from whoever waits.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def caught(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1]
    return bool(int(mask, 16) & (1 << (number - 1)))


def test_the_demo_asks_nobody_who_is_configured(demo: Demo) -> None:
    # See the fixture: a model that wants a key, a roster that is not there, a log of somebody else.
    assert demo.result["final_verdict"] == "accepted"
    assert demo.log.exists()
    assert not demo.configured_log.exists()
