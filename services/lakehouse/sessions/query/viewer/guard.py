"""In front of every page: whom it answers, what a browser may do with it, and what it does not do at all."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

_Message = dict[str, Any]
_Receive = Callable[[], Awaitable[Any]]
_Send = Callable[[Any], Awaitable[None]]
_App = Callable[[Any, _Receive, _Send], Awaitable[None]]

_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
# Nothing from outside, nothing inline, nobody's frame; forms go back to where they came from.
_HEADERS: Final = {
    b"content-security-policy": b"default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
    b" img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=()",
    b"cache-control": b"no-store",
}


class Guard:
    """An ASGI app around another one.

    Answered are GET and HEAD, for a host by which this server may be called: a page that somebody else's name server
    leads here (DNS rebinding) has that one's name. Other sites may link here and not load anything from here.
    """

    def __init__(self, app: _App, *, bound_to: str, names: Iterable[str]) -> None:
        """``bound_to``: the address listened at; ``names``: host names by which a person may call it as well."""
        self._app = app
        self._names = {name.lower().rstrip(".") for name in names} | {"localhost"}
        bound = ipaddress.ip_address(bound_to)
        self._any_address = not bound.is_loopback

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def guarded(message: _Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                set_already = {name.lower() for name, _ in headers}
                message["headers"] = [*headers, *((k, v) for k, v in _HEADERS.items() if k not in set_already)]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, guarded)
            return
        status, text, more = refusal
        body = text.encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode()), *more]
        await guarded({"type": "http.response.start", "status": status, "headers": headers})
        await guarded({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _refusal(self, scope: Any) -> tuple[int, str, list[tuple[bytes, bytes]]] | None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.lower(), []).append(value)
        if not self._is_ours(headers.get(b"host", [])):
            return 421, "This server is not called so: use the address that it printed, or --allow-host NAME.\n", []
        if scope["method"] not in ("GET", "HEAD"):
            return 405, "These pages are only read: GET and HEAD.\n", [(b"allow", b"GET, HEAD")]
        site, mode = headers.get(b"sec-fetch-site", [b"none"]), headers.get(b"sec-fetch-mode", [b"navigate"])
        if site[-1] == b"cross-site" and mode[-1] != b"navigate":
            return 403, "Another site may link here, and load nothing from here.\n", []
        return None

    def _is_ours(self, hosts: list[bytes]) -> bool:
        match = _HOST.fullmatch(hosts[0].decode("latin-1")) if len(hosts) == 1 else None
        if match is None:
            return False
        name = match[1].lower().rstrip(".")
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        # No name server can lead to an address that is written as one.
        return address.is_loopback or self._any_address
