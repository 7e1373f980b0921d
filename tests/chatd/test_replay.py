"""Provider type `replay`: a recorded session's answers again, word for word."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault
from lakehouse.sessions.record import ErrorRecord, SessionAttemptRecord, SessionRecord
from lakehouse.sessions.row import encode_row


def _row(session_id: str, *attempts: SessionAttemptRecord) -> bytes:
    return encode_row(
        SessionRecord(
            session_id=session_id,
            timestamp="2026-11-24T10:00:00.000000Z",
            trace_id="0123456789abcdef0123456789abcdef",
            kind="fill",
            provider="main",
            model="big-1",
            prompt=f'"session_id":"{session_id}" is in here too',
            max_iterations=3,
            final_verdict="max_iter_exhausted",
            attempts=attempts,
            duration_ms=1,
        )
    )


def _attempt(iteration: int, raw: str, **fields: Any) -> SessionAttemptRecord:
    fields = {"verdict": "rejected", "model": "big-1-2026", "input_tokens": 11, "output_tokens": 22, **fields}
    return SessionAttemptRecord(iteration=iteration, raw=raw, **fields)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "sessions.jsonl"
    limited = ErrorRecord("RESOURCE_EXHAUSTED", "PROVIDER_RATE_LIMITED", "chatd", "…")
    gone = ErrorRecord("UNAVAILABLE", "ROSTER_UNAVAILABLE", "validated", "…")
    torn = _row("s-1", _attempt(1, "torn"))[:-40]
    path.write_bytes(
        _row("s-1", _attempt(1, "an older run of this id"))
        + _row("s-1", _attempt(1, "first 😀"), _attempt(2, "second"))
        + b"\n"
        + b'{"schema":"other","session_id":"s-1","attempts":[]}\n'
        + _row("s-2", _attempt(1, "", verdict="infra_error", error=limited))
        + _row("s-3", _attempt(1, "read, not judged", verdict="infra_error", error=gone))
        + _row("s-4", _attempt(1, "x" * 100, raw_truncated=True))
        + torn
    )
    (tmp_path / "sessions.jsonl.1.gz").write_bytes(gzip.compress(_row("s-0", _attempt(1, "rotated away"))))
    return path


@pytest.fixture
def replay(chatd: Any, log: Path) -> Any:
    return lambda: chatd(providers={"again": {"type": "replay", "session_log": str(log)}})


def _of(session_id: str) -> chatd_pb2.Target:
    return chatd_pb2.Target(model=session_id)


async def test_each_attempt_gets_its_own_answer_of_the_newest_row(replay: Any) -> None:
    async with replay() as chatd:
        first = await chatd.ask(target=_of("s-1"), attempt=1)
        second = await chatd.ask(target=_of("s-1"), attempt=2)
        again = await chatd.ask(target=_of("s-1"), attempt=1)

    assert (first.text, second.text, again.text) == ("first 😀", "second", "first 😀")
    assert (first.provider, first.model, first.upstream_requests) == ("again", "big-1-2026", 0)
    assert (first.usage.input_tokens, first.usage.output_tokens) == (11, 22)


async def test_it_streams_too(replay: Any) -> None:
    async with replay() as chatd:
        pieces, response = await chatd.stream(target=_of("s-1"))

    assert pieces == [("text_delta", "first 😀")]
    assert response.text == "first 😀"


async def test_rotated_files_are_read_as_well(replay: Any) -> None:
    async with replay() as chatd:
        response = await chatd.ask(target=_of("s-0"))

    assert response.text == "rotated away"


async def test_a_row_that_comes_later_is_found(replay: Any, log: Path) -> None:
    async with replay() as chatd:
        with pytest.raises(Fault):
            await chatd.ask(target=_of("s-9"))
        with log.open("ab") as file:
            file.write(b"\n" + _row("s-9", _attempt(1, "new")))
        response = await chatd.ask(target=_of("s-9"))

    assert response.text == "new"


@pytest.mark.parametrize(
    ("session_id", "attempt", "reason"),
    [
        ("s-1", 3, "MODEL_NOT_FOUND"),
        ("nobody", 1, "MODEL_NOT_FOUND"),
        ("s-4", 1, "MODEL_NOT_FOUND"),
        ("s-2", 1, "PROVIDER_RATE_LIMITED"),
    ],
)
async def test_what_was_not_recorded_or_failed_then_fails_now(
    session_id: str, attempt: int, reason: str, replay: Any
) -> None:
    async with replay() as chatd:
        with pytest.raises(Fault) as caught:
            await chatd.ask(target=_of(session_id), attempt=attempt)

    assert caught.value.reason == reason


async def test_a_fault_of_another_service_is_not_chatds(replay: Any) -> None:
    async with replay() as chatd:
        response = await chatd.ask(target=_of("s-3"))

    assert response.text == "read, not judged"


async def test_a_model_is_needed(replay: Any) -> None:
    async with replay() as chatd:
        with pytest.raises(Fault) as caught:
            await chatd.ask()

    assert [each.field for each in caught.value.violations] == ["target.model"]
