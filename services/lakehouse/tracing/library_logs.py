"""Keeps the export libraries' logging from flooding stderr while Langfuse is away.

The Langfuse SDK and the OTLP exporter write a line for each failed batch and each repeat. While a `Tracing` is
on, their records end here: the newest one is kept for the once-a-minute warning of `ExportCounts`. Only the two
libraries' own loggers are touched, never the root logger, and they are put back as they were.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

_LOGGER_NAMES: Final = ("langfuse", "opentelemetry.exporter.otlp")
_PROBLEM_CHARS_MAX: Final = 200


class _LastRecord(logging.Handler):
    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self.problem = ""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit their format
            message = str(record.msg)
        printable = "".join(c if c.isprintable() else " " for c in message[:_PROBLEM_CHARS_MAX])
        self.problem = f"{record.name}: {printable}"


_lock = threading.Lock()
_handler = _LastRecord()
_users = 0
_propagated: dict[str, bool] = {}


def capture_library_logs() -> None:
    """Start to keep the libraries' records; call `release_library_logs` once for each call."""
    global _users  # noqa: PLW0603 - loggers belong to the process, and so does the number of their users
    with _lock:
        _users += 1
        if _users > 1:
            return
        for name in _LOGGER_NAMES:
            logger = logging.getLogger(name)
            _propagated[name] = logger.propagate
            logger.propagate = False
            logger.addHandler(_handler)


def release_library_logs() -> None:
    """Put the libraries' loggers back when the last user is gone."""
    global _users  # noqa: PLW0603 - as above
    with _lock:
        _users -= 1
        if _users > 0:
            return
        for name in _LOGGER_NAMES:
            logger = logging.getLogger(name)
            logger.removeHandler(_handler)
            logger.propagate = _propagated.pop(name, True)
        _handler.problem = ""


def last_library_problem() -> str:
    """Return the newest warning of the libraries, at most about 200 printable characters, or ""."""
    return _handler.problem
