"""Kind email: the message may tell of nobody outside the fill."""

from __future__ import annotations

from typing import Any

import pytest
from rosters import judge

from validated.kinds.email import EmailValidator

SPEC: dict[str, Any] = {"worker_ids": ["W-000002", "W-000007"]}
GOOD = {
    "to_worker_id": "W-000002",
    "subject": "Your shift on 2026-12-05",
    "body": "Hello Łukasz Żak,\nyou work with Ana Silva on 12/05/2026 from 07:00 to 15:00 (2026-12-05T07:00:00-05:00). "
    "Gate 4, 200 Main St, Toledo, OH 43604. Questions: +1 (419) 555-0107. W-000007 has the keys. Thank you, Will May",
}


async def _codes(email: EmailValidator, artifact: Any, **spec: Any) -> list[str]:
    findings, ground = await judge(email, artifact, kind="email", **{**SPEC, **spec})
    assert ground is not None
    for finding in findings.kept:
        assert finding.message.isprintable()
    return [finding.code for finding in findings.kept]


async def test_a_message_about_the_fill_alone_passes_and_is_grounded(email: EmailValidator) -> None:
    findings, ground = await judge(email, GOOD, kind="email", **SPEC)
    assert findings.kept == []
    assert ground is not None
    assert ground.grounded is True


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ("Omar Khan comes too", ["FOREIGN_WORKER"]),
        ("OMAR   khan comes too", ["FOREIGN_WORKER"]),
        ("O\u200bmar Kh\u00adan comes too", ["FOREIGN_WORKER"]),
        ("\uff2f\uff4d\uff41\uff52 Khan comes too", ["FOREIGN_WORKER"]),
        ("jose\u0301 nu\u0301n\u0303ez comes too", ["FOREIGN_WORKER"]),
        ("ask W-000003", ["FOREIGN_WORKER"]),
        ("ask W-999999", ["PHANTOM_WORKER"]),
        ("ask w-000002", ["PHANTOM_WORKER"]),
        ("call 419-555-0199", ["FOREIGN_NUMBER"]),
        ("call 4 1 9 5 5 5 0 1 9 9", ["FOREIGN_NUMBER"]),
        ("call 419\u200b555\u200b0199", ["FOREIGN_NUMBER"]),
        ("SSN 123-45-6789", ["FOREIGN_NUMBER"]),
        ("call 555-0107", []),
        ("Omar is a name, Khan another one", []),
    ],
)
async def test_what_tells_of_somebody_else_is_found(email: EmailValidator, body: str, codes: list[str]) -> None:
    assert await _codes(email, {**GOOD, "body": body}) == codes
    assert await _codes(email, {**GOOD, "subject": body}) == codes


async def test_a_namesake_in_the_fill_may_be_named(email: EmailValidator) -> None:
    # W-000001 is Ana Silva too: the name alone cannot tell her from W-000007.
    assert await _codes(email, {**GOOD, "body": "Ana Silva"}) == []
    assert await _codes(email, {**GOOD, "body": "Ana Silva"}, worker_ids=["W-000002"]) == ["FOREIGN_WORKER"]


@pytest.mark.parametrize(
    ("change", "spec", "codes"),
    [
        ({"to_worker_id": "W-000007"}, {"to_worker_id": "W-000002"}, ["WRONG_RECIPIENT"]),
        ({"to_worker_id": "W-000003"}, {}, ["WRONG_RECIPIENT"]),
        ({"to_worker_id": "W-999999"}, {}, ["PHANTOM_WORKER", "WRONG_RECIPIENT"]),
        ({"subject": "x" * 201}, {}, ["TOO_LONG"]),
        ({"body": "x" * 11}, {"body_chars_max": 10}, ["TOO_LONG"]),
        ({"cc": "W-000003"}, {}, ["SHAPE"]),
        ({"body": 5}, {}, ["SHAPE"]),
        ({"body": "  "}, {}, ["SHAPE"]),
    ],
)
async def test_one_wrong_thing_gives_exactly_its_finding(
    email: EmailValidator, change: Any, spec: Any, codes: list[str]
) -> None:
    assert await _codes(email, {**GOOD, **change}, **spec) == codes


async def test_the_longest_message_is_searched_to_its_end(email: EmailValidator) -> None:
    body = "a b " * 4990 + "Omar Khan"
    assert await _codes(email, {**GOOD, "body": body}, body_chars_max=20_000) == ["FOREIGN_WORKER"]
