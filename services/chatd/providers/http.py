"""One HTTP request to a model endpoint: connection, bounds, and the names of what can go wrong on the way.

The rule of billing: an endpoint that was not reached has billed nothing. From the moment that the request is on the
wire, a broken or silent connection may stand for an answer that was made and lost.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, NoReturn

import aiohttp
import orjson
from aiohttp import http_exceptions
from yarl import URL

from chatd.completion import Completion, OnDelta
from chatd.config import HttpProviderTable
from chatd.providers.answer_parts import UnreadableAnswerError
from chatd.providers.json_text import NotJsonError, read_object
from chatd.providers.sse import Event, EventReader, EventTooLargeError
from chatd.providers.upstream_errors import error_words, from_http
from chatd.upstream_fault import UpstreamFault
from lakehouse.errors import Reason
from lakehouse.settings import read_secret

# A whole answer with its reasoning, tool calls and log probabilities.
BODY_BYTES_MAX: Final = 10 * 1000 * 1000
# A stream wraps each token into some hundred bytes: 1 MiB of text may come as this much.
STREAM_BYTES_MAX: Final = 128 * 1024 * 1024
_ERROR_BYTES_MAX: Final = 64 * 1024

# What aiohttp raises for an endpoint that cannot be reached, breaks off, falls silent or does not speak HTTP.
_HTTP_ERRORS: Final = (aiohttp.ClientError, ConnectionError, http_exceptions.HttpProcessingError)

ReadWhole = Callable[[dict[str, Any], str, float], Completion]
ReadStream = Callable[[aiohttp.ClientResponse, str, float, OnDelta], Awaitable[Completion]]


class HttpEndpoint:
    """Connections to one endpoint. Open it inside a running loop; one for the life of the process."""

    def __init__(self, table: HttpProviderTable, *, key_header: str, headers: Mapping[str, str]) -> None:
        """`key_header` is a header with `{key}` in its value, `Authorization: Bearer {key}`.

        Raises ConfigError where the key's file cannot be read.
        """
        self._key = read_secret(table.api_key, table.api_key_file)
        # Answers are small and endpoints are near or busy: compression would cost more than it saves, and a
        # compressed answer has no bound before it is unpacked.
        sent = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "lakehouse-chatd",
        }
        if self._key:
            name, _, value = key_header.partition(": ")
            sent[name] = value.format(key=self._key)
        # The deadline of a call is set around it; total stays off, and nothing is rounded up to whole seconds.
        connect_s, exact = table.connect_timeout_ms / 1000, float("inf")
        self._silence_s = table.read_timeout_ms / 1000
        self._unwatched = aiohttp.ClientTimeout(total=None, connect=connect_s, ceil_threshold=exact)
        self._watched = aiohttp.ClientTimeout(
            total=None, connect=connect_s, sock_read=self._silence_s, ceil_threshold=exact
        )
        self._session = aiohttp.ClientSession(
            # No limit here: the endpoint's ConcurrencyLimit is the one queue.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=table.keepalive_ms / 1000),
            headers={**sent, **headers, **table.headers},
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def ask(
        self,
        url: URL,
        body: Mapping[str, Any],
        model: str,
        deadline_s: float,
        on_delta: OnDelta | None,
        *,
        whole: ReadWhole,
        streamed: ReadStream,
    ) -> Completion:
        """Send `body` in one POST and read the completion: `streamed` where a listener is there and the endpoint
        streams, else `whole`, whose answer a listener gets in one piece. Both get `model` and the time of sending, on
        the clock of time.monotonic.

        An end before the response's own, by an exception or a cancellation, closes the connection, so that the endpoint
        sees that nobody waits. Redirects are not followed: they would carry the key elsewhere. The caller cancels at
        `deadline_s` (time.monotonic).

        Raises UpstreamFault, and lets through what `on_delta` raises.
        """
        data = orjson.dumps(body)
        sent = time.monotonic()
        # Silence until the deadline is not longer than what is allowed: there is nothing to watch for, and a watch
        # costs two timers a call.
        soon = deadline_s - time.monotonic() <= self._silence_s
        try:
            response = await self._session.post(
                url, data=data, allow_redirects=False, timeout=self._unwatched if soon else self._watched
            )
            try:
                if response.status != 200:
                    await self._raise_refusal(response)
                if on_delta is not None and is_event_stream(response):
                    completion = await streamed(response, model, sent, on_delta)
                    response.release()
                    return completion
                answer = parse_answer(await _read_body(response))
            except BaseException:
                response.close()
                raise
        except _HTTP_ERRORS as error:
            raise _named(error) from error
        if "error" in answer:
            self.raise_error_in(answer)
        try:
            completion = whole(answer, model, sent)
        except UnreadableAnswerError as error:
            raise bad_answer(str(error)) from None
        if on_delta is not None:
            await completion.hand_to(on_delta)
        return completion

    async def events(self, response: aiohttp.ClientResponse) -> AsyncIterator[list[Event]]:
        """The events of a stream, those of one network read together. Raises UpstreamFault where bounds are broken."""
        reader = EventReader()
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > STREAM_BYTES_MAX:
                raise bad_answer("the stream is too large")
            try:
                events = reader.feed(chunk)
            except EventTooLargeError:
                raise bad_answer("an event is too large") from None
            if events:
                yield events

    def raise_error_in(self, answer: Mapping[str, Any]) -> None:
        """Raise the UpstreamFault for an error object inside a 200; return where there is none."""
        error = answer.get("error")
        if error:
            raise from_http(200, error_words(answer), {}, hidden=self._key)

    async def _raise_refusal(self, response: aiohttp.ClientResponse) -> NoReturn:
        body = b""
        # The status is what counts: a body that breaks off does not change it.
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, http_exceptions.HttpProcessingError):
            body = await response.content.read(_ERROR_BYTES_MAX)
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError:
            answer = None
        raise from_http(response.status, error_words(answer), response.headers, hidden=self._key)


def is_event_stream(response: aiohttp.ClientResponse) -> bool:
    """Whether the endpoint streams. Some answer a wish for a stream with the whole answer at once."""
    return response.content_type == "text/event-stream"


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    """The whole body; its end gives the connection back. Raises UpstreamFault beyond BODY_BYTES_MAX."""
    content = response.content
    if content.is_eof():
        # Most answers come in one piece with their head.
        body = content.read_nowait()
    elif (response.content_length or 0) > BODY_BYTES_MAX:
        raise bad_answer("the body is too large")
    else:
        # A declared length bounds nothing: a body that was compressed all the same grows when it is unpacked.
        grown = bytearray()
        while len(grown) <= BODY_BYTES_MAX and (chunk := await content.readany()):
            grown += chunk
        body = bytes(grown)
    if len(body) > BODY_BYTES_MAX:
        raise bad_answer("the body is too large")
    return body


def _named(error: Exception) -> UpstreamFault:
    """What one of _HTTP_ERRORS is to chatd."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _unreachable(error, repeatable=False)
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
        return _unreachable(error, repeatable=True)
    if isinstance(error, aiohttp.ServerTimeoutError):
        return UpstreamFault(Reason.PROVIDER_TIMEOUT, billed=True, repeatable=True, detail="silent for read_timeout_ms")
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.InvalidURL | http_exceptions.HttpProcessingError):
        # aiohttp's word for bytes that are not HTTP: no status of the endpoint is ever raised this way.
        return bad_answer(f"not HTTP: {type(error).__name__}")
    return broke_off(f"the connection broke: {type(error).__name__}")


def parse_answer(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises UpstreamFault (PROVIDER_BAD_ANSWER)."""
    try:
        return read_object(body)
    except NotJsonError as error:
        raise bad_answer(str(error)) from None


def bad_answer(detail: str) -> UpstreamFault:
    """An answer that cannot be used; it was made, so it may be billed."""
    return UpstreamFault(Reason.PROVIDER_BAD_ANSWER, billed=True, detail=detail)


def broke_off(detail: str) -> UpstreamFault:
    """An answer that ended before its end."""
    return UpstreamFault(Reason.PROVIDER_FAILED, billed=True, repeatable=True, detail=detail)


def _unreachable(error: Exception, *, repeatable: bool) -> UpstreamFault:
    detail = f"no connection: {type(error).__name__}"
    return UpstreamFault(Reason.PROVIDER_UNREACHABLE, billed=False, repeatable=repeatable, detail=detail)
