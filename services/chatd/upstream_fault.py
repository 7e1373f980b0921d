"""``UpstreamFault``: how a call to a model endpoint failed, before it becomes a status."""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse.errors import Fault, Reason, Violation


@dataclass(slots=True, eq=False)
class UpstreamFault(Exception):  # noqa: N818  as lakehouse.errors.Fault
    """One failed call. Providers raise it; ``endpoint`` decides on repeating it, ``routes`` on another target."""

    reason: Reason
    billed: bool
    """Whether the call may have been billed: the endpoint had the request and did not refuse it outright."""
    repeatable: bool = False
    """Whether the same call may succeed a moment later."""
    retry_after_ms: int | None = None
    """What the endpoint asked callers to wait."""
    detail: str = ""
    """For chatd's own log, never for a caller: what happened, and the endpoint's words, cut and without keys."""
    unquoted: str = ""
    """`detail` without the endpoint's words; "" where there are none in it."""
    field: str = ""
    """For BAD_REQUEST: the field of CompleteRequest that the endpoint named."""
    unsupported: str = ""
    """What the endpoint says that it cannot bear, of a refusal that was not billed, by a neutral name: `temperature`,
    `top_p`, `seed`, `stop`, `max_tokens`, `response_format`, `response_schema` (its json_schema form alone),
    `stream_options`, `system_role`, `stream_only` (it only streams), `tools`, `tool_choice`, `logprobs`; or the
    endpoint's own name of another field of the body."""

    key_changed: bool = False
    """Whether the key that was refused has been replaced since: the same call with the new one may succeed."""
    generated: str | None = None
    """Not None: the endpoint says that the model made no valid output, and this is what it made, as far as it shows it.
    Such a fault is an answer with the finish reason MALFORMED."""
    no_connection: bool = False
    """Whether nobody was reached at all: that speaks against the endpoint, not against the model."""

    def __post_init__(self) -> None:
        Exception.__init__(self, f"{self.reason}: {self.detail}")

    def to_fault(self) -> Fault:
        """Return the fault that the caller gets: the reason's fixed sentence and, where waiting helps, for how long."""
        if self.reason is Reason.BAD_REQUEST:
            words = "the model endpoint refused the request as invalid; chatd's log has its words"
            return Fault(self.reason, where="chatd", violations=(Violation(self.field or "request", words),))
        delay = self.retry_after_ms
        return Fault(self.reason, where="chatd", retry_delay_ms=None if delay is None else max(delay, 1))
