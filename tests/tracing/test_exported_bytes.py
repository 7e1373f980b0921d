"""What reaches Langfuse is what the plain SDK would have sent, without what the SDK gets wrong."""

from __future__ import annotations

import base64
import gzip
import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from ended_roots import ended_root
from langfuse import Langfuse, propagate_attributes
from langfuse._utils.serializer import EventSerializer
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from lakehouse.trace_context import TraceContext, read_hop_context, read_root_context, root_span_id, trace_metadata
from lakehouse.tracing import Tracing
from lakehouse.tracing.otlp import SCORES_PATH, TRACES_PATH
from lakehouse.tracing.receiver import TraceReceiver
from lakehouse.tracing.score_export import SessionScores, encode_scores
from lakehouse.tracing.span import RecordedSpan

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
MESSAGES = [{"role": "user", "content": 'Fülle 3 Plätze 🙂 "now" \\ '}]
MESSAGES_TEXT = '[{"role": "user", "content": "F\\u00fclle 3 Pl\\u00e4tze \\ud83d\\ude42 \\"now\\" \\\\ "}]'
STARTED = datetime(2026, 3, 4, 5, 6, 7, 890_123, tzinfo=UTC)
STARTED_UNIX_NS = int(STARTED.timestamp()) * 1_000_000_000 + 890_123_456
METADATA: dict[str, Any] = {"provider": "openai é", "iteration": 2, "billed": True, "big": 2**60}


@pytest.fixture
def plain_sdk(body_recorder: Any) -> Iterator[Langfuse]:
    client = Langfuse(
        public_key=f"pk-{uuid.uuid4()}",
        secret_key="sk",
        base_url=body_recorder.url,
        tracer_provider=TracerProvider(resource=Resource.create({"service.name": "chatd"}), shutdown_on_exit=False),
    )
    yield client
    client.shutdown()


def exported(body_recorder: Any) -> ExportTraceServiceRequest:
    """Return the one trace request received, without ids, times and what differs between any two clients."""
    (received,) = [entry for entry in body_recorder.bodies if entry[0] == TRACES_PATH]
    _, headers, body = received
    body_recorder.bodies.clear()
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    for resource_spans in request.resource_spans:
        sort_attributes(resource_spans.resource, without=("service.instance.id",))
        for scope_spans in resource_spans.scope_spans:
            sort_attributes(scope_spans.scope, without=("public_key",))
            for span in scope_spans.spans:
                sort_attributes(span)
                span.ClearField("span_id")
                span.ClearField("start_time_unix_nano")
                span.ClearField("end_time_unix_nano")
    return request


def sort_attributes(message: Any, without: tuple[str, ...] = ()) -> None:
    pairs = sorted((pair for pair in message.attributes if pair.key not in without), key=lambda pair: pair.key)
    del message.attributes[:]
    message.attributes.extend(pairs)


def remote_parent() -> Any:
    """Return the parent context that keeps the SDK from marking a hop's span as a root."""
    remote = otel_trace.SpanContext(
        int(TRACE_ID, 16), int(PARENT, 16), is_remote=True, trace_flags=otel_trace.TraceFlags(1)
    )
    context = otel_trace.set_span_in_context(otel_trace.NonRecordingSpan(remote), otel_context.Context())
    return baggage.set_baggage("langfuse_trace_id", TRACE_ID, context)


