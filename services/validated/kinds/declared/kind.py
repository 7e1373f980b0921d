"""``DeclaredKind``: a kind that is declared in TOML, over datasets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from lakehouse.errors import Violation, bad_request
from lakehouse.strict_json.parser import JsonValue, parse_json, print_canonical
from validated.config import ROSTER_DATASET, LimitsTable
from validated.datasets.dataset_index import DatasetIndex
from validated.datasets.loaded_dataset import Datasets, DatasetShape
from validated.findings import Findings, quoted
from validated.kinds.candidates import fitting
from validated.kinds.declared.choices import Choices
from validated.kinds.declared.declaration import BriefRule, DeclarationError, Reference, Rule, line_of, read_declaration
from validated.kinds.declared.expressions import UnusableValueError, values
from validated.kinds.declared.judgement import Judgement
from validated.kinds.declared.places import misnamed
from validated.kinds.declared.pool import Pool
from validated.kinds.declared.rules import BoundRule, Rules, UnusableRuleError
from validated.kinds.declared.schemas import DeclaredSchema, SchemaError
from validated.kinds.declared.shown import People, Shown, ShownPeople
from validated.kinds.declared.terms import BoundReference, Terms, UnusableReferenceError, spec_value
from validated.kinds.spec import Spec
from validated.kinds.validator import Brief, DatasetVersion, Ground, Task

_PLACE: Final = re.compile(r"\{(spec(?:\.[A-Za-z_][A-Za-z0-9_]{0,62}){1,5})\}")
_INLINE_BYTES_MAX: Final = 16 * 1024
_INLINE_RULES_BYTES_MAX: Final = 2048
_SPECS_KEPT: Final = 256
_CHOICES_MAX: Final = 400
# So many times the rows that are wanted are drawn, since the schema may shut some out.
_SPARE: Final = 2


class _Asked(NamedTuple):
    """A spec that can be used."""

    value: JsonValue
    terms: tuple[Terms, ...]
    values: JsonValue
    """`value` as rules have it."""


class DeclaredKind:
    """One declared kind; a Validator. Never changes: a reload makes another one."""

    has_candidates = True

    def __init__(self, path: Path, datasets: Datasets, limits: LimitsTable, people: People | None = None) -> None:
        """Read and check the declaration; `people` says what models may know of the roster's workers. Raises
        DeclarationError.
        """
        declaration, text = read_declaration(path)
        self._path = path
        self._text = text
        self._datasets = datasets
        self._limits = limits
        self.description: Final = declaration.description
        self._instructions = declaration.instructions
        self._schema = self._read_schema("schema", declaration.artifact_schema)
        given = declaration.spec_schema
        self._spec_schema = None if given is None else self._read_schema("spec_schema", given)
        self.spec_schema_json: Final = "" if self._spec_schema is None else self._spec_schema.text
        names = self._spec_names()
        self._references = [
            self._bind(at, datasets.shapes, names, each) for at, each in enumerate(declaration.references)
        ]
        self.datasets: Final = frozenset(reference.dataset for reference in self._references)
        """The datasets that it names."""
        self._check_places(names)
        brief = declaration.brief
        self._shown = 0 if brief is None else brief.reference
        if self._shown >= len(self._references):
            raise self._refusal(("brief", "reference"), f"there are {len(self._references)} references, counted from 0")
        self._candidates_max = 0 if brief is None else brief.candidates_max
        if brief is not None:
            shown = self._references[self._shown]
            for column in brief.columns:
                if column not in shown.types:
                    text = f'"{column}" is no column of {shown.dataset}; they are {", ".join(shown.types)}'
                    raise self._refusal(("brief", "columns"), text)
        people = people or People()
        self._shows = [self._shows_of(reference, brief, people) for reference in self._references]
        rules = self._bind_rules(declaration.rules, names)
        self._rules = Rules(rules) if rules else None
        conditions = [rule.condition for rule in rules]
        for where, problem in misnamed(declaration, self._references, conditions, self._schema, self._spec_schema):
            raise self._refusal(where, problem)
        self.has_candidates = self._candidates_max > 0
        self._choices = Choices(self._schema, self._references[self._shown])
        self._asked: dict[str, _Asked] = {}

    async def validate(self, artifact: JsonValue, spec: Spec, findings: Findings) -> Ground | None:
        """See Validator. All is answered by the versions that are current at the beginning."""
        asked = self._read_spec(spec)
        pinned = self._pinned()
        if _is_short(artifact, _INLINE_BYTES_MAX if self._rules is None else _INLINE_RULES_BYTES_MAX):
            judgements = self._judge(artifact, asked, pinned, findings)
        else:
            judgements = await asyncio.to_thread(self._judge, artifact, asked, pinned, findings)
        if any(each.wanted for each in judgements):
            await asyncio.to_thread(_suggest, judgements, artifact)
        elements = sum(each.count for each in judgements)
        grounded = all(each.grounded for each in judgements)
        return Ground(grounded if elements or not grounded else None, None, _versions(pinned))

    async def brief(self, spec: Spec, task: Task) -> Brief:
        """See Validator."""
        asked = self._read_spec(spec)
        reference, terms = self._references[self._shown], asked.terms[self._shown]
        needed = terms.needed or 0
        form = Brief(instructions=self._words(asked), form_schema_json=self._schema.text, needed=needed)
        limit = min(task.candidates_max, self._candidates_max)
        if not limit:
            return form
        index, version = self._datasets.current(reference.dataset)
        limit = max(limit, min(2 * needed, _CHOICES_MAX)) if needed > limit else limit
        pool = Pool(index, reference, terms)
        drawn = await asyncio.to_thread(pool.draw, task.prompt, task.seed, _SPARE * limit)
        shows = self._shows[self._shown]
        # A row that the schema lets no artifact name, or that models may not see, is no candidate.
        rows = [row for row in drawn.rows if self._choices.element is None or self._choices.of(row) is not None]
        seen = [(row, known) for row in rows if (known := shows.facts(row)) is not None][:limit]
        facts, text = fitting((known for _, known in seen), self._limits.artifact_bytes_max - 100)
        strangers = "".join(f' "{quoted(each)}" does not qualify: do not name it.' for each in drawn.strangers)
        brief = form._replace(
            instructions=form.instructions + strangers,
            candidates=facts,
            candidates_json=text,
            candidates_total=drawn.total,
            candidates_total_is_floor=not drawn.is_whole,
            datasets=(DatasetVersion(reference.dataset, version.version),),
        )
        least = needed if reference.declared.unique else min(needed, 1)
        if drawn.is_whole and drawn.total < least:
            at = "".join(f"/{step}" for step in reference.steps if step is not None)
            findings = await asyncio.to_thread(pool.shortage, drawn.total, least, at)
            brief = brief._replace(infeasible=True, findings=findings)
        if len(facts) < max(least, 1) or len(self._references) > 1:
            return brief
        if not set(reference.named_columns) <= set(shows.columns):
            return brief  # the choices would say what models may not see
        nodes = [
            node
            for row, _ in seen[: len(facts)]
            if shows.has(row, reference.named_columns) and (node := self._choices.of(row)) is not None
        ]
        schema = self._choices.schema(nodes, terms, named=min(drawn.named, len(nodes))) if nodes else None
        return brief if schema is None else brief._replace(candidates_schema_json=print_canonical(schema))

    def _pinned(self) -> dict[str, tuple[DatasetIndex, str]]:
        pinned: dict[str, tuple[DatasetIndex, str]] = {}
        for reference in self._references:
            if reference.dataset not in pinned:
                index, version = self._datasets.current(reference.dataset)
                pinned[reference.dataset] = (index, version.version)
        return pinned

    def _judge(
        self, artifact: JsonValue, asked: _Asked, pinned: Mapping[str, tuple[DatasetIndex, str]], findings: Findings
    ) -> list[Judgement]:
        self._schema.find(artifact, findings)
        fits = not findings.any
        judgements: list[Judgement] = []
        for at, reference in enumerate(self._references):
            index, _ = pinned[reference.dataset]
            judgement = Judgement(
                reference, asked.terms[at], index, findings, shown=self._shows[at], limits=self._limits,
                keeps_found=self._rules is not None and at in self._rules.references,
            )  # fmt: skip
            judgement.judge(artifact)
            judgements.append(judgement)
        if fits and self._rules is not None:
            self._rules.judge(artifact, asked.values, judgements, findings)
        return judgements

    def _read_spec(self, spec: Spec) -> _Asked:
        """Raise Fault (BAD_REQUEST)."""
        text = spec.text or "{}"
        asked = self._asked.get(text)
        if asked is None:
            value = parse_json(text, depth_max=99)
            problems = [] if self._spec_schema is None else self._spec_schema.problems(value, 10)
            if problems:
                raise bad_request(*(Violation("spec_json", _said(path, message)) for path, message in problems))
            try:
                for_rules = values(value) if self._rules is not None else None
            except UnusableValueError as error:
                raise bad_request(Violation("spec_json", _said(error.path, str(error)))) from None
            terms = tuple(reference.terms(value) for reference in self._references)
            asked = _Asked(value, terms, for_rules)
            if len(self._asked) >= _SPECS_KEPT:
                self._asked.clear()
            self._asked[text] = asked
        return asked

    def _words(self, asked: _Asked) -> str:
        def said(place: re.Match[str]) -> str:
            value = spec_value(asked.value, place[1])
            if value is None:
                return "(not given)"
            return quoted(value) if isinstance(value, str) else print_canonical(value)[:2000]

        return _PLACE.sub(said, self._instructions)

    def _read_schema(self, name: str, given: str | dict[str, Any]) -> DeclaredSchema:
        try:
            return DeclaredSchema(given)
        except SchemaError as error:
            raise self._refusal((name,), str(error)) from None

    def _spec_names(self) -> frozenset[str] | None:
        """Return the names that a spec may have; None where any."""
        schema = self._spec_schema
        if schema is None:
            return None
        properties = schema.value.get("properties")
        if not isinstance(properties, dict) or "$ref" in schema.value:
            return None
        return frozenset(properties) if schema.value.get("additionalProperties") is False else None

    def _bind(
        self, at: int, datasets: Mapping[str, DatasetShape], names: frozenset[str] | None, declared: Reference
    ) -> BoundReference:
        try:
            return BoundReference(declared, datasets, names)
        except UnusableReferenceError as error:
            raise self._refusal(("references", at, *error.where), str(error)) from None

    def _bind_rules(self, declared: Sequence[Rule], names: frozenset[str] | None) -> list[BoundRule]:
        bound: list[BoundRule] = []
        for at, rule in enumerate(declared):
            try:
                bound.append(BoundRule(rule, self._references, self._shows, names))
            except UnusableRuleError as error:
                raise self._refusal(("rules", at, error.where), str(error)) from None
        return bound

    def _check_places(self, names: frozenset[str] | None) -> None:
        rest = _PLACE.sub("", self._instructions)
        if re.search(r"\{\s*spec", rest, re.IGNORECASE):
            raise self._refusal(("instructions",), "a place is written {spec.name}; mend it")
        for place in _PLACE.findall(self._instructions):
            if names is not None and place.split(".")[1] not in names:
                raise self._refusal(("instructions",), f"{{{place}}}: spec_schema has no such property; mend it")

    def _shows_of(self, reference: BoundReference, brief: BriefRule | None, people: People) -> Shown:
        columns = reference.named_columns
        if brief is not None and reference.dataset == self._references[brief.reference].dataset:
            columns = tuple(dict.fromkeys([*reference.declared.key.values(), *brief.columns]))
            hidden = [name for name in brief.columns if name not in people.columns]
            if hidden and reference.dataset == ROSTER_DATASET:
                text = f'"{hidden[0]}" is nothing that models may know of a worker: see validated.candidate_facts'
                raise self._refusal(("brief", "columns"), text)
        return ShownPeople(columns, people) if reference.dataset == ROSTER_DATASET else Shown(columns)

    def _refusal(self, where: tuple[str | int, ...], text: str) -> DeclarationError:
        name = ".".join(str(step) for step in where)
        return DeclarationError(f"{self._path}:{line_of(self._text, where)}: {name}: {text}")


def _is_short(artifact: JsonValue, bytes_max: int) -> bool:
    """Whether an artifact is judged on the loop: a long one takes milliseconds, while other calls are to be served."""
    try:
        return len(orjson.dumps(artifact)) <= bytes_max
    except (TypeError, ValueError):
        # A great integer, or a lone surrogate.
        return False


def _suggest(judgements: list[Judgement], artifact: JsonValue) -> None:
    for judgement in judgements:
        judgement.suggest(artifact)


def _versions(pinned: Mapping[str, tuple[DatasetIndex, str]]) -> tuple[DatasetVersion, ...]:
    return tuple(DatasetVersion(name, version) for name, (_, version) in pinned.items())


def _said(path: Any, message: str) -> str:
    at = ".".join(map(str, path))
    return f"{at}: {message}" if at else message
