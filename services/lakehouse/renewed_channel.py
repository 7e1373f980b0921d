"""A sync channel whose credentials can be replaced while calls run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc


@dataclass(slots=True, eq=False)
class _Lent:
    """A channel and how many calls run on it."""

    channel: grpc.Channel
    calls: int = 0


class RenewedChannel:
    """What a stub needs of a channel. A call begins on the channel of its moment and ends there: after `reconnect` new
    calls take the new one, and the old one is closed behind its last call. No call fails by it. For any thread."""

    def __init__(self, connect: Callable[[], grpc.Channel]) -> None:
        """`connect` opens a channel with the credentials of the moment."""
        self._connect = connect
        self._lock = threading.Lock()
        self._now = _Lent(connect())
        self._old: set[_Lent] = set()
        self._closed = False

    def reconnect(self) -> None:
        """Open a channel anew for the next call and those after it. Raises ValueError where this one is closed."""
        with self._lock:
            self._check_open()
            old, self._now = self._now, _Lent(self._connect())
            if old.calls:
                self._old.add(old)
                return
        old.channel.close()

    def close(self) -> None:
        """Close all, and end what runs."""
        with self._lock:
            self._closed = True
            every = (self._now, *self._old)
            self._old.clear()
        for each in every:
            each.channel.close()

    def unary_unary(self, *method: Any, **options: Any) -> Callable[..., Any]:
        """As ``grpc.Channel.unary_unary``; what comes back can be called, and no more."""

        def call(request: Any, **given: Any) -> Any:
            with self._lock:
                lent = self._take()
                begin = lent.channel.unary_unary(*method, **options)
            try:
                return begin(request, **given)
            finally:
                self._give_back(lent)

        return call

    def unary_stream(self, *method: Any, **options: Any) -> Callable[..., Any]:
        """As ``grpc.Channel.unary_stream``; what comes back can be called, and no more."""

        def call(request: Any, **given: Any) -> Any:
            with self._lock:
                lent = self._take()
                begin = lent.channel.unary_stream(*method, **options)
            try:
                # Its types lack what every call has, the callback at its end.
                begun: Any = begin(request, **given)
            except BaseException:
                self._give_back(lent)
                raise
            ended = partial(self._give_back, lent)
            if not begun.add_callback(ended):
                ended()
            return begun

        return call

    def _take(self) -> _Lent:
        # Under the lock, as is making a method of the channel: made of one that is being closed, it ends the process
        # (grpcio 1.80: SIGSEGV).
        self._check_open()
        self._now.calls += 1
        return self._now

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the channel is closed")

    def _give_back(self, lent: _Lent) -> None:
        with self._lock:
            lent.calls -= 1
            if lent.calls or lent not in self._old:
                return
            self._old.discard(lent)
        # A stream ends in the thread that its channel waits for: another one has to close it.
        threading.Thread(target=lent.channel.close, name="close-old-channel", daemon=True).start()
