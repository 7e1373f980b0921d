"""Langfuse may be away, refuse, stall or hang: no call fails or waits, memory is bounded, losses are counted."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ended_roots import ended_root

import lakehouse
from lakehouse.trace_context import mint_trace_id, read_root_context, trace_metadata
from lakehouse.tracing import Tracing, TracingConfig
from lakehouse.tracing.losses import ExportCounts
from lakehouse.tracing.receiver import TraceReceiver

FAULTS = ["refuse", "unauthorized", "too_large", "rate_limited", "server_error", "slow", "never", "drip"]
SESSIONS = 150
SPANS_PER_SESSION = 3
SHUTDOWN_S = 0.5
# A hostile server holds a request for 30 s: who waits for it is above this, and a busy machine is far below.
HELD_S = 20.0


def run_sessions(tracing: Tracing, count: int) -> float:
    """Run sessions of three spans and return the longest that one took, in seconds."""
    longest_s = 0.0
    for number in range(count):
        started_s = time.monotonic()
        context = read_root_context(trace_metadata(mint_trace_id()))
        root = tracing.start_root("iterate.fill", context=context, session_id="s", input="{}", kind="fill")
        for name in ("attempt-1", "attempt-2"):
            root.start_child(name, input="x" * 2_000).end(output="y" * 500)
        root.end(output=str(number))
        tracing.score_session(root, accepted=True, iterations=2, grounded_in_roster=None)
        longest_s = max(longest_s, time.monotonic() - started_s)
    return longest_s


def total(counts: Mapping[str, int], prefix: str) -> int:
    return sum(count for name, count in counts.items() if name.startswith(prefix))


@pytest.fixture
def root_records() -> Iterator[list[logging.LogRecord]]:
    """Yield what reaches the root logger. (caplog also listens at loggers that do not propagate.)"""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Keep()
    logging.getLogger().addHandler(handler)
    yield records
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_langfuse_in_trouble_costs_no_session_and_every_loss_is_counted(
    fault: str,
    hostile_langfuse: Callable[[str], str],
    start_tracing: Callable[..., Tracing],
    root_records: list[logging.LogRecord],
    capfd: pytest.CaptureFixture[str],
) -> None:
    tracing = start_tracing(
        hostile_langfuse(fault),
        timeout_ms=200,
        shutdown_ms=int(SHUTDOWN_S * 1_000),
        queue_spans_max=200,
        queue_scores_max=40,
        flush_spans=50,
    )
    assert tracing.enabled

    assert run_sessions(tracing, SESSIONS) < HELD_S

    queued = tracing.counts()
    assert queued["spans_queued"] <= 200
    assert queued["scores_queued"] <= 40

    started_s = time.monotonic()
    tracing.close()
    assert time.monotonic() - started_s < HELD_S

    counts = tracing.counts()
    assert counts["spans_exported"] == counts["scores_exported"] == 0
    assert total(counts, "spans_dropped:") == SESSIONS * SPANS_PER_SESSION
    assert total(counts, "scores_dropped:") == SESSIONS
    assert counts["spans_queued"] == counts["spans_queued_bytes"] == counts["scores_queued"] == 0

    # One line at the first loss, and one at the end for the rest; the libraries write none.
    names = [record.name for record in root_records]
    assert names.count("lakehouse.tracing") in (1, 2), names
    assert not [name for name in names if name.startswith(("langfuse", "opentelemetry"))]
    assert not capfd.readouterr().err


def test_a_full_queue_drops_the_newest_and_keeps_its_bound_in_bytes(
    hostile_langfuse: Callable[[str], str], start_tracing: Callable[..., Tracing]
) -> None:
    tracing = start_tracing(
        hostile_langfuse("never"),
        timeout_ms=60_000,
        shutdown_ms=0,
        queue_bytes_max=1_000_000,
        flush_spans=1,
        capture_bytes_max=65_536,
    )
    context = read_root_context([])
    for _ in range(100):
        tracing.start_root("iterate.fill", context=context, session_id="s", input="p" * 3_000_000, kind="fill").end()
    counts = tracing.counts()
    assert 0 < counts["spans_queued_bytes"] <= 1_000_000
    # Each holds its text cut to what may be captured, not the 3 MB that it was given.
    assert counts["spans_queued"] >= 1_000_000 // 75_000
    assert counts["spans_dropped:queue_full"] >= 80


def test_losses_are_logged_even_while_the_export_thread_is_held_up(
    hostile_langfuse: Callable[[str], str],
    start_tracing: Callable[..., Tracing],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that sends its answer byte by byte outlasts the timeout, which is one of silence."""
    tracing = start_tracing(hostile_langfuse("drip"), queue_spans_max=1, shutdown_ms=0)
    run_sessions(tracing, 5)
    assert tracing.counts()["spans_dropped:queue_full"] > 0
    assert "spans_dropped:queue_full" in caplog.text


