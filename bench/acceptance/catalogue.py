"""``python -m bench.acceptance --catalogue N``: the same model on a declared kind, the quote of examples/catalogue,
which it learns of from the declaration alone.

Each task goes through an arm that is told nothing and one that is given candidates; whatever is accepted is held
against the oracle of the tests, which shares nothing with the gate.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.acceptance.arms import SCHEMA, shared_environ
from bench.acceptance.figures import Share
from bench.acceptance.servers import ROSTER, running_model
from bench.stack.job import ROOT
from bench.stack.proc import Machine

from lakehouse.cli.stack import free_port_binds, running_stack
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2

sys.path.append(str(ROOT / "tests" / "support"))

from catalogue import FOLDER, is_right, products

CATEGORIES: Final = ("drills", "saws", "fasteners", "safety", "lighting")
ARMS: Final = {"NONE": (iterate_pb2.GROUNDING_NONE, 1), "CANDIDATES": (iterate_pb2.GROUNDING_CANDIDATES, 3)}
_COUNT_MAX: Final = 4
# Above the longest line of a quote.
_TOKENS_BASE, _TOKENS_EACH = 40, 80


@dataclass
class Figures:
    """One arm."""

    accepted: int = 0
    accepted_at_first: int = 0
    sessions: int = 0
    false_accepts: int = 0
    attempts: int = 0
    duration_ms: list[int] = field(default_factory=list)
    findings: Counter[str] = field(default_factory=Counter)

    def add(self, response: iterate_pb2.IterateResponse | Fault, spec: Mapping[str, Any]) -> None:
        """Take a session."""
        self.sessions += 1
        if isinstance(response, Fault):
            self.findings[str(response.reason)] += 1
            return
        self.attempts += len(response.attempts)
        self.duration_ms.append(sum(each.chat_ms + each.validate_ms for each in response.attempts))
        for attempt in response.attempts:
            codes = {finding.code for finding in attempt.findings}
            self.findings.update(codes or ({"unparsable"} if attempt.parse_problem else ()))
        if response.HasField("accepted"):
            self.accepted += 1
            self.accepted_at_first += len(response.attempts) == 1
            self.false_accepts += not is_right(json.loads(response.accepted.artifact_json), dict(spec), products())


def draw(count: int, seed: int) -> list[tuple[str, dict[str, Any]]]:
    """Prompts with their specs: enough articles qualify for each."""
    source = random.Random(seed)
    tasks = []
    for _ in range(count):
        needed, category = source.randint(1, _COUNT_MAX), source.choice(CATEGORIES)
        spec: dict[str, Any] = {"count": needed, "category": category, "budget": source.choice((200, 300, 500))}
        tasks.append((f"Quote {needed} {category} for at most {spec['budget']} apiece.", spec))
    return tasks


async def acceptance(arguments: argparse.Namespace) -> tuple[str, bool]:
    """Return the table in Markdown, and whether no wrong quote was accepted."""
    machine, began = Machine.here(), time.monotonic()
    figures = {name: Figures() for name in ARMS}
    with tempfile.TemporaryDirectory(prefix="bench-acceptance-") as scratch:
        folder = Path(scratch)
        async with running_model(folder, threads=arguments.threads) as llama_url:
            environ = {
                **free_port_binds(),
                **shared_environ(llama_url, ROSTER),
                "VALIDATED_KINDS_DIR": str(FOLDER / "kinds"),
                "VALIDATED_DATASETS__CATALOGUE__PATH": str(FOLDER / "products.csv"),
                "ITERATE_SESSION_LOG_PATH": str(folder / "sessions.jsonl"),
                "ITERATE_CANDIDATES_MAX": str(arguments.candidates),
                "ITERATE_BRIEF_MS_MAX": "20000",
            }
            config = FOLDER / "lakehouse.toml"
            async with (
                running_stack(on_log=lambda *_: None, environ=environ, config=config) as stack,
                AsyncIterateClient(stack.addresses["iterate"]) as client,
            ):
                for number, (prompt, spec) in enumerate(draw(arguments.catalogue, arguments.seed)):
                    if time.monotonic() - began > arguments.minutes * 60:
                        break
                    for name, (grounding, attempts) in ARMS.items():
                        request = iterate_pb2.IterateRequest(
                            kind="quote", spec_json=json.dumps(spec), prompt=prompt, provider=SCHEMA, temperature=0.0,
                            max_tokens=_TOKENS_BASE + _TOKENS_EACH * spec["count"], max_iterations=attempts,
                            grounding=grounding, session_id=f"catalogue-{arguments.seed}-{number}-{name.lower()}",
                        )  # fmt: skip
                        response: iterate_pb2.IterateResponse | Fault
                        try:
                            response = await client.iterate(request, timeout_s=arguments.timeout)
                        except Fault as fault:
                            response = fault
                        figures[name].add(response, spec)
                        print(number, name, _said(response), flush=True)
    minutes = (time.monotonic() - began) / 60
    head = (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}; {machine.cpu}, {machine.cores} cores, load average at the start "
        f"{machine.load_1m:.1f}; SmolLM2-135M-Instruct (Q4_1), threads: {arguments.threads}, greedy; "
        f"{figures['NONE'].sessions} tasks (seed {arguments.seed}), at most {arguments.candidates} candidates; "
        f"{minutes:.0f} minutes."
    )
    heads = ("arm", "accepted at attempt 1", "within 3", "attempts with such findings", "median s of a session")
    lines = [head, "", f"| {' | '.join(heads)} | wrong quotes accepted |", "|---|---|---|---|---|---|"]
    for name, each in figures.items():
        found = ", ".join(f"{code} {number}" for code, number in each.findings.most_common()) or "none"
        first, within = Share(each.accepted_at_first, each.sessions), Share(each.accepted, each.sessions)
        took = f"{statistics.median(each.duration_ms) / 1000:.1f}" if each.duration_ms else ""
        more = str(within) if ARMS[name][1] > 1 else ""
        lines.append(f"| {name} | {first} | {more} | {found} | {took} | {each.false_accepts} |")
    return "\n".join(lines), not any(each.false_accepts for each in figures.values())


def _said(response: iterate_pb2.IterateResponse | Fault) -> str:
    if isinstance(response, Fault):
        return str(response)
    ends = ["+".join(sorted({each.code for each in attempt.findings})) or "-" for attempt in response.attempts]
    last = response.attempts[-1].raw[:160] if response.attempts else "no attempt"
    return f"{response.WhichOneof('outcome')}: {'; '.join(ends)}: {' '.join(last.split())}"
