"""Goal: every session leaves exactly one row and one whole tree, however it ends.

Method: each end is brought about for real, in processes of their own where one has to die; rows are read from the file,
trees from the bytes that the three processes exported.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.clients import AsyncChatClient, AsyncIterateClient, IterateClient
from lakehouse.errors import Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.trace_context import is_valid_trace_id, trace_metadata
from lakehouse.tracing.tree import TraceTree

Request = Callable[..., iterate_pb2.IterateRequest]


async def row_of(stack: Any, session_id: str) -> dict[str, Any]:
    """Return the session's one row, once it is there: a caller that went away does not wait for it."""
    async with asyncio.timeout(15):
        while not (rows := stack.rows(session_id)):
            await asyncio.sleep(0.02)
    assert len(rows) == 1
    return dict(rows[0])


async def tree_of(stack: Any, trace_id: str, spans: int) -> TraceTree:
    def whole(receiver: Any) -> TraceTree | None:
        tree = receiver.tree(trace_id)
        return tree if tree is not None and len(tree.spans) >= spans else None

    tree = await asyncio.to_thread(stack.receiver.wait_for, whole, 15)
    assert isinstance(tree, TraceTree)
    return tree


async def top_of(stack: Any, trace_id: str) -> Any:
    """Return the session's root, with its scores there as well."""

    def found(receiver: Any) -> Any:
        tree = receiver.tree(trace_id)
        roots = [span for span in tree.spans if span.name.startswith("iterate.")] if tree is not None else []
        return roots[0] if roots and receiver.scores(trace_id) else None

    return await asyncio.to_thread(stack.receiver.wait_for, found, 40.0)


def shape(tree: TraceTree) -> list[tuple[str, str, str]]:
    return sorted((span.name, span.type, span.level.replace("DEFAULT", "")) for span in tree.spans)


ROOT = ("iterate.fill", "agent")
BRIEF = ("brief", "retriever", "")


async def test_accepted(stack: Any, client: AsyncIterateClient, make_request: Request) -> None:
    response = await client.iterate(make_request(), timeout_s=30)

    row = await row_of(stack, response.session_id)
    tree = await tree_of(stack, response.trace_id, 8)
    assert row["final_verdict"] == "accepted"
    assert len(tree.roots) == 1
    assert tree.orphans == ()
    assert shape(tree) == [
        ("attempt-1", "span", "WARNING"),
        ("attempt-2", "span", ""),
        BRIEF,
        ("chat", "generation", ""),
        ("chat", "generation", ""),
        (*ROOT, ""),
        ("validate", "guardrail", ""),
        ("validate", "guardrail", "WARNING"),
    ]
    assert {span.span_id for span in tree.spans if span.name.startswith("attempt")} == {
        attempt["span_id"] for attempt in row["attempts"]
    }


async def test_attempts_exhausted(stack: Any, client: AsyncIterateClient, make_request: Request) -> None:
    request = make_request(max_iterations=3, escalation=[], provider="fake", model="always-phantom")
    # Another phantom each time: an answer that comes again would end it.
    stack.endpoint.answers[1:1] = [stack.endpoint.answers[0].replace("W-9", f"W-{number}") for number in (7, 8)]
    try:
        response = await client.iterate(request, timeout_s=30)
    finally:
        del stack.endpoint.answers[1:3]

    row = await row_of(stack, response.session_id)
    tree = await tree_of(stack, response.trace_id, 11)
    assert row["final_verdict"] == "max_iter_exhausted"
    assert shape(tree) == [
        *[(f"attempt-{number}", "span", "WARNING") for number in (1, 2, 3)],
        BRIEF,
        *[("chat", "generation", "")] * 3,
        (*ROOT, ""),
        *[("validate", "guardrail", "WARNING")] * 3,
    ]