def test_spans_that_end_after_close_are_dropped_and_counted(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    tracing = start_tracing(receiver.url)
    span = tracing.start_root("iterate.fill", context=read_root_context([]), session_id="s", input="", kind="fill")
    tracing.close()
    span.end()
    tracing.score_session(ended_root("1" * 32), accepted=True, iterations=1, grounded_in_roster=True)
    assert tracing.counts()["spans_dropped:shutdown"] == 1
    assert tracing.counts()["scores_dropped:shutdown"] == 1
    assert receiver.trees() == []


def test_close_sends_what_is_queued(receiver: TraceReceiver, start_tracing: Callable[..., Tracing]) -> None:
    tracing = start_tracing(receiver.url, flush_interval_ms=60_000)
    run_sessions(tracing, 10)
    tracing.close()
    tracing.close()
    assert tracing.counts()["spans_exported"] == 30
    assert tracing.counts()["scores_exported"] == 10
    assert len(receiver.trees()) == 10
    assert all(len(receiver.scores(tree.trace_id)) == 2 for tree in receiver.trees())


def test_an_endpoint_that_recovers_gets_the_next_spans(
    body_recorder: Any, start_tracing: Callable[..., Tracing]
) -> None:
    tracing = start_tracing(body_recorder.url)
    body_recorder.healthy.clear()
    run_sessions(tracing, 1)
    assert tracing.flush(5.0)
    body_recorder.healthy.set()
    run_sessions(tracing, 2)
    assert tracing.flush(5.0)
    counts = tracing.counts()
    assert (counts["spans_dropped:export_failed"], counts["spans_exported"]) == (3, 6)
    assert (counts["scores_dropped:export_failed"], counts["scores_exported"]) == (1, 2)


@pytest.mark.parametrize("status", [500, 503, 429])
def test_scores_are_sent_again_where_that_may_help(
    flaky_langfuse: Callable[[list[int]], Any],
    start_tracing: Callable[..., Tracing],
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    monkeypatch.setattr("lakehouse.tracing.http_sender._FIRST_PAUSE_S", 0.0)
    langfuse = flaky_langfuse([status, status])
    tracing = start_tracing(langfuse.url)
    tracing.score_session(ended_root("1" * 32), accepted=True, iterations=1, grounded_in_roster=None)
    assert tracing.flush(5.0)
    assert tracing.counts()["scores_exported"] == 1
    first, second, third = (body for _, _, body in langfuse.bodies)
    assert first == second == third


def test_scores_are_given_up_after_three_tries(
    flaky_langfuse: Callable[[list[int]], Any],
    start_tracing: Callable[..., Tracing],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("lakehouse.tracing.http_sender._FIRST_PAUSE_S", 0.0)
    langfuse = flaky_langfuse([500, 500, 500])
    tracing = start_tracing(langfuse.url)
    tracing.score_session(ended_root("1" * 32), accepted=True, iterations=1, grounded_in_roster=None)
    assert tracing.flush(5.0)
    assert tracing.counts()["scores_dropped:export_failed"] == 1
    assert len(langfuse.bodies) == 3
    assert "scores were not taken: status 500" in caplog.text


def test_a_batch_is_encoded_in_slices_between_which_the_loop_gets_the_interpreter(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("lakehouse.tracing.span_export.time", SimpleNamespace(sleep=pauses.append))
    tracing = start_tracing(receiver.url, flush_spans=60, flush_interval_ms=60_000)
    run_sessions(tracing, 20)
    receiver.wait_for(lambda received: len(received.trees()) == 20, 5.0)
    # In memory the 60 spans take some 220 KB.
    assert len(pauses) == 3


@pytest.mark.parametrize("character", ["x", "é", "語", "🙂"])
def test_a_request_stays_below_the_mebibyte_at_which_proxies_stop_it(
    body_recorder: Any, start_tracing: Callable[..., Tracing], character: str
) -> None:
    tracing = start_tracing(body_recorder.url, flush_interval_ms=60_000, compression="none")
    root = tracing.start_root("r", context=read_root_context([]), session_id="s", input="", kind="fill")
    for _ in range(30):
        root.start_child("attempt-1", input=character * 70_000).end(output=character * 70_000)
    assert tracing.flush(20.0)
    assert tracing.counts()["spans_exported"] == 30
    sizes = [len(body) for _, _, body in body_recorder.bodies]
    assert max(sizes) < 1_048_576
    assert max(sizes) > 800_000


def test_one_span_that_cannot_be_encoded_costs_only_itself(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    tracing = start_tracing(receiver.url, flush_interval_ms=60_000)
    root = tracing.start_root("iterate.fill", context=read_root_context([]), session_id="s", input="", kind="fill")
    broken: Any = {"input": object()}
    root.start_child("chat", type="generation").end(usage_details=broken)
    root.end()
    assert tracing.flush(5.0)
    assert tracing.counts()["spans_dropped:encode_failed"] == 1
    assert [span.name for tree in receiver.trees() for span in tree.spans] == ["iterate.fill"]


def test_losses_are_logged_at_most_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    now_s = 0.0
    counts = ExportCounts(lambda: "langfuse: away", clock_s=lambda: now_s)
    for now_s in range(180):  # noqa: B007 - the clock reads it
        counts.add("spans_dropped:queue_full", 2)
        counts.log_losses()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert "spans_dropped:queue_full=2;" in messages[0]
    assert "spans_dropped:queue_full=120;" in messages[1]
    assert "langfuse: away" in messages[0]


def test_nothing_is_logged_while_nothing_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    counts = ExportCounts(lambda: "")
    counts.add("spans_exported", 5)
    counts.log_losses()
    counts.log_losses(at_end=True)
    assert not caplog.records


def test_without_keys_tracing_is_off_and_silent(caplog: pytest.LogCaptureFixture) -> None:
    tracing = Tracing(TracingConfig(), service="iterate")
    assert not tracing.enabled
    assert not caplog.records
    root = tracing.start_root("iterate.fill", context=read_root_context([]), session_id="s", input="", kind="fill")
    child = root.start_child("attempt-1")
    assert (root.span_id, root.recording, child) == (None, False, root)
    child.end()
    tracing.score_session(ended_root("1" * 32), accepted=True, iterations=1, grounded_in_roster=True)
    assert tracing.flush(0.0)
    tracing.close()
    assert not any(tracing.counts().values())


def test_two_tracings_with_one_key_send_their_own(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    """The SDK would hand the second one the first one's client, and with it its service's name."""
    services = ("iterate", "chatd")
    for service in services:
        tracing = start_tracing(receiver.url, service, public_key="pk-shared")
        tracing.start_root(service, context=read_root_context([]), session_id="s", input="", kind="fill").end()
        assert tracing.flush(5.0)
    assert tuple(tree.spans[0].resource["service.name"] for tree in receiver.trees()) == services


def test_the_sdks_switch_turns_tracing_off_and_says_so(
    start_tracing: Callable[..., Tracing], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LANGFUSE_TRACING_ENABLED", "False")
    assert not start_tracing("http://127.0.0.1:9").enabled
    assert "LANGFUSE_TRACING_ENABLED" in caplog.text


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        env={"PYTHONPATH": str(Path(lakehouse.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished


def test_while_off_neither_langfuse_nor_opentelemetry_is_imported() -> None:
    finished = run_python(
        "import sys\n"
        "from lakehouse.tracing import Tracing, TracingConfig\n"
        "Tracing(TracingConfig(), service='chatd')\n"
        "print([name for name in ('langfuse', 'opentelemetry', 'httpx', 'grpc') if name in sys.modules])\n"
    )
    assert finished.stdout.strip() == "[]"


def test_the_receiver_and_the_tree_import_neither_langfuse_nor_grpc() -> None:
    finished = run_python(
        "import sys\n"
        "import lakehouse.tracing.receiver, lakehouse.tracing.tree\n"
        "print([name for name in ('langfuse', 'grpc') if name in sys.modules])\n"
    )
    assert finished.stdout.strip() == "[]"


NEVER_CLOSES = """
import sys, time
from lakehouse.trace_context import read_root_context
from lakehouse.tracing import Tracing, TracingConfig

config = TracingConfig(
    host=sys.argv[1], public_key="pk", secret_key="sk", timeout_ms=30_000, shutdown_ms=300, flush_interval_ms=20
)
tracing = Tracing(config, service="iterate")
context = read_root_context([])
root = tracing.start_root("r", context=context, session_id="s", input="", kind="fill")
root.end()
tracing.score_session(root, accepted=True, iterations=1, grounded_in_roster=None)
while tracing.counts()["scores_queued"] or tracing.counts()["spans_queued"]:
    time.sleep(0.01)
print(time.time())
"""


def test_a_process_that_never_closes_still_exits_within_the_limit(
    hostile_langfuse: Callable[[str], str],
) -> None:
    """The SDK's own exit hook would wait for as long as Langfuse hangs."""
    finished = run_python(NEVER_CLOSES, hostile_langfuse("never"))
    assert time.time() - float(finished.stdout) < HELD_S
    assert "spans_dropped:shutdown=1, scores_dropped:shutdown=1" in finished.stderr
