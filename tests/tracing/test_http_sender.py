"""A POST to Langfuse has a limit to its whole time, is repeated where that may help, and goes nowhere else."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import lakehouse
from lakehouse.tracing import TracingConfig
from lakehouse.tracing.http_sender import HttpSender, retry_after_s
from lakehouse.tracing.langfuse_client import LangfuseConnection

# A hostile server holds a request for 30 s: who waits for it is above this, and a busy machine is far below.
HELD_S = 20.0
StartSender = Callable[..., HttpSender]
StartConnection = Callable[[str], LangfuseConnection]


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the pauses between the tries away, which are a matter of another test."""
    monkeypatch.setattr("lakehouse.tracing.http_sender._FIRST_PAUSE_S", 0.0)


@pytest.fixture
def start_sender() -> Iterator[StartSender]:
    started: list[HttpSender] = []

    def start(url: str, timeout_ms: int = 5_000) -> HttpSender:
        sender = HttpSender(url, login="pk", password="sk", headers={"x-a": "b"}, timeout_ms=timeout_ms)
        started.append(sender)
        return sender

    yield start
    for sender in started:
        sender.close(5.0)


@pytest.fixture
def connect() -> Iterator[StartConnection]:
    started: list[LangfuseConnection] = []

    def start(url: str) -> LangfuseConnection:
        started.append(
            LangfuseConnection(TracingConfig(host=url, public_key="pk", secret_key=SecretStr("sk")), "chatd")
        )
        return started[-1]

    yield start
    for connection in started:
        connection.close(5.0)


def post(sender: HttpSender, tries_max: int = 4) -> Any:
    return sender.post("/x", b"body", headers={"Content-Type": "text/plain"}, tries_max=tries_max)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_sent_again(
    flaky_langfuse: Callable[[list[int]], Any], start_sender: StartSender, status: int
) -> None:
    langfuse = flaky_langfuse([status, status])
    assert post(start_sender(langfuse.url)).status == 200
    assert [body for _, _, body in langfuse.bodies] == [b"body"] * 3


@pytest.mark.parametrize("status", [307, 400, 401, 403, 404, 413])
def test_what_will_not_pass_is_given_up_at_once_and_says_why(
    flaky_langfuse: Callable[[list[int]], Any], start_sender: StartSender, status: int
) -> None:
    langfuse = flaky_langfuse([status])
    answer = post(start_sender(langfuse.url))
    assert (answer.status, answer.is_final, len(langfuse.bodies)) == (status, True, 1)
    assert answer.problem.startswith(f"status {status}")


def test_a_redirect_takes_the_credentials_nowhere(
    serve: Callable[[Any], Any], flaky_langfuse: Callable[[list[int]], Any], start_sender: StartSender
) -> None:
    elsewhere = flaky_langfuse([])

    def redirect(_: Any, handler: BaseHTTPRequestHandler, __: bytes) -> None:
        handler.send_response(307)
        handler.send_header("Location", f"{elsewhere.url}/x")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    assert "check host" in post(start_sender(serve(redirect).url)).problem
    assert elsewhere.bodies == []


@pytest.mark.parametrize("fault", ["never", "drip"])
def test_the_whole_time_is_bounded_whatever_the_server_does(
    hostile_langfuse: Callable[[str], str], start_sender: StartSender, fault: str
) -> None:
    """A server that sends its answer byte by byte is never silent for long."""
    sender = start_sender(hostile_langfuse(fault), timeout_ms=300)
    started_s = time.monotonic()
    assert "no answer within 0.3 s" in post(sender).problem
    assert time.monotonic() - started_s < HELD_S


def test_retry_after_is_waited_for(serve: Callable[[Any], Any], start_sender: StartSender) -> None:
    arrivals: list[float] = []

    def wait_first(recorder: Any, handler: BaseHTTPRequestHandler, _: bytes) -> None:
        arrivals.append(time.monotonic())
        handler.send_response(429 if len(recorder.bodies) == 1 else 200)
        handler.send_header("Retry-After", "1")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    assert post(start_sender(serve(wait_first).url)).status == 200
    assert arrivals[1] - arrivals[0] > 0.9


