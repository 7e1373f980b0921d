"""Two fakes over bare sockets, each a process of its own, cheap enough not to be what is measured.

    python -m bench.stack.endpoint model|sink

`model` speaks /chat/completions: the first path segment is its own latency in milliseconds (`/50/v1/chat/completions`),
and a request that holds a turn of the assistant, or candidates, gets the second answer. `sink` takes whatever an
exporter posts and answers as Langfuse does. `GET /counts` of either tells of the POSTs so far. The port is the first
line of the output.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Callable
from typing import Final, cast

import uvloop
from bench.stack import job

# A turn of the assistant's, and the facts of somebody who qualifies.
_SECOND: Final = (b'"role":"assistant"', b'"role": "assistant"', rb"\"worker_id\":\"W-")
Answer = Callable[[bytes, bytes], "tuple[bytes, float]"]


def model_answers() -> Answer:
    """Answers of the model: path and body in, response and its latency in seconds out."""
    first, second = (_response(200, b"application/json", _completion(text)) for text in job.answers())

    def answer(path: bytes, body: bytes) -> tuple[bytes, float]:
        latency_ms = int(path.split(b"/", 2)[1])
        again = any(mark in body for mark in _SECOND)
        return (second if again else first), latency_ms / 1000

    return answer


def sink_answers() -> Answer:
    """Answers of Langfuse to what exporters post."""
    spans = _response(200, b"application/x-protobuf", b"")
    batch = _response(207, b"application/json", b'{"successes":[],"errors":[]}')
    other = _response(202, b"application/json", b'{"message":"Accepted"}')

    def answer(path: bytes, _: bytes) -> tuple[bytes, float]:
        if path.endswith(b"/traces"):
            return spans, 0
        return (batch if path.endswith(b"/ingestion") else other), 0

    return answer


def _completion(text: str) -> bytes:
    completion = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": job.MODEL,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 1143, "completion_tokens": 612, "total_tokens": 1755},
    }
    return json.dumps(completion, ensure_ascii=False, separators=(",", ":")).encode()


def _response(status: int, kind: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (status, kind, len(body), body)


class Counts:
    """POSTs so far."""

    posts = 0
    body_bytes = 0


class Connection(asyncio.Protocol):
    """One keep-alive connection; requests one after the other, bodies by Content-Length or chunked."""

    def __init__(self, answer: Answer, counts: Counts) -> None:
        self._answer = answer
        self._counts = counts
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class, only by shape

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (taken := self._take()) is not None:
            method, path, body = taken
            if method == b"GET":
                told = {"posts": self._counts.posts, "bytes": self._counts.body_bytes}
                self._write(_response(200, b"application/json", json.dumps(told).encode()))
                continue
            self._counts.posts += 1
            self._counts.body_bytes += len(body)
            response, latency_s = self._answer(path, body)
            if latency_s:
                asyncio.get_running_loop().call_later(latency_s, self._write, response)
            else:
                self._write(response)

    def _take(self) -> tuple[bytes, bytes, bytes] | None:
        """Return the next whole request: method, path, body."""
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self._buffer[:end])
        method, path, _ = head.split(b" ", 2)
        lower = head.lower()
        start = end + 4
        if b"transfer-encoding: chunked" in lower:
            last = self._buffer.find(b"0\r\n\r\n", start)
            if last < 0:
                return None
            stop = last + 5
        else:
            at = lower.find(b"\r\ncontent-length:")
            length = int(lower[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            stop = start + length
            if len(self._buffer) < stop:
                return None
        body = bytes(self._buffer[start:stop])
        del self._buffer[:stop]
        return method, path, body

    def _write(self, response: bytes) -> None:
        if self._transport is not None:
            self._transport.write(response)


async def main(role: str) -> None:
    """Serve until the process is ended."""
    answer = model_answers() if role == "model" else sink_answers()
    counts = Counts()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answer, counts), "127.0.0.1", 0, family=socket.AF_INET)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
