"""Kind ``fill``: workers for a shift, each of whom must stand in the roster and meet the spec.

All of the kind is here or named here: the rules of its spec, the words and the form for the model, the candidates, the
judgement. ``fill_terms`` holds what is demanded of a worker, for candidates and verdicts alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from lakehouse.errors import Violation
from lakehouse.strict_json.parser import JsonValue
from lakehouse.validated.v1.validated_pb2 import FillSpec
from validated.datasets.worker import Draw, Drawn, Question, RosterUnavailable
from validated.findings import Finding, Findings, quoted
from validated.kinds.candidates import choice, exact_object, fitting, limit_of, worker_list
from validated.kinds.facts import Facts
from validated.kinds.fill_judgement import STATED, FillJudgement
from validated.kinds.fill_terms import FillTerms, read_instant
from validated.kinds.mentions import Mentions, search, those_who
from validated.kinds.shortage import Shortage
from validated.kinds.spec import Spec, check_state, check_text, usable
from validated.kinds.spec_schema import schema_of_message
from validated.kinds.suggestions import suggest
from validated.kinds.validator import Brief, Ground, Task, Tools

COUNT_MAX: Final = 1000
CERTIFICATIONS_MAX: Final = 50
LOCATIONS_MAX: Final = 200
SHIFT_MAX: Final = timedelta(days=7)
# Above it the rules take milliseconds: they run in a thread, so that other calls are served meanwhile.
_INLINE_WORKERS_MAX: Final = 200
_STRANGERS_MAX: Final = 20
_PLACES_SAID_MAX: Final = 5
# All who would qualify elsewhere are counted, as far as a draw goes: which demand shuts most out is to be right.
_ELSEWHERE_MAX: Final = 1_000_000


class FillValidator:
    """The hard gate of kind "fill". Ids and names are compared by code points, without any normalisation: whoever is
    not in the roster to the letter is a phantom, however alike he looks.
    """

    description = "Workers who fill a shift: each stands in the roster and meets every demand of the spec."
    spec_schema_json = schema_of_message(FillSpec, ("role", "count"))
    has_candidates = True

    def __init__(self, tools: Tools) -> None:
        self._roster = tools.roster
        self._limits = tools.limits
        self._facts = Facts(tools.candidate_facts, tools.region)

    @staticmethod
    def read_spec(message: FillSpec) -> Spec:
        """Return the spec, where it can be used. Raises Fault (BAD_REQUEST)."""
        return usable("fill", message, _violations(message))

    async def brief(self, spec: Spec, task: Task) -> Brief:
        """See Validator. Asks the roster once; once more where too few qualify, for the demand that shuts most out."""
        terms = FillTerms.read(spec.message)
        needed = terms.count
        form = Brief(instructions=_words(terms), form_schema_json=_form(needed), needed=needed)
        if not task.candidates_max:
            return form
        limit = limit_of(task.candidates_max, needed)
        async with search(task.prompt) as mentions:
            draw = _draw(terms, task, mentions, max(limit, needed))
            drawn = await self._roster.draw(draw, terms.met_by)
        named, strangers = those_who(mentions.among(drawn.named), terms.met_by)
        qualified = named | {found.worker.worker_id: found for found in drawn.qualified}
        total = len(qualified)
        brief = form._replace(
            instructions=form.instructions
            + _words_of_strangers([words for words in strangers if not self._facts.holds_number(words)]),
            candidates_total=total,
            candidates_total_is_floor=not drawn.is_whole,
            roster=drawn.version,
        )
        if total < needed and drawn.is_whole:
            findings = await self._shortage(terms, draw, drawn, total)
            brief = brief._replace(infeasible=True, findings=findings)
        shown = filter(None, (self._facts.of(found.worker) for found in qualified.values()))
        candidates, text = fitting(islice(shown, limit), self._limits.artifact_bytes_max - 100)
        brief = brief._replace(candidates=candidates, candidates_json=text)
        if len(candidates) < needed:
            return brief
        named_first = sum(facts["worker_id"] in named for facts in candidates)
        return brief._replace(candidates_schema_json=worker_list(choice(candidates, named_first, needed), needed))

    async def validate(self, artifact: JsonValue, spec: Spec, findings: Findings) -> Ground | None:
        """See Validator. Asks the roster once, also where the shape is wrong: what is grounded comes from there."""
        terms = FillTerms.read(spec.message)
        workers = artifact.get("workers") if isinstance(artifact, dict) else None
        elements = workers if isinstance(workers, list) else []
        # Of each element; empty where it has none.
        worker_ids = [
            worker_id if isinstance(element, dict) and isinstance(worker_id := element.get("worker_id"), str) else ""
            for element in elements
        ]
        distinct = dict.fromkeys(worker_ids)
        distinct.pop("", None)
        answer = await self._roster.look_up(Question(tuple(distinct), None, terms.shift, terms.client_id))
        judgement = FillJudgement(terms, answer.found, findings, self._facts)
        if len(elements) <= _INLINE_WORKERS_MAX:
            judgement.judge(artifact, elements, worker_ids)
        else:
            await asyncio.to_thread(judgement.judge, artifact, elements, worker_ids)
        if judgement.wanted:
            await suggest(
                findings, judgement.wanted, answer, terms, taken=distinct, limits=self._limits, facts=self._facts
            )
        return Ground(judgement.grounded if elements else None, answer.version)

    async def _shortage(self, terms: FillTerms, draw: Draw, drawn: Drawn, count: int) -> Sequence[Finding]:
        """Return what is said where only `count` qualify."""
        shortage = Shortage(terms)
        await asyncio.to_thread(shortage.add, drawn.others)
        if terms.places:
            # Nobody who is named: the count alone is asked for.
            question = draw.question._replace(worker_ids=(), names=None)
            criteria = draw.criteria._replace(places=())
            wider = draw._replace(question=question, criteria=criteria, wanted=_ELSEWHERE_MAX, needed=0)
            # It only says why: a brief that is made does not fail by it.
            with contextlib.suppress(RosterUnavailable):
                found = await self._roster.draw(wider, terms.anywhere().met_by)
                await asyncio.to_thread(shortage.add_elsewhere, found.qualified, found.others, is_whole=found.is_whole)
        return shortage.findings(count)


def _draw(terms: FillTerms, task: Task, mentions: Mentions, wanted: int) -> Draw:
    return Draw(
        question=Question(mentions.worker_ids, mentions, terms.shift, terms.client_id),
        criteria=terms.criteria(),
        certifications=terms.folded_certifications,
        seed=task.seed,
        wanted=wanted,
        needed=terms.count,
    )


def _words(terms: FillTerms) -> str:
    """Return the form of an artifact and what is demanded of each worker."""
    one = terms.count == 1
    places = "; ".join(map(str, terms.places[:_PLACES_SAID_MAX]))
    more = "; …" if len(terms.places) > _PLACES_SAID_MAX else ""
    demands = [f'holds the role "{quoted(terms.role)}"']
    if terms.places:
        demands.append(f"is based in {'one of these places: ' if len(terms.places) > 1 else ''}{places}{more}")
    if terms.max_distance_km is not None:
        demands.append(f"lives within {terms.max_distance_km:g} km of the site")
    if terms.certifications:
        demands.append(f"holds the certifications {', '.join(map(quoted, terms.certifications))}")
    if terms.shift is not None:
        demands.append(f"is free from {terms.shift.start.isoformat()} to {terms.shift.end.isoformat()}")
    if terms.client_id:
        demands.append(f'is not refused by client "{quoted(terms.client_id)}"')
    return (
        'The object is {"workers": [{"worker_id": "…", "name": "…"}, …]} with exactly '
        f"{terms.count} worker{'' if one else 's'}, each of them once, each with the id and the name that the roster "
        f"has for them, letter for letter. Each worker is active, {', '.join(demands)}."
    )


def _words_of_strangers(words: Sequence[str]) -> str:
    """Return what is said of those whom the prompt names and who do not qualify, in its own words: why not is not
    said."""
    return "".join(f' "{quoted(each)}" does not qualify: do not name them.' for each in words[:_STRANGERS_MAX])


def _form(needed: int) -> str:
    text: dict[str, JsonValue] = {"type": "string"}
    said: dict[str, JsonValue] = {"type": "string", "minLength": 1}
    properties: dict[str, JsonValue] = {"worker_id": said, "name": said, **dict.fromkeys(STATED, text)}
    return worker_list({"items": exact_object(properties, ("worker_id", "name"))}, needed)


def _violations(spec: FillSpec) -> list[Violation]:
    found: list[Violation] = []
    check_text(found, "fill.role", spec.role, required=True)
    if not 1 <= spec.count <= COUNT_MAX:
        found.append(Violation("fill.count", f"must be from 1 to {COUNT_MAX}, is {spec.count}"))
    check_text(found, "fill.city", spec.city)
    check_state(found, "fill.state", spec.state)
    _check_shift(found, spec.shift_start, spec.shift_end)
    certifications = spec.required_certifications
    if len(certifications) > CERTIFICATIONS_MAX:
        found.append(Violation("fill.required_certifications", f"at most {CERTIFICATIONS_MAX}"))
    for index, certification in enumerate(certifications[:CERTIFICATIONS_MAX]):
        check_text(found, f"fill.required_certifications[{index}]", certification, required=True)
    check_text(found, "fill.client_id", spec.client_id)
    locations = spec.allowed_locations
    if len(locations) > LOCATIONS_MAX:
        found.append(Violation("fill.allowed_locations", f"at most {LOCATIONS_MAX}"))
    for index, location in enumerate(locations[:LOCATIONS_MAX]):
        check_text(found, f"fill.allowed_locations[{index}].city", location.city)
        check_state(found, f"fill.allowed_locations[{index}].state", location.state, required=True)
    _check_distance(found, spec)
    return found


def _check_shift(found: list[Violation], start_text: str, end_text: str) -> None:
    if not start_text and not end_text:
        return
    if not start_text or not end_text:
        missing = "fill.shift_start" if end_text else "fill.shift_end"
        found.append(Violation(missing, "set shift_start and shift_end together, or neither"))
    instants: list[datetime] = []
    for name, text in (("fill.shift_start", start_text), ("fill.shift_end", end_text)):
        instant = read_instant(text)
        if instant is not None:
            instants.append(instant)
        elif text:
            example = "2026-12-05T07:00:00-05:00"
            found.append(Violation(name, f'"{quoted(text)}" is not RFC 3339 with an offset, such as {example}'))
    if len(instants) == 2 and not timedelta(0) < instants[1] - instants[0] <= SHIFT_MAX:
        found.append(
            Violation("fill.shift_end", f"must be after shift_start and at most {SHIFT_MAX.days} days after it")
        )


def _check_distance(found: list[Violation], spec: FillSpec) -> None:
    has_site = spec.HasField("site")
    if has_site:
        # NaN fails both comparisons.
        if not -90 <= spec.site.latitude <= 90:
            found.append(Violation("fill.site.latitude", "must be from -90 to 90"))
        if not -180 <= spec.site.longitude <= 180:
            found.append(Violation("fill.site.longitude", "must be from -180 to 180"))
    if spec.HasField("max_distance_km"):
        if not (math.isfinite(spec.max_distance_km) and spec.max_distance_km > 0):
            found.append(Violation("fill.max_distance_km", "must be a number above 0"))
        if not has_site:
            found.append(Violation("fill.site", "max_distance_km needs the site to measure from"))
