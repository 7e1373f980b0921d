"""Goal: what `--check` accepts, the service starts with; what the start would refuse, `--check` refuses.

Method: the settings' bounds are read from the tables themselves, so that a new setting is tried as well. Each round
starts the three services with one edge of every bound at once: the lowest, the highest, and further words of a choice.
The first round starts each as a process of its own, the others run what these processes would in one (`ALL_IN_ONE`).
Settings that are refused are tried one after the other in one process, by the services' own `main`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from service_starts import Ended, Start, starts

from chatd.abilities import AbilitiesTable
from chatd.config import AnthropicTable, ChatdConfig, OpenAiTable, ReplayTable, TargetTable
from chatd.error_rules import ErrorRule
from chatd.prices import PriceTable
from iterate.config import IterateConfig
from lakehouse.server.config import CallersTable, ServerTable, load
from lakehouse.tracing import TracingConfig
from validated.config import DatasetPostgresTable, DatasetTable, PostgresTable, RosterTable, ValidatedTable

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, type[ServerTable]] = {"validated": ValidatedTable, "chatd": ChatdConfig, "iterate": IterateConfig}
# What a number without an upper bound may be.
HUGE = {int: 2**63 - 1, float: 1e308}
ROUNDS = range(8)
IMPATIENT = [(f"grpc.{word}_reconnect_backoff_ms", 50) for word in ("initial", "min", "max")]


class Edges:
    """The edges of a service's tables. `needed` holds what a table cannot do without, and what must not be an edge."""

    def __init__(self, needed: dict[type[BaseModel], dict[str, Any]]) -> None:
        self.needed = needed
        self.seen: dict[str, list[Any]] = {}

    def of_table(self, table: type[BaseModel], number: int, path: str) -> dict[str, Any]:
        """Return the table with edge `number` of each setting that has edges."""
        needed = self.needed.get(table, {})
        values: dict[str, Any] = {}
        for name, field in table.model_fields.items():
            if name in needed:
                continue
            value = self.of_type(field.annotation, field.metadata, number, f"{path}.{name}")
            if value is not None:
                values[name] = value
        return values | needed

    def of_type(self, annotation: Any, metadata: list[Any], number: int, path: str) -> Any:
        """Edge `number` of a type; None where it has none."""
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            return self.of_type(arguments[0], [*metadata, *annotation.__metadata__], number, path)
        bounds = [bound for each in metadata for bound in (each.metadata if isinstance(each, FieldInfo) else [each])]
        if origin in (Union, types.UnionType):
            for argument in arguments:
                if argument is not type(None):
                    return self.of_type(argument, metadata, number, path)
        if origin is dict:
            tables = _tables(arguments[1])
            return {each.__name__.lower(): self.of_table(each, number, f"{path}.*") for each in tables} or None
        if origin is tuple:
            item = self.of_type(arguments[0], [], number, f"{path}.*")
            lengths = _lengths(bounds)
            return None if item is None or not lengths else [item] * lengths[number % 2]
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return self.of_table(annotation, number, path) or None
        edges = _edges(annotation, bounds, path)
        if not edges:
            return None
        self.seen[path] = edges
        return edges[number % len(edges)]


def _tables(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for argument in get_args(annotation) for table in _tables(argument)]


def _edges(annotation: Any, bounds: list[Any], path: str) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if annotation is bool:
        return [False, True]
    if annotation in HUGE:
        least = [each.ge for each in bounds if isinstance(each, annotated_types.Ge)]
        most = [each.le for each in bounds if isinstance(each, annotated_types.Le)]
        assert least, f"{path} has no lower bound that this test understands"
        return [annotation(least[0]), annotation(most[0]) if most else HUGE[annotation]]
    if annotation in (str, SecretStr):
        return ["a" * length for length in _lengths(bounds)]
    return []


def _lengths(bounds: list[Any]) -> list[int]:
    least = [each.min_length for each in bounds if isinstance(each, annotated_types.MinLen)]
    most = [each.max_length for each in bounds if isinstance(each, annotated_types.MaxLen)]
    return [least[0] if least else 0, most[0]] if most else []


