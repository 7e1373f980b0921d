"""A real receiver, services that trace to it, and Langfuse servers that misbehave."""

from __future__ import annotations

import contextlib
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import pytest

from lakehouse.tracing import Tracing, TracingConfig
from lakehouse.tracing.receiver import TraceReceiver

StartTracing = Callable[..., Tracing]
Answer = Callable[["BodyRecorder", BaseHTTPRequestHandler, bytes], None]
Fault = Literal["refuse", "unauthorized", "too_large", "rate_limited", "server_error", "slow", "never", "drip"]

STATUS_OF_FAULT = {
    "unauthorized": HTTPStatus.UNAUTHORIZED,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "server_error": HTTPStatus.INTERNAL_SERVER_ERROR,
}


@pytest.fixture
def receiver() -> Iterator[TraceReceiver]:
    with TraceReceiver() as started:
        yield started


@pytest.fixture
def start_tracing() -> Iterator[StartTracing]:
    """Start services' tracing; each gets a public key of its own."""
    started: list[Tracing] = []

    def start(host: str, service: str = "iterate", **settings: Any) -> Tracing:
        settings = {
            "public_key": f"pk-{uuid.uuid4()}",
            "secret_key": "sk",
            "flush_interval_ms": 20,
            **settings,
        }
        tracing = Tracing(TracingConfig(host=host, **settings), service=service)  # type: ignore[arg-type]  # parametrised by name
        started.append(tracing)
        return tracing

    yield start
    for tracing in started:
        tracing.close()


class BodyRecorder:
    """A server that answers each POST by `answer` and keeps what came in."""

    def __init__(self, answer: Answer) -> None:
        self.bodies: list[tuple[str, dict[str, str], bytes]] = []
        self.released = threading.Event()
        self.healthy = threading.Event()
        self.healthy.set()
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                recorder.bodies.append((self.path, headers, body))
                answer(recorder, self, body)

            def log_message(self, *_: Any) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                return

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def respond(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"") -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if body:
        handler.wfile.write(body)


@pytest.fixture
def body_recorder() -> Iterator[BodyRecorder]:
    """Yield a Langfuse that keeps the bytes, and takes them unless its `healthy` is cleared."""

    def accept(recorder: BodyRecorder, handler: BaseHTTPRequestHandler, _: bytes) -> None:
        if not recorder.healthy.is_set():
            respond(handler, 400)
        elif handler.path.endswith("/scores"):
            respond(handler, 202, b'{"message":"Accepted"}')
        else:
            respond(handler, 200)

    recorder = BodyRecorder(accept)
    yield recorder
    recorder.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], BodyRecorder]]:
    """Start a server that answers each POST by this function."""
    with contextlib.ExitStack() as stack:

        def start(answer: Answer) -> BodyRecorder:
            recorder = BodyRecorder(answer)
            stack.callback(recorder.close)
            return recorder

        yield start


@pytest.fixture
def flaky_langfuse(serve: Callable[[Answer], BodyRecorder]) -> Callable[[list[int]], BodyRecorder]:
    """Start a Langfuse that answers its first POSTs with these statuses and takes the others."""

    def start(statuses: list[int]) -> BodyRecorder:
        left = iter(statuses)
        return serve(lambda _, handler, __: respond(handler, next(left, 200)))

    return start


@pytest.fixture
def hostile_langfuse() -> Iterator[Callable[[Fault], str]]:
    """Start a Langfuse with a fault and return its URL."""
    with contextlib.ExitStack() as stack:

        def start(fault: Fault) -> str:
            if fault == "refuse":
                # Bound and never listened to: nobody else can take the port while the test runs.
                held = stack.enter_context(socket.socket())
                held.bind(("127.0.0.1", 0))
                return f"http://127.0.0.1:{held.getsockname()[1]}"

            def answer(recorder: BodyRecorder, handler: BaseHTTPRequestHandler, _: bytes) -> None:
                if fault in STATUS_OF_FAULT:
                    respond(handler, STATUS_OF_FAULT[fault])
                elif fault == "never":
                    recorder.released.wait()
                elif fault == "slow":
                    recorder.released.wait(30.0)
                    respond(handler, 200)
                else:
                    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                    while not recorder.released.wait(0.02):
                        handler.wfile.write(b".")

            recorder = BodyRecorder(answer)
            stack.callback(recorder.close)
            return recorder.url

        yield start
