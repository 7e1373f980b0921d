"""What Langfuse asks of those who send to it, as far as its SDK says so, and the two POSTs that follow it.

With `span_encoding` and `score_export` it is what imports `langfuse`, only while tracing is on, and of it the public
names alone. No client of the SDK is made: it would start threads and an exit hook of its own, and its ways from a span
or a score to the bytes cost ten to thirty times as much (see `bench/tracing.py`).
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import langfuse
from langfuse import LangfuseOtelSpanAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from lakehouse.tracing.http_sender import Answer, HttpSender, printable
from lakehouse.tracing.otlp import SCORES_PATH, TRACES_PATH

if TYPE_CHECKING:
    from lakehouse.tracing.config import TracingConfig

# The scope by which Langfuse knows the SDK's spans, and the version of its ingestion that writes them at once: without
# both, spans show up after some ten minutes.
_SCOPE_NAME: Final = "langfuse-sdk"
_INGESTION_VERSION: Final = "4"

# As often as the SDK sends spans and scores, its first time included.
_SPAN_TRIES_MAX: Final = 6
_SCORE_TRIES_MAX: Final = 3


class LangfuseUnavailableError(Exception):
    """Tracing could not be set up; the message says why, for the log."""


class LangfuseConnection:
    """One service's way to Langfuse.

    Attributes:
        resource, scope: Who sends the spans.
    """

    def __init__(self, config: TracingConfig, service: str) -> None:
        """Nothing is sent yet.

        Raises:
            LangfuseUnavailableError: LANGFUSE_TRACING_ENABLED switches tracing off.
        """
        if os.environ.get("LANGFUSE_TRACING_ENABLED", "true").lower() == "false":
            raise LangfuseUnavailableError("the environment has LANGFUSE_TRACING_ENABLED=false")
        names = {"service.name": service}
        if config.environment:
            names[LangfuseOtelSpanAttributes.ENVIRONMENT] = config.environment
        if config.release:
            names[LangfuseOtelSpanAttributes.RELEASE] = config.release
        self.resource = Resource.create(cast("dict[str, Any]", names))
        self.scope = InstrumentationScope(_SCOPE_NAME, langfuse.__version__, None, {"public_key": config.public_key})
        self._gzip = config.compression == "gzip" or (
            config.compression == "auto" and urlsplit(config.host).scheme == "https"
        )
        self._scores_singly = False
        self._problem = ""
        self._sender = HttpSender(
            config.host,
            login=config.public_key,
            password=config.secret_key.get_secret_value(),
            headers={
                "x-langfuse-sdk-name": "python",
                "x-langfuse-sdk-version": langfuse.__version__,
                "x-langfuse-public-key": config.public_key,
                "x-langfuse-ingestion-version": _INGESTION_VERSION,
            },
            timeout_ms=config.timeout_ms,
        )

    @property
    def last_problem(self) -> str:
        """Why the newest request that failed did so, at most some 200 printable characters, or ""."""
        return self._problem

    def send_spans(self, request: bytes) -> bool:
        """Send an OTLP trace request, again where that may help, and return whether Langfuse took it."""
        headers = {"Content-Type": "application/x-protobuf"}
        if self._gzip:
            headers["Content-Encoding"] = "gzip"
            # Level 9 costs several times as much and takes off a tenth more.
            request = gzip.compress(request, compresslevel=1, mtime=0)
        answer = self._sender.post(TRACES_PATH, request, headers=headers, tries_max=_SPAN_TRIES_MAX)
        return self._was_taken("spans", answer)

    def send_scores(self, scores: Sequence[bytes]) -> list[bool]:
        """Send scores, each an object of JSON with an id, and return of each whether Langfuse took it.

        They go as one array. Servers before 4.59 know single objects alone and answer an array with 400: once one of
        them has taken an object, all that follows goes to it singly.
        """
        if not self._scores_singly:
            answer = self._post_scores(b"[" + b",".join(scores) + b"]")
            if answer.status != HTTPStatus.BAD_REQUEST:
                return self._taken_of(scores, answer)
            if self._post_scores(scores[0]).problem:
                self._was_taken("scores", answer)
                return [False] * len(scores)
            self._scores_singly = True
            return [True, *self._send_singly(scores[1:])]
        return self._send_singly(scores)

    def close(self, timeout_s: float) -> None:
        """Break off what is under way and close the connections, within `timeout_s`."""
        self._sender.close(timeout_s)

    def _send_singly(self, scores: Sequence[bytes]) -> list[bool]:
        taken: list[bool] = []
        for score in scores:
            answer = self._post_scores(score)
            taken.append(self._was_taken("scores", answer))
            if answer.problem and not answer.is_final:
                break  # it would keep each of the others waiting as long
        return taken + [False] * (len(scores) - len(taken))

    def _post_scores(self, body: bytes) -> Answer:
        return self._sender.post(
            SCORES_PATH, body, headers={"Content-Type": "application/json"}, tries_max=_SCORE_TRIES_MAX
        )

    def _taken_of(self, scores: Sequence[bytes], answer: Answer) -> list[bool]:
        if not self._was_taken("scores", answer):
            return [False] * len(scores)
        if answer.status != HTTPStatus.MULTI_STATUS:
            return [True] * len(scores)
        self._problem = printable(f"some scores were refused: {answer.body.decode(errors='replace')}")
        refused = _refused_ids(answer.body)
        return [json.loads(score)["id"] not in refused for score in scores]

    def _was_taken(self, what: str, answer: Answer) -> bool:
        if answer.problem:
            self._problem = f"the {what} were not taken: {answer.problem}"
        return not answer.problem


def _refused_ids(body: bytes) -> frozenset[str]:
    """Return the ids of the scores that an answer with status 207 names as refused, as far as it names any."""
    try:
        errors = json.loads(body)["errors"]
        return frozenset(str(error["id"]) for error in errors if "id" in error)
    except (ValueError, RecursionError, KeyError, TypeError):
        return frozenset()
