"""The receiver takes what Langfuse takes, within bounds; the tree survives whatever was exported."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lakehouse.tracing.otlp import SCORES_PATH, TRACES_PATH, ExportedSpan, OtlpDecodeError, decode_spans
from lakehouse.tracing.receiver import HEALTH_PATH, TraceReceiver
from lakehouse.tracing.tree import build_trees, render_tree, walk

TRACE = "0af7651916cd43dd8448eb211c80319c"


def request_of(*spans: tuple[str, str, str | None, str]) -> bytes:
    """Return an OTLP request with spans given as (trace id, span id, parent id, type)."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for trace_id, span_id, parent_id, kind in spans:
        span = scope.spans.add(
            trace_id=bytes.fromhex(trace_id),
            span_id=bytes.fromhex(span_id),
            parent_span_id=bytes.fromhex(parent_id or ""),
            name=f"n-{span_id[-1]}",
            start_time_unix_nano=int(span_id, 16),
            end_time_unix_nano=int(span_id, 16) + 5_000_000,
        )
        attribute = span.attributes.add(key="langfuse.observation.type")
        attribute.value.string_value = kind
    return request.SerializeToString()


def number(n: int) -> str:
    return f"{n:016x}"


@pytest.fixture
def small_receiver() -> Iterator[TraceReceiver]:
    with TraceReceiver(traces_max=3, body_bytes_max=20_000) as receiver:
        yield receiver


