"""Goal: every code block of the README and of docs/ does what it says, or it stands here why it is not run.

Method: the blocks are read out of the files. TOML goes through `--check` with its paths made to exist; Python is run
against a live stack; each shell command has to fit one rule of `RULES`: run here, looked up, or left with a reason. A
new block or command that no rule knows fails, so that somebody decides.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jsonschema_rs
import pytest
import yaml
from markdown_blocks import Block, blocks_of, commands

from lakehouse.cli.stack import examples, free_port_binds, running_stack
from lakehouse.server.callers.file import read_callers_file

ROOT = Path(__file__).resolve().parents[2]
ROSTER = ROOT / "examples" / "roster" / "workers.csv"
OURS = ("LAKEHOUSE_", "VALIDATED_", "CHATD_", "ITERATE_")
FILES = sorted(
    [
        *ROOT.glob("*.md"),
        # The tutorial runs as a whole, word for word: tests/validated/test_kinds_docs.py; and so does each engine's
        # recipe, where the engines are: tests/sessions/test_other_engines.py.
        *(page for page in (ROOT / "docs").rglob("*.md") if page.name not in ("first-kind.md", "engines.md")),
        *(ROOT / "bench").glob("*.md"),
        *(ROOT / ".github").rglob("*.md"),
    ]
)
SERVICES = ("validated", "chatd", "iterate")
BIN = Path(sys.executable).parent
RUN_S = 120


BLOCKS = [block for file in FILES for block in blocks_of(file, str(file.relative_to(ROOT)))]


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def clean_environ(**given: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return kept | {"PATH": f"{BIN}:{ROOT / '.tools' / 'bin'}:{os.environ['PATH']}"} | given


def test_every_block_has_a_kind_that_is_tested_here() -> None:
    assert {block.language for block in BLOCKS} <= {"sh", "toml", "python", "yaml", ""}
    assert len(of("sh")) >= 4
    assert len(of("toml")) >= 2


# Blocks without a language, by their first words: what they are.
SHOWN: Mapping[str, str] = {
    "a model that is told nothing": "what `make demo` prints: compared below",
    "caller ──Iterate──▶": "a drawing",
    "CHATD_DEFAULT_PROVIDER=": "a chatd.env: tests/test_deploy.py gives it to --check",
}


@pytest.mark.parametrize("block", of(""), ids=str)
def test_a_block_without_a_language_is_known(block: Block) -> None:
    assert any(block.text.startswith(words) for words in SHOWN), block.text


def test_the_demo_prints_what_the_readme_shows() -> None:
    (shown,) = [block for block in of("") if block.text.startswith("a model that is told nothing")]
    printed = subprocess.run([BIN / "lakehouse", "demo"], capture_output=True, text=True, check=True, timeout=RUN_S)

    # It is shortened, and says so: all its words stand in one line, in this order; numbers differ.
    lines = [_words(line) for line in printed.stdout.splitlines()]
    for line in filter(str.strip, shown.text.splitlines()):
        wanted = _words(line.rstrip().removesuffix("…"))
        assert any(_in_order(wanted, each) for each in lines), (line, printed.stdout)


def _words(text: str) -> list[str]:
    return re.sub(r"\d+", "N", text).split()


def _in_order(wanted: list[str], words: list[str]) -> bool:
    rest = iter(words)
    return all(word in rest for word in wanted)


# A fragment of a compose file goes to --check in tests/test_deploy.py.
VALUES = [block for block in of("yaml") if not block.text.startswith("services:")]


@pytest.mark.parametrize("block", VALUES, ids=str)
def test_values_of_the_chart_fit_its_schema_and_its_configuration_the_services(block: Block, tmp_path: Path) -> None:
    document = yaml.safe_load(block.text)
    schema = json.loads((ROOT / "deploy" / "kubernetes" / "values.schema.json").read_text(encoding="utf-8"))
    jsonschema_rs.validate(schema, document)

    file = tmp_path / "lakehouse.toml"
    file.write_text(document["config"], encoding="utf-8")
    for service in tomllib.loads(document["config"]):
        environ = clean_environ(**free_port_binds())
        for each in document[service].get("secretFiles", ()):
            (tmp_path / each["key"]).write_text("secret\n", encoding="utf-8")
            environ[each["env"]] = str(tmp_path / each["key"])
        command = [sys.executable, "-m", service, "--check", "--config", str(file)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (service, done.stderr)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout tls.key -out tls.crt -days 2"
    subprocess.run(["openssl", *command.split(), "-subj", "/CN=x"], cwd=folder, check=True, capture_output=True)
    shutil.copy(folder / "tls.crt", folder / "ca.crt")
    return folder


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on PATH")
@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_toml_passes_the_check(block: Block, tmp_path: Path, certificates: Path) -> None:
    document = tomllib.loads(block.text)
    text = block.text.replace("/etc/lakehouse/tls", str(certificates))
    for path in re.findall(r'"(/[^"]+)"', text):
        if not path.startswith(str(certificates)):
            here = tmp_path / path[1:]
            folder = here if not here.suffix else here.parent
            folder.mkdir(parents=True, exist_ok=True)
            if here.suffix and "session" not in here.name:
                here.touch()
            text = text.replace(f'"{path}"', f'"{here}"')
    file = tmp_path / "lakehouse.toml"
    file.write_text(text)

    if "callers" in document:
        read_callers_file(file)
    for service in set(document) & set(SERVICES):
        environ = clean_environ(**free_port_binds())
        command = [sys.executable, "-m", service, "--check", "--config", str(file)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (service, done.stderr)


@dataclass(frozen=True)
class Live:
    """A stack, and a folder in which commands are typed."""

    address: str
    session_id: str
    folder: Path
    environ: Mapping[str, str]


@pytest.fixture(scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    folder = tmp_path_factory.mktemp("typed")
    (folder / ".lakehouse").mkdir()
    shutil.copy(examples() / "roster" / "workers.csv", folder / "today.csv")
    (folder / "deploy").symlink_to(ROOT / "deploy")
    log = folder / ".lakehouse" / "sessions.jsonl"
    environ = {
        **free_port_binds(),
        "VALIDATED_ROSTER__PATH": str(ROSTER),
        "ITERATE_SESSION_LOG_PATH": str(log),
    }
    async with running_stack(on_log=lambda *_: None, environ=environ, alone=True) as stack:
        address = stack.addresses["iterate"]
        spec = '{"role": "forklift operator", "count": 3, "city": "Toledo", "state": "OH"}'
        command = ("iterate", "--kind", "fill", "--prompt", "Fill it", "--spec", spec, "--address", address, "--json")
        done = await asyncio.to_thread(
            subprocess.run, [str(BIN / "lakehouse"), *command], capture_output=True, text=True, check=True
        )
        yield Live(
            address,
            json.loads(done.stdout)["session_id"],
            folder,
            clean_environ(
                LAKEHOUSE_ITERATE=address,
                LAKEHOUSE_VALIDATED=stack.addresses["validated"],
                LAKEHOUSE_SESSION_LOG=".lakehouse/sessions.jsonl",
            ),
        )


@pytest.mark.parametrize("block", of("python"), ids=str)
async def test_python_runs_against_a_live_stack(block: Block, live: Live) -> None:
    assert "127.0.0.1:50051" in block.text
    text = block.text.replace("127.0.0.1:50051", live.address)

    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", text], capture_output=True, text=True, env=live.environ, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "W-" in done.stdout


def make_target(command: str) -> None:
    """Check that the target is there, and that make knows how to make it."""
    target = shlex.split(command)[1]
    subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


# A command's beginning: how it is run, or why it is not. `None`: typed as it stands into a shell.
Rule = Callable[[str], None] | str | None
RULES: tuple[tuple[str, Rule], ...] = (
    (r"make (demo|test|up)\b", make_target),
    (r"\. \.venv/bin/activate$", "the tests run in such an environment already"),
    (
        r"(LAKEHOUSE_PORT=\S+ )?docker compose (up|exec)\b|deploy/compose_check\.sh",
        "needs a container engine; tests/test_deploy.py reads the files",
    ),
    (r"helm install ", "needs a cluster; tests/test_kubernetes.py renders the chart"),
    (r"python3 deploy/langfuse_env\.py > \.env$", None),
    (r"lakehouse (iterate|brief|sessions(?! (serve|publish|erase)\b)(?!.* --table\b)) ", None),
    (r"lakehouse sessions serve$", "serves until it is stopped: tests/cli/test_sessions_serve.py starts it"),
    (r"lakehouse sessions publish ", "publishes until it is stopped: tests/cli/test_sessions_lake.py starts it"),
    (r"lakehouse sessions erase ", "needs iterate stopped: tests/sessions/test_erasing.py erases"),
    (r"lakehouse sessions ls --table$", "needs a published table: tests/cli/test_sessions_lake.py reads one"),
    (r"export LAKE_WAREHOUSE=", "a folder of the machine's own"),
    (r"pip install '\.\[", "the tests run where it is installed already"),
    (r"lakehouse kinds$", None),
    (r"grpcurl ", None),
    (r"export LAKEHOUSE_SESSION_LOG=", None),
    (r"python -m lakehouse\.server\.health_probe ", None),
)


COMMANDS = [(block, command) for block in of("sh") for command in commands(block)]


@pytest.mark.parametrize(("block", "command"), COMMANDS, ids=lambda value: str(value)[:60])
async def test_a_shell_command_does_what_its_rule_says(block: Block, command: str, live: Live) -> None:
    rules = [rule for pattern, rule in RULES if re.match(pattern, command)]
    assert len(rules) == 1, f"{block}: no rule, or several, for: {command}"
    (rule,) = rules
    if isinstance(rule, str):
        pytest.skip(f"not run: {rule}")
    if rule is not None:
        rule(command)
        return
    if command.startswith("grpcurl") and shutil.which("grpcurl", path=live.environ["PATH"]) is None:
        pytest.skip("grpcurl is not on PATH (.ci/run installs it)")
    typed = command.replace("127.0.0.1:50051", live.address).replace("SESSION_ID", live.session_id)
    typed = typed.replace("examples/roster/workers.csv", str(ROSTER))
    done = await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", typed],
        cwd=live.folder,
        env=live.environ,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, (typed, done.stdout, done.stderr)


def test_no_rule_is_left_over() -> None:
    used: set[str] = {pattern for pattern, _ in RULES for _, command in COMMANDS if re.match(pattern, command)}

    assert used == {pattern for pattern, _ in RULES}
