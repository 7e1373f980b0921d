"""Goal: docs/metrics.md is the whole truth about the exposition, and the exposition is one that Prometheus takes.

Method: the three services in this process, a session over real sockets, and the text of each registry read by
prometheus_client's own parser. The table and the exposition are compared in both directions.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

import chatd.__main__
import iterate.__main__
import validated.__main__
from chatd.config import ChatdConfig
from iterate.config import IterateConfig
from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.server.bootstrap import Runtime, running
from lakehouse.server.counts import SERIES_MAX, Durations, Series
from lakehouse.server.metric_texts import TEXTS
from lakehouse.server.metrics import Metrics
from lakehouse.validated.v1 import validated_pb2
from validated.config import ValidatedTable

ROOT = Path(__file__).resolve().parents[2]
ROSTER = ROOT / "examples" / "roster" / "workers.csv"
ROW = re.compile(r"\| `(?P<name>[a-z0-9_]+)` \| (?P<type>\w+) \| (?P<labels>[^|]*) \| (?P<text>[^|]*) \|")


def documented() -> dict[str, tuple[str, str, str]]:
    """Name -> type, labels, text."""
    table = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return {row["name"]: (row["type"], row["labels"].strip(), row["text"].strip()) for row in ROW.finditer(table)}


def full_name(family: Metric) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def exposed(metrics: Metrics) -> dict[str, Metric]:
    text = generate_latest(metrics.registry).decode()
    return {full_name(family): family for family in text_string_to_metric_families(text)}


@pytest.fixture
async def expositions(tmp_path: Path) -> AsyncIterator[dict[str, dict[str, Metric]]]:
    """Yield what each service exposes after an accepted session, one whose attempts ran out, and one that failed."""
    kept: dict[str, Metrics] = {}

    def keeping(service: str, compose: Any) -> Any:
        @contextlib.asynccontextmanager
        async def composed(config: Any, runtime: Runtime) -> AsyncIterator[Any]:
            kept[service] = runtime.metrics
            async with compose(config, runtime) as registration:
                yield registration

        return composed

    async with contextlib.AsyncExitStack() as stack:

        async def start(service: str, model: Any, module: Any, **settings: Any) -> str:
            config = model.model_validate({"bind": "127.0.0.1:0", **settings})
            return (await stack.enter_async_context(running(service, config, keeping(service, module.compose)))).address

        gate = await start("validated", ValidatedTable, validated.__main__, roster={"path": ROSTER})
        prices = {"scripted": {"input": 1, "output": 2}}
        chat = await start(
            "chatd", ChatdConfig, chatd.__main__, providers={"scripted": {"type": "scripted", "prices": prices}}
        )
        log = tmp_path / "sessions.jsonl"
        loop = await start(
            "iterate", IterateConfig, iterate.__main__, chatd=chat, validated=gate, session_log_path=str(log)
        )
        client = await stack.enter_async_context(AsyncIterateClient(loop))
        fill = validated_pb2.FillSpec(role="forklift operator", count=3, city="Toledo", state="OH")
        request = iterate_pb2.IterateRequest(
            kind="fill",
            fill=fill,
            prompt="Fill 3 forklift operators in Toledo for Saturday.",
            grounding=iterate_pb2.GROUNDING_NONE,
        )
        await client.iterate(request, timeout_s=30)
        request.max_iterations = 1
        await client.iterate(request, timeout_s=30)
        request.provider = "nobody"
        with pytest.raises(Fault):
            await client.iterate(request, timeout_s=30)
        yield {service: exposed(metrics) for service, metrics in kept.items()}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    found = [
        sample.value
        for sample in families[name].samples
        if sample.name in (name, f"{name}_count") and labels.items() <= sample.labels.items()
    ]
    assert found, f"{name} has no sample with {labels}"
    return sum(found)


async def test_the_table_and_the_exposition_agree_in_both_directions(
    expositions: dict[str, dict[str, Metric]],
) -> None:
    table = documented()
    found = {name: family for families in expositions.values() for name, family in families.items()}
    assert set(table) == set(TEXTS), "docs/metrics.md and the sentences of the code name other metrics"
    assert found.keys() <= table.keys()
    # A database's metrics come with a database, those of companions with companions.
    absent = {name for name in table.keys() - found.keys() if not table[name][2].endswith("(PostgreSQL).")}
    # Those of datasets come with a dataset.
    absent = {name for name in absent if not name.startswith("lakehouse_dataset_")}
    assert absent <= {"lakehouse_roster_assignments_unknown", "lakehouse_roster_do_not_send_unknown"}
    for name, family in found.items():
        kind, labels, text = table[name]
        assert (family.type, family.documentation) == (kind, text), name
        of_samples = {label for sample in family.samples for label in sample.labels} - {"le"}
        if family.samples:
            assert of_samples == set(filter(None, labels.replace("`", "").replace(" ", "").split(","))), name


async def test_names_and_units_follow_prometheus_conventions(expositions: dict[str, dict[str, Metric]]) -> None:
    for families in expositions.values():
        for name, family in families.items():
            assert (family.type == "counter") == name.endswith("_total"), name
            assert family.type != "histogram" or name.endswith("_seconds")
            assert not re.search(r"_(ms|millis|milliseconds|minutes|mb|kb)(_|$)", name), name
            assert family.type != "unknown", name


async def test_what_sessions_did_is_counted_by_its_labels(expositions: dict[str, dict[str, Metric]]) -> None:
    loop, chat, gate = expositions["iterate"], expositions["chatd"], expositions["validated"]
    sessions = "lakehouse_sessions_total"
    assert value(loop, sessions, kind="fill", final_verdict="accepted") == 1
    assert value(loop, sessions, kind="fill", final_verdict="max_iter_exhausted") == 1
    assert value(loop, sessions, kind="fill", final_verdict="infra_error") == 1
    assert value(loop, "lakehouse_session_findings_total", code="PHANTOM_WORKER") == 2
    seconds = "grpc_server_handling_seconds"
    assert value(loop, seconds, grpc_method="Iterate", grpc_code="OK") == 2
    assert value(loop, seconds, grpc_method="Iterate", grpc_code="INVALID_ARGUMENT") == 1
    assert value(chat, "lakehouse_provider_seconds", provider="scripted") == 3
    assert value(chat, "lakehouse_model_tokens_total", provider="scripted", direction="output") > 0
    assert value(chat, "lakehouse_model_cost_usd_total", provider="scripted") > 0
    assert value(chat, "lakehouse_chatd_circuit_open", provider="scripted") == 0
    assert value(gate, "lakehouse_roster_rows") > 100
    assert value(gate, "lakehouse_roster_age_seconds") > 0
    assert value(gate, "lakehouse_build_info", service="validated") == 1


def test_label_values_that_somebody_invents_fill_no_memory() -> None:
    series = Series(2)
    for number in range(SERIES_MAX * 3):
        series.add(("provider", f"model-{number}"))
    assert len(series.values) == SERIES_MAX + 1
    assert series.values["other", "other"] == SERIES_MAX * 2
    series.add(("provider", "model-0"))
    assert series.values["provider", "model-0"] == 2


def test_buckets_hold_the_ones_below_them() -> None:
    durations = Durations()
    for seconds in (0.001, 0.002, 0.3, 500):
        durations.add(seconds)
    buckets = dict(durations.buckets())
    assert (buckets["0.001"], buckets["0.0025"], buckets["0.5"], buckets["120.0"], buckets["+Inf"]) == (1, 2, 3, 3, 4)
    assert durations.seconds == pytest.approx(500.303)
