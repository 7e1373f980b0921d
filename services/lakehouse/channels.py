"""A client's channel, and the translation of its errors: what the clients of the three services have in common."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Final, Self

import grpc
import grpc.aio

from lakehouse.errors import Fault, Reason, from_rpc_error
from lakehouse.private_names import answer_of
from lakehouse.renewed_channel import RenewedChannel
from lakehouse.repeated_calls import Address, TargetName, name_of

# Answers carry the whole attempt history, so they may be larger than what a service takes in.
OPTIONS: Final = (
    # All that this repeats is a call that its server never looked at, since a connection ended; no name has a policy.
    ("grpc.enable_retries", 1),
    ("grpc.per_rpc_retry_buffer_size", 8 * 1024 * 1024),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
    ("grpc.lb_policy_name", "round_robin"),
    # A service that was away is used again within seconds, not within the core's two minutes; and a new client does not
    # inherit the back-off of an older one to the same address.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5000),
    ("grpc.use_local_subchannel_pool", 1),
    # A name is looked up again when a connection ends, which servers see to now and then: new replicas are found then.
    ("grpc.dns_min_time_between_resolutions_ms", 5000),
)
# How long one address of several is given to answer at all, before a call is sent to it.
_CONNECT_S: Final = 3.0
# How long calls may go on after their client has got other credentials.
_OLD_CHANNEL_S: Final = 3600.0

Metadata = Sequence[tuple[str, str]]
Token = str | Callable[[], str] | None


def _as_named(name: TargetName, address: Address) -> tuple[tuple[str, str], ...]:
    """Options with which an address is what its name is, to a certificate too."""
    return (("grpc.default_authority", address.authority), ("grpc.ssl_target_name_override", name.host))


def _no_address(where: str) -> Fault:
    return Fault(None, where=where, code="UNAVAILABLE", message="No address of the target can be reached.")


def _with_token(metadata: Metadata, token: Token) -> Metadata:
    if token is None:
        return metadata
    return (*metadata, ("authorization", f"Bearer {token if isinstance(token, str) else token()}"))


class SyncClient:
    """A channel, and the translation of its errors."""

    _where: str
    _unreachable: Reason | None = None

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        channel: grpc.Channel | None = None,
        token: Token = None,
    ) -> None:
        """`target` is `host:port`, `dns:///name:port` (replicas are used in turn) or `unix:/path`; plain text unless
        `credentials` are given. A `channel` of the caller's own is used as it is. `token` says who calls: the token, or
        what gives the one to send now. Without TLS it can be read on the way."""
        self._token = token
        self._target = target if channel is None else ""
        self._credentials = credentials
        self._channel: Any = RenewedChannel(lambda: self._open(target)) if channel is None else channel

    def _open(self, target: str, *options: tuple[str, str]) -> grpc.Channel:
        if self._credentials is None:
            return grpc.insecure_channel(target, (*OPTIONS, *options))
        return grpc.secure_channel(target, self._credentials, (*OPTIONS, *options))

    @contextmanager
    def _at_one_address(self) -> Iterator[grpc.Channel]:
        """Give a channel that stays on one address of the target's, which can be reached. Raises Fault where none can.
        A channel of the caller's own is his to keep on one."""
        name = name_of(self._target)
        if name is None:
            yield self._channel
            return
        try:
            found = socket.getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM)
        except OSError:
            raise _no_address(self._where) from None
        for address in name.addresses([(entry[0], str(entry[4][0])) for entry in found]):
            channel = self._open(address.target, *_as_named(name, address))
            try:
                try:
                    grpc.channel_ready_future(channel).result(_CONNECT_S)
                except grpc.FutureTimeoutError:
                    continue
                yield channel
                return
            finally:
                channel.close()
        raise _no_address(self._where)

    def reconnect(self, credentials: grpc.ChannelCredentials | None) -> None:
        """As for the async clients. A channel of the caller's own has no such thing."""
        self._credentials = credentials
        self._channel.reconnect()

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _unary(self, method: Any, request: Any, timeout_s: float | None, metadata: Metadata) -> Any:
        try:
            return method(request, timeout=timeout_s, metadata=_with_token(metadata, self._token))
        except grpc.RpcError as error:
            raise self._fault(error) from None

    def _stream(self, method: Any, request: Any, timeout_s: float | None, metadata: Metadata) -> Iterator[Any]:
        call = method(request, timeout=timeout_s, metadata=_with_token(metadata, self._token))
        try:
            yield from call
        except grpc.RpcError as error:
            raise self._fault(error) from None
        finally:
            # Leaving the loop early ends the session on the other side too.
            call.cancel()

    def _fault(self, error: Any) -> Fault:
        return from_rpc_error(error, where=self._where, unreachable=self._unreachable)


