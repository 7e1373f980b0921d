"""One HTTP request to a model endpoint, its bounds, and what comes back: a refusal, a whole answer or a stream."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import aiohttp
import orjson
from aiohttp import http_exceptions
from yarl import URL

from chatd.completion import Completion, OnDelta
from chatd.config import HttpProviderTable
from chatd.providers.answer_parts import ErrorInAnswerError, UnreadableAnswerError
from chatd.providers.answer_stream import AnswerStream, is_error, read_stream
from chatd.providers.connection import Proxy, open_session, proxy_of
from chatd.providers.endpoint_secrets import EndpointSecrets, Secrets
from chatd.providers.http_faults import HTTP_ERRORS, OLLAMAS_OWN, bad_answer, named_fault
from chatd.providers.json_text import BYTE_ORDER_MARK, NotJsonError, read_object
from chatd.providers.upstream_errors import error_words, from_http
from chatd.upstream_fault import UpstreamFault
from lakehouse.errors import Reason
from lakehouse.strict_json.rules import replace_surrogates_within

# A whole answer with its reasoning, tool calls and log probabilities.
BODY_BYTES_MAX: Final = 10 * 1000 * 1000
_ERROR_BYTES_MAX: Final = 64 * 1024

# What a stream of events can begin with.
_EVENT_STARTS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")

ReadWhole = Callable[[dict[str, Any], str, float], Completion]
OpenStream = Callable[[str, float], AnswerStream]


class HttpEndpoint:
    """Connections to one endpoint. Open it inside a running loop; one for the life of the process."""

    def __init__(self, table: HttpProviderTable, *, key_header: str, headers: Mapping[str, str]) -> None:
        """`key_header` is a header with `{key}` in its value, `Authorization: Bearer {key}`.

        Raises ConfigError where the file of a key, of an authority or of a password cannot be used.
        """
        self._secrets = EndpointSecrets(table, key_header=key_header)
        self._error_rules = table.errors
        # Answers are small and endpoints are near or busy: compression would cost more than it saves, and a
        # compressed answer has no bound before it is unpacked.
        sent = {
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "lakehouse-chatd",
        }
        sent |= {**headers, **table.headers}
        proxy = proxy_of(table)
        # What cannot change and no proxy sees goes with the session: that is cheaper than with each request.
        self._in_session = proxy is None and not self._secrets.watched
        self._fixed_headers = sent
        self._proxy_options = {} if proxy is None else self._through(proxy, table)
        # The deadline of a call is set around it; total stays off, and nothing is rounded up to whole seconds.
        connect_s, exact = table.connect_timeout_ms / 1000, float("inf")
        self._silence_s = table.read_timeout_ms / 1000
        self._unwatched = aiohttp.ClientTimeout(total=None, connect=connect_s, ceil_threshold=exact)
        self._watched = aiohttp.ClientTimeout(
            total=None, connect=connect_s, sock_read=self._silence_s, ceil_threshold=exact
        )
        self._request_headers: tuple[Secrets | None, Mapping[str, str]] = (None, {})
        self._session = open_session(table, {**sent, **self._secrets.current.headers} if self._in_session else {})

    def _through(self, proxy: Proxy, table: HttpProviderTable) -> dict[str, Any]:
        """How a request goes through `proxy`. To an endpoint without TLS the proxy's header goes with the request
        itself, for the proxy to take off; else with the tunnel's."""
        authorization = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
        if URL(table.base_url).scheme == "http":
            self._fixed_headers |= authorization
            authorization = {}
        return {"proxy": proxy.url, "proxy_headers": authorization}

    async def close(self) -> None:
        """Close all connections."""
        self._secrets.close()
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
        streamed: OpenStream,
    ) -> Completion:
        """Send `body` in one POST and read the completion: by `streamed` where the endpoint streams, asked or not, else
        by `whole`, whose answer a listener gets in one piece. Both get `model` and the time of sending, on the clock of
        time.monotonic. What comes decides, not its content type: both are wrong at times.

        An end before the response's own, by an exception or a cancellation, closes the connection, so that the endpoint
        sees that nobody waits. Redirects are not followed: they would carry the key elsewhere. The caller cancels at
        `deadline_s` (time.monotonic).

        Raises UpstreamFault, and lets through what `on_delta` raises.
        """
        data = orjson.dumps(body)
        secrets = None if self._in_session else await self._secrets.fresh()
        sent = time.monotonic()
        # Silence until the deadline is not longer than what is allowed: there is nothing to watch for, and a watch
        # costs two timers a call.
        soon = deadline_s - sent <= self._silence_s
        try:
            response = await self._session.post(
                url,
                data=data,
                headers=None if secrets is None else self._headers_with(secrets),
                allow_redirects=False,
                timeout=self._unwatched if soon else self._watched,
                **self._proxy_options,
            )
            try:
                if not 200 <= response.status < 300:
                    await self._raise_refusal(response, secrets)
                content = response.content
                # Most answers come in one piece with their head.
                first = content.read_nowait() if content.is_eof() else await _first_bytes(content)
                if first[:1] != b"{" and _begins_events(first, response):
                    answering = streamed(model, sent)
                    return await read_stream(response, first, answering, deadline_s, on_delta, self._fault_of)
                answer = parse_answer(first if content.at_eof() else await _read_body(response, first))
            except BaseException:
                response.close()
                raise
        except HTTP_ERRORS as error:
            raise named_fault(error) from error
        completion = self._read_whole(answer, whole, model, sent)
        if on_delta is not None:
            await completion.hand_to(on_delta)
        return completion

    def _headers_with(self, secrets: Secrets) -> Mapping[str, str]:
        """Return the headers of a request that names its own; made once for the same secrets."""
        made_of, headers = self._request_headers
        if made_of is not secrets:
            headers = {**self._fixed_headers, **secrets.headers}
            self._request_headers = secrets, headers
        return headers

    def _read_whole(self, answer: dict[str, Any], whole: ReadWhole, model: str, sent: float) -> Completion:
        if is_error(answer):
            raise self._fault_of(answer, begun=False)
        try:
            return whole(answer, model, sent)
        except ErrorInAnswerError as error:
            raise self._fault_of(error.words, begun=error.begun) from None
        except UnreadableAnswerError as error:
            raise bad_answer(str(error)) from None

    def _fault_of(self, answer: Mapping[str, Any], *, begun: bool) -> UpstreamFault:
        """Return the fault of an error that came with status 200. Once a part of an answer was made it may be billed,
        whatever the error's words."""
        fault = from_http(
            200,
            error_words(replace_surrogates_within(answer)),
            {},
            hidden=self._secrets.current.hidden,
            rules=self._error_rules,
        )
        if begun and not fault.billed:
            return UpstreamFault(Reason.PROVIDER_FAILED, billed=True, detail=fault.detail)
        return fault

    async def _raise_refusal(self, response: aiohttp.ClientResponse, secrets: Secrets | None) -> NoReturn:
        body = b""
        # The status is what counts: a body that breaks off does not change it.
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, http_exceptions.HttpProcessingError):
            body = await response.content.read(_ERROR_BYTES_MAX)
        try:
            answer = orjson.loads(body.removeprefix(BYTE_ORDER_MARK))
        except orjson.JSONDecodeError:
            answer = body.decode("utf-8", "replace")
        hidden = self._secrets.current.hidden
        key_changed = False
        if secrets is not None and response.status in {401, 403}:
            key_changed = await self._secrets.fresh(read=True) != secrets
            hidden = (*secrets.hidden, *self._secrets.current.hidden)
        fault = from_http(
            response.status,
            error_words(answer),
            response.headers,
            hidden=hidden,
            rules=self._error_rules,
            path=response.url.path,
        )
        fault.key_changed = key_changed
        raise fault