async def test_chatd_failing_in_the_middle(stack: Any, client: AsyncIterateClient, make_request: Request) -> None:
    request = make_request(escalation=[chatd_pb2.Target(provider="fake", model="http-401")])
    with pytest.raises(Fault) as caught:
        await client.iterate(request, timeout_s=30)

    row = await row_of(stack, caught.value.metadata["session_id"])
    tree = await tree_of(stack, caught.value.metadata["trace_id"], 7)
    assert [attempt["verdict"] for attempt in row["attempts"]] == ["rejected", "infra_error"]
    assert row["error"]["reason"] == "PROVIDER_AUTH"
    assert shape(tree) == [
        ("attempt-1", "span", "WARNING"),
        ("attempt-2", "span", "WARNING"),
        BRIEF,
        ("chat", "generation", ""),
        ("chat", "generation", "ERROR"),
        (*ROOT, "ERROR"),
        ("validate", "guardrail", "WARNING"),
    ]


async def test_cancelled_by_the_caller(stack: Any, client: AsyncIterateClient, make_request: Request) -> None:
    stack.endpoint.asked.clear()
    request = make_request(model="hang", session_id="cancelled")
    session = asyncio.create_task(client.iterate(request, timeout_s=30, metadata=trace_metadata("ca" * 16)))
    await stack.endpoint.asked.wait()
    session.cancel()
    with pytest.raises(asyncio.CancelledError):
        await session

    row = await row_of(stack, "cancelled")
    tree = await tree_of(stack, "ca" * 16, 4)
    assert row["error"] == {
        "code": "CANCELLED",
        "reason": "CALLER_GONE",
        "where": "iterate",
        "message": Fault(Reason.CALLER_GONE).message,
    }
    assert shape(tree) == [("attempt-1", "span", "WARNING"), BRIEF, ("chat", "generation", "ERROR"), (*ROOT, "ERROR")]


async def test_a_stream_whose_reader_leaves(stack: Any, client: AsyncIterateClient, make_request: Request) -> None:
    stream = client.stream_iterate(make_request(model="hang", session_id="left"), timeout_s=30)
    async for event in stream:
        if event.WhichOneof("event") == "attempt_started":
            break
    await stream.aclose()  # type: ignore[attr-defined]  # an async generator

    assert (await row_of(stack, "left"))["error"]["reason"] == "CALLER_GONE"


async def test_the_deadline(stack: Any, client: AsyncIterateClient, make_request: Request) -> None:
    request = make_request(model="hang", session_id="late")
    with pytest.raises(Fault) as caught:
        await client.iterate(request, timeout_s=1, metadata=trace_metadata("de" * 16))

    row = await row_of(stack, "late")
    tree = await tree_of(stack, "de" * 16, 4)
    assert caught.value.code == row["error"]["code"] == "DEADLINE_EXCEEDED"
    assert shape(tree) == [("attempt-1", "span", "WARNING"), BRIEF, ("chat", "generation", "ERROR"), (*ROOT, "ERROR")]


async def test_with_a_callers_own_span_the_tree_hangs_under_it(
    stack: Any, client: AsyncIterateClient, make_request: Request
) -> None:
    response = await client.iterate(make_request(), timeout_s=30, metadata=trace_metadata("5a" * 16, "1b" * 8))

    tree = await tree_of(stack, response.trace_id, 8)
    assert response.trace_id == "5a" * 16
    assert tree.roots == ()
    assert [(span.name, span.parent_span_id) for span in tree.orphans] == [("iterate.fill", "1b" * 8)]


async def test_two_hundred_concurrent_sessions_are_two_hundred_trees(
    stack: Any, client: AsyncIterateClient, make_request: Request
) -> None:
    responses = await asyncio.gather(*(client.iterate(make_request(), timeout_s=60) for _ in range(200)))

    trees = [await tree_of(stack, response.trace_id, 8) for response in responses]
    assert len({tree.trace_id for tree in trees}) == 200
    assert all(len(tree.spans) == 8 and len(tree.roots) == 1 and tree.orphans == () for tree in trees)
    for response in responses:
        await row_of(stack, response.session_id)


