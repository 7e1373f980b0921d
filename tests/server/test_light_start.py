"""Goal: a start imports what the configuration asks for, and nothing else that takes long.

Method: in a process of its own, as the services begin theirs, all three are imported; then what is loaded is looked at.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

# Of a log for a terminal, of who is scraped, of PostgreSQL, of HTTP endpoints, of the process that builds indexes, of
# who asks for reflection, of callers' tokens, and of tracing.
UNASKED = (
    *(
        "rich",
        "pygments",
        "attr",
        "prometheus_client",
        "psycopg",
        "aiohttp",
        "duckdb",
        "grpc_reflection.v1alpha.reflection",
    ),
    *("jwt", "cryptography", "langfuse", "opentelemetry", "cel_expr_python", "pyiceberg"),
)


def imported(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_service_imports_nothing_that_its_configuration_does_not_ask_for() -> None:
    services = "import iterate.__main__, chatd.__main__, validated.__main__"
    modules = imported(f"from lakehouse.server.process import begin_process\nbegin_process()\n{services}")

    assert {"iterate.servicer", "chatd.servicer", "validated.servicer", "structlog"} <= modules
    assert [each for each in UNASKED if each in modules] == []


@pytest.mark.parametrize(
    "module", [*(f"cli.{name}" for name in ("iterate", "brief", "validate", "chat")), "server.health_probe"]
)
def test_what_calls_a_service_imports_no_settings(module: str) -> None:
    modules = imported(f"import lakehouse.{module}")

    assert "grpc" in modules
    assert [each for each in ("pydantic", "structlog", "prometheus_client") if each in modules] == []


def test_rich_can_be_imported_after_structlog() -> None:
    modules = imported("from lakehouse.server.process import begin_process\nbegin_process()\nimport rich.console")

    assert {"structlog", "rich.console"} <= modules
