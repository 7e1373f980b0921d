"""Builds the Langfuse client, isolated from whatever else the process does with OpenTelemetry.

This is the one module that imports `langfuse`, and it is imported only when tracing is on.
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import httpx
from langfuse import Langfuse
from opentelemetry.exporter.otlp.common.http import Compression
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

if TYPE_CHECKING:
    from opentelemetry import trace as trace_api

    from lakehouse.tracing.config import TracingConfig

# The score consumer of the SDK sends what it has when told to flush; this only paces its idle loop.
_IDLE_INTERVAL_S: Final = 5.0
SCORES_PER_REQUEST_MAX: Final = 96


class LangfuseUnavailableError(Exception):
    """The client could not be set up; the message says why, for the log."""


class _FixedResource(Resource):
    """A resource that knows its hash.

    The exporter hashes a resource for every span, which encodes all of its attributes as JSON each time: a
    twelfth of the cost of a span.
    """

    def __init__(self, resource: Resource) -> None:
        super().__init__(resource.attributes, resource.schema_url)
        self._hash = super().__hash__()

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Resource) and super().__eq__(other))

    def __hash__(self) -> int:
        return self._hash


class _IsolatedTracerProvider(TracerProvider):
    """The provider that we hand to the client, so that it neither takes nor sets the global one.

    It keeps what the client registers: the processor that holds Langfuse's exporter, and the tracer whose scope
    marks spans as Langfuse's. No span is started through it.
    """

    def __init__(self, resource: Resource) -> None:
        super().__init__(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        self.exporter: SpanExporter | None = None
        self.scope: InstrumentationScope | None = None

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        super().add_span_processor(span_processor)
        if isinstance(span_processor, BatchSpanProcessor):
            self.exporter = span_processor.span_exporter

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> trace_api.Tracer:
        self.scope = InstrumentationScope(
            instrumenting_module_name, instrumenting_library_version, schema_url, attributes
        )
        return super().get_tracer(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)


class _ScoreClient(httpx.Client):
    """The SDK's HTTP client for scores, which it reports on by logging alone; this one keeps the outcome."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout=timeout_s)
        self._lock = threading.Lock()
        self._delivered = False

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        self._record(delivered=False)
        response = super().send(request, **options)
        self._record(delivered=response.is_success)
        return response

    def take_delivered(self) -> bool:
        """Return whether the last request since the last call succeeded."""
        with self._lock:
            delivered, self._delivered = self._delivered, False
            return delivered

    def _record(self, *, delivered: bool) -> None:
        with self._lock:
            self._delivered = delivered


@dataclass(frozen=True, slots=True)
class LangfuseConnection:
    """What our export threads need of the SDK."""

    client: Langfuse
    exporter: SpanExporter
    resource: Resource
    scope: InstrumentationScope
    scores: _ScoreClient
    _provider: TracerProvider

    def send_scores(self, scores: list[Mapping[str, Any]]) -> bool:
        """Send at most `SCORES_PER_REQUEST_MAX` scores (keyword arguments of `create_score`) in one request.

        Blocks for as long as the SDK repeats a request: three times the timeout and its pauses.
        """
        for score in scores:
            self.client.create_score(**score)
        self.client.flush()
        return self.scores.take_delivered()

    def shutdown(self) -> None:
        """Stop the SDK's threads and its exit hook; may block as `send_scores` does."""
        self.client.shutdown()
        self._provider.shutdown()
        self.scores.close()


def connect(config: TracingConfig, service: str) -> LangfuseConnection:
    """Create the client for one service. Nothing is sent.

    Raises:
        LangfuseUnavailableError: The SDK is switched off by its environment, or the process has a client with
            this public key already, whose exporter the SDK would silently share.
    """
    names = {"service.name": service}
    if config.environment:
        names["langfuse.environment"] = config.environment
    if config.release:
        names["langfuse.release"] = config.release
    resource = _FixedResource(Resource.create(cast("dict[str, Any]", names)))
    provider = _IsolatedTracerProvider(resource)
    scores = _ScoreClient(config.timeout_ms / 1_000)
    client = Langfuse(
        public_key=config.public_key,
        secret_key=config.secret_key,
        base_url=config.host.rstrip("/"),
        timeout=cast("int", config.timeout_ms / 1_000),  # fractions work; the SDK only annotates it narrowly
        environment=config.environment or None,
        release=config.release or None,
        sample_rate=1.0,  # the spans that reach it are sampled already
        flush_at=SCORES_PER_REQUEST_MAX,
        flush_interval=_IDLE_INTERVAL_S,
        tracer_provider=provider,
        httpx_client=scores,
        otel_compression=_compression(config),
    )
    if provider.exporter is None or provider.scope is None:
        scores.close()
        raise LangfuseUnavailableError(
            "the Langfuse SDK is switched off by its environment variables, or this process already has a "
            "client with the same public key"
        )
    return LangfuseConnection(
        client=client,
        exporter=_with_fast_gzip(_without_media_uploads(provider.exporter)),
        resource=resource,
        scope=provider.scope,
        scores=scores,
        _provider=provider,
    )


def _compression(config: TracingConfig) -> Any:
    if config.compression != "auto":
        return config.compression
    return "gzip" if urlsplit(config.host).scheme == "https" else "none"


def _without_media_uploads(exporter: SpanExporter) -> SpanExporter:
    """Return the OTLP exporter inside the SDK's transforming one.

    The outer one copies every span and searches every text for base64 media, which it would upload by API calls
    of its own: a third of the export's cost, and a way for a model's answer to make us send requests. Should a
    later SDK arrange this differently, the outer exporter does the same work, only dearer.
    """
    inner = getattr(exporter, "_exporter", None)
    return inner if isinstance(inner, SpanExporter) else exporter


def _with_fast_gzip(exporter: SpanExporter) -> SpanExporter:
    """Make an exporter that compresses do it at zlib's level 1.

    The library's level 9 costs as much as all the rest of the export and takes off a tenth more. Should a later one
    arrange this differently, it compresses at its own level.
    """
    http_client = getattr(exporter, "_client", None)
    if (
        http_client is not None
        and getattr(http_client, "_compression", None) is Compression.GZIP
        and hasattr(http_client, "_compress")
    ):
        http_client._compress = _fast_gzip  # noqa: SLF001 - there is no setting for it
    return exporter


def _fast_gzip(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=1, mtime=0)
