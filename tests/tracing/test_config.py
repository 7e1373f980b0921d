"""Settings are checked and all problems reported at once; the sampler keeps its rate for every kind of id."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from lakehouse.trace_context import mint_trace_id
from lakehouse.tracing import TracingConfig
from lakehouse.tracing.sampling import TraceSampler

KEYS: dict[str, Any] = {"public_key": "pk", "secret_key": "sk"}


def problems(**settings: Any) -> dict[str, str]:
    """Return what is wrong with these settings, by key."""
    with pytest.raises(ValidationError) as raised:
        TracingConfig(**settings)
    return {str(each["loc"][0]): each["msg"] for each in raised.value.errors()}


def test_all_problems_are_reported_at_once() -> None:
    settings = {
        "host": "langfuse.example.com",
        "public_key": "pk\n",
        "environment": "Production",
        "release": "r" * 201,
        "sample_rate": 1.5,
        "mask_keys": ("a'b",),
        "mask_patterns": ("(a+)+",),
        "capture_bytes_max": 2_000_000,
        "compression": "zip",
        "queue_bytes_max": 1,
        "queue_scores_max": 0,
        "flush_spans": 4096,
        "shutdown_ms": 90_000,
        "mask": "me",
    }
    assert problems(**settings).keys() == settings.keys()


@pytest.mark.parametrize(
    "host",
    [
        "ftp://x",
        "https://",
        "https://pk:sk@langfuse.example.com",
        "http://[::1",
        "http://x:99999",
        "http://x?a=b",
        "http://a b",
        "langfuse:3000",
    ],
)
def test_a_host_that_is_no_base_url_is_refused(host: str) -> None:
    assert "must be a URL" in problems(host=host, **KEYS)["host"]


@pytest.mark.parametrize("host", ["https://cloud.langfuse.com", "http://langfuse-web:3000/", "http://[::1]:3000"])
def test_a_base_url_is_accepted(host: str) -> None:
    assert TracingConfig(host=host, **KEYS).enabled


@pytest.mark.parametrize("left_out", ["host", "public_key", "secret_key"])
def test_host_and_keys_are_set_together_or_not_at_all(left_out: str) -> None:
    settings = {"host": "http://langfuse:3000", **KEYS}
    del settings[left_out]
    (problem,) = problems(**settings).values()
    assert f"set {left_out} as well" in problem
    assert not TracingConfig().enabled


def test_the_secret_key_is_not_shown() -> None:
    assert "sk-lf-123" not in repr(TracingConfig(host="http://x", public_key="pk", secret_key="sk-lf-123"))  # type: ignore[arg-type]  # pydantic makes a secret of it


@pytest.mark.parametrize("sample_rate", [float("nan"), float("inf"), -0.1])
def test_a_rate_outside_its_range_is_refused(sample_rate: float) -> None:
    assert "sample_rate" in problems(sample_rate=sample_rate)


def seeded_uuid4() -> Callable[[], str]:
    draw = random.Random(5)
    return lambda: uuid.UUID(int=draw.getrandbits(128), version=4).hex


@pytest.mark.parametrize("make_id", [mint_trace_id, seeded_uuid4(), lambda: f"{random.getrandbits(20):032x}"])
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_rate_holds_for_ids_that_callers_make(make_id: Callable[[], str], rate: float) -> None:
    sampler = TraceSampler(rate)
    share = sum(sampler.is_sampled(make_id()) for _ in range(4_000)) / 4_000
    assert abs(share - rate) < 0.05


def test_nothing_and_everything_are_exact() -> None:
    ids = [mint_trace_id() for _ in range(1_000)]
    assert not any(TraceSampler(0.0).is_sampled(trace_id) for trace_id in ids)
    assert all(TraceSampler(1.0).is_sampled(trace_id) for trace_id in ids)


def test_a_lower_rate_keeps_a_part_of_what_a_higher_one_keeps() -> None:
    """Services with different rates then at least record whole trees for the lower one."""
    low, high = TraceSampler(0.2), TraceSampler(0.6)
    assert all(high.is_sampled(t) for t in (mint_trace_id() for _ in range(1_000)) if low.is_sampled(t))
