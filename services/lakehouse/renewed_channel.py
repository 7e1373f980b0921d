"""A sync channel whose credentials can be replaced while calls run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

Options = Sequence[tuple[str, Any]]


@dataclass(slots=True, eq=False)
class _Lent:
    """A channel and how many calls run on it."""

    channel: grpc.Channel
    calls: int = 0


class RenewedChannel:
    """What a stub needs of a channel. A call begins on the channel of its moment and ends there: after `reconnect` new
    calls take the new one, and the old one is closed behind its last call. No call fails by it. For any thread."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None, options: Options) -> None:
        """`credentials` None: plain text."""
        self._target = target
        self._options = options
        self._lock = threading.Lock()
        self._now = self._open(credentials)
        self._old: set[_Lent] = set()
        self._closed = False

    def reconnect(self, credentials: grpc.ChannelCredentials | None) -> None:
        """Take other credentials from the next call on. Raises ValueError where the channel is closed."""
        with self._lock:
            self._check_open()
            old, self._now = self._now, self._open(credentials)
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

    def _open(self, credentials: grpc.ChannelCredentials | None) -> _Lent:
        if credentials is None:
            return _Lent(grpc.insecure_channel(self._target, self._options))
        return _Lent(grpc.secure_channel(self._target, credentials, self._options))

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
