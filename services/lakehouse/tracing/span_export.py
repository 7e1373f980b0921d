"""The queue of ended spans, and the thread that encodes and sends them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lakehouse.tracing.export_thread import ExportThread

if TYPE_CHECKING:
    from lakehouse.tracing.config import TracingConfig
    from lakehouse.tracing.losses import ExportCounts
    from lakehouse.tracing.masking import Capture
    from lakehouse.tracing.span import RecordedSpan
    from lakehouse.tracing.span_encoding import SpanEncoder

# What a span weighs besides its two texts.
_SPAN_BYTES: Final = 2_048
# Reverse proxies commonly stop bodies at 1 MiB: a request that has come to this much takes no further slice.
_REQUEST_BYTES: Final = 900_000
# After spans of so much memory, some 0.3 ms of work, the thread sleeps for a moment: the event loop, which needs the
# interpreter dozens of times for a request, would else wait up to Python's 5 ms for it each time.
_SLICE_BYTES: Final = 65_536
_SLICE_PAUSE_S: Final = 0.001


class SpanExport(ExportThread["tuple[RecordedSpan, int]"]):
    """Takes ended spans from any thread and exports them from one of its own.

    `submit` never waits for the network: the queue is bounded in spans and in bytes, and past either bound the
    newest span is dropped and counted. A batch goes out when `flush_spans` have gathered or
    `flush_interval_ms` have passed. While a batch is under way the queue is what holds back the rest.
    """

    def __init__(
        self,
        send: Callable[[bytes], bool],
        encoder: SpanEncoder,
        capture: Capture,
        counts: ExportCounts,
        config: TracingConfig,
    ) -> None:
        super().__init__(
            "lakehouse-tracing-spans",
            counts,
            dropped_at_shutdown="spans_dropped:shutdown",
            flush_interval_ms=config.flush_interval_ms,
        )
        self.text_chars_max = capture.chars_kept
        self._send = send
        self._encoder = encoder
        self._spans_max = config.queue_spans_max
        self._bytes_max = config.queue_bytes_max
        self._flush_spans = config.flush_spans
        self._queue_bytes = 0
        self._thread.start()

    def submit(self, span: RecordedSpan) -> None:
        """Queue an ended span, or drop and count it."""
        size = sys.getsizeof(span.input) + sys.getsizeof(span.output) + _SPAN_BYTES
        with self._lock:
            waiting = len(self._queue)
            if not self._closing and waiting < self._spans_max and self._queue_bytes + size <= self._bytes_max:
                self._queue.append((span, size))
                self._queue_bytes += size
                if waiting + 1 == self._flush_spans:
                    self._wake.set()
                return
            closing = self._closing
        self._counts.add("spans_dropped:shutdown" if closing else "spans_dropped:queue_full", 1)
        if not closing:
            self._counts.log_losses()  # here, since the export thread may be held up for good

    def queued(self) -> tuple[int, int]:
        """Return how many spans wait, and how many bytes they hold."""
        with self._lock:
            return len(self._queue), self._queue_bytes

    def finish_closing(self, timeout_s: float) -> None:
        """See ExportThread."""
        super().finish_closing(timeout_s)
        with self._lock:
            self._queue_bytes = 0

    def _export_queued(self) -> None:
        with self._lock:
            due = len(self._queue)
        while due > 0:
            taken = self._export_batch()
            if not taken:
                break
            self._counts.log_losses()
            due -= taken
            with self._lock:
                self._in_flight = 0
                if self._abandoned:
                    return
                if self._closing or self._flush_waiters or len(self._queue) >= self._flush_spans:
                    due = len(self._queue)
                if not self._queue:
                    self._idle.notify_all()
        self._counts.log_losses()

    def _export_batch(self) -> int:
        """Export at most `flush_spans` in one request; return how many were taken from the queue."""
        taken = 0
        encoded_spans = 0
        slices: list[bytes] = []
        request_bytes = 0
        while taken < self._flush_spans and request_bytes < _REQUEST_BYTES:
            spans = self._take_slice(self._flush_spans - taken)
            if not spans:
                break
            if taken and not self._closing and not self._flush_waiters:
                time.sleep(_SLICE_PAUSE_S)
            taken += len(spans)
            encoded, count = self._encoder.encode(spans)
            self._counts.add("spans_dropped:encode_failed", len(spans) - count)
            if count:
                slices.append(encoded)
                request_bytes += len(encoded)
                encoded_spans += count
        if slices:
            self._export(b"".join(slices), encoded_spans)
        return taken

    def _take_slice(self, spans_max: int) -> list[RecordedSpan]:
        """Take spans of `_SLICE_BYTES` from the queue, or one that is larger."""
        spans: list[RecordedSpan] = []
        slice_bytes = 0
        with self._lock:
            while self._queue and len(spans) < spans_max:
                span, size = self._queue[0]
                if spans and slice_bytes + size > _SLICE_BYTES:
                    break
                self._queue.popleft()
                self._queue_bytes -= size
                slice_bytes += size
                spans.append(span)
            self._in_flight += len(spans)
        return spans

    def _export(self, request: bytes, spans: int) -> None:
        try:
            exported = self._send(request)
        except Exception:  # noqa: BLE001 - whatever the sending does, the thread lives on
            exported = False
        with self._lock:
            if self._abandoned:
                return  # `finish_closing` has counted them
        self._counts.add("spans_exported" if exported else "spans_dropped:export_failed", spans)
