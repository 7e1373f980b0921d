"""``open_tracing``: a service's tracing from its configuration, for the life of the process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Literal

from pydantic import SecretStr

from lakehouse.server.bootstrap import Runtime
from lakehouse.server.config import ServerTable
from lakehouse.settings import read_secret
from lakehouse.tracing import GAUGES, Tracing


@contextlib.asynccontextmanager
async def open_tracing(
    config: ServerTable, runtime: Runtime, *, service: Literal["iterate", "chatd", "validated"]
) -> AsyncIterator[Tracing]:
    """Tracing for the time of the block; at its end what is queued is exported, for at most `shutdown_ms`.

    Raises ConfigError where the secret's file cannot be read. Langfuse's own state never fails it.
    """
    settings = config.tracing
    secret_key = SecretStr(read_secret(settings.secret_key, settings.secret_key_file))
    settings = settings.model_copy(update={"secret_key": secret_key, "secret_key_file": None})
    tracing = Tracing(settings, service=service)
    runtime.metrics.export("lakehouse_tracing", tracing.counts, gauges=GAUGES)
    try:
        yield tracing
    finally:
        await asyncio.to_thread(tracing.close)
