"""A model endpoint for whole-stack tests: speaks /chat/completions over bare sockets, and misbehaves on demand.

The model's name says what it does: `ok` answers from a list by attempt, `http-429` answers with that status,
`from-schema` answers with the least JSON that fits the schema that it was sent (and else as `ok`), and so on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableSequence
from typing import Any, Self

from schema_subsets import SUBSETS, schema_of

from chatd.providers.least_artifact import least_artifact


class ModelEndpoint:
    """Listens on a free port of 127.0.0.1 for the time of an `async with`."""

    def __init__(self, answers: list[str], *, vendor: str = "plain") -> None:
        """Refuse what `vendor` does not document of a response format (`schema_subsets`) is refused with a 400."""
        self.answers = answers
        self._refusal = SUBSETS[vendor]
        self.requests: MutableSequence[dict[str, Any]] = []
        self.asked = asyncio.Event()
        """Set when a request has arrived whole."""
        self.release = asyncio.Event()
        """`hang` hangs up when this is set, `slow` answers."""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        await self._server.wait_closed()

    @property
    def base_url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:"))
        request = json.loads(await reader.readexactly(length))
        self.requests.append(request)
        self.asked.set()
        model = request["model"]
        refusal = self._refusal(request)
        if refusal is not None:
            await self._send(writer, 400, json.dumps({"error": {"message": refusal}}).encode())
        elif model.startswith("http-"):
            await self._send(writer, int(model[5:]), b'{"error": {"message": "upstream secret", "type": "t"}}')
        elif model == "hang":
            await self.release.wait()
            return False
        elif model == "slow":
            await self.release.wait()
            await self._send(writer, 200, self._completion(self.answers[-1], model))
        elif model == "nothing":
            return False
        elif model == "half-body":
            body = self._completion(self.answers[0], model)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
            writer.write(body[: len(body) // 2])
            await writer.drain()
            return False
        elif model == "broken-utf8":
            body = self._completion("PLACEHOLDER", model).replace(b"PLACEHOLDER", b"\xff\xfe{}")
            await self._send(writer, 200, body)
        elif model == "deep":
            await self._send(writer, 200, self._completion('{"a":' * 100_000 + "1" + "}" * 100_000, model))
        else:
            attempt = sum(message["role"] == "assistant" for message in request["messages"])
            answer = self.answers[min(attempt, len(self.answers) - 1)]
            if model == "from-schema" and schema_of(request) is not None:
                answer = least_artifact(json.dumps(schema_of(request)))
            await self._send(writer, 200, self._completion(answer, model))
        return True

    @staticmethod
    def _completion(answer: str, model: str) -> bytes:
        return json.dumps(
            {
                "id": "c-1",
                "object": "chat.completion",
                "model": model,
                "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}],
                "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
            }
        ).encode()

    @staticmethod
    async def _send(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
