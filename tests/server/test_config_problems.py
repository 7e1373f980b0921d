"""Goal: what is wrong with a configuration is said in the operator's words: the key, what it must be, what he meant.

Method: the tables of the three services themselves. Each setting of each table gets values of the wrong kind, and no
word of the library that checks them may come through; then the mistakes that people make, each with what is said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from chatd.config import ChatdConfig
from iterate.config import IterateConfig
from lakehouse.server.config import ServerTable, load
from lakehouse.settings import ConfigError
from validated.config import ValidatedTable

MODELS: Mapping[str, type[ServerTable]] = {"chatd": ChatdConfig, "iterate": IterateConfig, "validated": ValidatedTable}
# How pydantic speaks, and how it names what it has found.
LIBRARY = re.compile(
    r"input|tag\b|discriminator|instance|field required|pydantic|function-|literal\[|_type\b|_parsing|value error"
    r"|extra_forbidden|nonetype|dict\[|tuple\[",
    re.IGNORECASE,
)
WRONG: tuple[Any, ...] = ({"nonsense": 1}, [[]], "nonsense", -1.5, True)


def problems(service: str, *, environ: Mapping[str, str] | None = None, file: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(service, MODELS[service], file=file, environ=environ or {})
    return caught.value.problems


def settings(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every setting, through optional tables and through tables by name, which are called `x`
    here."""

    def tables(annotation: Any) -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield (), annotation
        for inner in get_args(annotation):
            for between, table in tables(inner):
                yield (("x", *between) if "dict" in str(annotation) else between), table

    for name, field in model.model_fields.items():
        yield (*above, name)
        for between, table in tables(field.annotation):
            yield from settings(table, (*above, name, *between))


SETTINGS = sorted({(service, path) for service, model in MODELS.items() for path in settings(model)})


def given(path: tuple[str, ...], value: Any) -> dict[str, str]:
    """One variable that sets the top-level table down to `path`; a provider has a type, so that its keys are known."""
    for name in reversed(path[1:]):
        value = {name: value}
    if path[0] == "providers" and len(path) > 2 and path[2] != "type":
        value["x"]["type"] = "openai"
    return {path[0].upper(): value if isinstance(value, str) else json.dumps(value)}


@pytest.mark.parametrize(
    ("service", "path"), SETTINGS, ids=lambda each: each if isinstance(each, str) else ".".join(each)
)
def test_no_word_of_the_library_comes_through_for_any_setting(service: str, path: tuple[str, ...]) -> None:
    said = 0
    for value in WRONG:
        environ = {f"{service.upper()}_{key}": text for key, text in given(path, value).items()}
        try:
            load(service, MODELS[service], file=None, environ=environ)
        except ConfigError as error:
            for problem in error.problems:
                # What the library says, not what the key is called.
                sentence = problem.partition(": ")[2]
                assert not LIBRARY.search(sentence), problem
                assert problem.startswith((service, service.upper()))
            said += 1
    assert said, "no wrong value was refused"


@pytest.mark.parametrize(
    ("service", "variables", "says"),
    [
        ("iterate", {"BNID": "x"}, "ITERATE_BNID: unknown key; did you mean ITERATE_BIND?"),
        (
            "iterate",
            {"TRACING__HSOT": "y"},
            'iterate.tracing.hsot (ITERATE_TRACING__HSOT): unknown key; did you mean "host"?',
        ),
        ("iterate", {"TRACING_HOST": "y"}, "two underscores lead into a table: ITERATE_TRACING__…"),
        ("validated", {"POLL_MS": "5"}, "VALIDATED_POLL_MS: unknown key; did you mean VALIDATED_ROSTER__POLL_MS?"),
        ("iterate", {"DRAIN_MS": "soon"}, "iterate.drain_ms (ITERATE_DRAIN_MS): must be a whole number"),
        ("iterate", {"DRAIN_MS": "-1"}, "iterate.drain_ms (ITERATE_DRAIN_MS): must be at least 0"),
        ("iterate", {"REFLECTION": "maybe"}, "iterate.reflection (ITERATE_REFLECTION): must be true or false"),
        ("iterate", {"LOG_LEVEL": "warn"}, 'must be debug, info, warning or error; did you mean "warning"?'),
        ("iterate", {"TRACING__MASK_KEYS": "a"}, 'must be a list (in the environment as JSON: ["a", "b"])'),
        ("validated", {"ROSTER__BACKEND": "postgre"}, 'must be file or postgres; did you mean "postgres"?'),
        ("validated", {"ROSTER": "x"}, "validated.roster (VALIDATED_ROSTER): must be a table"),
        (
            "chatd",
            {"PROVIDERS__GPT__TYPE": "opnai"},
            '"opnai" is no type: openai, anthropic, scripted or replay; did you mean "openai"?',
        ),
        (
            "chatd",
            {"PROVIDERS__GPT__BASE_URL": "http://a"},
            "chatd.providers.gpt.type: is required: openai, anthropic,",
        ),
        ("chatd", {"PROVIDERS__GPT__TYPE": "openai"}, "chatd.providers.gpt.base_url: is required"),
        ("chatd", {"DEFAULT_PROVIDER": "scriptd"}, """no provider or route 'scriptd'; did you mean "scripted"?"""),
        ("chatd", {"ROUTES": '{"r": {"targets": [{"provider": "scriptd"}]}}'}, 'did you mean "scripted"?'),
        (
            "chatd",
            {"ROUTES": '{"r": {"targets": [{"provder": "a"}]}}'},
            "chatd.routes.r.targets.0.provder (CHATD_ROUTES)",
        ),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable_and_what_was_meant(
    service: str, variables: dict[str, str], says: str
) -> None:
    said = problems(service, environ={f"{service.upper()}_{name}": value for name, value in variables.items()})
    assert any(says in problem for problem in said), said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[chtad]\nbind = 'a:1'", "unknown table [chtad], did you mean [chatd]?"),
        ("[else]\nbind = 'a:1'", "unknown table [else]; the tables are [iterate], [chatd], [validated] and [lake]"),
        ("bind = 'a:1'", 'the key "bind" stands in no table'),
        ("[validated]\npoll_ms = 5", "validated.poll_ms: unknown key; did you mean validated.roster.poll_ms?"),
        ("[validated.rooster]\npath = 'x'", 'validated.rooster: unknown key; did you mean "roster"?'),
        ("[validated.roster]\nPath = 'x'", 'validated.roster.Path: unknown key; did you mean "path"?'),
        ("[validated.roster]\nzzz = 'x'", "validated.roster.zzz: unknown key"),
    ],
)
def test_a_mistake_in_the_file_names_the_key_and_what_was_meant(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "lakehouse.toml"
    file.write_text(text)
    said = problems("validated", file=file) if "chatd" not in text else problems("chatd", file=file)
    assert any(says in problem for problem in said), said


def test_no_value_of_a_setting_is_repeated_since_it_may_be_a_secret() -> None:
    environ = {"CHATD_PROVIDERS__GPT__TYPE": "openai", "CHATD_PROVIDERS__GPT__API_KEY": "[1, 2, 61423]"}
    environ |= {"CHATD_PROVIDERS__GPT__SECRET_HEADERS": '{"X": ["hidden-61423"]}', "CHATD_BIND": "sk-61423"}
    assert "61423" not in "\n".join(problems("chatd", environ=environ))
