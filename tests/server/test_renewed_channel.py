"""Goal: a sync client takes other credentials while calls run, and none of them fails or moves.

Method: a server in this process that answers each call with the connection on which it came.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc_testing
import pytest

from lakehouse.clients import IterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc

HANG_S = 30


class Servicer(iterate_pb2_grpc.IterateServiceServicer):
    """Says as session id which connection a call came by; a stream says it until it may end."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    def Iterate(self, request: Any, context: grpc.ServicerContext) -> iterate_pb2.IterateResponse:
        if request.prompt == "fail":
            context.abort(grpc.StatusCode.INTERNAL, "no")
        return iterate_pb2.IterateResponse(session_id=context.peer())

    def GetSession(self, request: Any, context: grpc.ServicerContext) -> iterate_pb2.GetSessionResponse:
        raise NotImplementedError

    def StreamIterate(self, request: Any, context: grpc.ServicerContext) -> Iterator[iterate_pb2.StreamIterateResponse]:
        event = iterate_pb2.StreamIterateResponse(response=iterate_pb2.IterateResponse(session_id=context.peer()))
        yield event
        self.may_end.wait(HANG_S)
        yield event


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
def client(servicer: Servicer) -> Iterator[IterateClient]:
    server = grpc.server(ThreadPoolExecutor(16))
    iterate_pb2_grpc.add_IterateServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with IterateClient(f"127.0.0.1:{port}") as connected:
        yield connected
    servicer.may_end.set()
    server.stop(None).wait(HANG_S)


def peer(client: IterateClient) -> str:
    return client.iterate(iterate_pb2.IterateRequest(), timeout_s=HANG_S).session_id


def old_channels(client: IterateClient) -> set[Any]:
    lent: set[Any] = client._channel._old
    return lent


def test_the_next_call_takes_a_new_connection_and_the_unused_one_is_closed(client: IterateClient) -> None:
    first = peer(client)
    assert peer(client) == first

    client.reconnect(None)

    assert peer(client) != first
    assert old_channels(client) == set()


def test_a_stream_ends_where_it_began_and_its_channel_is_closed_behind_it(
    client: IterateClient, servicer: Servicer
) -> None:
    stream = client.stream_iterate(iterate_pb2.IterateRequest(), timeout_s=HANG_S)
    began = next(stream).response.session_id
    client.reconnect(None)
    moved = peer(client)
    waiting = len(old_channels(client))
    servicer.may_end.set()
    rest = [event.response.session_id for event in stream]

    assert began != moved
    assert waiting == 1
    assert rest == [began]
    assert old_channels(client) == set()


def test_a_stream_that_is_left_early_gives_its_channel_back_too(client: IterateClient) -> None:
    stream = client.stream_iterate(iterate_pb2.IterateRequest(), timeout_s=HANG_S)
    next(stream)
    client.reconnect(None)
    (lent,) = old_channels(client)
    stream.close()  # type: ignore[attr-defined]  # a generator

    # Its end comes in a thread of gRPC's.
    ended = threading.Event()
    for _ in range(HANG_S * 100):
        if lent not in old_channels(client):
            break
        ended.wait(0.01)
    assert old_channels(client) == set()


def test_calls_of_many_threads_go_on_while_the_channel_is_replaced_again_and_again(client: IterateClient) -> None:
    over = threading.Event()

    def work() -> set[str]:
        peers = set()
        while not over.is_set():
            peers.add(peer(client))
        return peers

    with ThreadPoolExecutor(4) as threads:
        working = [threads.submit(work) for _ in range(4)]
        for _ in range(20):
            client.reconnect(None)
            peer(client)
        over.set()
        seen = set().union(*(each.result(HANG_S) for each in working))

    assert len(seen) > 1
    assert old_channels(client) == set()


def test_a_call_that_fails_gives_its_channel_back(client: IterateClient) -> None:
    for _ in range(3):
        with pytest.raises(Fault):
            client.iterate(iterate_pb2.IterateRequest(prompt="fail"), timeout_s=HANG_S)
    client.reconnect(None)

    assert old_channels(client) == set()


def test_a_closed_client_takes_nothing_new(client: IterateClient) -> None:
    client.close()

    with pytest.raises(ValueError, match="closed"):
        client.reconnect(None)
    with pytest.raises(ValueError, match="closed"):
        peer(client)


def test_a_channel_of_the_callers_own_is_used_as_it_is() -> None:
    channel: Any = grpc_testing.channel([], grpc_testing.strict_real_time())

    assert IterateClient("", channel=channel)._channel is channel
