"""One process of the floor: ``python -m bench.stack.floor iterate|chatd|validated [chatd] [validated] [endpoint]``.

Plain grpc.aio on uvloop with the channel options and the event-engine setting of the real services, no interceptor, no
metadata. The address is the first line of the output.
"""

from __future__ import annotations

from lakehouse.server.grpc_switches import set_grpc_switches

if __name__ == "__main__":
    set_grpc_switches()  # before the imports below bring grpc

import asyncio
import sys
from typing import Any

import aiohttp
import grpc.aio
import uvloop
from bench.stack import job
from bench.stack.floor.messages import attempts, response

from lakehouse.chatd.v1 import chatd_pb2, chatd_pb2_grpc
from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc

_CHANNEL = (
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    ("grpc.lb_policy_name", "round_robin"),
)
_SERVER = (
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 64 * 1024),
    ("grpc.so_reuseport", 0),
)
_HOP_S = 60


class Iterate(iterate_pb2_grpc.IterateServiceServicer):
    """Four hops, one after the other."""

    def __init__(self, chatd: str, validated: str) -> None:
        self._chat = chatd_pb2_grpc.ChatServiceStub(grpc.aio.insecure_channel(chatd, _CHANNEL))
        self._gate = validated_pb2_grpc.ValidateServiceStub(grpc.aio.insecure_channel(validated, _CHANNEL))
        self._attempts = attempts()
        self._response = response()

    async def Iterate(  # noqa: N802  gRPC's name
        self, request: iterate_pb2.IterateRequest, context: Any
    ) -> iterate_pb2.IterateResponse:
        for attempt in self._attempts:
            await self._chat.Complete(attempt.ask[request.provider], timeout=_HOP_S)
            await self._gate.Validate(attempt.judge, timeout=_HOP_S)
        return self._response


class Chat(chatd_pb2_grpc.ChatServiceServicer):
    """One HTTP request."""

    def __init__(self, endpoint: str) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._urls = {f"fake{each}": f"{endpoint}/{each}/v1/chat/completions" for each in job.LATENCIES_MS}
        self._attempts = attempts()

    async def Complete(  # noqa: N802  gRPC's name
        self, request: chatd_pb2.CompleteRequest, context: Any
    ) -> chatd_pb2.CompleteResponse:
        attempt = self._attempts[request.attempt - 1]
        async with self._session.post(self._urls[request.target.provider], data=attempt.http_body) as answer:
            await answer.read()
        return attempt.completion


class Gate(validated_pb2_grpc.ValidateServiceServicer):
    """Nothing at all."""

    def __init__(self) -> None:
        first, second = attempts()
        self._first = first.judge.artifact_json
        self._judgements = (first.judgement, second.judgement)

    async def Validate(  # noqa: N802  gRPC's name
        self, request: validated_pb2.ValidateRequest, context: Any
    ) -> validated_pb2.ValidateResponse:
        return self._judgements[request.artifact_json != self._first]


async def main(role: str, *peers: str) -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server(options=_SERVER)
    if role == "iterate":
        iterate = Iterate(*peers)  # type: ignore[abstract]  # no stream: nobody asks for one
        iterate_pb2_grpc.add_IterateServiceServicer_to_server(iterate, server)
    elif role == "chatd":
        chat = Chat(*peers)  # type: ignore[abstract]  # as above
        chatd_pb2_grpc.add_ChatServiceServicer_to_server(chat, server)
    else:
        gate = Gate()  # type: ignore[abstract]  # as above
        validated_pb2_grpc.add_ValidateServiceServicer_to_server(gate, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