@pytest.mark.parametrize(
    ("metadata", "trace_id", "parents"),
    [
        # The header alone: the generation hangs under the span that the caller's id stands for, and is no root.
        (trace_metadata("7e" * 16), "7e" * 16, ["7e" * 8]),
        # With a span: under that span.
        (trace_metadata("8f" * 16, "3c" * 8), "8f" * 16, ["3c" * 8]),
    ],
)
async def test_a_direct_completion_joins_the_callers_trace(
    stack: Any, metadata: Any, trace_id: str, parents: list[str]
) -> None:
    await complete(stack, metadata)

    tree = await tree_of(stack, trace_id, 1)
    assert [(span.name, span.type) for span in tree.spans] == [("chat", "generation")]
    assert [span.parent_span_id for span in tree.orphans] == parents
    assert tree.roots == ()
    assert "langfuse.internal.is_app_root" not in tree.spans[0].attributes
    assert "langfuse.trace.name" not in tree.spans[0].attributes


async def test_a_direct_completion_without_the_header_is_one_trace_of_its_own(stack: Any) -> None:
    before = {tree.trace_id for tree in stack.receiver.trees()}

    await complete(stack, ())

    def new(receiver: Any) -> list[TraceTree]:
        return [tree for tree in receiver.trees() if tree.trace_id not in before]

    (tree,) = await asyncio.to_thread(stack.receiver.wait_for, new, 15)
    assert [(span.name, span.parent_span_id) for span in tree.spans] == [("chat", None)]


async def complete(stack: Any, metadata: Any) -> None:
    request = chatd_pb2.CompleteRequest(messages=[chatd_pb2.Message(role=chatd_pb2.ROLE_USER, content="Hello")])
    async with AsyncChatClient(stack.stack.addresses["chatd"]) as chat:
        await chat.complete(request, timeout_s=30, metadata=metadata)


# What a gRPC client can put into a metadata value at all: printable ASCII. Other bytes: tests/test_trace_context.py.
HEADER = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=250)


async def test_any_header_that_a_client_can_send_gives_a_session_with_a_valid_id(
    stack: Any, make_request: Request
) -> None:
    with IterateClient(stack.address) as client:

        @settings(derandomize=True, max_examples=60, deadline=None)
        @given(HEADER | st.just("0" * 32), HEADER | st.just(f"00-{'0' * 32}-{'0' * 16}-01"))
        def succeeds(trace_id: str, traceparent: str) -> None:
            metadata = (("x-lakehouse-trace-id", trace_id), ("traceparent", traceparent))
            response = client.iterate(make_request(), timeout_s=10, metadata=metadata)

            assert response.WhichOneof("outcome") == "accepted"
            assert is_valid_trace_id(response.trace_id)

        # In a thread: the model endpoint lives on this test's event loop.
        await asyncio.to_thread(succeeds)


async def test_a_shutdown_ends_running_sessions_with_a_status_and_a_row(mortal: Any, make_request: Request) -> None:
    stack = mortal
    async with AsyncIterateClient(stack.address) as client:
        session = asyncio.create_task(client.iterate(make_request(model="hang", session_id="drained"), timeout_s=30))
        await stack.endpoint.asked.wait()
        await stack.stack.stop_service("iterate", signal.SIGTERM)
        with pytest.raises(Fault) as caught:
            await session
        row = await row_of(stack, "drained")

    assert caught.value.reason is Reason.SHUTTING_DOWN
    assert (row["error"]["code"], row["error"]["reason"]) == ("UNAVAILABLE", "SHUTTING_DOWN")
    assert list(stack.log_path.parent.glob(".*.inflight")) == [], "a process that ended in order leaves no journal"