class AsyncClient:
    """A channel, and the translation of its errors. Cancelling the awaiting task cancels the call."""

    _where: str
    _unreachable: Reason | None = None

    def __init__(self, target: str, *, credentials: grpc.ChannelCredentials | None = None, token: Token = None) -> None:
        """As for the sync clients; to be made inside the running event loop."""
        self._token = token
        self._target = target
        self._old: set[asyncio.Task[None]] = set()
        self._connect(credentials)

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel that calls take now, for calls that this client has no method for, such as health."""
        return self._channel

    def reconnect(self, credentials: grpc.ChannelCredentials | None) -> None:
        """Take other credentials from the next call on. Running calls end on the old channel, closed behind them."""
        old = self._channel
        self._connect(credentials)
        closing = asyncio.create_task(old.close(_OLD_CHANNEL_S))
        self._old.add(closing)
        closing.add_done_callback(self._old.discard)

    def _connect(self, credentials: grpc.ChannelCredentials | None) -> None:
        self._credentials = credentials
        self._channel = self._open(self._target)
        self._make_stub()

    def _open(self, target: str, *options: tuple[str, str]) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, (*OPTIONS, *options))
        return grpc.aio.secure_channel(target, self._credentials, (*OPTIONS, *options))

    @asynccontextmanager
    async def _at_one_address(self) -> AsyncIterator[grpc.aio.Channel]:
        """Give a channel that stays on one address of the target's, which can be reached. Raises Fault where none
        can."""
        name = name_of(self._target)
        if name is None:
            yield self._channel
            return
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name.host, name.port, type=socket.SOCK_STREAM)
        except OSError:
            raise _no_address(self._where) from None
        for address in name.addresses([(entry[0], str(entry[4][0])) for entry in found]):
            channel = self._open(address.target, *_as_named(name, address))
            try:
                try:
                    await asyncio.wait_for(channel.channel_ready(), _CONNECT_S)
                except TimeoutError:
                    continue
                yield channel
                return
            finally:
                await channel.close()
        raise _no_address(self._where)

    def _make_stub(self) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        for closing in self._old:
            closing.cancel()
        await asyncio.gather(*self._old, return_exceptions=True)
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self.close()

    async def _unary(self, method: Any, request: Any, timeout_s: float | None, metadata: Metadata) -> Any:
        try:
            return await answer_of(method(request, timeout=timeout_s, metadata=_with_token(metadata, self._token)))
        except grpc.aio.AioRpcError as error:
            raise self._fault(error) from None

    async def _stream(
        self, method: Any, request: Any, timeout_s: float | None, metadata: Metadata
    ) -> AsyncIterator[Any]:
        call = method(request, timeout=timeout_s, metadata=_with_token(metadata, self._token))
        try:
            async for message in call:
                yield message
        except grpc.aio.AioRpcError as error:
            raise self._fault(error) from None
        finally:
            call.cancel()

    def _fault(self, error: Any) -> Fault:
        task = asyncio.current_task()
        return from_rpc_error(
            error,
            where=self._where,
            unreachable=self._unreachable,
            # Our own cancellation, where gRPC gives it as a status.
            cancelled_here=task is not None and task.cancelling() > 0,
        )
