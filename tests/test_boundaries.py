"""Goal: the architecture's lines hold: who may import whom, and how light the client half is.

Method: the import statements of every handwritten module, read from its syntax tree; and, for the client half, what a
fresh interpreter has really loaded.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICES = Path(__file__).resolve().parent.parent / "services"
NAMES = ("iterate", "chatd", "validated")
CLIENT_HALF = ("trace_context.py", "errors.py", "clients.py", "spec_member.py")
CLIENT_MAY_LOAD = {"grpc", "google", "lakehouse"}
# Edges to gRPC: everything else in a service is domain code.
GRPC_FILES = {"__main__.py", "servicer.py", "hops.py"}


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def modules(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*.py") if "_pb2" not in path.name]


def top(module: str) -> str:
    return module.split(".", 1)[0]


@pytest.mark.parametrize("service", NAMES)
def test_a_service_imports_no_other_service(service: str) -> None:
    others = set(NAMES) - {service}

    found = [(file.name, name) for file in modules(SERVICES / service) for name in imports(file) if top(name) in others]

    assert found == []


def test_what_is_shared_imports_no_service() -> None:
    found = [
        (str(file.relative_to(SERVICES)), name)
        for file in modules(SERVICES / "lakehouse")
        for name in imports(file)
        if top(name) in NAMES
    ]

    assert found == []


@pytest.mark.parametrize("service", NAMES)
def test_domain_files_import_no_grpc(service: str) -> None:
    found = [
        (str(file.relative_to(SERVICES)), name)
        for file in modules(SERVICES / service)
        if file.name not in GRPC_FILES
        for name in imports(file)
        if top(name).startswith("grpc") or name.endswith("_pb2_grpc")
    ]

    assert found == []


def test_only_the_tracing_package_imports_langfuse() -> None:
    found = [
        str(file.relative_to(SERVICES))
        for file in modules(SERVICES)
        if any(top(name) == "langfuse" for name in imports(file))
    ]

    assert all(name.startswith("lakehouse/tracing/") for name in found)
    assert found, "the guard looks at the wrong place if nobody imports langfuse"


def test_the_client_half_imports_grpc_and_protobuf_alone() -> None:
    for name in CLIENT_HALF:
        for module in imports(SERVICES / "lakehouse" / name):
            assert top(module) in CLIENT_MAY_LOAD | sys.stdlib_module_names, (name, module)
            assert not module.startswith(
                ("lakehouse.server", "lakehouse.sessions", "lakehouse.tracing", "lakehouse.cli")
            )


def test_a_caller_of_the_clients_loads_nothing_of_the_server_half() -> None:
    # grpc.aio and grpc itself bring only the standard library and their own.
    program = (
        "import sys; before = set(sys.modules); import lakehouse.clients, lakehouse.trace_context, lakehouse.errors;"
        "print('\\n'.join(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    loaded = {name for name in done.stdout.split() if name not in sys.stdlib_module_names and not name.startswith("_")}

    # grpc itself loads its sibling packages where they are installed; the import statements are held above.
    siblings = {"grpc_health", "grpc_reflection", "grpc_status", "grpc_tools", "cython_runtime"}
    assert loaded <= CLIENT_MAY_LOAD | siblings | {"typing_extensions"}


@pytest.mark.parametrize("service", ["iterate", "chatd", "validated"])
def test_a_service_sets_the_c_cores_switches_before_it_imports_grpc(service: str) -> None:
    script = f"import sys, {service}.__main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert loaded.index("lakehouse.server") < loaded.index("grpc")


def test_modules_stay_small() -> None:
    long = {
        str(file.relative_to(SERVICES)): lines
        for file in modules(SERVICES)
        if (lines := len(file.read_text(encoding="utf-8").splitlines())) > 350
    }

    assert long == {}, "one reason to exist each: split what has grown"


# What makes up the names of the session log's files, and the one module that spells it. Others ask that module.
FILE_NAME_PATTERNS = {
    ".jsonl": "lakehouse/sessions/store/names.py",
    ".gz": "lakehouse/sessions/store/names.py",
    ".zst": "lakehouse/sessions/store/names.py",
    ".xz": "lakehouse/sessions/store/names.py",
    ".inflight": "lakehouse/sessions/store/journal.py",
    ".unread": "lakehouse/sessions/store/journal.py",
    ".parquet": "lakehouse/sessions/store/archive.py",
    "_segments": "lakehouse/sessions/store/archive.py",
    "_claimed": "lakehouse/sessions/store/archive.py",
    "_building": "lakehouse/sessions/store/archive.py",
    "_lock": "lakehouse/sessions/store/archive.py",
    "day=": "lakehouse/sessions/store/archive.py",
}
# A roster's file formats are the roster's, whatever the log's files are called.
OTHER_FILES = ("validated/roster/",)


def spelled_strings(file: Path) -> Iterator[str]:
    """Every string literal of a file but its docstrings, the constant parts of f-strings among them."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    prose = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node not in prose:
            if isinstance(node.value, str):
                yield node.value
            elif isinstance(node.value, bytes):
                yield node.value.decode(errors="replace")


@pytest.mark.parametrize(("pattern", "owner"), FILE_NAME_PATTERNS.items())
def test_each_file_name_pattern_of_the_log_is_spelled_in_one_module(pattern: str, owner: str) -> None:
    # `sessions.jsonl`, but not the `json_lock` or `.gzip` of another word.
    spelled = re.compile(rf"(?<![a-zA-Z]){re.escape(pattern)}(?![a-z])" if pattern[0] == "_" else re.escape(pattern))

    found = {
        str(file.relative_to(SERVICES))
        for file in modules(SERVICES)
        for text in spelled_strings(file)
        if spelled.search(text)
    }

    assert {name for name in found if not name.startswith(OTHER_FILES)} == {owner}
