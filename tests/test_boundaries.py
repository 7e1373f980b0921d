"""Goal: the architecture's lines hold: who may import whom, and how light the client half is.

Method: the import statements of every handwritten module, read from its syntax tree; and, for the client half, what a
fresh interpreter has really loaded.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

SERVICES = Path(__file__).resolve().parent.parent / "services"
NAMES = ("iterate", "chatd", "validated")
CLIENT_HALF = (
    "trace_context.py",
    "errors.py",
    "channels.py",
    "clients.py",
    "iterate_clients.py",
    "repeated_calls.py",
    "spec_member.py",
    "message_fields.py",
    "near_names.py",
    "private_names.py",
    "renewed_channel.py",
)
CLIENT_MAY_LOAD = {"grpc", "google", "lakehouse"}
# Edges to gRPC: everything else in a service is domain code.
GRPC_FILES = {"__main__.py", "servicer.py", "hops.py"}
WITHOUT_SWITCHES = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GRPC_")},
    # Whoever runs here already has the default ones.
    **{f"{name.upper()}_BIND": "127.0.0.1:0" for name in NAMES},
}


@pytest.fixture(scope="module", autouse=True)
def _syntax_is_forgotten() -> Iterator[None]:
    yield
    # Else each garbage collection of the tests that follow looks at a million nodes.
    syntax.cache_clear()


def nodes_of(code: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(code)))


@cache
def syntax(file: Path) -> list[ast.AST]:
    """Every node of a file's tree: it is read and walked once, whoever asks."""
    return nodes_of(file.read_text(encoding="utf-8"))


@cache
def imports(file: Path) -> list[str]:
    """Every module that a file imports, at any depth of its code."""
    found: list[str] = []
    for node in syntax(file):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.append(node.module)
    return found


@cache
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


# Runs a module as `python -m` does, and says what the environment held when grpc was first looked for.
WATCH_GRPC = """
import os, runpy, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print("grpc with", os.environ.get("GRPC_EXPERIMENTS"), os.environ.get("GRPC_VERBOSITY"))

sys.meta_path.insert(0, Watch())
module, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    "command", [*([name, "--check"] for name in NAMES), ["lakehouse.cli.main", "chat", "--help"]], ids=lambda c: c[0]
)
def test_whoever_starts_a_process_sets_the_c_cores_switches_before_it_imports_grpc(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCH_GRPC, *command], capture_output=True, text=True, check=True, env=WITHOUT_SWITCHES
    )

    assert "grpc with -event_engine_client,-event_engine_listener ERROR\n" in done.stdout


def test_an_import_changes_no_environment() -> None:
    names = sorted(
        str(file.relative_to(SERVICES).with_suffix("")).replace("/", ".").removesuffix(".__init__")
        for file in SERVICES.rglob("*.py")
    )
    assert {"lakehouse.server", "lakehouse.cli", "lakehouse.tracing", "chatd.__main__"} <= set(names)
    program = (
        "import importlib, os, sys\n"
        "for name in sys.argv[1:]:\n"
        "    before = dict(os.environ)\n"
        "    importlib.import_module(name)\n"
        "    if dict(os.environ) != before: print(name)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, *names], capture_output=True, text=True, check=True, env=WITHOUT_SWITCHES
    )

    assert done.stdout == ""


PRIVATE_NAMES_FILE = SERVICES / "lakehouse" / "private_names.py"
# Documented by their packages in spite of their first letter.
DOCUMENTED = {"_exit", "_replace", "_asdict", "_fields", "_make", "_field_defaults"}
OWN_PACKAGES = {*NAMES, "lakehouse"}
# What takes a name as a string.
BY_STRING = {"getattr", "setattr", "hasattr", "delattr", "attrgetter", "methodcaller"}


def is_private(name: str) -> bool:
    """Return True for a name that its package keeps to itself; the language's own `__names__` are nobody's."""
    return name.startswith("_") and not name.endswith("__") and name.strip("_") != "" and name not in DOCUMENTED


def defined_names(nodes: list[ast.AST]) -> set[str]:
    """Every name that the code makes: functions, classes, what is assigned to, slots."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            names.add(node.attr)
        elif isinstance(node, ast.Assign) and any(is_slots(target) for target in node.targets):
            names |= {str(each.value) for each in ast.walk(node.value) if isinstance(each, ast.Constant)}
    return names


