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


def test_secret_headers_come_by_the_environment(read: Any) -> None:
    config = read(OPENAI, CHATD_PROVIDERS__MAIN__SECRET_HEADERS='{"X-Token": "sk-from-environment"}')

    assert config.providers["main"].secret_headers["X-Token"].get_secret_value() == "sk-from-environment"
    assert "sk-from-environment" not in repr(config)


def test_the_older_name_of_a_price_still_works(read: Any) -> None:
    config = read(OPENAI + "prices = {m = {input = 0.15, output = 0.6, cached_input = 0.075}}")

    assert str(config.providers["main"].prices["m"].cache_read) == "0.075"


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
        (OPENAI + 'headers = {X-Gateway-Token = "x"}', "secret_headers"),
        (OPENAI + "extra_body = {model = 1}", "is set by chatd"),
        (OPENAI + 'models = {"m" = {extra_body = {model = 1}}}', "is set by chatd"),
        ('[chatd.providers.main]\ntype = "anthropic"\nextra_body = {system = "x"}', "is set by chatd"),
        (OPENAI + 'drop = ["messages"]', "drop"),
        (OPENAI + 'models = {"m" = {temperature = 1}}', "unknown key"),
        (OPENAI + 'secret_headers = {X-Token = "sk-in-the-file"}', "CHATD_PROVIDERS__MAIN__SECRET_HEADERS"),
        (OPENAI + 'proxy_password = "sk-in-the-file"', "proxy_password_file"),
        (OPENAI + 'proxy_user = "me"', "proxy_user"),
        (OPENAI + 'proxy = "http://u:p@h"', "must not hold a user"),
        (OPENAI + 'headers = {X-A = "1"}\nsecret_headers_file = {x-a = "/f"}', "is set twice"),
        (OPENAI + 'prices_file = "/nonexistent/prices.toml"', "/nonexistent/prices.toml"),
        (OPENAI + "prices = {m = {input = -1, output = 1}}", "prices.m.input"),
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
