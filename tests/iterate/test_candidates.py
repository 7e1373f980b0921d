"""Goal: a rejected answer is met with candidates that were neither used nor offered before, whatever the kind."""

from __future__ import annotations

import json
import string

from campaigns import campaign
from hypothesis import given
from hypothesis import strategies as st

from iterate.brief import Brief
from iterate.candidates import CandidatePool
from iterate.feedback import Feedback
from iterate.knowledge import Knowledge
from lakehouse.strict_json.parser import JsonValue, canonicalize
from lakehouse.validated.v1.validated_pb2 import Finding, Suggestion

PEOPLE: list[dict[str, JsonValue]] = [
    {"worker_id": "W-1", "name": "Ann Li", "role": "welder", "certifications": ["OSHA 10"]},
    {"worker_id": "W-2", "name": "Bo Yu", "role": "welder", "certifications": []},
    {"worker_id": "W-3", "name": "Bo Yu", "role": "welder", "certifications": []},
]


def text(facts: object) -> str:
    return canonicalize(json.dumps(facts))


ALL = [text(each) for each in PEOPLE]


def offered(artifact: object, *suggested: str, count: int = 10) -> list[str]:
    return CandidatePool(PEOPLE).offer(text(artifact), suggested, count)


def test_whom_an_answer_names_is_not_offered() -> None:
    assert offered({"workers": [{"worker_id": "W-1", "name": "Ann Li"}]}) == ALL[1:]
    assert offered({"workers": [{"worker_id": "W-1"}, {"worker_id": "W-3"}]}) == [ALL[1]]
    assert offered({"lead": {"worker_id": "W-2", "shift": "night"}}) == [ALL[0], ALL[2]]


def test_what_several_candidates_share_names_nobody() -> None:
    assert offered({"workers": [{"role": "welder"}, {"name": "Bo Yu"}]}) == ALL


def test_whom_an_answer_nearly_names_comes_first() -> None:
    assert offered({"workers": [{"worker_id": "W-3", "name": "Bo You"}]}) == [ALL[2], ALL[0], ALL[1]]


def test_suggestions_come_before_the_others_and_once() -> None:
    stranger = text({"worker_id": "W-9", "name": "Cy Zed"})

    assert offered({}, stranger, ALL[1], stranger) == [stranger, ALL[1], ALL[0], ALL[2]]
    assert offered({}, '{"worker_id": "W-9",  "name": "Cy Zed"}', count=1) == [stranger], "in canonical form"


def test_of_an_artifact_with_very_many_objects_the_first_ones_are_looked_at() -> None:
    strangers = [{"worker_id": f"X-{n}"} for n in range(3000)]
    artifact = {"workers": [{"worker_id": "W-1"}, *strangers, {"worker_id": "W-2"}]}

    assert offered(artifact) == ALL[1:]


def element_schema(*required: str, **properties: JsonValue) -> JsonValue:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def list_schema(element: JsonValue) -> str:
    return text(element_schema("workers", workers={"type": "array", "items": element}))


TEXT: JsonValue = {"type": "string"}
FORM = list_schema(element_schema("worker_id", worker_id=TEXT, name=TEXT, role=TEXT))
CHOICE = list_schema(
    {
        "anyOf": [
            element_schema("worker_id", "name", worker_id={"const": each["worker_id"]}, name={"const": each["name"]})
            for each in PEOPLE
        ]
    }
)


def names_offered(*suggested: str, form_schema: str = "", candidates_schema: str = "") -> list[set[str]]:
    pool = CandidatePool(PEOPLE, form_schema=form_schema, candidates_schema=candidates_schema)
    return [set(json.loads(each)) for each in pool.offer("{}", suggested, 10)]


def test_an_offer_has_the_names_alone_that_an_element_of_the_answer_can_have() -> None:
    stranger = text({"worker_id": "W-9", "certifications": []})

    assert names_offered(stranger, form_schema=FORM) == [{"worker_id"}, *[{"worker_id", "name", "role"}] * 3]
    assert names_offered(form_schema=FORM, candidates_schema=CHOICE) == [{"worker_id", "name"}] * 3


def test_a_name_under_which_nothing_is_right_is_left_out() -> None:
    assert names_offered(form_schema=list_schema(element_schema("name", name=TEXT, role=False))) == [{"name"}] * 2


def test_a_property_may_have_the_name_of_a_keyword() -> None:
    schema = text(element_schema("default", default=json.loads(FORM)))

    assert names_offered(form_schema=schema) == [{"worker_id", "name", "role"}] * 3


