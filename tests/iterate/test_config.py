"""Goal: what a deployment gives its models is said once, contradictions are refused, and what went away is named."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from iterate.config import IterateConfig, advice
from iterate.task import Grounding


@pytest.mark.parametrize(
    ("table", "asked", "given"),
    [
        ({}, None, "candidates"),
        ({"grounding_max": "none"}, None, "none"),
        ({"grounding_max": "form"}, "candidates", "form"),
        ({"grounding": "none"}, "candidates", "candidates"),
        ({"grounding": "form", "grounding_max": "form"}, "none", "none"),
    ],
)
def test_a_request_gets_what_it_asks_for_within_the_bound(
    table: dict[str, Any], asked: Grounding | None, given: Grounding
) -> None:
    assert IterateConfig.model_validate(table).grounding_of(asked) == given


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"grounding": "candidates", "grounding_max": "form"}, "grounding, candidates, is above grounding_max, form"),
        ({"grounding": "all"}, "grounding"),
        ({"candidates_max": 201}, "candidates_max"),
        ({"candidates_max": 0}, "candidates_max"),
        ({"brief_ms_max": 0}, "brief_ms_max"),
        ({"on_infeasible": "maybe"}, "on_infeasible"),
        ({"on_no_progress": "ask"}, "on_no_progress"),
    ],
)
def test_what_cannot_be_meant_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        IterateConfig.model_validate(table)


def test_kinds_that_are_listed_are_ignored_and_the_operator_hears_of_it() -> None:
    listed = IterateConfig.model_validate({"extra_kinds": ["song"]})

    assert [line.split(":")[0] for line in advice(listed)] == ["extra_kinds"]
    assert list(advice(IterateConfig())) == []
