"""Provider type `scripted`: deterministic, and open about being no model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from chatd.providers.script import load_script
from chatd.providers.scripted import BUILT_IN_SCRIPT
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault
from lakehouse.settings import ConfigError

ROOT = Path(__file__).parents[2]
USER, ASSISTANT = chatd_pb2.ROLE_USER, chatd_pb2.ROLE_ASSISTANT
SCRIPT = r"""
[[replies]]
attempt = 1
contains = "CREW"
text = "first answer"
reasoning = "thinking aloud"

[[replies]]
attempt_from = 2
contains = "crew"
look_in = "conversation"
text = "a later answer"
input_tokens = 1000
cached_input_tokens = 800

[[replies]]
matches = "^fail with (?:a )?bill$"
error = "PROVIDER_FAILED"

[[replies]]
contains = "be busy"
error = "PROVIDER_RATE_LIMITED"
retry_after_ms = 1234

[[replies]]
contains = "hang"
hang = true

[[replies]]
contains = "slowly"
delay_ms = 120
delta_ms = 1
text = "word by word\n"
"""


@pytest.fixture
def scripted(chatd: Any, tmp_path: Any) -> Any:
    (tmp_path / "script.toml").write_text(SCRIPT)
    return lambda **table: chatd(
        providers={"stand-in": {"type": "scripted", "script": str(tmp_path / "script.toml"), **table}}
    )


def _turns(*texts: str) -> list[chatd_pb2.Message]:
    return [chatd_pb2.Message(role=ASSISTANT if index % 2 else USER, content=text) for index, text in enumerate(texts)]


async def test_replies_are_chosen_by_attempt_and_by_what_is_said(scripted: Any) -> None:
    async with scripted() as chatd:
        first = await chatd.ask("The crew, please.")
        second = await chatd.ask(messages=_turns("The crew, please.", "first answer", "No: wrong."))
        told = await chatd.ask("The crew, please.", attempt=2)
        again = await chatd.ask("The crew, please.")

    assert (first.text, first.reasoning) == ("first answer", "thinking aloud")
    assert second.text == told.text == "a later answer"
    assert first == again
    assert (first.provider, first.model, first.upstream_requests) == ("stand-in", "scripted", 0)


async def test_usage_is_words_unless_the_script_says_otherwise(scripted: Any) -> None:
    async with scripted() as chatd:
        first = await chatd.ask("The crew, please.")
        second = await chatd.ask("The crew, please.", attempt=2)

    assert first.usage == chatd_pb2.Usage(input_tokens=3, output_tokens=4, reasoning_tokens=2)
    assert second.usage == chatd_pb2.Usage(input_tokens=1000, cached_input_tokens=800, output_tokens=3)


async def test_it_calls_itself_scripted_whatever_model_was_asked_for(scripted: Any) -> None:
    async with scripted() as chatd:
        response = await chatd.ask("Who are you?", target=chatd_pb2.Target(model="gpt-9"))

    assert response.model == "scripted"
    assert "scripted provider, no model" in response.text


@pytest.mark.parametrize(
    ("text", "reason", "delay_ms"),
    [("fail with bill", "PROVIDER_FAILED", None), ("be busy", "PROVIDER_RATE_LIMITED", 1234)],
)
async def test_it_fails_as_told(text: str, reason: str, delay_ms: int | None, scripted: Any) -> None:
    async with scripted() as chatd:
        with pytest.raises(Fault) as caught:
            await chatd.ask(text)

    assert (caught.value.reason, caught.value.retry_delay_ms) == (reason, delay_ms)


async def test_it_hangs_until_the_deadline_and_not_longer(scripted: Any) -> None:
    async with scripted() as chatd:
        started = time.monotonic()
        with pytest.raises(Fault) as caught:
            await chatd.ask("hang", timeout_s=0.3)
        elapsed_s = time.monotonic() - started

    # Our own status, which has the trace's id: gRPC's bare one, at the deadline, has nothing.
    assert (caught.value.where, caught.value.reason) == ("chatd", "DEADLINE")
    assert caught.value.metadata["trace_id"]
    assert elapsed_s > 0.2


async def test_it_speaks_word_by_word(scripted: Any) -> None:
    async with scripted() as chatd:
        pieces, response = await chatd.stream("slowly")

    assert [text for _, text in pieces] == ["word", " by", " word", "\n"]
    assert response.text == "word by word\n"
    assert response.time_to_first_token_ms >= 120


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "replies"),
        ("[[replies]]\ntxt = 'a'", "replies.0.txt"),
        ("[[replies]]\nmatches = '('", "not a regular expression"),
        ("[[replies]]\nerror = 'BUG'", "one of CONTENT_FILTERED"),
        ("[[replies]]\ntext = 'a'\nhang = true\nerror = 'PROVIDER_FAILED'", "a reply has a text, or hangs"),
        ("[[replies]", "not TOML"),
    ],
)
def test_a_script_that_cannot_be_used_says_why(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "script.toml").write_text(text)

    with pytest.raises(ConfigError, match=r"script\.toml") as caught:
        load_script(tmp_path / "script.toml")

    assert problem in str(caught.value)


def test_a_script_that_is_not_there_says_so() -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_script(Path("/nonexistent/script.toml"))


def test_the_built_in_script_is_the_demo_of_the_examples() -> None:
    assert load_script(BUILT_IN_SCRIPT) == load_script(ROOT / "examples" / "scripts" / "fill_demo.toml")


async def test_a_chatd_without_configuration_answers_the_demo(chatd: Any) -> None:
    import csv
    import json

    with (ROOT / "examples" / "roster" / "workers.csv").open(encoding="utf-8") as file:
        roster = {row["worker_id"]: row for row in csv.DictReader(file)}
    async with chatd() as running:
        first = await running.ask("Fill 3 forklift operators in Toledo for Saturday")
        second = await running.ask("Fill 3 forklift operators in Toledo for Saturday", attempt=2)

    assert (first.provider, first.model) == ("scripted", "scripted")
    fenced = json.loads(first.text.split("```json")[1].split("```")[0])
    assert [worker["worker_id"] in roster for worker in fenced["workers"]] == [True, True, False]
    for worker in json.loads(second.text)["workers"]:
        row = roster[worker["worker_id"]]
        assert {key: row[key] for key in worker} == worker
        assert row["active"] == "true"