async def test_a_killed_iterate_leaves_a_row_for_each_session_at_its_next_start(
    mortal: Any, make_request: Request
) -> None:
    stack = mortal
    async with AsyncIterateClient(stack.address) as client:
        finished = await client.iterate(make_request(session_id="finished"), timeout_s=30)
        sessions = [
            asyncio.create_task(
                client.iterate(
                    make_request(model="hang", session_id=f"killed-{n}"),
                    timeout_s=30,
                    metadata=trace_metadata(f"{n}d" * 16, "1b" * 8 if n == 2 else None),
                )
            )
            for n in (1, 2, 3)
        ]
        async with asyncio.timeout(15):
            while sum(request["model"] == "hang" for request in stack.endpoint.requests) < 3:
                await asyncio.sleep(0.02)
        await stack.stack.stop_service("iterate", signal.SIGKILL)
        ends = await asyncio.gather(*sessions, return_exceptions=True)
        await stack.stack.start_service("iterate")
        rows = [await row_of(stack, f"killed-{n}") for n in (1, 2, 3)]
        await row_of(stack, finished.session_id)
        tops = [await top_of(stack, f"{n}d" * 16) for n in (1, 2, 3)]
        scores = [stack.receiver.scores(f"{n}d" * 16) for n in (1, 2, 3)]

    assert all(isinstance(end, Fault) and end.code == grpc.StatusCode.UNAVAILABLE.name for end in ends)
    assert [(row["final_verdict"], row["error"]["code"]) for row in rows] == [("infra_error", "PROCESS_DIED")] * 3
    assert rows[0]["prompt"] == make_request().prompt
    assert [(top.name, top.parent_span_id) for top in tops] == [
        ("iterate.fill", None),
        ("iterate.fill", "1b" * 8),
        ("iterate.fill", None),
    ]
    for row, top, found in zip(rows, tops, scores, strict=True):
        assert json.loads(str(top.attributes["langfuse.observation.output"]))["error"]["code"] == "PROCESS_DIED"
        assert json.loads(str(top.attributes["langfuse.observation.input"]))["prompt"] == row["prompt"]
        assert row["duration_ms"] <= top.duration_ms < row["duration_ms"] + 1
        accepted = [score for score in found.values() if score["name"] == "accepted"]
        assert [(score["value"], score["observationId"]) for score in accepted] == [(0.0, top.span_id)]


async def test_a_bug_in_the_loop_is_an_internal_status_and_a_row(mortal: Any, make_request: Request) -> None:
    stack = mortal
    # The planted exception: a start-up hook of the interpreter makes the loop's parser raise in iterate alone.
    import os
    import sysconfig
    import tempfile
    from pathlib import Path

    assert sysconfig.get_path("purelib")
    with tempfile.TemporaryDirectory() as folder:
        hook = (
            "import sys\n"
            "if sys.argv[:1] == ['-m'] and 'iterate' in sys.orig_argv:\n"
            "    import iterate.loop as loop\n"
            "    def planted(*_, **__):\n"
            "        raise ZeroDivisionError('secret detail')\n"
            "    loop.read_artifact = planted\n"
        )
        Path(folder, "sitecustomize.py").write_text(hook, encoding="utf-8")
        environ = {"PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
        async with stack.restarted("iterate", **environ), AsyncIterateClient(stack.address) as client:
            with pytest.raises(Fault) as caught:
                await client.iterate(make_request(session_id="bug"), timeout_s=30)
            row = await row_of(stack, "bug")
            # Log lines are written by a thread of their own.
            async with asyncio.timeout(15):
                while not any(
                    "ZeroDivisionError" in str(entry) for service, entry in stack.logs if service == "iterate"
                ):
                    await asyncio.sleep(0.02)
            logged = [entry for service, entry in stack.logs if service == "iterate" and "bug" in str(entry)]

    assert (caught.value.code, caught.value.reason) == ("INTERNAL", Reason.BUG)
    assert "secret" not in str(caught.value)
    assert (row["final_verdict"], row["error"]["reason"]) == ("infra_error", "BUG")
    assert "secret" not in str(row)
    assert any("ZeroDivisionError" in str(entry) for entry in logged), "the log has the details"