def is_slots(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "__slots__"


def is_self(receiver: ast.expr) -> bool:
    return isinstance(receiver, ast.Name) and receiver.id in ("self", "cls")


def is_super(receiver: ast.expr) -> bool:
    return isinstance(receiver, ast.Call) and isinstance(receiver.func, ast.Name) and receiver.func.id == "super"


def called(call: ast.Call) -> str:
    """Return the last name of what is called: `getattr`, or the `attrgetter` of `operator.attrgetter`."""
    if isinstance(call.func, ast.Name):
        return call.func.id
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def private_names_of_others(nodes: list[ast.AST], own_anywhere: set[str]) -> Iterator[str]:
    """Yield what the code takes of others that they keep to themselves.

    On `self`, `cls` and `super()` a private name must be made somewhere in this repository, on anything else in the
    same file: a class's private names are for its own file. A name in a string, as `getattr` takes it, counts as well.
    """
    own_here = defined_names(nodes)
    for node in nodes:
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            own = own_anywhere if is_self(node.value) or is_super(node.value) else own_here
            if node.attr not in own:
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and called(node) in BY_STRING:
            texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            if any(is_private(part) for text in texts for part in text.split(".")):
                yield ast.unparse(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from private_imports(node)


def private_imports(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yield the modules and names of other packages that an import statement takes and that are private."""
    origin = ""
    if isinstance(node, ast.ImportFrom):
        if node.level or not node.module:
            return
        origin = f"{node.module}."
    for alias in node.names:
        name = f"{origin}{alias.name}"
        if top(name) not in OWN_PACKAGES | {"__future__"} and any(map(is_private, name.split("."))):
            yield name


def test_private_names_of_other_packages_stand_in_one_file() -> None:
    files = {file: syntax(file) for file in modules(SERVICES)}
    own = set().union(*map(defined_names, files.values()))

    found = {file: names for file, nodes in files.items() if (names := [*private_names_of_others(nodes, own)])}

    excused = found.pop(PRIVATE_NAMES_FILE, [])
    assert {str(file.relative_to(SERVICES)): names for file, names in found.items()} == {}
    assert excused, "the guard sees nothing, or the file is no longer needed"


@pytest.mark.parametrize(
    "code",
    [
        "call._cython_call",
        "self.client._client_wrapper",
        "grpc.aio._call.UnaryUnaryCall",
        "self._of_a_base_class",
        "super()._of_a_base_class()",
        "getattr(call, '_invocation_task', None)",
        "operator.attrgetter('api._client_wrapper')",
        "http_client._compress = fast",
        "from langfuse._client import client",
        "from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY",
        "import grpc._cython.cygrpc",
    ],
)
def test_the_guard_sees_a_private_name_however_it_is_taken(code: str) -> None:
    assert [*private_names_of_others(nodes_of(code), own_anywhere={"_ours"})]


@pytest.mark.parametrize(
    "code",
    [
        "self._ours",
        "os._exit(1)",
        "row._replace(a=1)",
        "for _, __ in pairs: pass",
        "call.__class__",
        "from lakehouse.sessions import _rows",
        "class A:\n    def _step(self): ...\ndef f(a): a._step()",
    ],
)
def test_the_guard_lets_pass_what_is_ours(code: str) -> None:
    assert [*private_names_of_others(nodes_of(code), own_anywhere={"_ours"})] == []


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
OTHER_FILES = ("validated/datasets/", "lakehouse/cli/roster.py", "lakehouse/sessions/lake/")


@cache
def spelled_strings(file: Path) -> list[str]:
    """Return every string literal of a file but its docstrings, the constant parts of f-strings among them."""
    nodes = syntax(file)
    prose = {
        node.value
        for node in nodes
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    literals = [node.value for node in nodes if isinstance(node, ast.Constant) and node not in prose]
    return [
        value.decode(errors="replace") if isinstance(value, bytes) else value
        for value in literals
        if isinstance(value, str | bytes)
    ]


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


KIND_NAMES = {"fill", "email", "json_schema"}
SPEC_MESSAGES = {"FillSpec", "EmailSpec", "JsonSchemaSpec"}
# What says "json_schema" and means the form of an answer, as an OpenAI endpoint calls it; and the format of a string.
OTHER_WORDS = {"json_schema": ("chatd/",), "email": ("chatd/schemas/",)}
# Its examples, and what a flag that is one kind's stands for, are a kind's by nature.
MAY_NAME_A_KIND = ("lakehouse/cli/demo.py",)


CLICK = ("click.option", "click.argument")


def named_kinds(nodes: list[ast.AST]) -> Iterator[str]:
    """Where the code names a kind of this repository: a string, an attribute, a keyword, a spec's message. Options of
    the command line and their help are examples.
    """
    examples = {
        id(node)
        for call in nodes
        if isinstance(call, ast.Call) and called(call) in ("option", "argument") and ast.unparse(call.func) in CLICK
        for node in ast.walk(call)
    }
    for node in nodes:
        if id(node) in examples:
            continue
        if isinstance(node, ast.Constant) and node.value in KIND_NAMES:
            yield str(node.value)
        elif isinstance(node, ast.Attribute) and node.attr in KIND_NAMES | SPEC_MESSAGES:
            yield node.attr
        elif isinstance(node, ast.keyword) and node.arg in KIND_NAMES:
            yield str(node.arg)
        elif isinstance(node, ast.alias) and node.name in SPEC_MESSAGES:
            yield node.name


def test_no_kind_is_named_outside_validated() -> None:
    found = {
        (str(file.relative_to(SERVICES)), name)
        for file in modules(SERVICES)
        for name in named_kinds(syntax(file))
        if not file.is_relative_to(SERVICES / "validated")
        if not str(file.relative_to(SERVICES)).startswith((*MAY_NAME_A_KIND, *OTHER_WORDS.get(name, ())))
    }

    assert found == set()


@pytest.mark.parametrize(
    "code",
    [
        "if kind == 'fill': pass",
        "SHAPES = {'email': 1}",
        "request.fill.count",
        "IterateRequest(json_schema=x)",
        "from lakehouse.validated.v1.validated_pb2 import FillSpec",
        "match kind:\n    case 'email': pass",
    ],
)
def test_the_guard_sees_a_kind_however_it_is_named(code: str) -> None:
    assert [*named_kinds(nodes_of(code))]


def test_a_kind_is_named_in_its_file_and_in_one_line() -> None:
    kinds = SERVICES / "validated" / "kinds"
    named = {file: {*named_kinds(syntax(file))} for file in modules(SERVICES / "validated")}
    for name in sorted(KIND_NAMES):
        found = {str(file.relative_to(SERVICES / "validated")) for file, names in named.items() if name in names}
        assert found <= {f"kinds/{name}.py", "kinds/__init__.py"}, name
        assert (kinds / f"{name}.py").exists()


def test_iterate_does_not_so_much_as_speak_of_a_kind() -> None:
    speaks = re.compile(r"\b(fill|email|json_schema|worker|worker_id)\b")

    found = [
        (file.name, line)
        for file in modules(SERVICES / "iterate")
        for line in file.read_text(encoding="utf-8").splitlines()
        if speaks.search(line)
    ]

    assert found == []