def test_what_makes_no_element_of_the_answer_stays_whole() -> None:
    message = text(element_schema("subject", "body", subject=TEXT, body=TEXT, name=TEXT))

    for schema in (message, '{"const":{"properties":{"name":1},"required":["name"]}}', "[", "true"):
        assert names_offered(form_schema=schema) == [set(each) for each in PEOPLE]


def test_where_a_schema_of_candidates_is_sent_nobody_else_is_offered() -> None:
    stranger = text({"worker_id": "W-9", "name": "Cy Zed"})
    pool = CandidatePool(PEOPLE, form_schema=FORM, candidates_schema=CHOICE)

    offers = pool.offer(text({"workers": [{"worker_id": "W-1"}]}), [stranger, ALL[2]], 10)

    assert [json.loads(each)["worker_id"] for each in offers] == ["W-3", "W-2"]
    assert pool.offer("{}", [stranger], 10) == []


def test_offers_of_one_feedback_are_bounded_in_bytes() -> None:
    pool = CandidatePool([{"id": f"{n}", "text": "x" * 5000} for n in range(10)])

    assert len(pool.offer("{}", (), 10)) == 3


names = st.sampled_from(["worker_id", "name", "role", "x"])
values = st.one_of(st.sampled_from(["W-1", "W-2", "Ann Li", "welder"]), st.integers(), st.none(), st.booleans())
facts = st.dictionaries(names, values, min_size=1, max_size=4)
artifacts = st.recursive(
    values, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=20
)


@campaign(80)
@given(st.lists(facts, max_size=8), st.lists(artifacts, min_size=1, max_size=5), st.integers(0, 5))
def test_no_candidate_is_ever_offered_twice_nor_after_an_answer_that_repeats_it(
    candidates: list[dict[str, JsonValue]], answers: list[JsonValue], count: int
) -> None:
    pool = CandidatePool(candidates)
    given_ = [pool.offer(text({"a": each}), [text(facts) for facts in candidates], count) for each in answers]

    flat = [each for offers in given_ for each in offers]
    assert len(flat) == len(set(flat))
    assert all(len(offers) <= count for offers in given_)
    assert set(flat) <= {text(each) for each in candidates}


def finding(message: str, *suggested: str, unrestricted: str = "") -> Finding:
    suggestions = [Suggestion(facts_json=each) for each in suggested]
    return Finding(code="C", path="/a", message=message, unrestricted_message=unrestricted, suggestions=suggestions)


def test_a_message_without_an_unrestricted_one_is_for_everybody() -> None:
    turn = Feedback(None).rejected("{}", [finding("too long")])

    assert "too long" in turn.content
    assert turn.restricted == ""


@campaign(80)
@given(st.text(string.ascii_letters, min_size=8, max_size=20), st.text(string.ascii_letters, min_size=8, max_size=20))
def test_what_an_unrestricted_message_leaves_out_stands_in_no_plain_text(words: str, secret: str) -> None:
    turn = Feedback(None).rejected("{}", [finding(f"{words} {secret}", unrestricted=words)])

    assert words in turn.content
    assert secret in turn.restricted
    assert secret not in turn.content or secret in words or secret in Feedback(None).rejected("{}", []).content


def grounded(**knowledge: str) -> Feedback:
    brief = Brief(grounding="candidates", knowledge=Knowledge(**knowledge), candidates=tuple(PEOPLE), brief_ms=1)  # type: ignore[arg-type]  # texts alone
    return Feedback(brief)


def test_a_finding_that_suggests_nobody_is_met_with_no_candidate() -> None:
    turn = grounded().rejected(text({"workers": [{"worker_id": "W-1", "x": 1}]}), [finding("too long"), finding("x")])

    assert turn.restricted == ""
    assert "W-" not in turn.content


def test_as_many_are_offered_as_findings_suggest_somebody() -> None:
    findings = [finding("too long"), finding("not there; try Bo Yu", ALL[1], unrestricted="not there")]
    turn = grounded().rejected("{}", findings)

    assert turn.restricted.count('"worker_id"') == 2


def test_who_may_see_reads_whose_id_it_is_and_no_suggestion_twice() -> None:
    mismatch = finding(
        "W-1 is Ann Li, not Al; letter for letter; did you mean W-2 Bo Yu?; only 2 qualify",
        ALL[1],
        unrestricted="W-1 is not Al; letter for letter; only 2 qualify",
    )
    feedback = grounded()
    turns = [feedback.rejected("{}", [mismatch]) for _ in range(3)]

    for turn in turns:
        assert "C at /a: W-1 is Ann Li, not Al; letter for letter; only 2 qualify\n" in turn.restricted
        assert "Ann Li" not in turn.content
    assert ["Bo Yu" in turn.restricted for turn in turns] == [True, True, False], "two of this name"
    assert [turn.restricted.count("W-2") for turn in turns] == [1, 0, 0]
