"""One session, one tree in Langfuse: spans for all three services.

`Tracing` is what a service holds. `receiver` and `tree` show the trees without a Langfuse server; import them
from their own modules. `langfuse` is imported only when tracing is on, and only in this package.
"""

from lakehouse.tracing.config import DEFAULT_MASK_KEYS, DEFAULT_MASK_PATTERNS, TracingConfig
from lakehouse.tracing.span import NOOP_SPAN, Span
from lakehouse.tracing.tracing import GAUGES, Tracing

__all__ = ["DEFAULT_MASK_KEYS", "DEFAULT_MASK_PATTERNS", "GAUGES", "NOOP_SPAN", "Span", "Tracing", "TracingConfig"]