def test_a_generation_is_exported_as_the_sdk_exports_it(
    plain_sdk: Langfuse, body_recorder: Any, start_tracing: Callable[..., Tracing]
) -> None:
    token = otel_context.attach(remote_parent())
    with propagate_attributes(session_id="s-1"):
        observation = plain_sdk.start_observation(
            name="chat",
            as_type="generation",
            input=MESSAGES,
            model="asked",
            model_parameters={"temperature": 0.2, "max_tokens": 100},
        )
    otel_context.detach(token)
    observation.update(
        output={"workers": [1, 2]},
        level="ERROR",
        status_message="the provider failed",
        model="answered",
        usage_details={"input": 10, "output": 3, "total": 13},
        cost_details={"input": 0.1, "output": 1e-7, "total": 3.0},
        completion_start_time=STARTED,
        metadata=METADATA,
    )
    observation.end()
    plain_sdk.flush()
    expected = exported(body_recorder)
    # Its observation wrapper would repeat these; ours stand on the resource, for all spans at once.
    assert len(expected.resource_spans) == 1

    tracing = start_tracing(body_recorder.url, service="chatd")
    span = tracing.start_remote(
        "chat",
        type="generation",
        context=read_hop_context(trace_metadata(TRACE_ID, PARENT)),
        session_id="s-1",
        input=MESSAGES_TEXT,
        model="asked",
        model_parameters='{"temperature": 0.2, "max_tokens": 100}',
    )
    assert isinstance(span, RecordedSpan)
    offset_ns = span._anchor.unix_ns_at(0)
    span.end(
        output='{"workers": [1, 2]}',
        level="ERROR",
        status_message="the provider failed",
        model="answered",
        usage_details={"input": 10, "output": 3, "total": 13},
        cost_details={"input": 0.1, "output": 1e-7, "total": 3.0},
        completion_start_monotonic_ns=STARTED_UNIX_NS - offset_ns,
        metadata=METADATA,
    )
    assert tracing.flush(5.0)
    ours = exported(body_recorder)
    assert str(ours) == str(expected)
    assert ours == expected


def test_a_root_is_exported_as_the_sdk_exports_it(
    plain_sdk: Langfuse, body_recorder: Any, start_tracing: Callable[..., Tracing]
) -> None:
    token = otel_context.attach(otel_context.Context())
    with propagate_attributes(session_id="s-1", trace_name="iterate.fill", tags=["fill", "a"]):
        observation = plain_sdk.start_observation(name="iterate.fill", as_type="agent", input="the request")
    otel_context.detach(token)
    observation.update(output="the outcome", level="WARNING", status_message="not accepted")
    observation.end()
    plain_sdk.flush()
    expected = exported(body_recorder)
    (expected_span,) = expected.resource_spans[0].scope_spans[0].spans
    expected_span.ClearField("trace_id")

    tracing = start_tracing(body_recorder.url, service="chatd")
    root = tracing.start_root(
        "iterate.fill",
        context=read_root_context([]),
        session_id="s-1",
        input="the request",
        kind="fill",
        tags=["fill", "a"],
    )
    root.end(
        output="the outcome",
        level="WARNING",
        status_message="not accepted",
        trace_metadata={"final_verdict": "max_iter_exhausted"},
    )
    assert tracing.flush(5.0)
    ours = exported(body_recorder)
    (span,) = ours.resource_spans[0].scope_spans[0].spans
    span.ClearField("trace_id")
    trace_metadata_pairs = {
        pair.key: pair.value.string_value for pair in span.attributes if pair.key.startswith("langfuse.trace.metadata.")
    }
    assert trace_metadata_pairs == {
        "langfuse.trace.metadata.kind": '"fill"',
        "langfuse.trace.metadata.final_verdict": '"max_iter_exhausted"',
    }
    kept = [pair for pair in span.attributes if pair.key not in trace_metadata_pairs]
    del span.attributes[:]
    span.attributes.extend(kept)
    assert str(ours) == str(expected)


# What Langfuse reads of a request besides its body; the others belong to the HTTP client.
HEADERS = (
    "content-type",
    "x-langfuse-ingestion-version",
    "x-langfuse-sdk-name",
    "x-langfuse-sdk-version",
)


