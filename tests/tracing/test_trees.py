"""One session, one tree: rebuilt from what a real receiver was sent by the services' own tracing."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from ended_roots import ended_root

import lakehouse
from lakehouse.trace_context import (
    TraceContext,
    forward_metadata,
    mint_trace_id,
    read_hop_context,
    read_root_context,
    trace_metadata,
)
from lakehouse.tracing import NOOP_SPAN, Tracing
from lakehouse.tracing.receiver import TraceReceiver
from lakehouse.tracing.span import Level
from lakehouse.tracing.tree import TraceTree, render_tree

CALLER_SPAN = "b7ad6b7169203331"


class Gateway:
    """The three services' tracing, driven as the services drive it."""

    def __init__(self, start_tracing: Callable[..., Tracing], host: str, **settings: object) -> None:
        self.iterate = start_tracing(host, service="iterate", **settings)
        self.chatd = start_tracing(host, service="chatd", **settings)
        self.validated = start_tracing(host, service="validated", **settings)

    async def session(self, context: TraceContext, session_id: str, verdicts: list[str]) -> list[str | None]:
        """Run one session whose attempts end by `verdicts`; return the attempts' span ids."""
        span_ids = []
        root = self.iterate.start_root(
            "iterate.fill", context=context, session_id=session_id, input=session_id, kind="fill"
        )
        for number, verdict in enumerate(verdicts, 1):
            attempt = root.start_child(f"attempt-{number}", input=session_id)
            span_ids.append(attempt.span_id)
            sent = forward_metadata(context, attempt.span_id, session_id)
            await asyncio.sleep(0)
            hop = read_hop_context(sent)
            chat = self.chatd.start_remote(
                "chat", type="generation", context=hop, session_id=hop.session_id, input=session_id, model="m"
            )
            await asyncio.sleep(0)
            if verdict == "failed":
                chat.end(level="ERROR", status_message="the provider failed")
                attempt.end(level="ERROR", status_message="the provider failed")
                break
            chat.end(output=session_id, usage_details={"input": 7, "output": 5})
            guardrail = self.validated.start_remote(
                "validate", type="guardrail", context=hop, session_id=hop.session_id, input=session_id
            )
            await asyncio.sleep(0)
            level: Level = "" if verdict == "accepted" else "WARNING"
            guardrail.end(output="{}", level=level, status_message="" if not level else "1 finding")
            attempt.end(level=level, status_message="" if not level else verdict)
        root.end(output=session_id, trace_metadata={"final_verdict": verdicts[-1]})
        return span_ids

    def flush(self) -> None:
        for tracing in (self.iterate, self.chatd, self.validated):
            assert tracing.flush(10.0)


def tree_of(receiver: TraceReceiver, trace_id: str) -> TraceTree:
    tree = receiver.tree(trace_id)
    assert tree is not None
    return tree


def shape(tree: TraceTree) -> Counter[tuple[str, str]]:
    return Counter((span.type, span.level) for span in tree.spans)


