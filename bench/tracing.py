"""What one generation and one session cost: the plain Langfuse SDK before, `lakehouse.tracing` after.

    python bench/tracing.py [--rounds 15] [--generations 400] [--profile]

Both send the same generation of about 5 KB to a receiver in another process. `before` is the SDK as its
documentation shows it (objects; start, update, end; gzip). `after` is measured with the texts serialised on the
caller's thread, with texts that are at hand, and with gzip. A session is the seven spans and three scores of two
attempts, about 33 KB, which three services' tracing sends from one process. Rounds are interleaved and the order
alternates; figures are medians of CPU time in microseconds a generation or a session: of the calling thread, and of
the whole process until everything is sent.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import json
import os
import pstats
import random
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
from langfuse import Langfuse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from pydantic import SecretStr

from lakehouse.trace_context import TraceContext, mint_trace_id, read_hop_context, trace_metadata
from lakehouse.tracing import Tracing, TracingConfig

_random = random.Random(7)
_WORDS = ["".join(_random.choices("etaoinshrdlucmfwyp", k=_random.randint(2, 9))) for _ in range(600)]


def text(words: int) -> str:
    """Return words as varied as those of a prompt: gzip's cost depends on it."""
    return " ".join(_random.choices(_WORDS, k=words))


def messages() -> list[dict[str, Any]]:
    """Return a conversation of about 3.5 KB, as after one rejected attempt."""
    roles = (("system", 250), ("user", 180), ("assistant", 60), ("user", 60))
    return [{"role": role, "content": text(words)} for role, words in roles]


def output() -> str:
    """Return an answer of about 1.4 KB."""
    workers = [{"worker_id": f"W-{_random.randint(10_000, 99_999)}", "name": text(2)} for _ in range(24)]
    return json.dumps({"workers": workers})


# Different texts, since gzip would make one of a repeated text.
_CALLS = [
    (conversation, orjson.dumps(conversation).decode(), output()) for conversation in (messages() for _ in range(64))
]
CALLS = itertools.cycle(_CALLS)
CHARS = statistics.mean(len(given) + len(answer) for _, given, answer in _CALLS)
PARAMETERS: dict[str, Any] = {"temperature": 0.2, "max_tokens": 1_024}
USAGE = {"input": 1_143, "output": 412, "total": 1_555}
COST = {"input": 0.001143, "output": 0.001648, "total": 0.002791}
METADATA: dict[str, str | int | bool] = {"provider": "openai", "iteration": 2}
PARAMETERS_TEXT = json.dumps(PARAMETERS)


class PlainSdk:
    """The SDK as it is used by default, with a provider of its own."""

    def __init__(self, host: str) -> None:
        self.client = Langfuse(
            public_key=f"pk-{uuid.uuid4()}",
            secret_key="sk",
            base_url=host,
            tracer_provider=TracerProvider(resource=Resource.create({"service.name": "chatd"})),
        )

    def generation(self) -> None:
        conversation, _, answer = next(CALLS)
        observation = self.client.start_observation(
            trace_context={"trace_id": mint_trace_id(), "parent_span_id": "00f067aa0ba902b7"},
            name="chat",
            as_type="generation",
            input=conversation,
            model="gpt-4o-mini",
            model_parameters=PARAMETERS,
        )
        observation.update(
            output=answer,
            usage_details=USAGE,
            cost_details=COST,
            metadata=METADATA,
            completion_start_time=datetime.now(UTC),
        )
        observation.end()

    def flush(self) -> None:
        self.client.flush()


def trace_generation(tracing: Tracing, context: TraceContext, session_id: str | None, given: str, answer: str) -> None:
    """Record what chatd records of one call."""
    span = tracing.start_remote(
        "chat",
        type="generation",
        context=context,
        session_id=session_id,
        input=given,
        model="gpt-4o-mini",
        model_parameters=PARAMETERS_TEXT,
    )
    span.end(
        output=answer,
        usage_details=USAGE,
        cost_details=COST,
        metadata=METADATA,
        completion_start_monotonic_ns=time.monotonic_ns(),
    )


class Ours:
    """`lakehouse.tracing`, with the context read from a hop's metadata as chatd does."""

    def __init__(self, host: str, *, serialise: bool, compression: Any) -> None:
        self.tracing = Tracing(
            TracingConfig(
                host=host, public_key=f"pk-{uuid.uuid4()}", secret_key=SecretStr("sk"), compression=compression
            ),
            service="chatd",
        )
        self.serialise = serialise

    def generation(self) -> None:
        conversation, given, answer = next(CALLS)
        context = read_hop_context(trace_metadata(mint_trace_id(), "00f067aa0ba902b7"))
        given = orjson.dumps(conversation).decode() if self.serialise else given
        trace_generation(self.tracing, context, None, given, answer)

    def flush(self) -> None:
        if not self.tracing.flush(30.0):
            sys.exit("the receiver did not take the spans in 30 s")


