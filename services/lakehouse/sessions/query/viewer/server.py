"""Serves the pages by HTTP until it is asked to end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator

import uvicorn

from lakehouse.sessions.query.viewer.app import Pages
from lakehouse.sessions.query.viewer.guard import Guard
from lakehouse.sessions.query.viewer.source import SessionSource

CONNECTIONS_MAX = 64
_KEEP_ALIVE_S = 5
_HEAD_BYTES_MAX = 32 * 1024
_SHUTDOWN_S = 5


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an IP address; port 0 is a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(CONNECTIONS_MAX)
    except OSError:
        listener.close()
        raise
    return listener


async def serve(
    listener: socket.socket,
    source: SessionSource,
    *,
    stop: asyncio.Event,
    names: Iterable[str] = (),
    link_of: Callable[[str], str | None] = lambda _: None,
) -> None:
    """Serve until ``stop`` is set; then pages under way have a few seconds, and those that watch are ended at once.

    ``names``: by which host names, beside addresses and localhost, it may be called.
    """
    pages = Pages(source, link_of=link_of)
    config = uvicorn.Config(
        Guard(pages.app(), bound_to=listener.getsockname()[0], names=names),
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_SHUTDOWN_S,
        h11_max_incomplete_event_size=_HEAD_BYTES_MAX,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        pages.live.end()
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """Leaves the process's signals to whoever started it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
