"""Composition root of chatd: configuration, providers, routes, servicer. ``python -m chatd --help``."""

from __future__ import annotations

from lakehouse.server.process import begin_process

if __name__ == "__main__":
    begin_process()  # before the imports below bring grpc

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from chatd.adaptation import AdaptationMemory
from chatd.config import ChatdConfig, HttpProviderTable
from chatd.endpoint import Endpoint
from chatd.providers import open_provider
from chatd.routes import Router
from chatd.servicer import ChatServicer
from lakehouse.chatd.v1 import chatd_pb2, chatd_pb2_grpc
from lakehouse.server import bootstrap
from lakehouse.server.addresses import is_private
from lakehouse.server.bootstrap import Registration, Runtime
from lakehouse.server.tracing_setup import open_tracing
from lakehouse.settings import ConfigError
from lakehouse.trace_context import read_hop_context

SERVICE_NAME = chatd_pb2.DESCRIPTOR.services_by_name["ChatService"].full_name


@contextlib.asynccontextmanager
async def compose(config: ChatdConfig, runtime: Runtime) -> AsyncIterator[Registration]:
    """Everything that chatd holds, for the time of the block. Raises ConfigError where a key or a script is amiss."""
    async with contextlib.AsyncExitStack() as stack:
        tracing = await stack.enter_async_context(open_tracing(config, runtime, service="chatd"))
        endpoints: dict[str, Endpoint] = {}
        memory = AdaptationMemory()
        for name, table in config.providers.items():
            endpoint = Endpoint(name, open_provider(table), table, memory)
            stack.push_async_callback(endpoint.close)
            endpoints[name] = endpoint
        runtime.metrics.export(
            "lakehouse_chatd",
            lambda: _counts(endpoints),
            gauges=("running", "waiting", "circuit_open"),
            label="provider",
        )
        durations = runtime.metrics.durations("lakehouse_provider_seconds", "provider")
        durations.update({(name,): endpoint.durations for name, endpoint in endpoints.items()})
        router = Router(endpoints, config.routes, config.default_target)
        servicer = ChatServicer(router, tracing, config, runtime.metrics)

        def add(server: Any) -> None:
            chatd_pb2_grpc.add_ChatServiceServicer_to_server(servicer, server)

        yield Registration((SERVICE_NAME,), add, read_hop_context)


def check(config: ChatdConfig) -> Sequence[str]:
    """Return what is wrong with the files that the providers read."""
    return asyncio.run(_provider_problems(config))


def missing(config: ChatdConfig) -> Iterator[str]:
    """Whether the provider that is asked by default has no key where it will want one."""
    if problem := _keyless(config, _asked_first(config)):
        yield problem


def advise(config: ChatdConfig) -> Iterator[str]:
    """Yield the same of every other provider, whose calls alone will fail."""
    for name in config.providers:
        if name != _asked_first(config) and (problem := _keyless(config, name)):
            yield problem


def _asked_first(config: ChatdConfig) -> str:
    """Return the provider of a request that names none."""
    name = config.default_target
    route = config.routes.get(name)
    return route.targets[0].provider if route is not None else name


def _keyless(config: ChatdConfig, name: str) -> str:
    table = config.providers[name]
    if not isinstance(table, HttpProviderTable) or is_private(urlsplit(table.base_url).hostname or ""):
        return ""
    secrets = (table.api_key.get_secret_value(), table.api_key_file, table.secret_headers, table.secret_headers_file)
    if any(secrets):
        return ""
    return (
        f"providers.{name}: no key for {table.base_url}: set CHATD_PROVIDERS__{name.upper()}__API_KEY or api_key_file "
        "(any value, where that endpoint takes none)"
    )


async def _provider_problems(config: ChatdConfig) -> Sequence[str]:
    problems: list[str] = []
    for name, table in config.providers.items():
        try:
            provider = open_provider(table)
        except ConfigError as error:
            problems += [f"providers.{name}: {problem}" for problem in error.problems]
        else:
            await provider.close()
    return problems


def main() -> None:
    """Run the service."""
    bootstrap.run(
        "chatd",
        ChatdConfig,
        compose,
        description="One gRPC call for every model.",
        check=check,
        missing=missing,
        advise=advise,
    )


def _counts(endpoints: Mapping[str, Endpoint]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for name, endpoint in endpoints.items():
        counted = endpoint.counts
        for key in (
            "calls",
            "upstream_requests",
            "retries",
            "retries_over_budget",
            "failures",
            "queue_refusals",
        ):
            counts[f"{key}:{name}"] = getattr(counted, key)
        counts[f"circuit_opened:{name}"] = endpoint.breakers.opened
        counts[f"circuit_open:{name}"] = endpoint.breakers.open_now
        counts[f"running:{name}"] = endpoint.limit.running
        counts[f"waiting:{name}"] = endpoint.limit.waiting
    return counts


if __name__ == "__main__":
    main()