def test_requests_carry_the_sdks_own_headers(
    plain_sdk: Langfuse, body_recorder: Any, start_tracing: Callable[..., Tracing]
) -> None:
    plain_sdk.start_observation(name="x").end()
    plain_sdk.flush()
    tracing = start_tracing(body_recorder.url, public_key="pk-headers", secret_key="sk-é")
    tracing.start_root("r", context=read_root_context([]), session_id="s", input="", kind="fill").end()
    assert tracing.flush(5.0)
    (_, expected, _), (_, ours, _) = body_recorder.bodies
    assert {name: ours[name] for name in HEADERS} == {name: expected[name] for name in HEADERS}
    # The SDK sends no other header of its own.
    assert {name for name in expected if name.startswith("x-")} == {name for name in ours if name.startswith("x-")}
    assert ours["x-langfuse-public-key"] == "pk-headers"
    assert base64.b64decode(ours["authorization"].removeprefix("Basic ")).decode() == "pk-headers:sk-é"


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_compression_is_as_configured_and_fast(
    body_recorder: Any, start_tracing: Callable[..., Tracing], compression: str
) -> None:
    tracing = start_tracing(body_recorder.url, compression=compression)
    tracing.start_root("r", context=read_root_context([]), session_id="s", input="", kind="fill").end()
    assert tracing.flush(5.0)
    ((_, headers, body),) = body_recorder.bodies
    assert headers.get("content-encoding") == (None if compression == "none" else "gzip")
    if compression == "gzip":
        assert body[8] == 4  # RFC 1952: the compressor used its fastest algorithm, so level 1 is in force
        body = gzip.decompress(body)
    assert len(ExportTraceServiceRequest.FromString(body).resource_spans) == 1


