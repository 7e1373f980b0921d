"""Start the catalog and the gateway before it."""

from __future__ import annotations

import contextlib
import http.client
import random
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench.java import java_command

ANSWER_S = 60
# What belongs to one connection and not to the answer.
_OF_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})


@dataclass(slots=True)
class Gateway:
    """A proxy that hands on all that is asked, and now and then loses the answer. Of what it lost it asks half again by
    itself, as gateways and SDKs do: a commit then meets itself."""

    upstream: int
    lost_share: float
    draws: random.Random
    port: int = 0
    answers: int = 0
    lost: int = 0
    asked_again: int = 0
    is_lossy: bool = True
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fate(self) -> str:
        """Return what becomes of an answer: `answered`, `lost` or `asked again`."""
        with self._lock:
            self.answers += 1
            if not self.is_lossy or self.draws.random() >= self.lost_share:
                return "answered"
            self.lost += 1
            if self.draws.random() < 0.5:
                self.asked_again += 1
                return "asked again"
            return "lost"


@contextlib.contextmanager
def rest_catalog(folder: Path, *, lost_share: float = 0.0, seed: int = 0) -> Iterator[Gateway]:
    """Serve a catalog whose warehouse is the folder `lake` below ``folder``, for the time of the block."""
    options = ("-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
    command = [*java_command(Path(__file__).with_name("RestCatalog.java"), *options), str(folder)]
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, text=True) as java:
        try:
            port = java.stdout.readline() if java.stdout is not None else ""
            if not port.strip():
                raise SystemExit("the REST catalog did not start")
            with _gateway(Gateway(int(port), lost_share, random.Random(seed))) as gateway:
                yield gateway
        finally:
            java.kill()


@contextlib.contextmanager
def _gateway(gateway: Gateway) -> Iterator[Gateway]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _hand_on(self) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_CONNECTION}
            status, answered, body = _ask(gateway.upstream, self.command, self.path, data, headers)
            fate = gateway.fate()
            if fate == "asked again":
                status, answered, body = _ask(gateway.upstream, self.command, self.path, data, headers)
            elif fate == "lost":
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in answered:
                if name.lower() not in _OF_CONNECTION:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_DELETE = _hand_on  # noqa: N815  http.server's own names

        def log_message(self, *_: Any, **__: Any) -> None:
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Say nothing of a publisher who was killed."""

    with Server(("127.0.0.1", 0), Handler) as server:
        gateway.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, name="gateway", daemon=True)
        thread.start()
        try:
            yield gateway
        finally:
            server.shutdown()
            thread.join()


def _ask(
    port: int, method: str, path: str, data: bytes, headers: dict[str, str]
) -> tuple[int, list[tuple[str, str]], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        connection.request(method, path, body=data or None, headers=headers)
        response = connection.getresponse()
        return response.status, response.getheaders(), response.read()
    finally:
        connection.close()
