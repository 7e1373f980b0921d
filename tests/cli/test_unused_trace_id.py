"""Goal: who names a trace that the session did not join hears so, and who joins one hears nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from command_line import lakehouse

from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc

JOINED = "0af7651916cd43dd8448eb211c80319c"


class Servicer(iterate_pb2_grpc.IterateServiceServicer):
    """Answers of one trace, whichever was named: as an earlier release does that knows nothing of the header."""

    def Iterate(self, request: Any, context: grpc.ServicerContext) -> iterate_pb2.IterateResponse:
        raise NotImplementedError

    def GetSession(self, request: Any, context: grpc.ServicerContext) -> iterate_pb2.GetSessionResponse:
        raise NotImplementedError

    def StreamIterate(self, request: Any, context: grpc.ServicerContext) -> Iterator[iterate_pb2.StreamIterateResponse]:
        response = iterate_pb2.IterateResponse(session_id="s", trace_id=JOINED, accepted=iterate_pb2.Accepted())
        yield iterate_pb2.StreamIterateResponse(response=response)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    iterate_pb2_grpc.add_IterateServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait(10)


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("4bf92f3577b34da6a3ce929d0e0e4736", f"--trace-id was not used: the session's trace is {JOINED}\n"),
        ("order-4711", f"--trace-id was not used: the session's trace is {JOINED}\n"),
        (JOINED, ""),
        (JOINED.upper(), ""),
    ],
)
def test_a_trace_that_the_session_did_not_join_is_said(address: str, named: str, said: str) -> None:
    arguments = ("--address", address, "--trace-id", named, "--kind", "k", "--prompt", "p", "--spec", "{}", "--json")
    done = lakehouse("iterate", *arguments)

    assert done.returncode == 0, done.stderr
    assert done.stderr == said
