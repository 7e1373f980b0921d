from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatd.config import ChatdConfig, ScriptedTable
from lakehouse.server.config import load
from lakehouse.settings import ConfigError

OPENAI = '[chatd.providers.main]\ntype = "openai"\nbase_url = "http://127.0.0.1:11434/v1"\n'


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def read(text: str, **environ: str) -> ChatdConfig:
        file = tmp_path / "config.toml"
        file.write_text(text)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        return load("chatd", ChatdConfig, file=file, environ=environ)

    return read


def test_nothing_configured_is_one_scripted_provider(read: Any) -> None:
    config = read("")

    assert config.providers == {"scripted": ScriptedTable(type="scripted")}
    assert config.default_target == "scripted"


def test_a_configured_provider_takes_the_place_of_the_scripted_one(read: Any) -> None:
    config = read(OPENAI)

    assert list(config.providers) == ["main"]
    assert config.default_target == "main"


def test_a_provider_may_come_from_the_environment_alone(read: Any) -> None:
    config = read(
        "",
        CHATD_PROVIDERS__OLLAMA__TYPE="openai",
        CHATD_PROVIDERS__OLLAMA__BASE_URL="http://127.0.0.1:11434/v1",
        CHATD_PROVIDERS__OLLAMA__API_KEY="sk-from-environment",
        CHATD_PROVIDERS__OLLAMA__RETRY__MAX_RETRIES="0",
    )

    table = config.providers["ollama"]
    assert table.api_key.get_secret_value() == "sk-from-environment"
    assert table.retry.max_retries == 0
    assert "sk-from-environment" not in repr(config)


@pytest.mark.parametrize("variable", ["CHATD_PROVIDERS", "CHATD_PROVIDERS__MAIN"])
def test_a_key_may_come_in_a_table_of_the_environment(variable: str, read: Any) -> None:
    table = '{"type": "openai", "base_url": "http://127.0.0.1/v1", "api_key": "sk-1"}'
    text = table if variable.endswith("MAIN") else f'{{"main": {table}}}'

    config = read("", **{variable: text})

    assert config.providers["main"].api_key.get_secret_value() == "sk-1"


def test_a_key_in_the_file_is_refused_and_not_repeated(read: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        read(OPENAI + 'api_key = "sk-in-the-file"')

    assert "CHATD_PROVIDERS__MAIN__API_KEY" in str(caught.value)
    assert "sk-in-the-file" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[chatd.providers.main]\ntype = "oracle"', "type"),
        ('[chatd.providers.main]\nbase_url = "http://x/v1"', "type"),
        ('[chatd.providers.main]\ntype = "openai"', "base_url"),
        ('[chatd.providers.main]\ntype = "openai"\nbase_url = "localhost:80"', "must be a URL"),
        ('[chatd.providers.main]\ntype = "openai"\nbase_url = "http://u:p@h/v1"', "must not hold a user"),
        ('[chatd.providers.main]\ntype = "openai"\nbase_url = "http://h/v1?key=1"', "must not hold a query"),
        (OPENAI + 'headers = {Authorization = "Bearer x"}', "api_key_file"),
        (OPENAI + 'headers = {"X\\n" = "y"}', "not a usable HTTP header"),
        (OPENAI + "extra_body = {model = 1}", "is set by chatd"),
        (OPENAI + "max_concurency = 3", "unknown key"),
        (OPENAI + "retry = {max_retries = 99}", "retry.max_retries"),
        (OPENAI.replace("main", "Main"), "names are 1-64"),
        (OPENAI + OPENAI.replace("main", "other"), "name the default"),
        ('[chatd]\ndefault_provider = "x"', "default_provider: no provider"),
        (OPENAI + '[chatd.routes.r]\ntargets = [{provider = "x"}]', "no provider 'x'; there are: main"),
        (OPENAI + '[chatd.routes.r]\ntargets = [{provider = "main"}]', "has no default_model"),
        (OPENAI + "[chatd.routes.r]\ntargets = []", "targets"),
        (OPENAI + '[chatd.routes.main]\ntargets = [{provider = "main", model = "m"}]', "has this name too"),
    ],
)
def test_a_configuration_that_cannot_be_used_says_what_to_do(text: str, problem: str, read: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text)

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('type = "scripted"\nscript = "/nonexistent.toml"', "/nonexistent.toml"),
        ('type = "replay"\nsession_log = "/nonexistent/sessions.jsonl"', "/nonexistent"),
        ('type = "openai"\nbase_url = "http://h/v1"\napi_key_file = "/nonexistent/key"', "/nonexistent/key"),
    ],
)
def test_a_file_that_is_not_there_stops_the_start_with_a_sentence(table: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'[chatd]\nbind = "127.0.0.1:0"\n[chatd.providers.main]\n{table}\n')
    done = subprocess.run(
        [sys.executable, "-m", "chatd", "--config", str(tmp_path / "config.toml")],
        env={"PYTHONPATH": str(Path(__file__).parents[2] / "services")},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 1
    assert problem in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