def post(receiver: TraceReceiver, path: str, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    address = urlsplit(receiver.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    try:
        connection.request("POST", path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_plain_and_gzipped_requests_are_taken(small_receiver: TraceReceiver) -> None:
    body = request_of((TRACE, number(1), None, "agent"))
    assert post(small_receiver, TRACES_PATH, body) == (200, b"")
    more = request_of((TRACE, number(2), number(1), "span"))
    zipped = {"Content-Encoding": "gzip"}
    assert post(small_receiver, TRACES_PATH, gzip.compress(more, mtime=0), zipped) == (200, b"")
    tree = small_receiver.tree(TRACE)
    assert tree is not None
    assert [span.name for span in tree.spans] == ["n-1", "n-2"]
    assert small_receiver.tree("1" * 32) is None


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff\xff", {}, 400),
        (request_of(("00" * 16, number(1), None, "span")), {}, 400),
        (request_of((TRACE[:-2], number(1), None, "span")), {}, 400),
        (b"x" * 20_001, {}, 413),
        (gzip.compress(b"\0" * 10_000_000, mtime=0), {"Content-Encoding": "gzip"}, 413),
        (b"no gzip", {"Content-Encoding": "gzip"}, 400),
        (gzip.compress(b"abc" * 100, mtime=0)[:-9], {"Content-Encoding": "gzip"}, 400),
        (b"", {"Content-Encoding": "br"}, 415),
        (b"", {"Content-Length": "-1"}, 411),
        (b"", {"Content-Length": "9" * 5_000}, 413),
    ],
)
def test_a_bad_request_is_refused_and_the_next_one_is_served(
    small_receiver: TraceReceiver, body: bytes, headers: dict[str, str], status: int
) -> None:
    assert post(small_receiver, TRACES_PATH, body, headers)[0] == status
    assert post(small_receiver, TRACES_PATH, request_of((TRACE, number(1), None, "agent")))[0] == 200
    assert len(small_receiver.trees()) == 1


def test_a_decompression_bomb_takes_no_more_memory_than_a_body_may() -> None:
    bomb = gzip.compress(b"\0" * 100_000_000, mtime=0)
    with TraceReceiver(body_bytes_max=200_000) as receiver:
        tracemalloc.start()
        try:
            assert post(receiver, TRACES_PATH, bomb, {"Content-Encoding": "gzip"})[0] == 413
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()


def test_scores_are_answered_as_the_sdk_expects_and_kept_by_id(small_receiver: TraceReceiver) -> None:
    score = {"id": "a", "traceId": TRACE, "name": "accepted", "value": 1}
    assert post(small_receiver, SCORES_PATH, json.dumps([score]).encode()) == (202, b'{"message":"Accepted"}')
    assert post(small_receiver, SCORES_PATH, json.dumps({**score, "value": 0}).encode())[0] == 202
    assert small_receiver.scores(TRACE) == {"a": {**score, "value": 0}}
    for bad in (b"{", b"[1]", b'[{"id":"a"}]', b"[" * 10_000):
        assert post(small_receiver, SCORES_PATH, bad)[0] == 400


def test_other_paths_are_not_found_and_health_is_ok(small_receiver: TraceReceiver) -> None:
    assert post(small_receiver, "/v1/traces", b"")[0] == 404
    address = urlsplit(small_receiver.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=10)
    connection.request("GET", HEALTH_PATH)
    assert connection.getresponse().status == 200
    connection.close()


def test_only_the_newest_traces_are_kept(small_receiver: TraceReceiver) -> None:
    for n in range(1, 6):
        post(small_receiver, TRACES_PATH, request_of((f"{n:032x}", number(1), None, "agent")))
    assert [int(tree.trace_id, 16) for tree in small_receiver.trees()] == [3, 4, 5]


def test_waiting_ends_with_what_arrives_or_with_a_timeout(small_receiver: TraceReceiver) -> None:
    post(small_receiver, TRACES_PATH, request_of((TRACE, number(1), None, "agent")))
    assert small_receiver.wait_for(lambda receiver: receiver.tree(TRACE), 5.0) is not None
    with pytest.raises(TimeoutError):
        small_receiver.wait_for(lambda receiver: receiver.tree("1" * 32), 0.05)


def test_a_trace_is_shown_once_and_only_when_it_is_complete_or_stale(small_receiver: TraceReceiver) -> None:
    whole, headless = f"{1:032x}", f"{2:032x}"
    post(small_receiver, TRACES_PATH, request_of((whole, number(2), number(1), "span")))
    post(small_receiver, TRACES_PATH, request_of((headless, number(2), number(1), "span")))
    assert small_receiver.take_settled(quiet_s=0.0, stale_s=60.0) == []
    # The root hangs under a caller's span, which nobody will send us.
    post(small_receiver, TRACES_PATH, request_of((whole, number(1), number(9), "agent")))
    assert small_receiver.take_settled(quiet_s=60.0, stale_s=60.0) == []
    ready = small_receiver.take_settled(quiet_s=0.0, stale_s=60.0)
    assert [tree.trace_id for tree in ready] == [whole]
    assert [tree.trace_id for tree in small_receiver.take_settled(quiet_s=0.0, stale_s=0.0)] == [headless]
    assert small_receiver.take_settled(quiet_s=0.0, stale_s=0.0) == []


def test_close_does_not_wait_for_idle_connections() -> None:
    receiver = TraceReceiver()
    address = urlsplit(receiver.url)
    with socket.create_connection((address.hostname, address.port), timeout=5) as idle:
        idle.sendall(b"POST / HTTP/1.1\r\n")
        closing = threading.Thread(target=receiver.close, daemon=True)
        closing.start()
        # The idle one stays as it is until this test lets it go: who waits for it waits for ever.
        closing.join(60)
        assert not closing.is_alive()
        with contextlib.suppress(ConnectionResetError):  # how a close looks with half a request unread
            assert idle.recv(10) == b""


span_numbers = st.integers(1, 8)


@campaign(120)
@given(st.lists(st.tuples(span_numbers, st.none() | st.integers(1, 10)), min_size=1, max_size=12))
def test_every_span_stands_in_the_tree_once_whatever_its_parents(
    pairs: list[tuple[int, int | None]],
) -> None:
    spans = decode_spans(request_of(*((TRACE, number(n), None if p is None else number(p), "span") for n, p in pairs)))
    (tree,) = build_trees(spans)
    assert sorted(span.span_id for span in tree.spans) == sorted({number(n) for n, _ in pairs})
    for _, node in walk(tree.tops):
        assert all(child.span.parent_span_id == node.span.span_id for child in node.children)
    assert len(render_tree(tree).splitlines()) == 1 + len(tree.spans)


@campaign(100)
@given(st.binary(max_size=300))
def test_any_bytes_decode_or_are_refused(body: bytes) -> None:
    try:
        decode_spans(body)
    except OtlpDecodeError:
        return


def test_a_chain_of_ten_thousand_spans_is_drawn_without_recursion() -> None:
    chain = [(TRACE, number(n), None if n == 1 else number(n - 1), "span") for n in range(1, 3_001)]
    (tree,) = build_trees(decode_spans(request_of(*chain)))
    assert len(render_tree(tree).splitlines()) == 3_001


def span(n: int, parent: int | None, name: str, kind: str, level: str = "DEFAULT", **more: object) -> ExportedSpan:
    attributes = {f"langfuse.observation.{key.replace('__', '.')}": value for key, value in more.items()}
    return ExportedSpan(
        trace_id=TRACE,
        span_id=number(n),
        parent_span_id=None if parent is None else number(parent),
        name=name,
        type=kind,
        level=level,
        status_message=str(more.get("status_message", "")),
        start_unix_ns=1_795_561_434_000_000_000 + n,
        end_unix_ns=1_795_561_434_000_000_000 + n + 1_234_000_000,
        attributes=attributes,
    )


def test_the_drawing_shows_what_an_operator_looks_for() -> None:
    (tree,) = build_trees(
        [
            span(1, None, "iterate.fill", "agent"),
            span(2, 1, "attempt-1", "span", "WARNING", status_message="1 finding"),
            span(
                3,
                2,
                "chat",
                "generation",
                model__name="gpt-4o-mini",
                usage_details='{"input": 812, "output": 96}',
                completion_start_time='"2026-11-24T23:03:54.210000Z"',
            ),
            span(4, 2, "validate", "guardrail", "WARNING", status_message="no such worker\x1b[2J"),
            span(5, 1, "attempt-2", "span"),
        ]
    )
    assert render_tree(tree).splitlines() == [
        f"trace {TRACE}",
        "iterate.fill  agent  1.23 s",
        "├─ attempt-1  span  WARNING  1.23 s  “1 finding”",
        "│  ├─ chat  generation  1.23 s  gpt-4o-mini  812→96 tokens  first token 210 ms",
        "│  └─ validate  guardrail  WARNING  1.23 s  “no such worker [2J”",
        "└─ attempt-2  span  1.23 s",
    ]
    assert json.loads(json.dumps(tree.as_json()))["spans"][0]["name"] == "iterate.fill"


@pytest.mark.parametrize(
    "more",
    [
        {"usage_details": "{"},
        {"usage_details": "[" * 10_000},
        {"usage_details": '{"input": "x"}'},
        {"usage_details": 7},
        {"completion_start_time": "yesterday"},
        {"completion_start_time": '"9999-99-99"'},
        {"model__name": 3},
    ],
)
def test_odd_attributes_do_not_stop_the_drawing(more: dict[str, Any]) -> None:
    (tree,) = build_trees([span(1, None, "chat", "generation", **more)])
    assert render_tree(tree).splitlines()[1] == "chat  generation  1.23 s"
