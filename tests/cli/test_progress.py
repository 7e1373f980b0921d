"""Goal: a person who watches a session sees what the model was given, and why none was asked."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from lakehouse.cli.iterate import response_object
from lakehouse.cli.progress import show
from lakehouse.iterate.v1.iterate_pb2 import (
    GROUNDING_CANDIDATES,
    GROUNDING_FORM,
    Attempt,
    Brief,
    IterateResponse,
    MaxIterExhausted,
    StreamIterateResponse,
)
from lakehouse.validated.v1.validated_pb2 import Finding

SHORT = Finding(code="COUNT", path="", message="only 2 workers [of Toledo] qualify, 3 asked for")


def shown(**event: object) -> str:
    output = io.StringIO()
    show(StreamIterateResponse(**event), Console(file=output, soft_wrap=True))  # type: ignore[arg-type]  # any event
    return output.getvalue()


@pytest.mark.parametrize(
    ("brief", "words"),
    [
        (
            Brief(grounding=GROUNDING_CANDIDATES, candidates=50, candidates_total=121, brief_ms=7),
            "brief (7 ms): 50 candidates of 121 who qualify",
        ),
        (
            Brief(grounding=GROUNDING_CANDIDATES, candidates=50, candidates_total=400, candidates_total_is_floor=True),
            "50 candidates of at least 400 who qualify",
        ),
        (Brief(grounding=GROUNDING_FORM), "the form of an answer"),
        (
            Brief(grounding=GROUNDING_CANDIDATES, candidates=0, candidates_total=0),
            "brief (0 ms): the form of an answer",
        ),
        (Brief(grounding=GROUNDING_CANDIDATES, degraded=True), "who qualifies could not be had in time"),
        (Brief(grounding=GROUNDING_FORM, degraded=True), "the form of an answer could not be had in time"),
        (Brief(grounding=GROUNDING_CANDIDATES, infeasible=True, findings=[SHORT]), "no answer can pass"),
        (Brief(grounding=GROUNDING_CANDIDATES, infeasible=True, findings=[SHORT]), f"COUNT at /: {SHORT.message}"),
    ],
)
def test_the_brief_is_said_in_words(brief: Brief, words: str) -> None:
    assert words in shown(brief=brief)


def test_an_infeasible_end_says_the_reasons_of_its_findings() -> None:
    brief = Brief(grounding=GROUNDING_CANDIDATES, infeasible=True, findings=[SHORT, SHORT])
    response = IterateResponse(max_iter_exhausted=MaxIterExhausted(infeasible=True), brief=brief)

    assert f"no model was asked: {SHORT.message}; {SHORT.message}" in shown(response=response)


def test_the_candidates_stand_in_a_table_of_ten_at_most() -> None:
    brief = Brief(grounding=GROUNDING_CANDIDATES, candidates=50, candidates_total=121)
    facts = [{"certifications": ["OSHA-10"], "name": f"Ana [{at}]", "worker_id": f"W-{at}"} for at in range(50)]
    lines = shown(brief=brief, candidates_json=json.dumps(facts)).splitlines()

    assert lines[1].split() == ["worker_id", "name", "certifications"]
    assert lines[2].split() == ["W-0", "Ana", "[0]", "OSHA-10"]
    assert len(lines) == 13
    assert lines[-1] == "… and 40 more"


@pytest.mark.parametrize("text", ["", "[]", "[1]", "{}", "[{", "null"])
def test_what_is_no_list_of_facts_is_no_table(text: str) -> None:
    brief = Brief(grounding=GROUNDING_CANDIDATES, candidates=50, candidates_total=121)
    assert len(shown(brief=brief, candidates_json=text).splitlines()) == 1


@pytest.mark.parametrize(
    ("outcome", "attempts", "words"),
    [
        (MaxIterExhausted(infeasible=True), 0, "not accepted: infeasible, no model was asked: no answer can pass"),
        (MaxIterExhausted(no_progress=True), 2, "after 2 attempts: the model gave an answer again"),
        (MaxIterExhausted(token_budget_spent=True), 1, "after 1 attempt: token budget spent"),
        (MaxIterExhausted(), 3, "after 3 attempts: attempts exhausted"),
    ],
)
def test_an_end_without_an_answer_says_why(outcome: MaxIterExhausted, attempts: int, words: str) -> None:
    response = IterateResponse(max_iter_exhausted=outcome, attempts=[Attempt()] * attempts)

    assert words in shown(response=response)


def test_as_json_the_brief_is_an_object_and_its_grounding_a_word() -> None:
    brief = Brief(grounding=GROUNDING_CANDIDATES, candidates=0, candidates_total=0, infeasible=True, findings=[SHORT])
    values = response_object(IterateResponse(max_iter_exhausted=MaxIterExhausted(infeasible=True), brief=brief))
    ungrounded = response_object(IterateResponse(max_iter_exhausted=MaxIterExhausted(no_progress=True)))

    assert values["brief"]["grounding"] == "candidates"
    assert values["brief"]["findings"][0]["code"] == "COUNT"
    assert (values["infeasible"], values["no_progress"]) == (True, False)
    assert ungrounded["brief"] is None
    assert (ungrounded["infeasible"], ungrounded["no_progress"]) == (False, True)