def test_only_the_root_carries_root_marks_and_trace_fields(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    tracing = start_tracing(receiver.url)
    context = read_root_context(trace_metadata("order-7"))
    root = tracing.start_root("iterate.fill", context=context, session_id="s-1", input="{}", kind="fill", tags=["fill"])
    attempt = root.start_child("attempt-1")
    hop = read_hop_context(trace_metadata(context.trace_id, attempt.span_id))
    chat = tracing.start_remote("chat", type="generation", context=hop, session_id="s-1")
    chat.end(trace_metadata={"final_verdict": "forged"})
    attempt.end(trace_metadata={"final_verdict": "forged"})
    root.end(trace_metadata={"final_verdict": "accepted"})
    assert tracing.flush(5.0)
    tree = receiver.tree(context.trace_id)
    assert tree is not None
    spans = {span.name: span for span in tree.spans}
    for name in ("attempt-1", "chat"):
        attributes = spans[name].attributes
        assert attributes["session.id"] == "s-1"
        assert not [key for key in attributes if key.startswith(("langfuse.trace.", "langfuse.internal."))]
    attributes = spans["iterate.fill"].attributes
    assert spans["iterate.fill"].parent_span_id is None
    assert attributes["langfuse.internal.is_app_root"] is True
    assert "langfuse.internal.as_root" not in attributes
    assert attributes["langfuse.trace.metadata.caller_trace"] == '"order-7"'
    assert attributes["langfuse.trace.metadata.final_verdict"] == '"accepted"'


def test_under_a_callers_span_the_root_sets_nothing_of_the_callers_trace(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    tracing = start_tracing(receiver.url)
    context = read_root_context(trace_metadata(TRACE_ID, PARENT))
    root = tracing.start_root("iterate.fill", context=context, session_id="s-1", input="{}", kind="fill", tags=["x"])
    root.end(trace_metadata={"final_verdict": "accepted"})
    assert tracing.flush(5.0)
    tree = receiver.tree(TRACE_ID)
    assert tree is not None
    (span,) = tree.spans
    assert (span.parent_span_id, span.attributes["session.id"]) == (PARENT, "s-1")
    assert not [key for key in span.attributes if key.startswith(("langfuse.trace.", "langfuse.internal."))]
    assert span.attributes["langfuse.observation.metadata.final_verdict"] == '"accepted"'
    assert span.attributes["langfuse.observation.metadata.kind"] == '"fill"'


def test_a_callers_span_that_is_ignored_leaves_the_root_at_the_top_of_the_callers_trace_id(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    tracing = start_tracing(receiver.url, caller_span="ignore")
    context = read_root_context(trace_metadata(TRACE_ID, PARENT))
    tracing.start_root("iterate.fill", context=context, session_id="s-1", input="{}", kind="fill").end()
    assert tracing.flush(5.0)
    tree = receiver.tree(TRACE_ID)
    assert tree is not None
    (span,) = tree.spans
    assert span.parent_span_id is None
    assert span.attributes["langfuse.trace.name"] == "iterate.fill"


def test_two_sessions_on_one_trace_keep_two_sets_of_scores(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    tracing = start_tracing(receiver.url)
    first, second = ended_root(TRACE_ID, "s-1"), ended_root(TRACE_ID, "s-2")
    tracing.score_session(first, accepted=True, iterations=1, grounded_in_roster=True)
    tracing.score_session(second, accepted=False, iterations=3, grounded_in_roster=False)
    assert tracing.flush(5.0)
    scores = receiver.scores(TRACE_ID).values()
    assert len(scores) == 6
    assert {(s["observationId"], s["value"]) for s in scores if s["name"] == "accepted"} == {
        (first.span_id, 1.0),
        (second.span_id, 0.0),
    }


def test_environment_release_and_service_stand_on_the_resource(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    tracing = start_tracing(receiver.url, service="validated", environment="staging", release="v1.2")
    context = read_hop_context([])
    tracing.start_remote("validate", type="guardrail", context=context, session_id=None).end()
    assert tracing.flush(5.0)
    tree = receiver.tree(context.trace_id)
    assert tree is not None
    (span,) = tree.spans
    assert span.resource["langfuse.environment"] == "staging"
    assert span.resource["langfuse.release"] == "v1.2"
    assert span.resource["service.name"] == "validated"
    assert "session.id" not in span.attributes


def test_scores_are_posted_with_ids_that_a_repeat_replaces(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    tracing = start_tracing(receiver.url, environment="staging")
    for _ in range(2):
        tracing.score_session(ended_root(TRACE_ID, "s-1"), accepted=True, iterations=3, grounded_in_roster=False)
    tracing.score_session(ended_root("1" * 32), accepted=False, iterations=1, grounded_in_roster=None)
    assert tracing.flush(5.0)
    scores = receiver.scores(TRACE_ID)
    prefix = f"s-1-{root_span_id(TRACE_ID, 's-1')}"
    assert {key: (s["name"], s["value"], s["dataType"]) for key, s in scores.items()} == {
        f"{prefix}-accepted": ("accepted", 1.0, "BOOLEAN"),
        f"{prefix}-iterations": ("iterations", 3.0, "NUMERIC"),
        f"{prefix}-grounded_in_roster": ("grounded_in_roster", 0.0, "BOOLEAN"),
    }
    assert {s["environment"] for s in scores.values()} == {"staging"}
    assert sorted(s["name"] for s in receiver.scores("1" * 32).values()) == ["accepted", "iterations"]
    assert receiver.request_headers(SCORES_PATH)["x-langfuse-sdk-name"] == "python"


def test_scores_are_posted_as_the_sdk_posts_them(
    plain_sdk: Langfuse, body_recorder: Any, start_tracing: Callable[..., Tracing]
) -> None:
    for name, value, data_type in (
        ("accepted", 1, "BOOLEAN"),
        ("iterations", 2, "NUMERIC"),
        ("grounded_in_roster", 0, "BOOLEAN"),
    ):
        plain_sdk.create_score(
            score_id=f"s-1-{root_span_id(TRACE_ID, 's-1')}-{name}",
            trace_id=TRACE_ID,
            observation_id=root_span_id(TRACE_ID, "s-1"),
            name=name,
            value=float(value),
            data_type=data_type,  # type: ignore[call-overload]  # one of the overloads' for each
            timestamp=STARTED,
            environment="prod",
        )
    plain_sdk.flush()
    tracing = start_tracing(body_recorder.url, environment="prod")
    tracing.score_session(ended_root(TRACE_ID, "s-1"), accepted=True, iterations=2, grounded_in_roster=False)
    assert tracing.flush(5.0)
    posted = [(headers, json.loads(body)) for path, headers, body in body_recorder.bodies if path == SCORES_PATH]
    (expected_headers, expected), (headers, ours) = posted
    for score in ours:
        assert datetime.fromisoformat(score["timestamp"]).tzinfo is not None
        score["timestamp"] = expected[0]["timestamp"]
    assert ours == expected
    shared = set(HEADERS) & set(expected_headers)
    assert {name: headers[name] for name in shared} == {name: expected_headers[name] for name in shared}
    assert headers["authorization"].startswith("Basic ")


@pytest.mark.parametrize("microsecond", [0, 890_123, 890_000])
def test_a_scores_time_is_written_as_the_sdk_writes_it(microsecond: int) -> None:
    moment = STARTED.replace(microsecond=microsecond)
    unix_ns = int(STARTED.timestamp()) * 1_000_000_000 + microsecond * 1_000
    scores = SessionScores(TRACE_ID, "1" * 16, "s", unix_ns, accepted=True, iterations=1, grounded_in_roster=None)
    written = {json.loads(score)["timestamp"] for score in encode_scores(scores, environment="")}
    assert written == {json.loads(json.dumps(moment, cls=EventSerializer))}


def test_durations_survive_a_step_of_the_wall_clock(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracing = start_tracing(receiver.url)
    context = read_root_context([])
    root = tracing.start_root("r", context=context, session_id="s", input="", kind="fill")
    long_ago_ns = time.time_ns() - 3_600 * 1_000_000_000
    monkeypatch.setattr("lakehouse.wall_clock.time.time_ns", lambda: long_ago_ns)
    child = root.start_child("attempt-1")
    child.end(completion_start_monotonic_ns=time.monotonic_ns())
    root.end()
    monkeypatch.undo()
    assert tracing.flush(5.0)
    tree = receiver.tree(context.trace_id)
    assert tree is not None
    spans = {span.name: span for span in tree.spans}
    assert 0 <= spans["attempt-1"].duration_ms <= spans["r"].duration_ms < 5_000
    assert spans["r"].start_unix_ns <= spans["attempt-1"].start_unix_ns
    assert spans["attempt-1"].end_unix_ns <= spans["r"].end_unix_ns


def test_a_span_ends_once(receiver: TraceReceiver, start_tracing: Callable[..., Tracing]) -> None:
    tracing = start_tracing(receiver.url)
    context = read_root_context([])
    root = tracing.start_root("r", context=context, session_id="s", input="", kind="fill")
    root.end(output="first")
    root.end(output="second", level="ERROR")
    assert tracing.flush(5.0)
    assert tracing.counts()["spans_exported"] == 1
    tree = receiver.tree(context.trace_id)
    assert tree is not None
    assert tree.spans[0].attributes["langfuse.observation.output"] == "first"


def test_secrets_are_masked_wherever_a_span_shows_text(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    secret = "sk-abcdefghijklmnop1234"
    tracing = start_tracing(receiver.url)
    context = TraceContext(trace_id=TRACE_ID, caller_trace=f"Bearer {secret}")
    root = tracing.start_root("r", context=context, session_id="s", input=f'{{"api_key": "{secret}"}}', kind="fill")
    chat = tracing.start_remote(
        "chat",
        type="generation",
        context=read_hop_context(trace_metadata(TRACE_ID, root.span_id)),
        session_id="s",
        input=f"use {secret}",
        model=secret,
        model_parameters=f'{{"Authorization": "Bearer {secret}"}}',
    )
    chat.end(output=secret, status_message=f"refused {secret}", metadata={"password": "hunter2", "n": secret})
    root.end(output=secret, trace_metadata={"why": secret})
    assert tracing.flush(5.0)
    tree = receiver.tree(TRACE_ID)
    assert tree is not None
    shown = str(tree.as_json())
    assert "abcdefghijklmnop" not in shown
    assert "hunter2" not in shown
    assert shown.count("[masked]") == 12  # the status message shows twice


def test_media_in_a_models_answer_makes_us_send_nothing_else(
    body_recorder: Any, start_tracing: Callable[..., Tracing]
) -> None:
    """The SDK would cut base64 media out and upload it by API calls of its own."""
    tracing = start_tracing(body_recorder.url)
    context = read_root_context([])
    media = "data:image/png;base64," + base64.b64encode(b"not an image").decode()
    answer = f'{{"image": "{media}"}}'
    root = tracing.start_root("r", context=context, session_id="s", input=media, kind="fill")
    root.end(output=answer)
    assert tracing.flush(5.0)
    tracing.close()
    ((path, _, body),) = body_recorder.bodies
    assert path == TRACES_PATH
    assert media.encode() in body
    assert answer.encode() in body
