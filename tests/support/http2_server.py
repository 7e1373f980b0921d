"""A server of HTTP/2 frames, as far as a gRPC client needs one: what a connection says at its end is the test's."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY = 0, 1, 4, 6, 7
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_MAX_CONCURRENT_STREAMS: Final = 3
# :status 200 and content-type by their places in HPACK's static table, grpc-status in letters.
_ANSWER_HEADERS: Final = b"\x88\x0f\x10\x10application/grpc"
_TRAILERS: Final = b"\x00\x0bgrpc-status\x010"
_EMPTY_MESSAGE: Final = bytes(5)


@dataclass
class Connection:
    """What a client opened. A stream is a call; their ids are odd and grow."""

    socket: socket.socket
    streams: list[int] = field(default_factory=list)

    def send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        length = struct.pack("!I", len(payload))[1:]
        self.socket.sendall(length + struct.pack("!BBI", kind, flags, stream) + payload)

    def answer(self, stream: int) -> None:
        """OK, with an empty message."""
        self.send(_HEADERS, _END_HEADERS, stream, _ANSWER_HEADERS)
        self.send(_DATA, 0, stream, _EMPTY_MESSAGE)
        self.send(_HEADERS, _END_HEADERS | _END_STREAM, stream, _TRAILERS)

    def go_away(self, last_stream: int) -> None:
        """No stream above `last_stream` was looked at, and no other is taken."""
        self.send(_GOAWAY, 0, 0, struct.pack("!II", last_stream, 0) + b"max_age")

    def break_off(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


OnCall = Callable[[Connection, int], None]


class Http2Server:
    """Hands each call's connection and stream to `on_call`, as soon as its headers are there, in the connection's
    thread."""

    def __init__(self, on_call: OnCall, *, streams_max: int = 100) -> None:
        self._on_call = on_call
        self._streams_max = streams_max
        self.connections: list[Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]

    @property
    def address(self) -> str:
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    @property
    def streams(self) -> list[list[int]]:
        """Of each connection that was used."""
        return [each.streams for each in self.connections if each.streams]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for each in self.connections:
            each.break_off()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was shut down
            while True:
                connection = Connection(self._listener.accept()[0])
                self.connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: Connection) -> None:
        # The client may leave at any moment.
        with connection.socket, connection.socket.makefile("rb") as received, contextlib.suppress(OSError):
            received.read(len(_PREFACE))
            connection.send(_SETTINGS, 0, 0, struct.pack("!HI", _MAX_CONCURRENT_STREAMS, self._streams_max))
            while len(head := received.read(9)) == 9:
                kind, flags, stream = struct.unpack("!BBI", head[3:])
                payload = received.read(int.from_bytes(head[:3], "big"))
                if kind == _SETTINGS and not flags & _ACK:
                    connection.send(_SETTINGS, _ACK, 0)
                elif kind == _PING and not flags & _ACK:
                    connection.send(_PING, _ACK, 0, payload)
                elif kind == _HEADERS:
                    connection.streams.append(stream)
                    self._on_call(connection, stream)
