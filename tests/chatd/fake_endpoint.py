"""A model endpoint that does exactly what a test says, down to the byte: raw asyncio, no HTTP library.

Loaded by the conftest files (tests are no packages). The bodies that it sends in earnest are held against the official
SDKs in tests/conformance.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(slots=True)
class Exchange:
    """One request and the connection on which it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def send(self, *pieces: bytes) -> None:
        """Each piece reaches the other side as a read of its own, as far as TCP allows."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0.005)

    async def closed_by_peer(self) -> None:
        """Return when the client has closed its side."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """Close with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Behaviour = Callable[[Exchange], Awaitable[None]]


@dataclass(slots=True)
class FakeEndpoint:
    """Request n gets behaviour n; the last one answers all that follow."""

    behaviours: Sequence[Behaviour] = ()
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0
    peer_closed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client closed its connection while a behaviour was running."""
    port: int = 0
    tls: ssl.SSLContext | None = None
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=64 * 1024 * 1024, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while (exchange := await _read_request(reader, writer)) is not None:
                self.exchanges.append(exchange)
                await self.behaviours[min(len(self.exchanges), len(self.behaviours)) - 1](exchange)
                if writer.is_closing():
                    return
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            if reader.at_eof() or writer.is_closing():
                self.peer_closed.set()
            writer.close()
            self._tasks.discard(task)


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    request_line, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = request_line.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Exchange(method, path, headers, body, reader, writer)


# Behaviours -----------------------------------------------------------------------------------------------------------


def raw(*pieces: bytes, close: bool = False) -> Behaviour:
    """Send these bytes; then keep the connection, or close it."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(*pieces)
        if close:
            exchange.writer.close()

    return behave


def respond(
    status: int = 200, body: bytes | str | object = b"", content_type: str = "application/json", **headers: str
) -> Behaviour:
    """Return a whole response; a body that is neither bytes nor text is sent as JSON. `_` in header names stands for
    `-`."""
    if isinstance(body, str):
        body = body.encode()
    elif not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} Status", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def error(
    status: int, message: str = "no", *, kind: str = "", code: str | None = None, param: str = "", **headers: str
) -> Behaviour:
    """Return a refusal in OpenAI's form."""
    return respond(status, {"error": {"message": message, "type": kind, "code": code, "param": param}}, **headers)


def hang() -> Behaviour:
    """Read the request and say nothing until the client goes away."""

    async def behave(exchange: Exchange) -> None:
        await exchange.closed_by_peer()

    return behave


def close() -> Behaviour:
    """Close the connection without an answer."""
    return raw(close=True)


def reset() -> Behaviour:
    """Reset the connection without an answer."""

    async def behave(exchange: Exchange) -> None:
        exchange.reset()

    return behave


def sse_head() -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def stream(*pieces: bytes, end: bool = True, then: Behaviour | None = None) -> Behaviour:
    """Return an event stream in the pieces given, each a chunk of its own; ended, or left open for `then`."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(sse_head(), *(chunk(piece) for piece in pieces))
        if end:
            await exchange.send(LAST_CHUNK)
        if then is not None:
            await then(exchange)

    return behave


# Bodies ---------------------------------------------------------------------------------------------------------------


def completion(text: str | None = "Hello.", *, finish_reason: str = "stop", **message: object) -> dict[str, Any]:
    """OpenAI's `chat.completion`."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1790000000,
        "model": "fake-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish_reason,
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 12,
            "completion_tokens": 7,
            "total_tokens": 19,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 3},
        },
    }


def event(data: object, name: str = "") -> bytes:
    """One server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def delta_event(finish_reason: str | None = None, **delta: object) -> bytes:
    """One event of OpenAI's stream."""
    return event(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1790000000,
            "model": "fake-1",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        }
    )


def openai_events(*words: str) -> list[bytes]:
    """Return a whole stream: a role, the words, the finish reason, the usage, [DONE]."""
    usage = {**completion(), "object": "chat.completion.chunk", "choices": []}
    return [
        delta_event(role="assistant", content=""),
        *(delta_event(content=word) for word in words),
        delta_event("stop"),
        event(usage),
        event("[DONE]"),
    ]


def anthropic_message(*blocks: dict[str, Any], stop_reason: str = "end_turn") -> dict[str, Any]:
    """Return the Messages API's `message`."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "fake-claude-1",
        "content": list(blocks) or [{"type": "text", "text": "Hello."}],
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 8,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 1,
            "output_tokens": 7,
            "output_tokens_details": {"thinking_tokens": 2},
        },
    }


def anthropic_events(*words: str, thinking: str = "") -> list[bytes]:
    """Return a whole stream of the Messages API."""
    start = anthropic_message()
    start["content"], start["stop_reason"] = [], None
    start["usage"] = {**start["usage"], "output_tokens": 1}
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if thinking:
        deltas = [
            {"type": "thinking_delta", "thinking": thinking},
            {"type": "signature_delta", "signature": "c2lnbmVk"},
        ]
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
    blocks.append(({"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in words]))
    events = [_named({"type": "message_start", "message": start}), _named({"type": "ping"})]
    for index, (block, deltas) in enumerate(blocks):
        events.append(_named({"type": "content_block_start", "index": index, "content_block": block}))
        events += [_named({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas]
        events.append(_named({"type": "content_block_stop", "index": index}))
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    end["usage"] = {"output_tokens": 7}
    return [*events, _named(end), _named({"type": "message_stop"})]


def _named(data: dict[str, Any]) -> bytes:
    return event(data, data["type"])
