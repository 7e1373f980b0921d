"""Builds the Langfuse client, isolated from whatever else the process does with OpenTelemetry.

This is the one module that imports `langfuse`, and it is imported only when tracing is on.
"""

from __future__ import annotations

import gzip
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
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

# The SDK's own queues stay empty; this only paces the loops that watch them.
_IDLE_INTERVAL_S: Final = 5.0

# As the SDK repeats a request with scores: after a pause of up to this, and once more.
_SCORE_PAUSES_S: Final = (1.0, 2.0)

# Where the SDK complains; `library_logs` keeps the newest complaint.
_sdk_logger = logging.getLogger("langfuse")


class LangfuseUnavailableError(Exception):
    """The client could not be set up; the message says why, for the log."""


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


@dataclass(frozen=True, slots=True)
class LangfuseConnection:
    """What our export threads need of the SDK: who we are, and its ways to Langfuse for bytes that are made here.

    Its own way from a span or a score to these bytes costs ten to thirty times as much (see `bench/tracing.py`).
    """

    resource: Resource
    scope: InstrumentationScope
    _client: Langfuse
    _provider: TracerProvider
    _http: httpx.Client
    _post_spans: Callable[[bytes], Any]
    _post_scores: Callable[[bytes], httpx.Response]

    def send_spans(self, request: bytes) -> bool:
        """Send an OTLP trace request, repeat it within the timeout, and return whether Langfuse took it."""
        return bool(self._post_spans(request).success)

    def send_scores(self, scores: bytes) -> bool:
        """Send a JSON array of scores, repeat it as the SDK does, and return whether Langfuse took it.

        Blocks for as long as that takes: three times the timeout and the pauses.
        """
        for pause_s in _SCORE_PAUSES_S:
            problem, may_pass = self._try_scores(scores)
            if not may_pass:
                break
            time.sleep(random.uniform(0.0, pause_s))  # noqa: S311 - so that many senders do not come back at once
        else:
            problem, _ = self._try_scores(scores)
        if problem:
            _sdk_logger.error("the scores were not taken: %s", problem)
        return not problem

    def _try_scores(self, scores: bytes) -> tuple[str, bool]:
        """Return what kept Langfuse from taking the scores, "" if nothing did, and whether that may pass."""
        try:
            response = self._post_scores(scores)
        except httpx.TransportError as error:
            return f"{type(error).__name__}: {error}", True
        status = response.status_code
        if response.is_success:
            if status == HTTPStatus.MULTI_STATUS:
                _sdk_logger.error("some scores were refused: %s", response.text)
            return "", False
        return f"status {status}", status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS

    def shutdown(self) -> None:
        """Stop the SDK's threads and its exit hook; may block for as long as a request takes."""
        self._client.shutdown()
        self._provider.shutdown()
        self._http.close()


def connect(config: TracingConfig, service: str) -> LangfuseConnection:
    """Create the client for one service. Nothing is sent.

    Raises:
        LangfuseUnavailableError: The SDK is switched off by its environment, the process has a client with this
            public key already, whose exporter the SDK would silently share, or OpenTelemetry's exporter is of a
            version that has no way for bytes.
    """
    names = {"service.name": service}
    if config.environment:
        names["langfuse.environment"] = config.environment
    if config.release:
        names["langfuse.release"] = config.release
    resource = Resource.create(cast("dict[str, Any]", names))
    provider = _IsolatedTracerProvider(resource)
    http = httpx.Client(timeout=config.timeout_ms / 1_000)
    client = Langfuse(
        public_key=config.public_key,
        secret_key=config.secret_key.get_secret_value(),
        base_url=config.host.rstrip("/"),
        timeout=cast("int", config.timeout_ms / 1_000),  # fractions work; the SDK only annotates it narrowly
        environment=config.environment or None,
        release=config.release or None,
        sample_rate=1.0,  # what is sent is sampled already
        flush_at=1,
        flush_interval=_IDLE_INTERVAL_S,
        tracer_provider=provider,
        httpx_client=http,
        otel_compression=_compression(config),
    )
    if provider.exporter is None or provider.scope is None:
        http.close()
        raise LangfuseUnavailableError(
            "the Langfuse SDK is switched off by its environment variables, or this process already has a "
            "client with the same public key"
        )
    return LangfuseConnection(
        resource=resource,
        scope=provider.scope,
        _client=client,
        _provider=provider,
        _http=http,
        _post_spans=_span_sender(provider.exporter),
        _post_scores=_score_sender(client),
    )


def _compression(config: TracingConfig) -> Any:
    if config.compression != "auto":
        return config.compression
    return "gzip" if urlsplit(config.host).scheme == "https" else "none"


def _span_sender(exporter: SpanExporter) -> Callable[[bytes], Any]:
    """Return the method of the SDK's exporter that sends a request's bytes: with its address, headers and repeats.

    Around it is what we do without. The outermost exporter copies every span and searches every text for base64
    media, which it would upload by API calls of its own: a way for a model's answer to make us send requests.
    """
    http_client = getattr(getattr(exporter, "_exporter", exporter), "_client", None)
    send = getattr(http_client, "export", None)
    if http_client is None or send is None:
        raise LangfuseUnavailableError("this version of OpenTelemetry's OTLP exporter has no way to send bytes")
    if getattr(http_client, "_compression", None) is Compression.GZIP and hasattr(http_client, "_compress"):
        http_client._compress = _fast_gzip  # noqa: SLF001 - there is no setting for its level
    return cast("Callable[[bytes], Any]", send)


def _fast_gzip(data: bytes) -> bytes:
    """Compress at level 1: level 9, the exporter's, costs several times as much and takes off a tenth more."""
    return gzip.compress(data, compresslevel=1, mtime=0)


def _score_sender(client: Langfuse) -> Callable[[bytes], httpx.Response]:
    """Return what sends the bytes of scores, with the address and headers of the SDK's API client.

    Its `scores.create` spends 90 us on each score before it sends it.
    """
    http_client = client.api._client_wrapper.httpx_client  # noqa: SLF001 - its public methods take objects alone

    def send(scores: bytes) -> httpx.Response:
        return http_client.request(
            "api/public/scores",
            method="POST",
            content=scores,
            headers={"content-type": "application/json"},
            request_options={"max_retries": 0},
        )

    return send