@pytest.fixture
def edges(tmp_path: Path) -> Edges:
    (tmp_path / "sessions.jsonl").touch()
    (tmp_path / "parts.csv").write_text("number\nP-1\n")
    url: dict[str, Any] = {"base_url": "http://127.0.0.1:9/v1"}
    (tmp_path / "callers.toml").write_text('[callers.x]\nrpcs = ["*"]\n')
    needed: dict[type[BaseModel], dict[str, Any]] = {
        # Health has to answer: that is how this test sees that a service has started.
        CallersTable: {"file": str(tmp_path / "callers.toml"), "health": "open"},
        TracingConfig: {"host": "http://127.0.0.1:9", "public_key": "pk", "secret_key": "sk"},
        RosterTable: {"delimiter": ";"},
        DatasetTable: {
            "path": str(tmp_path / "parts.csv"),
            "delimiter": ";",
            # A table of a database is another dataset: see `a_table`.
            "backend": "file",
            "postgres": None,
            "key": ["number"],
            "columns": {"number": "text"},
        },
        DatasetPostgresTable: {"conninfo": "host=127.0.0.1 port=9 connect_timeout=1", "version_query": ""},
        PostgresTable: {"conninfo": "host=127.0.0.1 port=9 connect_timeout=1"},
        OpenAiTable: url | {"drop": ["seed"]},
        AnthropicTable: url | {"drop": ["seed"]},
        ReplayTable: {"session_log": str(tmp_path / "sessions.jsonl")},
        TargetTable: {"provider": "openaitable", "model": "m"},
        # Rules of their own tests: with every edge at once they are too long for an environment.
        ErrorRule: {
            "reason": "BAD_REQUEST",
            "unsupported": "named",
            "status": [400],
            "code": ["x"],
            "words": ["x"],
            "unless_code": [],
            "unless_words": [],
        },
        AbilitiesTable: {"drop": ["seed"]},
        PriceTable: {"input": 0, "output": 0},
    }
    for number, (service, table) in enumerate(SERVICES.items(), 7):
        # A loopback address for each process alone: another run may use the same ports at the same time.
        metrics_host = f"127.{number}.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
        needed[table] = {"bind": f"unix:{tmp_path / service}", "metrics_host": metrics_host}
    needed[IterateConfig] |= {"session_log_path": str(tmp_path / "log.jsonl")}
    needed[ChatdConfig] |= {"default_provider": "routetable"}
    return Edges(needed)


def a_table(edges: Edges, number: int) -> dict[str, Any]:
    """Return a dataset in PostgreSQL, with edges of what a file has not."""
    postgres = edges.of_table(DatasetPostgresTable, number, "validated.datasets.*.postgres")
    return {"backend": "postgres", "key": ["number"], "columns": {"number": "text"}, "postgres": postgres}


def environ_of(service: str, values: dict[str, Any]) -> dict[str, str]:
    return {
        f"{service}_{name}".upper(): value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }


def start(*command: str, environ: dict[str, str]) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("GRPC_", "LAKEHOUSE_"))}
    return subprocess.Popen(
        [sys.executable, *command],
        env=clean | environ,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def processes() -> Iterator[dict[str, subprocess.Popen[str]]]:
    running: dict[str, subprocess.Popen[str]] = {}
    yield running
    for process in running.values():
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


# The three services' own `main`; what each of them would run in a loop of its own runs in one.
ALL_IN_ONE = """
from lakehouse.server.process import begin_process
begin_process()
import asyncio, importlib, sys
import uvloop
from lakehouse.server import bootstrap

mains = []
bootstrap._run_loop = mains.append

async def run_all():
    await asyncio.gather(*mains)

sys.argv = ["all in one"]
for service in ("validated", "chatd", "iterate"):
    importlib.import_module(f"{service}.__main__").main()
uvloop.run(run_all())
"""


def edge_environ(edges: Edges, number: int) -> dict[str, dict[str, str]]:
    """Return each service's settings, of which none is refused, and where it listens by `<SERVICE>_BIND`."""
    environs = {}
    for service, table in SERVICES.items():
        values = edges.of_table(table, number, service)
        if service == "validated":
            values["datasets"]["a_table"] = a_table(edges, number)
        environs[service] = environ_of(service, values)
        load(service, table, file=None, environ=environs[service])
    return environs


def check_health(service: str, address: str, process: subprocess.Popen[str]) -> None:
    with grpc.insecure_channel(address, options=IMPATIENT) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=30, wait_for_ready=True)
        except grpc.RpcError as error:
            process.kill()
            raise AssertionError(f"{service} does not serve: {process.communicate()[0]} {error}") from None
    # validated says that it has no roster yet, since its edges name a PostgreSQL that is not there; and iterate
    # that it has reached neither of its two.
    statuses: Any = health_pb2.HealthCheckResponse
    expected = {statuses.SERVING} if service == "chatd" else {statuses.SERVING, statuses.NOT_SERVING}
    assert answer.status in expected


