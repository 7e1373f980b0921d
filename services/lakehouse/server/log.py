"""Logs: JSON lines on standard output, or readable ones on a terminal. Configured once, by ``bootstrap``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

_log = structlog.get_logger()
_LEVELS_WITH_RPC_LINES = ("debug", "info")


def rpc_line(fields: dict[str, object]) -> None:
    """Write the one canonical line of an RPC, event `rpc` of level info. `fields` is the callee's from now on."""
    _write_rpc_line(fields)


def _by_structlog(fields: dict[str, object]) -> None:
    _log.info("rpc", **fields)


_write_rpc_line: Callable[[dict[str, object]], None] = _by_structlog


_LINE_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


def _dump(event: dict[str, Any], **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure(*, service: str, level: str, form: str) -> None:
    """Set up structlog, and route the standard library's loggers (warnings and worse) through it.

    `form` is `json`, `console`, or `auto`: console on a terminal, else JSON.
    """
    console = form == "console" or (form == "auto" and sys.stdout.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _name(service),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(serializer=_dump)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    global _write_rpc_line  # noqa: PLW0603  configured once, as structlog itself
    if console:
        _write_rpc_line = _by_structlog
    elif level in _LEVELS_WITH_RPC_LINES:
        _write_rpc_line = _as_json(service)
    else:
        _write_rpc_line = _nothing


def _as_json(service: str) -> Callable[[dict[str, object]], None]:
    """Writes what the processors above would, in a third of the time: this line is one of every RPC."""
    stream = sys.stdout.buffer

    def write(fields: dict[str, object]) -> None:
        fields["event"] = "rpc"
        fields["level"] = "info"
        fields["timestamp"] = datetime.now(UTC)
        fields["service"] = service
        stream.write(orjson.dumps(fields, default=str, option=_LINE_OPTIONS))
        stream.flush()

    return write


def _nothing(_: dict[str, object]) -> None:
    return


def _name(service: str) -> structlog.typing.Processor:
    def add_service(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    return add_service