async def _first_bytes(content: aiohttp.StreamReader) -> bytes:
    """Return what has come first; enough of it to tell events from JSON."""
    first = await content.readany()
    while len(first) < 64 and not _head(first) and not content.at_eof():
        first += await content.readany()
    return first


def _begins_events(first: bytes, response: aiohttp.ClientResponse) -> bool:
    head = _head(first)
    if head[:1] in {b"{", b"["}:
        return False
    return head.startswith(_EVENT_STARTS) or response.content_type == "text/event-stream"


def _head(first: bytes) -> bytes:
    return first[:64].removeprefix(BYTE_ORDER_MARK).lstrip()


async def _read_body(response: aiohttp.ClientResponse, first: bytes) -> bytes:
    """Return the whole body, or more than BODY_BYTES_MAX of it; its end gives the connection back."""
    if (response.content_length or 0) > BODY_BYTES_MAX:
        raise bad_answer("the body is too large")
    # A declared length bounds nothing: a body that was compressed all the same grows when it is unpacked.
    grown = bytearray(first)
    while len(grown) <= BODY_BYTES_MAX and (chunk := await response.content.readany()):
        grown += chunk
    return bytes(grown)


def parse_answer(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`. Raises UpstreamFault (PROVIDER_BAD_ANSWER)."""
    if len(body) > BODY_BYTES_MAX:
        raise bad_answer("the body is too large")
    try:
        return read_object(body)
    except NotJsonError as error:
        with contextlib.suppress(NotJsonError):
            # Lines of JSON: the first one says whose they are.
            first = read_object(body.partition(b"\n")[0])
            if isinstance(first.get("done"), bool):
                raise bad_answer(OLLAMAS_OWN) from None
        raise bad_answer(str(error)) from None
