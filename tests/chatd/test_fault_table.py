"""The fault table: what a model endpoint does, and the one documented status that the caller gets for it.

Each case says how many requests the endpoint may see (repeats included), and ends by itself, not by the caller's
deadline, unless it is about one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from lakehouse.errors import Fault

fakes = sys.modules["chatd_tests_fake_endpoint"]

DEADLINE_S = 2.0
# For all that is not about a deadline: what ends by it has hung.
PATIENT_S = 60.0


@dataclass(frozen=True)
class Case:
    does: str
    behaviours: Sequence[Any]
    code: str
    reason: str
    requests: int = 1
    stream: bool = False
    pieces: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    retry_delay_ms: int | None = None
    violation: str = ""


def head(length: int, content_type: str = "application/json") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n".encode()


def drip() -> Any:
    async def behave(exchange: Any) -> None:
        await exchange.send(head(1_000_000))
        with contextlib.suppress(ConnectionError):
            while True:
                await exchange.send(b" ")
                await asyncio.sleep(0.02)

    return behave


def endless_chunks(piece: bytes, content_type: bytes = b"application/json") -> Any:
    async def behave(exchange: Any) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % content_type)
        with contextlib.suppress(ConnectionError):
            while not exchange.reader.at_eof():
                exchange.writer.write(fakes.chunk(piece))
                await exchange.writer.drain()

    return behave


respond, error, completion = fakes.respond, fakes.error, fakes.completion
BILLED_TOO = {"retry": {"repeat_billed": True}}
SILENT = {"read_timeout_ms": 100}
half = [fakes.delta_event(role="assistant", content="Once "), fakes.delta_event(content="upon")]

CASES = [
    # Never received, or refused outright: repeated, and no status that speaks of a bill.
    Case("429", [error(429)], "RESOURCE_EXHAUSTED", "PROVIDER_RATE_LIMITED", requests=3),
    Case("429 with a Retry-After that is too long to wait for", [error(429, Retry_After="3600")],
         "RESOURCE_EXHAUSTED", "PROVIDER_RATE_LIMITED", retry_delay_ms=3_600_000),
    Case("429 with a Retry-After beyond the deadline", [error(429, Retry_After="9")], "RESOURCE_EXHAUSTED",
         "PROVIDER_RATE_LIMITED", retry_delay_ms=9_000),
    Case("429 with retry-after-ms", [error(429, retry_after_ms="30")], "RESOURCE_EXHAUSTED", "PROVIDER_RATE_LIMITED",
         requests=3, retry_delay_ms=30),
    Case("429 that forbids repeats", [error(429, x_should_retry="false")], "RESOURCE_EXHAUSTED",
         "PROVIDER_RATE_LIMITED"),
    Case("429 as an error object inside a 200", [respond(200, {"error": {"code": 429, "message": "slow down"}})],
         "RESOURCE_EXHAUSTED", "PROVIDER_RATE_LIMITED", requests=3),
    Case("503", [error(503)], "UNAVAILABLE", "PROVIDER_UNREACHABLE", requests=3),
    Case("529", [error(529, kind="overloaded_error")], "UNAVAILABLE", "PROVIDER_UNREACHABLE", requests=3),
    Case("408", [error(408)], "UNAVAILABLE", "PROVIDER_UNREACHABLE", requests=3),
    # The account, the model, the request: nothing to repeat.
    Case("401", [error(401, "Incorrect API key provided: sk-secret")], "FAILED_PRECONDITION", "PROVIDER_AUTH"),
    Case("403", [error(403)], "FAILED_PRECONDITION", "PROVIDER_AUTH"),
    Case("402", [error(402)], "FAILED_PRECONDITION", "PROVIDER_QUOTA"),
    Case("429 insufficient_quota", [error(429, code="insufficient_quota")], "FAILED_PRECONDITION", "PROVIDER_QUOTA"),
    Case("404", [error(404, code="model_not_found")], "FAILED_PRECONDITION", "MODEL_NOT_FOUND"),
    Case("404 with a proxy's page", [respond(404, "<html>", "text/html")], "FAILED_PRECONDITION", "MODEL_NOT_FOUND"),
    Case("400 context_length_exceeded", [error(400, code="context_length_exceeded")], "FAILED_PRECONDITION",
         "CONTEXT_TOO_LONG"),
    Case("400 that says so in prose", [error(400, "This model's maximum context length is 4096 tokens.")],
         "FAILED_PRECONDITION", "CONTEXT_TOO_LONG"),
    Case("413", [respond(413)], "FAILED_PRECONDITION", "CONTEXT_TOO_LONG"),
    Case("400 content_filter", [error(400, code="content_filter")], "FAILED_PRECONDITION", "CONTENT_FILTERED"),
    Case("a filter that leaves nothing", [respond(200, completion("", finish_reason="content_filter"))],
         "FAILED_PRECONDITION", "CONTENT_FILTERED"),
    Case("400 about a field", [error(400, "no such thing", param="temperature")], "INVALID_ARGUMENT", "BAD_REQUEST",
         violation="temperature"),
    Case("422", [respond(422, {"detail": "?"})], "INVALID_ARGUMENT", "BAD_REQUEST", violation="request"),
    # May have been billed: not repeated.
    Case("500", [error(500)], "ABORTED", "PROVIDER_FAILED"),
    Case("500 where repeating costs nothing", [error(500)], "ABORTED", "PROVIDER_FAILED", requests=3,
         config=BILLED_TOO),
    Case("502 with a proxy's page", [respond(502, "<html>Bad Gateway</html>", "text/html")], "ABORTED",
         "PROVIDER_FAILED"),
    Case("504", [respond(504)], "ABORTED", "PROVIDER_FAILED"),
    Case("closes after the request", [fakes.close()], "ABORTED", "PROVIDER_FAILED"),
    Case("resets after the request", [fakes.reset()], "ABORTED", "PROVIDER_FAILED"),
    Case("resets, where repeating costs nothing; then is gone for good", [fakes.reset(), error(503), error(503)],
         "ABORTED", "PROVIDER_FAILED", requests=3, config=BILLED_TOO),
    Case("cut body", [fakes.raw(head(500) + b'{"choices": [', close=True)], "ABORTED", "PROVIDER_FAILED"),
    Case("cut chunked body", [fakes.raw(fakes.sse_head().replace(b"text/event-stream", b"application/json"),
                                        fakes.chunk(b'{"cho'), close=True)], "ABORTED", "PROVIDER_FAILED"),
    Case("error object inside a 200", [respond(200, {"error": {"message": "upstream sneezed"}})], "ABORTED",
         "PROVIDER_FAILED"),
    Case("error object inside a stream", [fakes.stream(half[0], fakes.event({"error": {"message": "no"}}))], "ABORTED",
         "PROVIDER_FAILED", stream=True, pieces=1),
    Case("stream that ends without its end", [fakes.stream(*half)], "ABORTED", "PROVIDER_FAILED", stream=True,
         pieces=2),
    Case("stream cut in the middle of an event, repeats allowed",
         [fakes.stream(*half, b'data: {"cho', end=False, then=fakes.close())], "ABORTED", "PROVIDER_FAILED",
         stream=True, pieces=2, config=BILLED_TOO),
    # Pieces of the answer are out: ABORTED, whatever the words.
    *(
        Case(f"{what} after text, in a stream", [fakes.stream(*half, fakes.event(data), *end)], "ABORTED",
             "PROVIDER_BAD_ANSWER" if what == "invalid output" else "PROVIDER_FAILED", stream=True, pieces=2)
        for what, data in (
            ("429", {"error": {"code": 429, "message": "Rate limit"}}),
            ("503", {"error": {"code": 503, "message": "overloaded"}}),
            ("529", {"error": {"type": "overloaded_error", "message": "Overloaded"}}),
            ("quota", {"error": {"code": "insufficient_quota", "message": "no"}}),
            ("filter", {"error": {"code": "content_filter", "message": "no"}}),
            ("length", {"error": {"message": "prompt is too long"}}),
            ("401", {"error": {"code": 401, "message": "no"}}),
            ("400", {"error": {"code": 400, "message": "temperature is not supported"}}),
            ("invalid output", {"error": {"code": "json_validate_failed", "failed_generation": "{"}}),
        )
        for end in ([], [fakes.event("[DONE]")])
        if what in {"429", "503"} or not end
    ),
    Case("429 before any text, in a stream", [fakes.stream(fakes.event({"error": {"code": 429, "message": "no"}}))],
         "RESOURCE_EXHAUSTED", "PROVIDER_RATE_LIMITED", requests=3, stream=True),
    # Silent.
    Case("slow headers", [fakes.hang()], "DEADLINE_EXCEEDED", "PROVIDER_TIMEOUT", config=SILENT),
    Case("stalled body", [fakes.raw(head(500) + b'{"choices"')], "DEADLINE_EXCEEDED", "PROVIDER_TIMEOUT",
         config=SILENT),
    Case("stalled stream", [fakes.stream(*half, end=False, then=fakes.hang())], "DEADLINE_EXCEEDED",
         "PROVIDER_TIMEOUT", stream=True, pieces=2, config=SILENT),
    Case("slow headers, beyond the deadline", [fakes.hang()], "DEADLINE_EXCEEDED", "DEADLINE"),
    Case("one byte at a time, beyond the deadline", [drip()], "DEADLINE_EXCEEDED", "DEADLINE", config=SILENT),
    # An answer that cannot be read.
    Case("wrong content type", [respond(200, "<html>Welcome</html>", "text/html")], "ABORTED", "PROVIDER_BAD_ANSWER"),
    Case("empty body", [respond(200)], "ABORTED", "PROVIDER_BAD_ANSWER"),
    Case("204", [fakes.raw(b"HTTP/1.1 204 No Content\r\n\r\n")], "ABORTED", "PROVIDER_BAD_ANSWER"),
    Case("301", [respond(301, Location="http://127.0.0.1:1/elsewhere")], "ABORTED", "PROVIDER_BAD_ANSWER"),
    Case("not HTTP", [fakes.raw(b"220 smtp ready\r\n\r\n", close=True)], "ABORTED", "PROVIDER_BAD_ANSWER"),
    Case("header of 100 KB", [fakes.raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n")], "ABORTED",
         "PROVIDER_BAD_ANSWER"),
    Case("broken UTF-8", [respond(200, b'{"choices":[{"message":{"content":"caf\xe9"}}]}')], "ABORTED",
         "PROVIDER_BAD_ANSWER"),
    Case("a JSON array", [respond(200, [1, 2])], "ABORTED", "PROVIDER_BAD_ANSWER"),
    Case("JSON 100,000 deep", [respond(200, b"[" * 100_000 + b"]" * 100_000)], "ABORTED", "PROVIDER_BAD_ANSWER"),
    Case("10 MB answer, declared", [fakes.raw(head(10_500_000) + b" " * 1000)], "ABORTED", "PROVIDER_BAD_ANSWER"),
    Case("10 MB answer, undeclared", [endless_chunks(b" " * 65536)], "ABORTED", "PROVIDER_BAD_ANSWER"),
    Case("10 MB answer, compressed into one piece", [respond(200, gzip.compress(b" " * 10_500_000),
                                                             Content_Encoding="gzip")],
         "ABORTED", "PROVIDER_BAD_ANSWER"),
    Case("text of 2 MiB", [respond(200, completion("x" * 2 * 1024 * 1024))], "ABORTED", "PROVIDER_BAD_ANSWER"),
    Case("text of 1 MiB characters, more bytes", [respond(200, completion("é" * 1024 * 1024))], "ABORTED",
         "PROVIDER_BAD_ANSWER"),
    Case("stream without an end", [endless_chunks(fakes.delta_event(content="x" * 60_000), b"text/event-stream")],
         "ABORTED", "PROVIDER_BAD_ANSWER", stream=True, pieces=-1),
    Case("event without an end", [endless_chunks(b"data: " + b"x" * 65536, b"text/event-stream")], "ABORTED",
         "PROVIDER_BAD_ANSWER", stream=True),
    Case("an event that is not JSON", [fakes.stream(half[0], b"data: {oops\n\n")], "ABORTED", "PROVIDER_BAD_ANSWER",
         stream=True, pieces=1),
    Case("empty choices", [respond(200, {**completion(), "choices": []})], "ABORTED", "PROVIDER_BAD_ANSWER"),
    Case("a choice without a message", [respond(200, {"choices": [{"finish_reason": "stop"}]})], "ABORTED",
         "PROVIDER_BAD_ANSWER"),
    Case("content of a strange type", [respond(200, {"choices": [{"message": {"content": 7}}]})], "ABORTED",
         "PROVIDER_BAD_ANSWER"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.does.replace(" ", "_"))
async def test_an_endpoint_that(case: Case, openai_chatd: Any) -> None:
    async with openai_chatd(case.behaviours, **case.config) as (chatd, endpoint):
        patient = "deadline" not in case.does
        pieces, fault, line = await _ask(chatd, stream=case.stream, timeout_s=PATIENT_S if patient else DEADLINE_S)

        assert (fault.code, fault.reason, fault.where) == (case.code, case.reason, "chatd")
        assert len(endpoint.exchanges) == case.requests
        assert (line["upstream_requests"], line["retries"]) == (case.requests, case.requests - 1)
        # Our own status, which has the trace's id: the bare one that gRPC gives at the deadline has nothing.
        assert len(fault.metadata["trace_id"]) == 32
        assert case.pieces == -1 or len(pieces) == case.pieces
        if pieces:
            assert fault.code in {"ABORTED", "DEADLINE_EXCEEDED"}
        if case.retry_delay_ms is not None:
            assert fault.retry_delay_ms == case.retry_delay_ms
        if case.violation:
            assert [each.field for each in fault.violations] == [case.violation]
        # No upstream text reaches the caller.
        assert "sneezed" not in str(fault)
        assert "sk-secret" not in str(fault)
        # The process lives.
        endpoint.behaviours = [respond(200, completion("Still here."))]
        assert (await chatd.ask()).text == "Still here."


async def _ask(chatd: Any, *, stream: bool, timeout_s: float = PATIENT_S) -> tuple[list[Any], Fault, dict[str, Any]]:
    pieces: list[Any] = []
    fault: Any = None
    if stream:
        pieces, fault = await chatd.stream(timeout_s=timeout_s)
    else:
        with pytest.raises(Fault) as caught:
            await chatd.ask(timeout_s=timeout_s)
        fault = caught.value
    assert isinstance(fault, Fault)
    return pieces, fault, chatd.last_line


async def test_nobody_listens(openai_chatd: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused, and nobody else gets the port
        async with openai_chatd([], base_url=f"http://127.0.0.1:{taken.getsockname()[1]}") as (chatd, _):
            _, fault, line = await _ask(chatd, stream=False)

    assert (fault.code, fault.reason) == ("UNAVAILABLE", "PROVIDER_UNREACHABLE")
    assert (line["upstream_requests"], line["retries"]) == (3, 2)


async def test_plain_text_where_tls_was_expected(openai_chatd: Any) -> None:
    async def answer_in_plain_text(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer_in_plain_text, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with openai_chatd([], base_url=url) as (chatd, _):
            _, fault, line = await _ask(chatd, stream=False)

    assert (fault.code, fault.reason) == ("UNAVAILABLE", "PROVIDER_UNREACHABLE")
    assert (line["upstream_requests"], line["retries"]) == (3, 2)


async def test_a_host_that_does_not_answer_is_left_after_the_connect_timeout(openai_chatd: Any) -> None:
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # the backlog is full: the kernel drops further SYNs
            knock = stack.enter_context(socket.socket())
            knock.setblocking(False)
            knock.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        async with openai_chatd([], base_url=url, connect_timeout_ms=100) as (chatd, _):
            started = time.monotonic()
            _, fault, line = await _ask(chatd, stream=False)
            elapsed_s = time.monotonic() - started

    assert (fault.code, fault.reason) == ("UNAVAILABLE", "PROVIDER_UNREACHABLE")
    assert (line["upstream_requests"], line["retries"]) == (3, 2)
    # Three times the timeout; and by none of the longer ones, which would be another reason.
    assert elapsed_s >= 0.3


@pytest.mark.parametrize(
    ("behaviours", "requests"),
    [
        ([error(429, Retry_After="0.2"), respond(200, completion())], 2),
        ([error(503), error(503), respond(200, completion())], 3),
    ],
    ids=["429_with_Retry-After", "503_twice"],
)
async def test_a_refusal_that_passes_is_no_fault(behaviours: Any, requests: int, openai_chatd: Any) -> None:
    async with openai_chatd(behaviours) as (chatd, endpoint):
        started = time.monotonic()
        response = await chatd.ask()

    assert response.text == "Hello."
    assert response.upstream_requests == len(endpoint.exchanges) == requests
    if requests == 2:
        assert time.monotonic() - started >= 0.2  # never before the Retry-After


async def test_a_connection_that_breaks_is_repeated_where_that_costs_nothing(openai_chatd: Any) -> None:
    behaviours = [fakes.reset(), fakes.hang(), respond(200, completion())]
    async with openai_chatd(behaviours, **SILENT, **BILLED_TOO) as (chatd, endpoint):
        response = await chatd.ask()

    assert response.text == "Hello."
    assert response.upstream_requests == len(endpoint.exchanges) == 3


@pytest.mark.parametrize("cut", range(1, 4))
async def test_a_chunk_boundary_inside_a_character_is_no_fault(cut: int, openai_chatd: Any) -> None:
    whole = b"".join(fakes.openai_events("naïve ", "😀"))
    at = whole.index("😀".encode()) + cut
    async with openai_chatd([fakes.stream(whole[:at], whole[at:])]) as (chatd, _):
        pieces, response = await chatd.stream()

    assert response.text == "naïve 😀"
    assert "".join(text for _, text in pieces) == "naïve 😀"


async def test_a_whole_answer_in_place_of_a_stream_is_no_fault(openai_chatd: Any) -> None:
    async with openai_chatd([respond(200, completion("All at once.", reasoning="Hm."))]) as (chatd, _):
        pieces, response = await chatd.stream()

    assert pieces == [("reasoning_delta", "Hm."), ("text_delta", "All at once.")]
    assert response.text == "All at once."


async def test_half_an_emoji_is_replaced(openai_chatd: Any) -> None:
    body = b'{"choices":[{"message":{"content":"a \\ud83d b"},"finish_reason":"stop"}]}'
    async with openai_chatd([respond(200, body)]) as (chatd, _):
        response = await chatd.ask()

    assert response.text == "a � b"
