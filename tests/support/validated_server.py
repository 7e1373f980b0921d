"""An in-process ``validated`` with a client."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from lakehouse.errors import Fault, from_rpc_error
from lakehouse.server import bootstrap
from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc
from validated.__main__ import compose
from validated.config import ValidatedTable


class Client:
    """Calls Validate, Brief and ListKinds; a status comes out as Fault."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self.channel = channel
        self._stub = validated_pb2_grpc.ValidateServiceStub(channel)

    async def validate(
        self, kind: str, artifact: Any, *, timeout_s: float = 20.0, metadata: Any = (), **spec: Any
    ) -> validated_pb2.ValidateResponse:
        text = artifact if isinstance(artifact, str) else json.dumps(artifact)
        member = spec if "spec_json" in spec else {kind: spec} if spec else {}
        request = validated_pb2.ValidateRequest(kind=kind, artifact_json=text, **member)
        return await self.send(request, timeout_s=timeout_s, metadata=metadata)

    async def send(
        self, request: validated_pb2.ValidateRequest, *, timeout_s: float = 20.0, metadata: Any = ()
    ) -> validated_pb2.ValidateResponse:
        try:
            response: validated_pb2.ValidateResponse = await self._stub.Validate(
                request, timeout=timeout_s, metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, where="validated") from None
        return response

    async def brief(
        self,
        kind: str,
        *,
        timeout_s: float = 20.0,
        metadata: Any = (),
        asked: dict[str, Any] | None = None,
        **spec: Any,
    ) -> validated_pb2.BriefResponse:
        """`asked` are the request's fields beside the kind and its spec."""
        member = spec if "spec_json" in spec else {kind: spec} if spec else {}
        request = validated_pb2.BriefRequest(kind=kind, **(asked or {}), **member)
        try:
            response: validated_pb2.BriefResponse = await self._stub.Brief(
                request, timeout=timeout_s, metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, where="validated") from None
        return response

    async def brief_fault(self, kind: str, *, asked: dict[str, Any] | None = None, **spec: Any) -> Fault:
        """Return the fault that a Brief ends with."""
        try:
            await self.brief(kind, asked=asked, **spec)
        except Fault as fault:
            return fault
        raise AssertionError("the call succeeded")

    async def list_kinds(self) -> dict[str, validated_pb2.Kind]:
        """Return the kinds by name, in the order of the answer."""
        response = await self._stub.ListKinds(validated_pb2.ListKindsRequest())
        return {kind.name: kind for kind in response.kinds}

    async def fault(self, kind: str, artifact: Any, **spec: Any) -> Fault:
        """Return the fault that the call ends with."""
        try:
            await self.validate(kind, artifact, **spec)
        except Fault as fault:
            return fault
        raise AssertionError("the call succeeded")


@contextlib.asynccontextmanager
async def serving(**config: Any) -> AsyncIterator[Client]:
    """Yield the service with `config` on a free port, for the time of the block."""
    table = ValidatedTable(**{"bind": "127.0.0.1:0", "drain_ms": 1000, **config})
    async with (
        bootstrap.running("validated", table, compose) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        yield Client(server.address, channel)
