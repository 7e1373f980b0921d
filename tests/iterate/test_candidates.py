"""Goal: a rejected answer is met with candidates that were neither used nor offered before, whatever the kind."""

from __future__ import annotations

import json
import string

from hypothesis import given, settings
from hypothesis import strategies as st

from iterate.candidates import CandidatePool
from iterate.feedback import Feedback
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


def test_offers_of_one_feedback_are_bounded_in_bytes() -> None:
    pool = CandidatePool([{"id": f"{n}", "text": "x" * 5000} for n in range(10)])

    assert len(pool.offer("{}", (), 10)) == 3


names = st.sampled_from(["worker_id", "name", "role", "x"])
values = st.one_of(st.sampled_from(["W-1", "W-2", "Ann Li", "welder"]), st.integers(), st.none(), st.booleans())
facts = st.dictionaries(names, values, min_size=1, max_size=4)
artifacts = st.recursive(
    values, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=20
)


@settings(derandomize=True, max_examples=200, deadline=None)
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


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text(string.ascii_letters, min_size=8, max_size=20), st.text(string.ascii_letters, min_size=8, max_size=20))
def test_what_an_unrestricted_message_leaves_out_stands_in_no_plain_text(words: str, secret: str) -> None:
    turn = Feedback(None).rejected("{}", [finding(f"{words} {secret}", unrestricted=words)])

    assert words in turn.content
    assert secret in turn.restricted
    assert secret not in turn.content or secret in words or secret in Feedback(None).rejected("{}", []).content
