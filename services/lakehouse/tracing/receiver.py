"""A small stand-in for Langfuse's ingestion: takes exported spans and scores and keeps the newest traces.

`lakehouse demo` and `lakehouse up --trace-view` show sessions with it without a Langfuse server, and the tests
look at the bytes that reach it. It takes any keys, so bind it to loopback. It imports neither `langfuse` nor
grpc.
"""

from __future__ import annotations

import json
import socket
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self, TypeVar

from lakehouse.tracing.otlp import SCORES_PATH, TRACES_PATH, ExportedSpan, OtlpDecodeError, decode_spans
from lakehouse.tracing.tree import TraceTree, build_trees

T = TypeVar("T")

HEALTH_PATH: Final = "/api/public/health"

_IDLE_CONNECTION_S: Final = 60.0
_CONNECTIONS_MAX: Final = 64
_SPANS_PER_TRACE_MAX: Final = 10_000
_SCORES_PER_TRACE_MAX: Final = 100


class _KeptTrace:
    __slots__ = ("changed_s", "scores", "shown", "spans")

    def __init__(self) -> None:
        self.spans: dict[str, ExportedSpan] = {}
        self.scores: dict[str, Mapping[str, Any]] = {}
        self.changed_s = time.monotonic()
        self.shown = False


class TraceReceiver:
    """Serves OTLP over HTTP on threads of its own from construction to `close`.

    It keeps the `traces_max` traces that changed last; a body larger than `body_bytes_max`, before or after
    decompression, is refused.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        traces_max: int = 1_000,
        body_bytes_max: int = 16_777_216,
    ) -> None:
        """Bind and start to serve; port 0 takes a free one.

        Raises:
            OSError: The address is taken.
        """
        self._traces_max = traces_max
        self._traces: OrderedDict[str, _KeptTrace] = OrderedDict()
        self._changed = threading.Condition()
        self._last_request_headers: dict[str, Mapping[str, str]] = {}
        self._server = _Server((host, port), self, body_bytes_max)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},
            name="lakehouse-trace-receiver",
            daemon=True,
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The base URL, for `TracingConfig.host`."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def close(self) -> None:
        """Stop serving and close all connections; what was received stays readable."""
        self._server.shutdown()
        self._server.server_close()
        self._server.close_connections()
        self._thread.join()

    def trees(self) -> list[TraceTree]:
        """Return all kept traces, the one that changed last at the end."""
        with self._changed:
            spans = [span for kept in self._traces.values() for span in kept.spans.values()]
        return build_trees(spans)

    def tree(self, trace_id: str) -> TraceTree | None:
        """Return one trace, or None where no span of it is kept."""
        with self._changed:
            kept = self._traces.get(trace_id)
            spans = list(kept.spans.values()) if kept is not None else []
        return build_trees(spans)[0] if spans else None

    def scores(self, trace_id: str) -> dict[str, Mapping[str, Any]]:
        """Return a trace's scores by their ids, as they were posted."""
        with self._changed:
            kept = self._traces.get(trace_id)
            return dict(kept.scores) if kept is not None else {}

    def request_headers(self, path: str) -> Mapping[str, str]:
        """Return the headers of the last request to a path, names in lower case; empty before the first."""
        with self._changed:
            return self._last_request_headers.get(path, {})

    def wait_for(self, condition: Callable[[TraceReceiver], T], timeout_s: float) -> T:
        """Wait until `condition(self)` is true and return what it gave; checked after each request.

        Raises:
            TimeoutError: It was not true in time.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                value = condition(self)
                if value:
                    return value
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    raise TimeoutError(f"what was waited for did not arrive within {timeout_s} s")

    def take_settled(self, *, quiet_s: float = 1.5, stale_s: float = 10.0) -> list[TraceTree]:
        """Return, once each, the traces that can be shown.

        A trace is ready when its session's root and every parent below it have arrived and nothing has changed
        for `quiet_s` (the three processes send at different times), or when nothing has changed for `stale_s`.
        """
        now_s = time.monotonic()
        ready: list[TraceTree] = []
        with self._changed:
            for kept in self._traces.values():
                quiet_for_s = now_s - kept.changed_s
                if kept.shown or not kept.spans or quiet_for_s < quiet_s:
                    continue
                tree = build_trees(kept.spans.values())[0]
                if quiet_for_s >= stale_s or _is_complete(tree):
                    kept.shown = True
                    ready.append(tree)
        return ready

    def note_request(self, path: str, headers: Mapping[str, str]) -> None:
        """Take the headers of a request, names in lower case."""
        with self._changed:
            self._last_request_headers[path] = headers

    def keep_spans(self, spans: list[ExportedSpan]) -> None:
        """Take spans as they have come."""
        with self._changed:
            for span in spans:
                kept = self._kept(span.trace_id)
                if len(kept.spans) < _SPANS_PER_TRACE_MAX or span.span_id in kept.spans:
                    kept.spans[span.span_id] = span
            self._changed.notify_all()

    def keep_scores(self, scores: list[Mapping[str, Any]]) -> None:
        """Take scores as they have come, each with an `id` and a `traceId`."""
        with self._changed:
            for score in scores:
                kept = self._kept(str(score["traceId"]))
                score_id = str(score["id"])
                if len(kept.scores) < _SCORES_PER_TRACE_MAX or score_id in kept.scores:
                    kept.scores[score_id] = score
            self._changed.notify_all()

    def _kept(self, trace_id: str) -> _KeptTrace:
        kept = self._traces.get(trace_id)
        if kept is None:
            kept = self._traces[trace_id] = _KeptTrace()
            while len(self._traces) > self._traces_max:
                self._traces.popitem(last=False)
        kept.changed_s = time.monotonic()
        self._traces.move_to_end(trace_id)
        return kept


def _is_complete(tree: TraceTree) -> bool:
    """Return True when a root has arrived and only it may hang under a span that we were not sent."""
    head = tree.session_root or next(iter(tree.roots), None)
    return head is not None and all(span is head for span in tree.orphans)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A thread that waits on an idle connection must not hold up `close`.
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], receiver: TraceReceiver, body_bytes_max: int) -> None:
        self.receiver = receiver
        self.body_bytes_max = body_bytes_max
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._connections_lock:
            full = len(self._connections) >= _CONNECTIONS_MAX
            if not full:
                self._connections.add(request)
        if full:
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that goes away in the middle of a request."""

    def close_connections(self) -> None:
        with self._connections_lock:
            connections = list(self._connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # its thread has closed it meanwhile


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_CONNECTION_S
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        if self.path.partition("?")[0] == HEALTH_PATH:
            self._answer(HTTPStatus.OK, b'{"status":"OK"}', "application/json")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"", "text/plain")

    def do_POST(self) -> None:
        path = self.path.partition("?")[0]
        receiver = self.server.receiver
        try:
            body = self._body()
            if path == TRACES_PATH:
                receiver.keep_spans(decode_spans(body))
                answer = HTTPStatus.OK, b"", "application/x-protobuf"
            elif path == SCORES_PATH:
                receiver.keep_scores(_scores(body))
                # The SDK reads any other successful answer as a failure.
                answer = HTTPStatus.ACCEPTED, b'{"message":"Accepted"}', "application/json"
            else:
                answer = HTTPStatus.NOT_FOUND, b"", "text/plain"
        except _RefusedError as refusal:
            self.close_connection = True  # the rest of the body is not read
            answer = refusal.status, b"", "text/plain"
        except OtlpDecodeError as error:
            answer = HTTPStatus.BAD_REQUEST, str(error).encode(), "text/plain"
        headers = {name.lower(): value for name, value in self.headers.items()}
        receiver.note_request(path, headers)
        self._answer(*answer)

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise _RefusedError(HTTPStatus.LENGTH_REQUIRED)
        limit = self.server.body_bytes_max
        if len(length) > 12 or int(length) > limit:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body = self.rfile.read(int(length))
        encoding = self.headers.get("Content-Encoding", "identity").lower()
        if encoding == "identity":
            return body
        if encoding != "gzip":
            raise _RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        decompressor = zlib.decompressobj(wbits=31)
        try:
            plain = decompressor.decompress(body, limit + 1)
        except zlib.error:
            raise _RefusedError(HTTPStatus.BAD_REQUEST) from None
        if len(plain) > limit:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if not decompressor.eof:
            raise _RefusedError(HTTPStatus.BAD_REQUEST)
        return plain

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def setup(self) -> None:
        super().setup()
        # Head and body in one segment: in two, the peer's delayed acknowledgement costs 40 ms a request.
        self.wfile = self.connection.makefile("wb", 65_536)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log no request: the receiver shares its terminal with what it receives."""


def _scores(body: bytes) -> list[Mapping[str, Any]]:
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise _RefusedError(HTTPStatus.BAD_REQUEST) from None
    scores = parsed if isinstance(parsed, list) else [parsed]
    if not all(isinstance(score, dict) and "id" in score and "traceId" in score for score in scores):
        raise _RefusedError(HTTPStatus.BAD_REQUEST)
    return scores