def test_each_service_starts_with_the_first_edge_of_every_bound_and_ends(
    edges: Edges, processes: dict[str, subprocess.Popen[str]]
) -> None:
    environs = edge_environ(edges, 0)
    for service, environ in environs.items():
        processes[service] = start("-m", service, environ=environ)
    for service, process in processes.items():
        check_health(service, environs[service][f"{service}_BIND".upper()], process)
    # The longest drain is a day: only the shortest one is waited for.
    for process in processes.values():
        process.send_signal(signal.SIGTERM)
    for service, process in processes.items():
        output, _ = process.communicate(timeout=60)
        assert "Traceback" not in output, (service, output)
        assert process.returncode == 0, (service, output)


@pytest.mark.parametrize("number", ROUNDS[1:])
def test_all_services_start_with_the_other_edges_of_every_bound(
    number: int, edges: Edges, processes: dict[str, subprocess.Popen[str]]
) -> None:
    environs = edge_environ(edges, number)
    everything = {name: value for environ in environs.values() for name, value in environ.items()}
    process = processes["all"] = start("-c", ALL_IN_ONE, environ=everything)
    for service, environ in environs.items():
        check_health(service, environ[f"{service}_BIND".upper()], process)
    process.kill()
    output, _ = process.communicate(timeout=60)
    assert "Traceback" not in output, output
    assert process.returncode == -signal.SIGKILL, output


def test_the_edges_are_found_wherever_a_setting_stands(edges: Edges) -> None:
    for service, table in SERVICES.items():
        edges.of_table(table, 0, service)
    a_table(edges, 0)

    assert edges.seen["iterate.append_wait_ms"] == [0, 10_000]
    assert edges.seen["iterate.fsync"] == ["never", "interval", "row"]
    assert edges.seen["chatd.tracing.queue_bytes_max"] == [65_536, 2_147_483_648]
    assert edges.seen["chatd.providers.*.retry.cap_ms"] == [1, 60_000]
    assert edges.seen["validated.roster.postgres.schema_name"] == ["a", "a" * 63]
    assert edges.seen["validated.datasets.*.postgres.refresh_s"] == [1, 86_400]
    assert edges.seen["validated.limits.schema_memory_mb"] == [64, 65_536]
    # No choice has more words than there are rounds.
    assert max(map(len, edges.seen.values())) <= len(ROUNDS)


# By service, what neither may take, and the key that is named.
REFUSED: dict[str, dict[str, str]] = {
    "iterate": {
        "TRACING__ENVIRONMENT": "Production",
        "TRACING__CAPTURE_BYTES_MAX": "2000000",
        "TRACING__FLUSH_SPANS": "4096",
        "TRACING__SHUTDOWN_MS": "90000",
        "TRACING__HOST": "langfuse:3000",
        "SESSION_LOG_GUARANTEE": "strict",
        "MAX_ITERATIONS_CAP": "2",
        "CHAT_MS_MIN": "130000",
        "CHATD": "http://127.0.0.1:50052",
        "VALIDATED": "validated",
        "DAEMON": "",
        "SAMPLE": "unknown",
    },
    "chatd": {
        "BIND": "127.0.0.1:99999",
        "METRICS_HOST": "",
        "TRACING__SECRET_KEY_FILE": "/",
        "TRACING__SAMPLE_RATE": "nan",
        "TLS": '{"certificate_file": "/nonexistent", "key_file": "/"}',
        "SCHED_BATCH": "perhaps",
    },
    "validated": {"BIND": "127.0.0.1", "METRICS_PORT": "-1", "TRACING__PUBLIC_KEY": "a:b"},
}


