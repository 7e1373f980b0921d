"""Holds the artifact of a fill against its terms and against the workers of the roster whom it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Final, NamedTuple

from lakehouse.strict_json.parser import JsonValue
from validated.datasets.texts import difference, is_same_without_case
from validated.datasets.worker import Found, Wanted
from validated.findings import Findings, pointer, quoted
from validated.kinds.facts import Facts
from validated.kinds.fill_terms import Breach, FillTerms

STATED: Final = ("role", "city", "state")
"""What an artifact may state of a worker beside id and name."""
_NAMES: Final = frozenset(("worker_id", "name", *STATED))


class _Entry(NamedTuple):
    """One element of "workers" that has an id."""

    position: int
    worker_id: str
    name: str | None
    """None where it is missing or not a string."""
    stated: dict[str, str]


class FillJudgement:
    """Holds the elements of one artifact against the workers whom they name."""

    def __init__(self, terms: FillTerms, found: Mapping[str, Found], findings: Findings, facts: Facts) -> None:
        """`facts` says which texts of the roster hold a phone number: no finding quotes those."""
        self._terms = terms
        self._found = found
        self._findings = findings
        self._facts = facts
        self.wanted: dict[int, Wanted] = {}
        """In whose place somebody is wanted, by the position of his first finding in `findings.kept`; nobody's (empty)
        where workers are missing.
        """
        self.grounded = True
        """Whether every element is somebody of the roster. What stands outside the known names has not been looked up,
        so nobody vouches for whom it may name.
        """

    def judge(self, artifact: JsonValue, elements: Sequence[JsonValue], worker_ids: Sequence[str]) -> None:
        """Add the findings: of the shape, of the count, of each worker. `worker_ids` are those of `elements`."""
        findings = self._findings
        entries: list[_Entry] = []
        _check_artifact(artifact, findings)
        repeated = len(set(worker_ids)) < len(worker_ids)
        met_by = self._terms.met_by
        for index, (element, worker_id) in enumerate(zip(elements, worker_ids, strict=True)):
            found = self._found.get(worker_id)
            # Most say what the roster says, to the letter, and meet the terms: there is nothing to find in them.
            if (
                found is not None
                and not repeated
                and isinstance(element, dict)
                and element.get("name")
                and element.items() <= found.worker.texts.items()
                and met_by(found)
            ):
                continue
            entry = _read_entry(index, element, findings)
            if entry is not None:
                entries.append(entry)
        self.grounded = not findings.any
        if len(elements) != self._terms.count and (elements or not findings.any):
            text = f"{len(elements)} workers where exactly {self._terms.count} were asked for"
            if len(elements) < self._terms.count:
                self._want(Wanted("", ""))
            findings.add("COUNT", "/workers", text)
        first_at: dict[str, int] = {}
        for entry in entries:
            first = first_at.setdefault(entry.worker_id, entry.position)
            if first != entry.position:
                # Without his id: he is the one who is not meant.
                self._want(Wanted("", entry.name or ""))
                findings.add(
                    "DUPLICATE_WORKER",
                    f"/workers/{entry.position}/worker_id",
                    f"{quoted(entry.worker_id)} already stands at /workers/{first}; name each worker once",
                )
            self._judge_entry(entry)

    def _judge_entry(self, entry: _Entry) -> None:
        findings = self._findings
        found = self._found.get(entry.worker_id)
        at = f"/workers/{entry.position}"
        wanted = Wanted(entry.worker_id, entry.name or "")
        if found is None:
            self.grounded = False
            self._want(wanted)
            findings.add(
                "PHANTOM_WORKER",
                f"{at}/worker_id",
                f'"{quoted(entry.worker_id)}" is not in the roster: no such worker exists',
            )
            return
        worker = found.worker
        private = self._facts.private(worker)
        if entry.name is not None and entry.name != worker.name:
            self.grounded = False
            self._want(wanted)
            stated_name = "who is named" if self._facts.holds_number(entry.name) else f'"{quoted(entry.name)}"'
            actual_name = f'"{quoted(worker.name)}"'
            differs = difference(entry.name, worker.name)
            if worker.name in private:
                actual_name, differs = "another person", ""
            demand = "id and name must be the same person's, letter for letter"
            findings.add(
                "NAME_MISMATCH",
                f"{at}/name",
                f"{quoted(entry.worker_id)} is {actual_name} in the roster, not {stated_name}{differs}; {demand}",
                f"{quoted(entry.worker_id)} is not {stated_name} in the roster; {demand}",
            )
        for name, stated in entry.stated.items():
            actual = worker.texts[name]
            if not is_same_without_case(stated, actual):
                if actual in private:
                    text = f'{quoted(entry.worker_id)} has another {name} in the roster than "{quoted(stated)}"'
                    findings.add("STATED_FACT_MISMATCH", f"{at}/{name}", text)
                    continue
                findings.add(
                    "STATED_FACT_MISMATCH",
                    f"{at}/{name}",
                    f'{quoted(entry.worker_id)} has {name} "{quoted(actual)}" in the roster, not "{quoted(stated)}"'
                    f"{difference(stated, actual, any_case=True)}",
                )
        breaches = self._terms.breaches(found, private=private)
        # The name is the roster's: where the artifact does not hold it, not everybody may read it.
        nameless: Iterable[Breach] = repeat(Breach("", ""))
        if entry.name != worker.name:
            nameless = self._terms.breaches(found, by_name=False, private=private)
        for breach, unrestricted in zip(breaches, nameless, strict=False):
            self._want(wanted)
            findings.add(breach.code, f"{at}/worker_id", breach.message, unrestricted.message)

    def _want(self, wanted: Wanted) -> None:
        """Note that the finding that comes next is about somebody in whose place another may stand."""
        if not self._findings.full:
            self.wanted[len(self._findings.kept)] = wanted


def _check_artifact(artifact: JsonValue, findings: Findings) -> None:
    """Add what is wrong with the shape around the elements of "workers"."""
    if not isinstance(artifact, dict):
        findings.add("SHAPE", "", f'must be an object {{"workers": [...]}}, is {_described(artifact)}')
        return
    for name in artifact:
        if name != "workers":
            findings.add("SHAPE", pointer([name]), f'unknown name "{quoted(name)}"; the only name here is "workers"')
    workers = artifact.get("workers")
    if not isinstance(workers, list):
        problem = f"must be an array, is {_described(workers)}" if "workers" in artifact else "is missing"
        findings.add("SHAPE", "/workers", f'"workers" {problem}; it lists {{"worker_id", "name"}} objects')


def _read_entry(index: int, element: JsonValue, findings: Findings) -> _Entry | None:
    """Return the element, where it has an id. What is wrong with its shape is added to `findings`."""
    if not isinstance(element, dict):
        problem = f'must be an object with "worker_id" and "name", is {_described(element)}'
        findings.add("SHAPE", f"/workers/{index}", problem)
        return None
    if element.keys() <= _NAMES:
        worker_id, name = element.get("worker_id"), element.get("name")
        stated = {key: value for key, value in element.items() if key in STATED and isinstance(value, str)}
        whole = len(stated) + 2 == len(element)
        if whole and isinstance(worker_id, str) and worker_id and isinstance(name, str) and name:
            return _Entry(index, worker_id, name, stated)
    for name in element:
        if name not in _NAMES:
            findings.add(
                "SHAPE",
                pointer(["workers", index, name]),
                f'unknown name "{quoted(name)}"; a worker has worker_id, name and, if wanted, role, city, state',
            )
    texts: dict[str, str] = {}
    for name in ("worker_id", "name", *STATED):
        value = element.get(name)
        if isinstance(value, str) and (value or name in STATED):
            texts[name] = value
        elif name in element or name not in STATED:
            problem = f"must be a string that is not empty, is {_described(value)}" if name in element else "is missing"
            findings.add("SHAPE", f"/workers/{index}/{name}", f'"{name}" {problem}')
    worker_id = texts.pop("worker_id", None)
    if worker_id is None:
        return None
    return _Entry(index, worker_id, texts.pop("name", None), texts)


def _described(value: JsonValue) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {str(value)[:40]}"
    if isinstance(value, str):
        return "a string" if value else "an empty string"
    return "an array" if isinstance(value, list) else "an object"