async def test_a_session_of_three_attempts_is_one_tree(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    gateway = Gateway(start_tracing, receiver.url)
    context = read_root_context([])
    attempts = await gateway.session(context, "s-1", ["rejected", "rejected", "accepted"])
    gateway.flush()

    (tree,) = receiver.trees()
    assert tree.trace_id == context.trace_id
    assert [span.name for span in tree.roots] == ["iterate.fill"]
    assert not tree.orphans
    assert shape(tree) == {
        ("agent", "DEFAULT"): 1,
        ("span", "DEFAULT"): 1,
        ("span", "WARNING"): 2,
        ("generation", "DEFAULT"): 3,
        ("guardrail", "DEFAULT"): 1,
        ("guardrail", "WARNING"): 2,
    }
    (root,) = tree.tops
    assert [child.span.name for child in root.children] == ["attempt-1", "attempt-2", "attempt-3"]
    assert [child.span.span_id for child in root.children] == attempts
    assert [child.span.level for child in root.children] == ["WARNING", "WARNING", "DEFAULT"]
    for child in root.children:
        assert [below.span.name for below in child.children] == ["chat", "validate"]
    assert {span.resource["service.name"] for span in tree.spans} == {"iterate", "chatd", "validated"}
    assert {span.attributes["session.id"] for span in tree.spans} == {"s-1"}


async def test_exhaustion_warns_on_every_attempt_and_a_failing_chat_is_an_error(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    gateway = Gateway(start_tracing, receiver.url)
    exhausted, failed = read_root_context([]), read_root_context([])
    await gateway.session(exhausted, "s-1", ["rejected", "rejected"])
    await gateway.session(failed, "s-2", ["rejected", "failed"])
    gateway.flush()
    tree = tree_of(receiver, exhausted.trace_id)
    assert {s.name for s in tree.spans if s.level == "WARNING"} == {"attempt-1", "attempt-2", "validate"}
    tree = tree_of(receiver, failed.trace_id)
    assert not tree.orphans
    assert [(s.name, s.status_message) for s in tree.spans if s.level == "ERROR"] == [
        ("attempt-2", "the provider failed"),
        ("chat", "the provider failed"),
    ]


async def test_with_a_callers_span_the_tree_hangs_under_it(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    gateway = Gateway(start_tracing, receiver.url)
    context = read_root_context(trace_metadata(mint_trace_id(), CALLER_SPAN))
    await gateway.session(context, "s-1", ["accepted"])
    gateway.flush()
    tree = tree_of(receiver, context.trace_id)
    assert not tree.roots
    assert [(span.name, span.parent_span_id) for span in tree.orphans] == [("iterate.fill", CALLER_SPAN)]
    assert tree.session_root is tree.orphans[0]


async def test_two_hundred_concurrent_sessions_are_two_hundred_trees(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    gateway = Gateway(start_tracing, receiver.url)
    draw = random.Random(3)
    sessions = {
        mint_trace_id(): (f"s-{number}", ["rejected"] * draw.randint(0, 3) + ["accepted"]) for number in range(200)
    }
    await asyncio.gather(
        *(
            gateway.session(read_root_context(trace_metadata(trace_id)), session_id, verdicts)
            for trace_id, (session_id, verdicts) in sessions.items()
        )
    )
    await asyncio.to_thread(gateway.flush)
    trees = {tree.trace_id: tree for tree in receiver.trees()}
    assert trees.keys() == sessions.keys()
    for trace_id, (session_id, verdicts) in sessions.items():
        tree = trees[trace_id]
        assert len(tree.roots) == 1
        assert not tree.orphans
        assert len(tree.spans) == 1 + 3 * len(verdicts)
        assert {span.attributes["session.id"] for span in tree.spans} == {session_id}
        assert {span.attributes["langfuse.observation.input"] for span in tree.spans} == {session_id}


def test_a_direct_complete_with_the_header_adds_one_generation_under_the_implied_span(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    chatd = start_tracing(receiver.url, service="chatd")
    trace_id = mint_trace_id()
    context = read_hop_context(trace_metadata(trace_id))
    chatd.start_remote("chat", type="generation", context=context, session_id=None, model="m").end(output="x")
    assert chatd.flush(5.0)
    (tree,) = receiver.trees()
    (span,) = tree.spans
    assert (span.trace_id, span.parent_span_id, span.type) == (trace_id, trace_id[16:], "generation")
    assert not [key for key in span.attributes if key.startswith(("langfuse.trace.", "langfuse.internal."))]


def test_a_direct_complete_without_the_header_is_one_top_level_trace(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    chatd = start_tracing(receiver.url, service="chatd")
    context = read_hop_context([])
    chatd.start_remote("chat", type="generation", context=context, session_id=None, model="m").end(output="x")
    assert chatd.flush(5.0)
    (tree,) = receiver.trees()
    assert [(span.trace_id, span.parent_span_id) for span in tree.roots] == [(context.trace_id, None)]


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
async def test_three_services_sample_the_same_traces(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing], rate: float
) -> None:
    gateway = Gateway(start_tracing, receiver.url, sample_rate=rate)
    contexts = [read_root_context([]) for _ in range(60)]
    recorded = set()
    for context in contexts:
        spans = await gateway.session(context, "s", ["accepted"])
        root = NOOP_SPAN if spans == [None] else ended_root(context.trace_id)
        gateway.iterate.score_session(root, accepted=True, iterations=1, grounded_in_roster=True)
        if spans != [None]:
            recorded.add(context.trace_id)
    gateway.flush()
    trees = receiver.trees()
    assert {tree.trace_id for tree in trees} == recorded
    assert all(len(tree.spans) == 4 and len(tree.roots) == 1 for tree in trees)
    assert {c.trace_id for c in contexts if receiver.scores(c.trace_id)} == recorded
    assert len(recorded) in {0.0: [0], 0.5: range(12, 49), 1.0: [60]}[rate]


async def test_an_unsampled_session_still_forwards_the_callers_span() -> None:
    context = read_root_context(trace_metadata(mint_trace_id(), CALLER_SPAN))
    hop = read_hop_context(forward_metadata(context, None, "s-1"))
    assert (hop.trace_id, hop.parent_span_id, hop.session_id) == (context.trace_id, CALLER_SPAN, "s-1")


PROCESS = """
import json, sys
from lakehouse.trace_context import forward_metadata, read_hop_context, read_root_context
from lakehouse.tracing import Tracing, TracingConfig

host, service = sys.argv[1:]
tracing = Tracing(TracingConfig(host=host, public_key="pk", secret_key="sk"), service=service)
if service == "iterate":
    context = read_root_context([])
    root = tracing.start_root("iterate.fill", context=context, session_id="s-1", input="{}", kind="fill")
    hops = []
    for number in (1, 2, 3):
        attempt = root.start_child(f"attempt-{number}")
        hops.append(forward_metadata(context, attempt.span_id, "s-1"))
        attempt.end(level="" if number == 3 else "WARNING")
    root.end()
    print(json.dumps(hops))
else:
    kind, name = {"chatd": ("generation", "chat"), "validated": ("guardrail", "validate")}[service]
    for number, hop in enumerate(json.load(sys.stdin), 1):
        context = read_hop_context([tuple(pair) for pair in hop])
        span = tracing.start_remote(name, type=kind, context=context, session_id=context.session_id)
        span.end(level="WARNING" if name == "validate" and number < 3 else "")
tracing.close()
"""


def run_process(host: str, service: str, stdin: str = "") -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PROCESS, host, service],
        input=stdin,
        env={"PYTHONPATH": str(Path(lakehouse.__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def test_three_processes_with_one_key_build_one_tree(receiver: TraceReceiver) -> None:
    hops = run_process(receiver.url, "iterate")
    assert len(json.loads(hops)) == 3
    # The order of arrival does not matter: the children's processes end in either order.
    run_process(receiver.url, "validated", hops)
    run_process(receiver.url, "chatd", hops)
    (tree,) = receiver.trees()
    assert len(tree.roots) == 1
    assert not tree.orphans
    assert shape(tree) == {
        ("agent", "DEFAULT"): 1,
        ("span", "DEFAULT"): 1,
        ("span", "WARNING"): 2,
        ("generation", "DEFAULT"): 3,
        ("guardrail", "DEFAULT"): 1,
        ("guardrail", "WARNING"): 2,
    }
    drawn = render_tree(tree).splitlines()
    assert len(drawn) == 11
    assert drawn[1].startswith("iterate.fill  agent")


FOREIGN = """
import sys, threading
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from lakehouse.trace_context import read_root_context
from lakehouse.tracing import Tracing, TracingConfig

early = Tracing(TracingConfig(host=sys.argv[1], public_key="pk-1", secret_key="sk"), service="iterate")
assert early.enabled
assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider), "a global provider was set"

memory = InMemorySpanExporter()
foreign = TracerProvider()
foreign.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(foreign)
late = Tracing(TracingConfig(host=sys.argv[1], public_key="pk-2", secret_key="sk"), service="chatd")
assert late.enabled
with trace.get_tracer("foreign").start_as_current_span("foreign") as current:
    for tracing in (early, late):
        context = read_root_context([])
        root = tracing.start_root("r", context=context, session_id="s", input="", kind="fill")
        root.start_child("attempt-1").end()
        root.end()
        assert tracing.flush(5.0)
    assert trace.get_current_span() is current
assert trace.get_tracer_provider() is foreign
early.close()
late.close()
print([span.name for span in memory.get_finished_spans()])
"""


def test_a_foreign_provider_and_a_foreign_current_span_do_not_matter(receiver: TraceReceiver) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", FOREIGN, receiver.url],
        env={"PYTHONPATH": str(Path(lakehouse.__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == "['foreign']"
    trees = receiver.trees()
    assert len(trees) == 2
    assert all(len(tree.roots) == 1 and len(tree.spans) == 2 and not tree.orphans for tree in trees)


def test_starting_and_ending_a_span_does_no_work_on_the_callers_thread(
    receiver: TraceReceiver, start_tracing: Callable[..., Tracing]
) -> None:
    """A megabyte in and out costs the caller about what nothing costs: it is cut, not masked or encoded."""
    tracing = start_tracing(receiver.url, flush_interval_ms=60_000)
    context = read_hop_context(trace_metadata(mint_trace_id()))
    text = '{"api_key": "é"}' * 70_000
    best_s = 1.0
    for _ in range(20):
        started_s = time.thread_time()
        tracing.start_remote("chat", type="generation", context=context, session_id="s", input=text).end(output=text)
        best_s = min(best_s, time.thread_time() - started_s)
    assert best_s < 0.000_5
