"""Callers, iterate and chatd, killed at random while ids are asked for until they are answered: one outcome an id?

    python -m bench.recall_kill                  200 kills
    python -m bench.recall_kill --kills 20       a short one

Two iterates share a log and a chatd; a model endpoint and a gate take random moments and count. Workers have a caller
each, a process of its own, ask for one id after another at either iterate, and ask again, in a new process, where the
caller was killed or got a fault; some ids have two callers at once. Meanwhile one of all these processes at a time is
killed by SIGKILL, and iterate and chatd start anew; now and then no row gets into the log for a moment, or the log is
rotated. At the end every id is asked for once more at both. Prints one JSON object; exit status 1 where an id has two
outcomes or none, answers or rows contradict one another, or the model was asked although a row with an outcome stood.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services"), str(ROOT / "tests" / "support")]

from held_stack import CountingModel, HeldGate, Hold, chatd_table, iterate_table  # noqa: E402
from killable import HANG_S, Killable, Template, template  # noqa: E402
from session_rows import no_row_gets_into  # noqa: E402

from lakehouse.clients import AsyncIterateClient  # noqa: E402
from lakehouse.iterate.v1 import iterate_pb2  # noqa: E402
from lakehouse.validated.v1 import validated_pb2_grpc  # noqa: E402

WORKERS = 6
ROTATE_EVERY = 40
MOMENT_S = 0.03
OFF_S = 600


class Dawdling(Hold):
    """Whoever is asked takes a moment at each step."""

    async def come_to(self, step: str) -> None:
        await asyncio.sleep(random.uniform(0, MOMENT_S))


@dataclass
class Service:
    """A service that is started anew where it is killed."""

    name: str
    table: dict[str, Any]
    killable: Killable | None = None

    async def start(self, forks: Template) -> None:
        self.killable, self.table["bind"] = await forks.serve(self.name, self.table)

    async def stop(self) -> None:
        if self.killable is not None:
            await self.killable.kill()


@dataclass
class Campaign:
    """What was done and seen."""

    forks: Template
    model: CountingModel
    chatd: Service
    iterates: list[Service]
    log_path: Path
    callers: set[Killable] = field(default_factory=set)
    answers: dict[str, list[iterate_pb2.IterateResponse]] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    kills_with_the_log_held: int = 0
    calls: int = 0
    over: bool = False

    async def work(self) -> None:
        """Ask for one id after another, each until it is answered; for some of them two callers ask at once."""
        while not self.over:
            asked = self.new_request()
            await asyncio.gather(*(self.until_answered(asked) for _ in range(1 + (random.random() < 0.3))))

    async def until_answered(self, asked: iterate_pb2.IterateRequest) -> None:
        while not await self.call(asked):
            pass

    def new_request(self) -> iterate_pb2.IterateRequest:
        session_id = f"s-{len(self.answers):05d}"
        self.answers[session_id] = []
        return request_of(session_id)

    async def call(self, asked: iterate_pb2.IterateRequest) -> bool:
        """Return whether it was answered."""
        address = random.choice(self.iterates).table["bind"]
        caller = await self.forks.call(address, asked, stream=random.random() < 0.5)
        self.callers.add(caller)
        self.calls += 1
        try:
            said = await caller.said()
            if said == "ids":
                said = await caller.said()
        except AssertionError:
            self.faults["killed"] += 1
            return False
        finally:
            self.callers.discard(caller)
        if " " in said:
            self.faults[said] += 1
            await asyncio.sleep(0.05)
            return False
        self.answers[asked.session_id].append(iterate_pb2.IterateResponse.FromString(bytes.fromhex(said)))
        return True

    async def kill(self, kills: int, every_s: float) -> None:
        """Kill one process at a time, `kills` in all."""
        while sum(self.kills.values()) < kills:
            await asyncio.sleep(random.expovariate(1 / every_s))
            what = random.choice(("caller", "iterate", "chatd"))
            victims = sorted(self.callers, key=lambda each: each.serial)
            if what == "caller" and not victims:
                continue
            with contextlib.ExitStack() as held:
                if random.random() < 0.3:
                    # Rows stand in queues and journals when it comes.
                    held.enter_context(no_row_gets_into(self.log_path))
                    await asyncio.sleep(random.uniform(0, 0.2))
                    self.kills_with_the_log_held += 1
                service = self.chatd if what == "chatd" else random.choice(self.iterates)
                await (random.choice(victims).kill() if what == "caller" else service.stop())
            if what != "caller":
                await service.start(self.forks)
            self.kills[what] += 1
            if sum(self.kills.values()) % ROTATE_EVERY == 0:
                self.log_path.rename(f"{self.log_path}.{sum(self.kills.values()) // ROTATE_EVERY}")

    async def ask_all_again(self) -> dict[str, int]:
        """Return how many answers were no recall, were another one than before, or cost a model call."""
        found = Counter[str]()
        billed = self.model.answers
        for service in self.iterates:
            async with AsyncIterateClient(service.table["bind"]) as client:
                for session_id, answers in self.answers.items():
                    answer = await client.iterate(request_of(session_id), timeout_s=HANG_S)
                    found["not_recalled"] += not answer.recalled
                    found["contradicted"] += any(unmarked(each) != unmarked(answer) for each in answers)
        return {
            "asked_again_not_recalled": found["not_recalled"],
            "asked_again_contradicted": found["contradicted"],
            "asked_again_model_calls": self.model.answers - billed,
        }

    def check_rows(self) -> dict[str, Any]:
        rows: dict[str, list[dict[str, Any]]] = {}
        for path in sorted(self.log_path.parent.glob("sessions.jsonl*")):
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                rows.setdefault(row["session_id"], []).append(row)
        found = Counter[str]()
        for session_id, answers in self.answers.items():
            tries = sorted(rows.get(session_id, []), key=lambda row: int(row.get("try", 1)))
            outcomes = [row for row in tries if row["final_verdict"] != "infra_error"]
            found["two_outcomes"] += len(outcomes) > 1
            found["no_outcome"] += not outcomes
            found["tries_amiss"] += [row.get("try", 1) for row in tries] != list(range(1, len(tries) + 1))
            found["outcome_not_last"] += bool(outcomes) and tries[-1] is not outcomes[-1]
            said = {json.dumps(json.loads(each.accepted.artifact_json)) for each in answers}
            kept = {json.dumps(row["artifact"]) for row in outcomes}
            found["contradicted"] += said != kept
            # The last answer that the model gave is the outcome: it was not asked again once there was one.
            found["billed_after_an_outcome"] += kept != {json.dumps({"line": self.model.last(prompt_of(session_id))})}
            found["more_model_calls_than_tries"] += self.model.asked(prompt_of(session_id)) > len(tries)
        return {
            "rows": sum(map(len, rows.values())),
            "tries_max": max(map(len, rows.values())),
            "ids_with_several_tries": sum(len(each) > 1 for each in rows.values()),
            "reasons": dict(
                Counter(
                    row["error"]["reason"] for each in rows.values() for row in each if "error" in row
                ).most_common()
            ),
            **{name: found[name] for name in PROMISES},
        }


PROMISES = (
    "two_outcomes",
    "no_outcome",
    "tries_amiss",
    "outcome_not_last",
    "contradicted",
    "billed_after_an_outcome",
    "more_model_calls_than_tries",
)


def prompt_of(session_id: str) -> str:
    return f"Sing {session_id}"


def request_of(session_id: str) -> iterate_pb2.IterateRequest:
    return iterate_pb2.IterateRequest(
        kind="song", spec_json='{"lines": 4}', prompt=prompt_of(session_id), session_id=session_id
    )


def unmarked(response: iterate_pb2.IterateResponse) -> bytes:
    copy = iterate_pb2.IterateResponse.FromString(response.SerializeToString())
    copy.ClearField("recalled")
    return copy.SerializeToString(deterministic=True)


@contextlib.asynccontextmanager
async def campaign(folder: Path) -> AsyncIterator[Campaign]:
    hold, log_path = Dawdling(), folder / "sessions.jsonl"
    model = CountingModel(hold)
    server = grpc.aio.server()
    validated_pb2_grpc.add_ValidateServiceServicer_to_server(HeldGate(hold), server)
    gate = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    services: list[Service] = []
    try:
        async with template("iterate", "chatd", "caller") as forks, model.served() as model_address:
            chatd = Service("chatd", chatd_table(model_address))
            services.append(chatd)
            await chatd.start(forks)
            for _ in range(2):
                table = iterate_table(chatd=chatd.table["bind"], validated=gate, log_path=log_path)
                services.append(Service("iterate", table))
                await services[-1].start(forks)
            try:
                yield Campaign(forks, model, chatd, services[1:], log_path)
            finally:
                for service in services:
                    await service.stop()
    finally:
        await server.stop(0)


async def run(folder: Path, kills: int, kill_every_s: float) -> dict[str, Any]:
    began_at = time.monotonic()
    async with campaign(folder) as running, asyncio.timeout(OFF_S):
        working = [asyncio.create_task(running.work()) for _ in range(WORKERS)]
        try:
            await running.kill(kills, kill_every_s)
        finally:
            running.over = True
        await asyncio.gather(*working)
        again = await running.ask_all_again()
        return {
            "kills": dict(running.kills),
            "kills_with_the_log_held": running.kills_with_the_log_held,
            "ids": len(running.answers),
            "calls": running.calls,
            "answers": sum(map(len, running.answers.values())),
            "recalled": sum(each.recalled for answers in running.answers.values() for each in answers),
            "model_calls": running.model.answers,
            "calls_without_answer": dict(running.faults.most_common()),
            **running.check_rows(),
            **again,
            "seconds": round(time.monotonic() - began_at, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--kill-every-ms", type=int, default=100, help="mean time from kill to kill")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    random.seed(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(run(Path(folder), given.kills, given.kill_every_ms / 1000))
    print(json.dumps(report, indent=1))
    if any(report[name] for name in report if name in PROMISES or name.startswith("asked_again")):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
