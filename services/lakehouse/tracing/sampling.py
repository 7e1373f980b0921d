"""Which traces are recorded."""

from __future__ import annotations

import hashlib
from typing import Final

_POINTS: Final = 2**64


class TraceSampler:
    """Decides by the trace id alone, so that all processes with one rate decide alike.

    The id is hashed first. OpenTelemetry's ratio sampler compares the id's low 64 bits as they are, which is
    wrong for ids that callers make: those of a UUID start with the bits 10, so that every UUID lies between one
    half and three quarters of the range, and half a rate would record none of them.
    """

    def __init__(self, rate: float) -> None:
        """`rate` is the share of traces to record, 0 to 1."""
        self._bound = round(rate * _POINTS)

    def is_sampled(self, trace_id: str) -> bool:
        """Return True when the trace with this id, 32 hex digits, is recorded."""
        if self._bound >= _POINTS:
            return True
        point = int.from_bytes(hashlib.blake2b(bytes.fromhex(trace_id), digest_size=8).digest())
        return point < self._bound
