"""A name server on loopback whose one name leads where a test says, for `dns://127.0.0.1:PORT/name:port`."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from typing import Self

_A, _IN = 1, 1


class NameServer(asyncio.DatagramProtocol):
    """Answers every question of type A with `addresses`, and any other with nothing."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self.addresses = list(addresses)
        self.port = 0
        self.asked = 0
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        self._transport = transport
        self.port = transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        identity, _, questions = struct.unpack_from("!HHH", data)
        end = 12
        while data[end]:
            end += data[end] + 1
        (kind,) = struct.unpack_from("!H", data, end + 1)
        question = data[12 : end + 5]
        found = self.addresses if kind == _A else []
        self.asked += kind == _A
        records = b"".join(
            struct.pack("!HHHIH", 0xC00C, _A, _IN, 0, 4) + socket.inet_aton(address) for address in found
        )
        head = struct.pack("!HHHHHH", identity, 0x8180, questions, len(found), 0, 0)
        if self._transport is not None:
            self._transport.sendto(head + question + records, addr)
