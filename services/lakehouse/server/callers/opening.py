"""The callers of a process, from its configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog

from lakehouse.server.config import ServerTable
from lakehouse.server.listener import StartError
from lakehouse.server.metrics import Metrics

if TYPE_CHECKING:
    from lakehouse.server.callers.access import Callers

_log = structlog.get_logger()


@contextlib.contextmanager
def open_callers(service: str, config: ServerTable, metrics: Metrics) -> Iterator[Callers | None]:
    """Who may call, kept up to date for the time of the block; None: everybody. Raises StartError."""
    if config.callers is None:
        if not config.bind.startswith(("127.", "localhost:", "[::1]", "unix:")):
            _log.warning(
                "anybody may call who reaches the listener",
                bind=config.bind,
                advice=f"name the callers in a file and set {service}.callers.file; see SECURITY.md",
            )
        yield None
        return
    from lakehouse.server.callers.access import Callers  # noqa: PLC0415  for who has callers alone

    try:
        callers = Callers(service, config.callers)
    except OSError as error:
        raise StartError(f"{service}.callers.file: {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise StartError(f"{service}.callers.file: {error}") from None
    metrics.registry.register(callers.counts)
    with callers.watched():
        yield callers
