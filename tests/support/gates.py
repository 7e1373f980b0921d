"""Servicers of ValidateService for tests of what is around a call. What they do not serve is UNIMPLEMENTED."""

from __future__ import annotations

import asyncio
from typing import Any

from lakehouse.validated.v1 import validated_pb2, validated_pb2_grpc


class ValidateAlone(validated_pb2_grpc.ValidateServiceServicer):
    """Leaves ``Validate`` to who inherits."""

    async def Brief(self, request: validated_pb2.BriefRequest, context: Any) -> Any:
        return super().Brief(request, context)  # it answers UNIMPLEMENTED

    async def ListKinds(self, request: validated_pb2.ListKindsRequest, context: Any) -> Any:
        return super().ListKinds(request, context)  # as above


class Patient(ValidateAlone):
    """Waits for ever; reports who came and who went."""

    def __init__(self) -> None:
        self.come: asyncio.Queue[None] = asyncio.Queue()
        self.gone: asyncio.Queue[None] = asyncio.Queue()

    async def Validate(self, request: validated_pb2.ValidateRequest, context: Any) -> Any:
        self.come.put_nowait(None)
        try:
            await asyncio.Event().wait()
        finally:
            self.gone.put_nowait(None)