class Session:
    """What the three services' tracing does for a session of two attempts; all texts are at hand."""

    def __init__(self, host: str) -> None:
        config = {"host": host, "secret_key": "sk", "queue_bytes_max": 268_435_456}
        self.iterate, self.chatd, self.validated = (
            Tracing(TracingConfig(public_key=f"pk-{uuid.uuid4()}", **config), service=service)  # type: ignore[arg-type]  # by name
            for service in ("iterate", "chatd", "validated")
        )

    def generation(self) -> None:
        """Trace one session."""
        _, given, answer = next(CALLS)
        context = TraceContext(mint_trace_id())
        root = self.iterate.start_root("iterate.fill", context=context, session_id="s-1", input=given, kind="fill")
        for number in (1, 2):
            attempt = root.start_child(f"attempt-{number}", input=given)
            hop = TraceContext(context.trace_id, attempt.span_id)
            trace_generation(self.chatd, hop, "s-1", given, answer)
            validate = self.validated.start_remote(
                "validate", type="guardrail", context=hop, session_id="s-1", input=answer
            )
            validate.end(output='{"passed":true,"findings":[]}', metadata={"findings": 0, "roster_version": "sha256:1"})
            attempt.end(output=answer)
        root.end(output=answer, trace_metadata={"final_verdict": "accepted"})
        self.iterate.score_session(root, accepted=True, iterations=2, grounded_in_roster=True)

    def flush(self) -> None:
        for tracing in (self.iterate, self.chatd, self.validated):
            if not tracing.flush(30.0):
                sys.exit("the receiver did not take the spans in 30 s")


def measure(generation: Callable[[], None], flush: Callable[[], None], count: int) -> tuple[float, float]:
    """Return CPU microseconds a generation: of this thread, and of the process until all is sent."""
    flush()
    process_s, thread_s = time.process_time(), time.thread_time()
    for _ in range(count):
        generation()
    thread_s = time.thread_time() - thread_s
    flush()
    return thread_s / count * 1e6, (time.process_time() - process_s) / count * 1e6


def receive() -> None:
    """Run the receiver of the benchmark until stdin closes."""
    from lakehouse.tracing.receiver import TraceReceiver  # noqa: PLC0415 - for the other process alone

    with TraceReceiver(traces_max=10) as receiver:
        print(receiver.url, flush=True)
        sys.stdin.read()


def profile(name: str, subject: PlainSdk | Ours | Session) -> None:
    """Print where the calling thread's time goes."""
    profiler = cProfile.Profile(time.thread_time)
    profiler.enable()
    for _ in range(1_000):
        subject.generation()
    profiler.disable()
    subject.flush()
    print(f"\n--- {name}, calling thread, 1,000 generations")
    pstats.Stats(profiler).sort_stats("tottime").print_stats(14)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--generations", type=int, default=400)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--receive", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.receive:
        receive()
        return
    receiver = subprocess.Popen(
        [sys.executable, __file__, "--receive"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if receiver.stdout is None:
        sys.exit("the receiver has no output")
    host = receiver.stdout.readline().strip()
    subjects: dict[str, PlainSdk | Ours | Session] = {
        "before": PlainSdk(host),
        "after": Ours(host, serialise=True, compression="auto"),
        "after, texts at hand": Ours(host, serialise=False, compression="auto"),
        "after, gzip": Ours(host, serialise=True, compression="gzip"),
        "a session": Session(host),
    }
    if arguments.profile:
        profile("before", subjects["before"])
        profile("after", subjects["after"])
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
    for round_number in range(arguments.rounds + 1):
        order = list(subjects.items())
        for name, subject in order if round_number % 2 else reversed(order):
            count = arguments.generations // (7 if isinstance(subject, Session) else 1)
            sample = measure(subject.generation, subject.flush, count)
            if round_number:  # the first round warms up
                samples[name].append(sample)
    print(f"one generation of {CHARS:.0f} characters, {arguments.rounds} rounds of {arguments.generations}, CPU µs")
    print(f"{'':24}{'caller':>8}{'ratio':>8}{'process':>9}{'ratio':>8}{'process min..max':>20}")
    before = [statistics.median(column) for column in zip(*samples["before"], strict=True)]
    for name, taken in samples.items():
        caller, process = (statistics.median(column) for column in zip(*taken, strict=True))
        if name == "a session":
            print(f"{name:24}{caller:8.1f}{'':8}{process:9.1f}")
            continue
        spread = f"{min(p for _, p in taken):.0f}..{max(p for _, p in taken):.0f}"
        print(f"{name:24}{caller:8.1f}{before[0] / caller:8.1f}{process:9.1f}{before[1] / process:8.1f}{spread:>20}")
    receiver.stdin.close() if receiver.stdin else None
    receiver.wait(10)


if __name__ == "__main__":
    main()
