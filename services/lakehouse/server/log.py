"""Logs: JSON lines on standard output, or readable ones on a terminal. Configured once, by ``bootstrap``.

No line is written by the thread that logs: see ``log_stream``.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, cast

import orjson
import structlog

from lakehouse.colours import has_colours
from lakehouse.server.log_stream import LogStream

RpcLevel = Literal["info", "warning"]

_log = structlog.get_logger()
# The levels of an RPC's line that each level of the log has.
_RPC_LINES: Mapping[str, frozenset[str]] = {
    "debug": frozenset(("info", "warning")),
    "info": frozenset(("info", "warning")),
    "warning": frozenset(("warning",)),
    "error": frozenset(),
}
# An RPC's line waits this long for company, or until so many wait: see ``_RpcLines``.
_RPC_LINES_WAIT_S = 0.05
_RPC_LINES_MAX = 256
# How long the end of the process waits at most for a stream that does not move.
_LAST_LINES_S = 2.0


def rpc_line(fields: dict[str, object], level: RpcLevel = "info") -> None:
    """Write the one canonical line of an RPC, event `rpc`. `fields` is the callee's from now on.

    Call it on the event loop. JSON lines are written in batches, at most 50 ms later; readable ones at once.
    """
    if level in _rpc_levels:
        _write_rpc_line(fields, level)


def flush_rpc_lines() -> None:
    """Write the lines that still wait for company."""
    if _rpc_lines is not None:
        _rpc_lines.write()


def flush() -> None:
    """Have every line written that was logged, within two seconds: for an end of the process without any ceremony."""
    flush_rpc_lines()
    if _stream is not None:
        _stream.drain(_LAST_LINES_S)


def counts() -> dict[str, int]:
    """Counters of this process's log: `lines_dropped`, of a stream that did not take them."""
    return {"lines_dropped": _stream.lines_dropped if _stream is not None else 0}


def _by_structlog(fields: dict[str, object], level: RpcLevel) -> None:
    (_log.info if level == "info" else _log.warning)("rpc", **fields)


_write_rpc_line: Callable[[dict[str, object], RpcLevel], None] = _by_structlog
_rpc_levels = _RPC_LINES["info"]
_rpc_lines: _RpcLines | None = None
_stream: LogStream | None = None

_LINE_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE


def _dump(event: dict[str, Any], **_: Any) -> str:
    return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure(*, service: str, level: str, form: str) -> None:
    """Set up structlog, and route the standard library's loggers (warnings and worse) through it.

    `form` is `json`, `console`, or `auto`: console on a terminal, else JSON.
    """
    global _write_rpc_line, _rpc_levels, _rpc_lines, _stream  # noqa: PLW0603  configured once, as structlog itself
    console = form == "console" or (form == "auto" and sys.stdout.isatty())
    _rpc_lines = None
    sys.stdout.flush()
    stream = _stream = LogStream(
        sys.stdout.fileno(), dropped_line=lambda lines: _dropped_line(service, lines, console=console)
    )
    atexit.register(stream.drain, _LAST_LINES_S)
    _rpc_levels = _RPC_LINES[level]
    if console:
        _write_rpc_line = _by_structlog
    else:
        _rpc_lines = _RpcLines(service, stream)
        _write_rpc_line = _rpc_lines.add
    shared: list[structlog.typing.Processor] = [
        _after_rpc_lines,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _name(service),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(serializer=_dump)
    if console:
        renderer = structlog.dev.ConsoleRenderer(
            colors=has_colours() and sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", stream)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class _RpcLines:
    """Writes what the processors above would, for the one line that every RPC has, in batches.

    A line costs 9 us in a loop that does nothing else and ten times as much between two RPCs, where neither the code
    nor the file's pages are in a cache: written together, all but the first come cheap. A process that is killed
    takes the lines of its last 50 ms with it.
    """

    def __init__(self, service: str, stream: LogStream) -> None:
        self._service = service
        self._stream = stream
        # A deque, since whoever logs in a thread writes what waits before its own line.
        self._waiting: deque[dict[str, object]] = deque()
        atexit.register(self.write)

    def add(self, fields: dict[str, object], level: RpcLevel) -> None:
        fields["event"] = "rpc"
        fields["level"] = level
        fields["timestamp"] = time.time()
        fields["service"] = self._service
        self._waiting.append(fields)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(_RPC_LINES_WAIT_S, self.write)
        elif len(self._waiting) >= _RPC_LINES_MAX:
            self.write()

    def write(self) -> None:
        lines: list[bytes] = []
        waiting = self._waiting
        with contextlib.suppress(IndexError):  # empty
            while True:
                fields = waiting.popleft()
                fields["timestamp"] = datetime.fromtimestamp(cast("float", fields["timestamp"]), UTC)
                lines.append(_line(fields))
        if lines:
            self._stream.write_lines(b"".join(lines), len(lines))


def _dropped_line(service: str, lines: int, *, console: bool) -> bytes:
    if console:
        return f"{lines} log lines were dropped: nobody took them\n".encode()
    now = datetime.now(UTC)
    return _line(
        {"event": "log_lines_dropped", "lines": lines, "level": "warning", "timestamp": now, "service": service}
    )


def _line(fields: dict[str, object]) -> bytes:
    try:
        return orjson.dumps(fields, default=str, option=_LINE_OPTIONS)
    except TypeError:  # a lone surrogate: it must not take the other lines of the batch with it
        return json.dumps(fields, default=str).encode() + b"\n"


def _after_rpc_lines(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    flush_rpc_lines()  # so that the lines keep their order
    return event


def _name(service: str) -> structlog.typing.Processor:
    def add_service(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = service
        return event

    return add_service
