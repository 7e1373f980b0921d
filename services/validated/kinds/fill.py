"""Kind ``fill``: workers for a shift, each of whom must stand in the roster and meet the spec."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lakehouse.server.specs import Spec, quoted
from lakehouse.sessions.canonical_json import JsonValue
from lakehouse.validated.v1.validated_pb2 import FillSpec
from validated.findings import Findings, pointer
from validated.kinds.fill_terms import FillTerms
from validated.kinds.suggestions import suggest
from validated.kinds.validator import Ground, Tools
from validated.roster.texts import fold
from validated.roster.worker import Answer, Question, Wanted, Worker

_STATED: Final = ("role", "city", "state")
_NAMES: Final = frozenset(("worker_id", "name", *_STATED))
# Above it the rules take milliseconds: they run in a thread, so that other calls are served meanwhile.
_INLINE_WORKERS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class _Entry:
    """One element of "workers" that has an id."""

    index: int
    worker_id: str
    name: str | None
    """None where it is missing or not a string."""
    stated: dict[str, str]


class FillValidator:
    """The hard gate of kind "fill". Ids and names are compared by code points, without any normalisation: whoever is
    not in the roster to the letter is a phantom, however alike he looks.
    """

    def __init__(self, tools: Tools) -> None:
        self._roster = tools.roster
        self._limits = tools.limits

    async def validate(self, artifact: JsonValue, spec: Spec, findings: Findings) -> Ground | None:
        """See Validator. Asks the roster once, also where the shape is wrong: what is grounded comes from there."""
        assert isinstance(spec.message, FillSpec)  # noqa: S101  read_spec gives kind "fill" its message
        terms = FillTerms.read(spec.message)
        if isinstance(artifact, dict) and isinstance(workers := artifact.get("workers"), list):
            size = len(workers)
        else:
            size = 0
        shape = Findings(findings.findings_max)
        entries = list(_entries(artifact, shape))
        answer = await self._roster.look_up(
            Question(
                worker_ids=tuple({entry.worker_id: None for entry in entries}),
                shift=terms.shift,
                client_id=terms.client_id,
            )
        )
        judgement = _Judgement(terms, answer, entries, size, shape)
        if size <= _INLINE_WORKERS_MAX:
            strangers = judgement.judge(findings)
        else:
            strangers = await asyncio.to_thread(judgement.judge, findings)
        await suggest(
            findings,
            strangers,
            answer,
            terms,
            taken={entry.worker_id for entry in entries},
            limits=self._limits,
        )
        # What stands outside the known names has not been looked up, so nobody vouches for whom it may name.
        grounded = None if size == 0 else judgement.grounded and len(entries) == size and not shape.any
        return Ground(grounded, answer.version)


class _Judgement:
    def __init__(self, terms: FillTerms, answer: Answer, entries: list[_Entry], size: int, shape: Findings) -> None:
        self._terms = terms
        self._answer = answer
        self._entries = entries
        self._size = size
        self._shape = shape
        self.grounded = True

    def judge(self, findings: Findings) -> dict[int, Wanted]:
        """Add the findings; what comes back are the strangers by the position of their finding in `findings.kept`."""
        for finding in self._shape.kept:
            findings.add(finding.code, finding.path, finding.message)
        findings.left_out += self._shape.left_out
        if self._size != self._terms.count and not (self._size == 0 and self._shape.any):
            findings.add("COUNT", "/workers", f"{self._size} workers where exactly {self._terms.count} were asked for")
        strangers: dict[int, Wanted] = {}
        first_at: dict[str, int] = {}
        for entry in self._entries:
            first = first_at.setdefault(entry.worker_id, entry.index)
            if first != entry.index:
                findings.add(
                    "DUPLICATE_WORKER",
                    f"/workers/{entry.index}/worker_id",
                    f"{quoted(entry.worker_id)} already stands at /workers/{first}; name each worker once",
                )
            self._judge_entry(entry, findings, strangers)
        return strangers

    def _judge_entry(self, entry: _Entry, findings: Findings, strangers: dict[int, Wanted]) -> None:
        found = self._answer.found.get(entry.worker_id)
        if (
            found is not None
            and entry.name == found.worker.name
            and entry.stated.items() <= _spelt(found.worker).items()
            and self._terms.met_by(found)
        ):
            return  # as it should be, to the letter
        at = f"/workers/{entry.index}"
        if found is None:
            self.grounded = False
            if not findings.full:
                strangers[len(findings.kept)] = Wanted(entry.worker_id, entry.name or "")
            findings.add(
                "PHANTOM_WORKER",
                f"{at}/worker_id",
                f'"{quoted(entry.worker_id)}" is not in the roster: no such worker exists',
            )
            return
        worker = found.worker
        if entry.name is not None and entry.name != worker.name:
            self.grounded = False
            if not findings.full:
                strangers[len(findings.kept)] = Wanted(entry.worker_id, entry.name)
            findings.add(
                "NAME_MISMATCH",
                f"{at}/name",
                f'{quoted(entry.worker_id)} is "{quoted(worker.name)}" in the roster, not "{quoted(entry.name)}"; '
                "id and name must be the same person's, letter for letter",
            )
        for name, stated in entry.stated.items():
            actual = getattr(worker, name)
            if stated != actual and fold(stated) != fold(actual):
                findings.add(
                    "STATED_FACT_MISMATCH",
                    f"{at}/{name}",
                    f'{quoted(entry.worker_id)} has {name} "{quoted(actual)}" in the roster, not "{quoted(stated)}"',
                )
        for breach in self._terms.breaches(found):
            findings.add(breach.code, f"{at}/worker_id", breach.message)


def _spelt(worker: Worker) -> dict[str, str]:
    return {"role": worker.role, "city": worker.city, "state": worker.state}


def _entries(artifact: JsonValue, shape: Findings) -> Iterator[_Entry]:
    """The elements of "workers" that have an id. What breaks the shape is added to `shape`."""
    if not isinstance(artifact, dict):
        shape.add("SHAPE", "", f'must be an object {{"workers": [...]}}, is {_told(artifact)}')
        return
    for name in artifact:
        if name != "workers":
            shape.add("SHAPE", pointer([name]), f'unknown name "{quoted(name)}"; the only name here is "workers"')
    workers = artifact.get("workers")
    if not isinstance(workers, list):
        problem = f"must be an array, is {_told(workers)}" if "workers" in artifact else "is missing"
        shape.add("SHAPE", "/workers", f'"workers" {problem}; it lists {{"worker_id", "name"}} objects')
        return
    for index, element in enumerate(workers):
        entry = _entry(index, element, shape)
        if entry is not None:
            yield entry


def _entry(index: int, element: JsonValue, shape: Findings) -> _Entry | None:
    if not isinstance(element, dict):
        shape.add("SHAPE", f"/workers/{index}", f'must be an object with "worker_id" and "name", is {_told(element)}')
        return None
    if element.keys() <= _NAMES:
        worker_id, name = element.get("worker_id"), element.get("name")
        stated = {key: value for key, value in element.items() if key in _STATED and isinstance(value, str)}
        whole = len(stated) + 2 == len(element)
        if whole and isinstance(worker_id, str) and worker_id and isinstance(name, str) and name:
            return _Entry(index, worker_id, name, stated)
    for name in element:
        if name not in _NAMES:
            shape.add(
                "SHAPE",
                pointer(["workers", index, name]),
                f'unknown name "{quoted(name)}"; a worker has worker_id, name and, if wanted, role, city, state',
            )
    texts: dict[str, str] = {}
    for name in ("worker_id", "name", *_STATED):
        value = element.get(name)
        if isinstance(value, str) and (value or name in _STATED):
            texts[name] = value
        elif name in element or name not in _STATED:
            problem = f"must be a string that is not empty, is {_told(value)}" if name in element else "is missing"
            shape.add("SHAPE", f"/workers/{index}/{name}", f'"{name}" {problem}')
    worker_id = texts.pop("worker_id", None)
    if worker_id is None:
        return None
    return _Entry(index, worker_id, texts.pop("name", None), texts)


def _told(value: JsonValue) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {str(value)[:40]}"
    if isinstance(value, str):
        return "a string" if value else "an empty string"
    return "an array" if isinstance(value, list) else "an object"
