"""One fetch of an issuer's keys: from the URL that is configured and nowhere else, bounded in size and time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection, HTTPMessage, HTTPSConnection
from pathlib import Path
from typing import IO, Any, Final, cast

from lakehouse.server.callers.key_set import KEY_SET_BYTES_MAX

_STEP_TIMEOUT_S: Final = 5.0
_FETCH_TIMEOUT_S: Final = 10.0
_CHUNK_BYTES: Final = 64 * 1024


def fetch(url: str, ca_file: Path | None) -> bytes:
    """Return what the URL answers with 200; blocks for ten seconds at most, plus a step. Raises OSError, ValueError and
    what http.client raises."""
    connections: list[HTTPConnection] = []
    handlers: list[Any] = [_NoRedirect()]
    if url.startswith("https:"):
        handlers.append(_Encrypted(connections, ssl.create_default_context(cafile=ca_file)))
    else:
        handlers += [_Plain(connections), urllib.request.ProxyHandler({})]  # loopback
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310  the table checks it
    # A step's own timeout begins anew with each byte: whoever sends one now and then would hold the thread for ever.
    # The library reads the whole head in one step of ours.
    until_s = time.monotonic() + _FETCH_TIMEOUT_S
    cut = threading.Timer(_FETCH_TIMEOUT_S, _cut, (connections,))
    cut.daemon = True
    cut.start()
    try:
        data = b""
        with urllib.request.build_opener(*handlers).open(request, timeout=_STEP_TIMEOUT_S) as answer:
            if answer.status != 200:
                raise ValueError(f"answered {answer.status}")
            while True:
                chunk = answer.read1(_CHUNK_BYTES)
                if time.monotonic() >= until_s:
                    raise ValueError("took too long to answer")
                if not chunk:
                    return data
                data = bounded(data + chunk)
    finally:
        cut.cancel()


def bounded(data: bytes) -> bytes:
    """Return the data. Raises ValueError where they are longer than a key set may be."""
    if len(data) > KEY_SET_BYTES_MAX:
        raise ValueError(f"is longer than {KEY_SET_BYTES_MAX} bytes")
    return data


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Keys come from where the configuration says, and from nowhere that an answer names."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def _noted(into: list[HTTPConnection], make: Callable[..., HTTPConnection]) -> Callable[..., HTTPConnection]:
    """Return `make`, which then puts each connection that it makes into the list."""

    def made(*arguments: Any, **options: Any) -> HTTPConnection:
        into.append(make(*arguments, **options))
        return into[-1]

    return made


class _Plain(urllib.request.HTTPHandler):
    def __init__(self, connections: list[HTTPConnection]) -> None:
        super().__init__()
        self._make = _noted(connections, HTTPConnection)

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(cast("Any", self._make), req)


class _Encrypted(urllib.request.HTTPSHandler):
    def __init__(self, connections: list[HTTPConnection], context: ssl.SSLContext) -> None:
        super().__init__()
        self._make = _noted(connections, partial(HTTPSConnection, context=context))

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(cast("Any", self._make), req)


def _cut(connections: list[HTTPConnection]) -> None:
    for connection in tuple(connections):
        sock: socket.socket | None = connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                # The socket's own, not TLS's, which another thread must not touch.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
