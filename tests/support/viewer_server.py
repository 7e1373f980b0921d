"""The pages of `lakehouse sessions serve` on a free port of this process, and a plain HTTP client for them."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import quote

from lakehouse.sessions.query.viewer.server import listen, serve
from lakehouse.sessions.query.viewer.source import LogSource, SessionSource


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def ids(self) -> list[str]:
        """The sessions of a list, in order."""
        return [unescape(each) for each in re.findall(r'<td class="id"><a href="[^"]*"><bdi>(.*?)</bdi>', self.text)]

    def link(self, text: str) -> str | None:
        """Return the address behind a link of this text."""
        found = re.search(rf'<a[^>]*href="([^"]*)"[^>]*>{text}</a>', self.text)
        return unescape(found[1]) if found else None


@dataclass(frozen=True)
class Site:
    """The server, while it runs."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, *, method: str = "GET", host: str | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers={"Host": host or f"127.0.0.1:{self.port}", **named})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    @contextmanager
    def events(self, query: str = "") -> Iterator[Iterator[tuple[str, str]]]:
        """Watch the live tail: each event and its data; heartbeats are passed over. The first is (`retry`, ms)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", f"/live?{query}")
            response = connection.getresponse()
            assert response.status == 200, response.read()
            yield _events(response)
        finally:
            connection.close()


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    fields: dict[str, str] = {}
    while line := response.readline():
        text = line.decode().rstrip("\n")
        if text:
            name, _, value = text.partition(": ")
            fields[name] = value
        elif "retry" in fields:
            yield "retry", fields.pop("retry")
        elif "event" in fields:
            data = fields["data"]
            yield fields["event"], json.loads(data) if data.startswith('"') else data
            fields = {}


@contextmanager
def running_site(
    log: Path | None = None, *, source: SessionSource | None = None, question_s: float = 30
) -> Iterator[Site]:
    """Serve a log, or what ``source`` has, for the time of the block."""
    listener = listen("127.0.0.1", 0)
    started: threading.Event = threading.Event()
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    asked = source if source is not None else LogSource(log or Path("none"), question_s=question_s)

    async def run() -> None:
        stop = asyncio.Event()
        ends.append((asyncio.get_running_loop(), stop))
        started.set()
        await serve(listener, asked, stop=stop, link_of=lambda trace: f"https://lf.example/trace/{quote(trace)}")

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="viewer")
    with listener:
        thread.start()
        started.wait(10)
        try:
            yield Site(listener.getsockname()[1])
        finally:
            loop, stop = ends[0]
            loop.call_soon_threadsafe(stop.set)
            thread.join(20)
            assert not thread.is_alive()
