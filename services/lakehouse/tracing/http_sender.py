"""POSTs to one server over kept connections, each with a limit to its whole time and repeated where that may help.

A thread of its own runs the HTTP client, so that whoever waits for an answer is let go when the time is over, at
whatever point the server or the name server hangs: while connecting, between two bytes of a header, or in between.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import contextlib
import random
import socket
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from opentelemetry import context as otel_context

# Pauses double from this on; a part of each is random, so that many senders do not come back at once.
_FIRST_PAUSE_S: Final = 1.0
_ANSWER_BYTES_MAX: Final = 65_536
_PROBLEM_CHARS_MAX: Final = 200
_IDLE_CONNECTION_S: Final = 60.0
# How much longer than its own limit a POST may hold its caller: never used up but where the process comes to a stop.
_GRACE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a POST came to.

    Attributes:
        status: The HTTP status; 0 where no answer came.
        body: At most 64 KiB of the answer.
        problem: Why the server did not take it, at most 200 printable characters; "" where it did.
    """

    status: int
    body: bytes = b""
    problem: str = ""

    @property
    def is_final(self) -> bool:
        """True where the same body would be answered alike a moment later."""
        return bool(self.status) and self.status < 500 and self.status != HTTPStatus.TOO_MANY_REQUESTS


class HttpSender:
    """Sends bodies to the paths of one server; safe from any thread but the one of an event loop, which would wait.

    Proxies are those of the environment (`HTTPS_PROXY`, `NO_PROXY`). Redirects are not followed: the credentials go
    to no other server.
    """

    def __init__(
        self, base_url: str, *, login: str, password: str, headers: Mapping[str, str], timeout_ms: int
    ) -> None:
        """Start the thread; nothing is sent. `timeout_ms` bounds a POST with its repeats and pauses."""
        self._base_url = base_url.rstrip("/")
        credentials = base64.b64encode(f"{login}:{password}".encode()).decode()
        self._headers = {**headers, "Authorization": f"Basic {credentials}"}
        self._proxy = _proxy_of(self._base_url)
        self._timeout_s = timeout_ms / 1_000
        self._running: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]
        self._running = concurrent.futures.Future()
        self._session: aiohttp.ClientSession
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="lakehouse-tracing-http", daemon=True)
        self._thread.start()

    def post(self, path: str, body: bytes, *, headers: Mapping[str, str], tries_max: int) -> Answer:
        """Send a body and return what came of it.

        It is sent again after 429, 5xx and where no answer came, at most `tries_max` times in all and within the
        time limit: after the pause that the server's Retry-After asks for, else after 0.5 to 1 s, twice that, and so
        on. A pause that the time limit does not leave room for ends it at once.
        """
        try:
            loop, _ = self._running.result(self._timeout_s)
            with self._lock:
                if self._closed:
                    return Answer(0, problem="the connection is closed")
                posting = asyncio.run_coroutine_threadsafe(self._post(path, body, headers, tries_max), loop)
            return posting.result(self._timeout_s + _GRACE_S)
        except (concurrent.futures.CancelledError, TimeoutError):
            return Answer(0, problem="given up at the shutdown")

    def close(self, timeout_s: float) -> None:
        """Break off what is under way, close the connections and wait for the thread at most `timeout_s`."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._running.add_done_callback(_stop)
        self._thread.join(max(timeout_s, 0.0))

    def _run(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._serve())
        except Exception as error:  # noqa: BLE001 - it is reported to everyone who sends
            if not self._running.done():
                self._running.set_exception(error)

    async def _serve(self) -> None:
        stopped = asyncio.Event()
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=_Resolver(), keepalive_timeout=_IDLE_CONNECTION_S),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding",),
            proxy=self._proxy,
        ) as self._session:
            self._running.set_result((asyncio.get_running_loop(), stopped))
            await stopped.wait()
            posts = asyncio.all_tasks() - {asyncio.current_task()}
            for post in posts:
                post.cancel()
            await asyncio.gather(*posts, return_exceptions=True)

    async def _post(self, path: str, body: bytes, headers: Mapping[str, str], tries_max: int) -> Answer:
        # Instrumentation of the HTTP library must not trace the export of traces. The context is this task's.
        otel_context.attach(otel_context.set_value("suppress_instrumentation", value=True))
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + self._timeout_s
        for number in range(tries_max):
            answer, pause_s = await self._try(path, body, headers, deadline_s - clock(), number)
            if pause_s is None or number + 1 == tries_max or pause_s >= deadline_s - clock():
                break
            await asyncio.sleep(pause_s)
        return answer

    async def _try(
        self, path: str, body: bytes, headers: Mapping[str, str], timeout_s: float, number: int
    ) -> tuple[Answer, float | None]:
        """Return the answer, and after what pause to try again; None where that would not help."""
        pause_s = _FIRST_PAUSE_S * 2**number * random.uniform(0.5, 1.0)  # noqa: S311 - see there
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.post(
                    f"{self._base_url}{path}",
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as response,
            ):
                content = await _read(response.content)
        except TimeoutError:
            return Answer(0, problem=f"no answer within {self._timeout_s:g} s"), None
        except (aiohttp.ClientError, OSError) as error:
            # A kept connection that the server has closed meanwhile is replaced at once.
            return Answer(0, problem=printable(f"{type(error).__name__}: {error}")), pause_s if number else 0.0
        status = response.status
        if response.ok and status < HTTPStatus.MULTIPLE_CHOICES:
            return Answer(status, content), None
        said = content[:_PROBLEM_CHARS_MAX].decode(errors="replace")
        answer = Answer(status, content, printable(f"status {status}{_advice(status)}" + (f": {said}" if said else "")))
        if answer.is_final:
            return answer, None
        asked_s = retry_after_s(response.headers.get("Retry-After", ""), time.time())
        return answer, pause_s if asked_s is None else asked_s


def retry_after_s(value: str, now_unix_s: float) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, given as a number or as a date; None if neither."""
    value = value.strip()
    if value.isdecimal() and len(value) < 10:
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - now_unix_s, 0.0)
    except (TypeError, ValueError, OverflowError):
        return None


