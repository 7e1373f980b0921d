"""``open_tracing``: a service's tracing from its configuration, for the life of the process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

from lakehouse.server.bootstrap import Runtime
from lakehouse.server.config import ServerTable, read_secret
from lakehouse.tracing import GAUGES, Tracing, TracingConfig


@contextlib.asynccontextmanager
async def open_tracing(
    config: ServerTable, runtime: Runtime, *, service: Literal["iterate", "chatd", "validated"]
) -> AsyncIterator[Tracing]:
    """Tracing for the time of the block; at its end what is queued is exported, for at most `shutdown_ms`.

    Raises ConfigError where the secret's file cannot be read. Langfuse's own state never fails it.
    """
    table = config.tracing
    given = table.model_dump(exclude={"secret_key", "secret_key_file"}, exclude_none=True)
    tracing = Tracing(
        TracingConfig(secret_key=read_secret(table.secret_key, table.secret_key_file), **given),
        service=service,
    )
    runtime.metrics.export("lakehouse_tracing", tracing.counts, gauges=GAUGES)
    try:
        yield tracing
    finally:
        await asyncio.to_thread(tracing.close)
