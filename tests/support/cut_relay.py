"""A TCP relay that lets so many bytes of one connection through and then stops, until it is closed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["up", "down"]
"""To whom is called, or back."""


@dataclass
class CutRelay:
    """Counts from ``cut_after`` on; nothing passes, in either direction, once it ``was_cut``."""

    address: str = ""
    passed: dict[Direction, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    was_cut: asyncio.Event = field(default_factory=asyncio.Event)
    _limits: dict[Direction, int] = field(default_factory=dict)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut_after(self, **limits: int) -> None:
        """Let so many more bytes through in these directions (``up``, ``down``)."""
        self.passed = {"up": 0, "down": 0}
        self._limits = {"up": limits.get("up", 1 << 62), "down": limits.get("down", 1 << 62)}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                left = max(self._limits.get(direction, 1 << 62) - self.passed[direction], 0)
                if self.was_cut.is_set():
                    continue
                writer.write(data[:left])
                await writer.drain()
                self.passed[direction] += len(data[:left])
                if len(data) >= left:
                    self.was_cut.set()
        # The other side learns of an end at once, whatever was held back.
        writer.close()


@contextlib.asynccontextmanager
async def cut_relay(target: str) -> AsyncIterator[CutRelay]:
    """Yield a relay to this address."""
    relay = CutRelay()
    host, _, port = target.rpartition(":")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(host, int(port))
        relay._writers += [writer, to_writer]
        await asyncio.gather(relay._pump(reader, to_writer, "up"), relay._pump(to_reader, writer, "down"))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    relay.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        for writer in relay._writers:
            writer.close()
        await server.wait_closed()
