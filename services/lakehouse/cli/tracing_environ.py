"""Environment that points the three services' tracing at a receiver on this machine."""

from __future__ import annotations

from lakehouse.cli.stack import SERVICES
from lakehouse.tracing.receiver import TraceReceiver


def tracing_environ(receiver: TraceReceiver) -> dict[str, str]:
    """For each service: the receiver's address, and keys that it does not look at. Spans come at once, not in
    batches, since a person is waiting for the tree."""
    environ = {}
    for service in SERVICES:
        prefix = f"{service.upper()}_TRACING__"
        environ[f"{prefix}HOST"] = receiver.url
        environ[f"{prefix}PUBLIC_KEY"] = f"pk-local-{service}"
        environ[f"{prefix}SECRET_KEY"] = "local"
        environ[f"{prefix}FLUSH_INTERVAL_MS"] = "100"
    return environ