def printable(text: str) -> str:
    """Return the beginning of a text as one line that a terminal can show: at most 200 characters."""
    return "".join(c if c.isprintable() else " " for c in text[:_PROBLEM_CHARS_MAX]).strip()


def _proxy_of(url: str) -> str | None:
    """Return the environment's proxy for a URL. aiohttp's own look-up would read ~/.netrc before each request."""
    parts = urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _advice(status: int) -> str:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return " (check public_key and secret_key)"
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return " (a limit below 1 MiB stands in between: lower flush_spans or capture_bytes_max)"
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST or status == HTTPStatus.NOT_FOUND:
        return " (check host)"
    return ""


async def _read(stream: aiohttp.StreamReader) -> bytes:
    """Return a whole answer, so that its connection can be used again; a longer one is cut and costs its connection."""
    content = bytearray()
    while len(content) < _ANSWER_BYTES_MAX and (chunk := await stream.read(_ANSWER_BYTES_MAX - len(content))):
        content += chunk
    return bytes(content)


def _stop(running: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    if running.exception() is None:
        loop, stopped = running.result()
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(stopped.set)


class _Resolver(AbstractResolver):
    """Asks the name server in a daemon thread, one at a time: an executor's thread would hold up the process's exit
    for as long as the name server hangs."""

    def __init__(self) -> None:
        self._asking: dict[tuple[str, int, int], asyncio.Future[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        question = (host, port, int(family))
        asked = self._asking.get(question)
        if asked is None:
            loop = asyncio.get_running_loop()
            asked = self._asking[question] = loop.create_future()
            threading.Thread(
                target=_ask, args=(loop, asked, host, port, family), name="lakehouse-tracing-names", daemon=True
            ).start()
            asked.add_done_callback(lambda _: self._asking.pop(question, None))
        return await asyncio.shield(asked)

    async def close(self) -> None:
        for asked in self._asking.values():
            asked.cancel()


def _ask(
    loop: asyncio.AbstractEventLoop,
    asked: asyncio.Future[list[ResolveResult]],
    host: str,
    port: int,
    family: socket.AddressFamily,
) -> None:
    found: list[ResolveResult] = []
    problem: OSError | None = None
    try:
        for kind, _, protocol, _, address in socket.getaddrinfo(host, port, family, type=socket.SOCK_STREAM):
            flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
            found.append(
                ResolveResult(
                    hostname=host, host=str(address[0]), port=int(address[1]), family=kind, proto=protocol, flags=flags
                )
            )
    except OSError as error:
        problem = error

    def answer() -> None:
        if asked.done():
            return
        if problem is None:
            asked.set_result(found)
        else:
            asked.set_exception(problem)

    with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(answer)
