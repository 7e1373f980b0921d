"""A server with all RPCs of the three services on one port, whose handlers only note that they were reached."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from lakehouse.chatd.v1 import chatd_pb2, chatd_pb2_grpc
from lakehouse.errors import Fault, from_rpc_error
from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc
from lakehouse.server.bootstrap import Registration, Runtime, running
from lakehouse.server.call import Call, current_call
from lakehouse.server.config import ServerTable
from lakehouse.trace_context import read_hop_context
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc

_DESCRIPTORS = tuple(
    service for file in (iterate_pb2, chatd_pb2, validated_pb2) for service in file.DESCRIPTOR.services_by_name.values()
)
METHODS = {method.name: method for service in _DESCRIPTORS for method in service.methods}
"""Every RPC of the three services by its name."""


class Config(ServerTable):
    bind: str = "127.0.0.1:0"


@dataclass
class Served:
    address: str
    runtime: Runtime
    reached: list[Call] = field(default_factory=list)
    """The calls that came as far as a handler."""

    async def call(
        self,
        rpc: str,
        *metadata: tuple[str, str],
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = 20,
    ) -> Fault | None:
        """Call it with an empty request: the fault, or None where it was served."""
        method = METHODS[rpc]
        channel: Any = (
            grpc.aio.insecure_channel(self.address)
            if credentials is None
            else grpc.aio.secure_channel(self.address, credentials)
        )
        path = f"/{method.containing_service.full_name}/{rpc}"
        async with channel:
            try:
                if method.server_streaming:
                    stream = channel.unary_stream(path, None, None)(b"", metadata=metadata, timeout=timeout_s)
                    async for _ in stream:
                        pass
                else:
                    await channel.unary_unary(path, None, None)(b"", metadata=metadata, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                return from_rpc_error(error, where="test")
        return None


@contextlib.asynccontextmanager
async def serving_callers(service: str = "iterate", **config: Any) -> AsyncIterator[Served]:
    """Serve with these settings for the time of the block."""
    served: list[Served] = []

    def handler(answer: Callable[[], Any], *, streams: bool) -> Any:
        async def unary(_: object, __: Any, ___: Any) -> Any:
            served[0].reached.append(current_call())
            return answer()

        async def stream(_: object, __: Any, context: Any) -> None:
            served[0].reached.append(current_call())
            await context.write(answer())

        return stream if streams else unary

    def servicer(base: type, file: Any) -> Any:
        methods = file.DESCRIPTOR.services_by_name[base.__name__.removesuffix("Servicer")].methods
        handlers = {
            each.name: handler(getattr(file, each.output_type.name), streams=each.server_streaming) for each in methods
        }
        return type(base.__name__, (base,), handlers)()

    def add(server: grpc.aio.Server) -> None:
        iterate_pb2_grpc.add_IterateServiceServicer_to_server(
            servicer(iterate_pb2_grpc.IterateServiceServicer, iterate_pb2), server
        )
        chatd_pb2_grpc.add_ChatServiceServicer_to_server(
            servicer(chatd_pb2_grpc.ChatServiceServicer, chatd_pb2), server
        )
        validated_pb2_grpc.add_ValidateServiceServicer_to_server(
            servicer(validated_pb2_grpc.ValidateServiceServicer, validated_pb2), server
        )

    @contextlib.asynccontextmanager
    async def compose(_: Config, runtime: Runtime) -> AsyncIterator[Registration]:
        served.append(Served("", runtime))
        names = tuple(each.full_name for each in _DESCRIPTORS)
        yield Registration(service_names=names, add=add, read_context=read_hop_context)

    async with running(service, Config(**config), compose) as server:
        served[0].address = server.address
        yield served[0]