@pytest.fixture(scope="module")
def refused() -> dict[str, tuple[Ended, Ended]]:
    """Return what `--check` and the start say of what neither may take, by service."""
    environs = {
        service: {f"{service.upper()}_{key}": value for key, value in settings.items()}
        for service, settings in REFUSED.items()
    }
    return dict(zip(REFUSED, check_and_start(environs.items()), strict=True))


def check_and_start(each: Iterable[tuple[str, Mapping[str, str]]]) -> list[tuple[Ended, Ended]]:
    wanted = [Start(service, environ, arguments) for service, environ in each for arguments in (("--check",), ())]
    ended = starts(*wanted)
    return list(zip(ended[::2], ended[1::2], strict=True))


@pytest.mark.parametrize("service", SERVICES)
def test_the_check_and_the_start_name_everything_that_is_wrong_at_once(
    service: str, refused: dict[str, tuple[Ended, Ended]]
) -> None:
    check, started = refused[service]

    assert check.output == started.output
    assert "Traceback" not in check.output
    for key in REFUSED[service]:
        named = f"{service}.{key.lower().replace('__', '.')}"
        assert named in check.output or f"{service}_{key}: unknown key".upper() in check.output.upper(), key
    assert (check.status, started.status) == (2, 2)


LACKING = (
    ("iterate", "BIND=10.255.255.1:0"),
    ("iterate", "METRICS_PORT=1 METRICS_HOST=no.such.host.invalid"),
    ("iterate", "BIND=unix:/nonexistent/iterate"),
    ("iterate", "HOP_TLS__CA_FILE=/dev/null"),
    ("chatd", "PROVIDERS__X__TYPE=scripted PROVIDERS__X__SCRIPT=/nonexistent.toml"),
    ("chatd", "TRACING__HOST=http://x TRACING__PUBLIC_KEY=pk TRACING__SECRET_KEY_FILE=/nonexistent"),
    ("validated", "ROSTER__BACKEND=postgres ROSTER__POSTGRES__CONNINFO=secret-nonsense"),
)


@pytest.fixture(scope="module")
def lacking() -> dict[tuple[str, str], tuple[Ended, Ended]]:
    """Return what `--check` and the start say of what the machine lacks."""
    environs = []
    for service, setting in LACKING:
        settings = dict(pair.split("=", 1) for pair in ["BIND=127.0.0.1:0", *setting.split()])
        environs.append((service, {f"{service.upper()}_{key}": value for key, value in settings.items()}))
    return dict(zip(LACKING, check_and_start(environs), strict=True))


@pytest.mark.parametrize(("service", "setting"), LACKING)
def test_what_the_machine_lacks_stops_check_and_start_with_a_sentence(
    service: str, setting: str, lacking: dict[tuple[str, str], tuple[Ended, Ended]]
) -> None:
    check, started = lacking[service, setting]

    problem = check.output.strip().removeprefix(f"{service}: ")
    assert json.loads(started.output)["problem"] == problem
    assert problem.startswith(f"{service}.")
    assert "secret" not in problem.replace("secret_key_file", "")
    assert (check.status, started.status) == (2, 1)


def test_a_process_ends_by_the_status_of_its_start(processes: dict[str, subprocess.Popen[str]]) -> None:
    environ = {"ITERATE_BIND": "unix:/nonexistent/iterate"}
    processes |= {
        "check": start("-m", "iterate", "--check", environ=environ),
        "start": start("-m", "iterate", environ=environ),
    }

    assert [process.wait(60) for process in processes.values()] == [2, 1]