def test_a_retry_after_beyond_the_limit_ends_it_at_once(serve: Callable[[Any], Any], start_sender: StartSender) -> None:
    def busy(_: Any, handler: BaseHTTPRequestHandler, __: bytes) -> None:
        handler.send_response(503)
        handler.send_header("Retry-After", "3600")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    langfuse = serve(busy)
    # It would wait for an hour: that it comes back at all says that it has not.
    assert post(start_sender(langfuse.url, timeout_ms=30_000)).status == 503
    assert len(langfuse.bodies) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        (formatdate(1_000_060, usegmt=True), 60.0),
        (formatdate(999_000, usegmt=True), 0.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("nan", None),
        ("9" * 40, None),
        ("soon", None),
        ("Thu, 99 Nov 2026 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str, seconds: float | None) -> None:
    assert retry_after_s(value, 1_000_000.0) == seconds


def test_a_kept_connection_that_the_server_has_closed_is_replaced(
    serve: Callable[[Any], Any], start_sender: StartSender
) -> None:
    def accept_and_hang_up(_: Any, handler: BaseHTTPRequestHandler, __: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        handler.close_connection = True  # without having said so

    sender = start_sender(serve(accept_and_hang_up).url)
    assert [post(sender).status for _ in range(5)] == [200] * 5


def test_an_answer_without_end_is_cut(serve: Callable[[Any], Any], start_sender: StartSender) -> None:
    def flood(recorder: Any, handler: BaseHTTPRequestHandler, _: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while not recorder.released.is_set():
            handler.wfile.write(b"x" * 65_536)

    answer = post(start_sender(serve(flood).url))
    assert (answer.status, len(answer.body)) == (200, 65_536)


def test_a_proxy_of_the_environment_is_used(
    flaky_langfuse: Callable[[list[int]], Any], start_sender: StartSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = flaky_langfuse([])
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    assert post(start_sender("http://langfuse.invalid")).status == 200
    ((path, headers, _),) = proxy.bodies
    assert path == "http://langfuse.invalid/x"
    assert base64.b64decode(headers["authorization"].removeprefix("Basic ")) == b"pk:sk"
    monkeypatch.setenv("no_proxy", "langfuse.invalid")
    assert post(start_sender("http://langfuse.invalid"), tries_max=1).status == 0


def test_closing_breaks_off_what_is_under_way(
    hostile_langfuse: Callable[[str], str], start_sender: StartSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = start_sender(hostile_langfuse("never"), timeout_ms=60_000)
    answers: list[Any] = []
    poster = threading.Thread(target=lambda: answers.append(post(sender)))
    poster.start()
    sender.close(10.0)
    poster.join(10.0)
    assert answers[0].problem
    assert post(sender).problem == "the connection is closed"


HANGING_NAMES = """
import socket, sys, threading, time
from lakehouse.tracing.http_sender import HttpSender

asked = threading.Event()
def hang(*_, **__):
    asked.set()
    time.sleep(120)
socket.getaddrinfo = hang
sender = HttpSender("http://langfuse.invalid", login="pk", password="sk", headers={}, timeout_ms=200)
print(sender.post("/x", b"", headers={}, tries_max=3).problem)
assert asked.is_set()
sender.close(1.0)
"""


def test_a_name_server_that_hangs_holds_up_neither_a_post_nor_the_end_of_the_process() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", HANGING_NAMES],
        env={"PYTHONPATH": str(Path(lakehouse.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    # The name server hangs for longer than the process was given.
    assert finished.stdout == "no answer within 0.2 s\n"


SCORES = [json.dumps({"id": f"s-{name}", "name": name}).encode() for name in ("a", "b", "c")]


def test_an_older_server_that_refuses_arrays_gets_scores_singly(
    serve: Callable[[Any], Any], connect: StartConnection
) -> None:
    """As servers before 4.59 do."""

    def objects_only(_: Any, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        answer = b"{}"
        handler.send_response(400 if body.startswith(b"[") else 200)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    langfuse = serve(objects_only)
    connection = connect(langfuse.url)
    assert connection.send_scores(SCORES) == [True] * 3
    assert connection.send_scores(SCORES[:2]) == [True] * 2
    bodies = [body for _, _, body in langfuse.bodies]
    assert bodies == [b"[" + b",".join(SCORES) + b"]", *SCORES, *SCORES[:2]]
    assert connection.last_problem == ""


def test_scores_that_are_bad_in_either_form_are_refused_and_arrays_stay(
    flaky_langfuse: Callable[[list[int]], Any], connect: StartConnection
) -> None:
    langfuse = flaky_langfuse([400, 400])
    connection = connect(langfuse.url)
    assert connection.send_scores(SCORES) == [False] * 3
    assert connection.last_problem == "the scores were not taken: status 400"
    assert connection.send_scores(SCORES) == [True] * 3
    assert langfuse.bodies[-1][2].startswith(b"[")


def test_an_older_server_in_trouble_is_not_asked_for_each_score(
    flaky_langfuse: Callable[[list[int]], Any], connect: StartConnection
) -> None:
    langfuse = flaky_langfuse([400, 200, 400, 500, 500, 500])
    assert connect(langfuse.url).send_scores([*SCORES, b'{"id":"d"}']) == [True, False, False, False]
    assert len(langfuse.bodies) == 6


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        (b'{"accepted":2,"rejected":1,"errors":[{"id":"s-b","status":400}]}', [True, False, True]),
        (b'{"accepted":2,"rejected":1,"errors":["one of them"]}', [True, True, True]),
        (b"[]", [True, True, True]),
        (b"no JSON", [True, True, True]),
    ],
)
def test_scores_that_are_refused_one_by_one_are_counted_and_reported(
    serve: Callable[[Any], Any], connect: StartConnection, body: bytes, taken: list[bool]
) -> None:
    def partly(_: Any, handler: BaseHTTPRequestHandler, __: bytes) -> None:
        handler.send_response(207)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    connection = connect(serve(partly).url)
    assert connection.send_scores(SCORES) == taken
    assert "some scores were refused" in connection.last_problem
