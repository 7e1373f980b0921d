"""Goal: a service is configured by file and environment, and every mistake is told at once, in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, SecretStr

from chatd.config import ChatdConfig
from iterate.config import IterateConfig
from lakehouse.server.config import SECRET_KEYS, ServerTable, load
from lakehouse.settings import ConfigError, Table
from validated.config import ValidatedTable


class Endpoint(Table):
    base_url: str = ""
    retries: int = 0


class ExampleConfig(ServerTable):
    bind: str = "127.0.0.1:50052"
    providers: dict[str, Endpoint] = {}
    names: tuple[str, ...] = ()


def write(folder: Path, text: str) -> Path:
    file = folder / "lakehouse.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_without_anything_the_defaults_hold() -> None:
    config = load("chatd", ExampleConfig, file=None, environ={})

    assert config.bind == "127.0.0.1:50052"
    assert config.metrics_port == 0


def test_the_environment_goes_over_the_file_down_to_nested_tables(tmp_path: Path) -> None:
    file = write(tmp_path, '[chatd]\nbind = "a:1"\n[chatd.providers.openai]\nbase_url = "http://f"\nretries = 1\n')
    environ = {
        "CHATD_PROVIDERS__OPENAI__BASE_URL": "http://e",
        "CHATD_METRICS_PORT": "9100",
        "CHATD_NAMES": '["x", "y"]',
        "OTHER_BIND": "not ours",
    }

    config = load("chatd", ExampleConfig, file=file, environ=environ)

    assert config.bind == "a:1"
    assert config.metrics_port == 9100
    assert config.names == ("x", "y")
    assert config.providers["openai"] == Endpoint(base_url="http://e", retries=1)


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, '[chatd]\nbnid = "a:1"\nmetrics_port = 70000\n[chatter]\n')

    with pytest.raises(ConfigError) as caught:
        load("chatd", ExampleConfig, file=file, environ={"CHATD_BNID": "x", "CHATD_DRAIN_MS": "soon"})

    text = "\n".join(caught.value.problems)
    assert "[chatter]" in text
    assert "chatd.bnid: unknown key" in text
    assert "chatd.metrics_port" in text
    assert "CHATD_BNID: unknown key" in text
    assert "chatd.drain_ms" in text


@pytest.mark.parametrize(
    "name", ["CHATD_SERVICE_HOST", "CHATD_PORT", "CHATD_PORT_50052_TCP", "CHATD_PORT_50052_TCP_ADDR"]
)
def test_what_orchestrators_put_beside_a_service_is_not_taken_for_a_key(name: str) -> None:
    assert load("chatd", ExampleConfig, file=None, environ={name: "tcp://10.0.0.1:50052"})


def test_a_missing_or_broken_file_is_a_clear_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load("chatd", ExampleConfig, file=tmp_path / "absent.toml", environ={})
    with pytest.raises(ConfigError, match="not TOML"):
        load("chatd", ExampleConfig, file=write(tmp_path, "bind = "), environ={})


def test_a_byte_order_mark_is_no_part_of_the_file_and_another_encoding_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, '\ufeff[chatd]\nbind = "a:1"\n')
    assert load("chatd", ExampleConfig, file=file, environ={}).bind == "a:1"
    file.write_bytes('[chatd]\nbind = "\xe9:1"\n'.encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8 at byte 16: save it as UTF-8"):
        load("chatd", ExampleConfig, file=file, environ={})


def test_a_wrong_secret_is_not_repeated_in_the_problem(tmp_path: Path) -> None:
    environ = {"CHATD_TRACING__SECRET_KEY": "sk-very-secret", "CHATD_TRACING__SECRET_KEY_FILE": str(tmp_path / "key")}

    with pytest.raises(ConfigError) as caught:
        load("chatd", ExampleConfig, file=None, environ=environ)

    assert "not both" in str(caught.value)
    assert "very-secret" not in str(caught.value)


def test_a_secret_in_the_file_is_refused_without_being_repeated(tmp_path: Path) -> None:
    file = write(tmp_path, '[chatd.tracing]\nsecret_key = "sk-very-secret"\n')

    with pytest.raises(ConfigError) as caught:
        load("chatd", ExampleConfig, file=file, environ={})

    assert "CHATD_TRACING__SECRET_KEY" in str(caught.value)
    assert "secret_key_file" in str(caught.value)
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize("model", [ChatdConfig, IterateConfig, ValidatedTable])
def test_every_secret_of_a_service_is_known_as_one(model: type[ServerTable]) -> None:
    def names(annotation: Any) -> Iterator[str]:
        for inner in get_args(annotation):
            yield from names(inner)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, field in annotation.model_fields.items():
                if field.annotation is SecretStr:
                    yield name
                yield from names(field.annotation)

    found = set(names(model))

    assert "secret_key" in found
    assert found <= SECRET_KEYS
