"""When a session's call is worth repeating with its id, how long to wait before, and where it has to go.

A log is one address's: there the same id is answered once. So repetitions stay on the address that the first call went
to, unless the caller would rather be billed twice than not be answered.
"""

from __future__ import annotations

import ipaddress
import random
import socket
import uuid
from collections.abc import Callable
from typing import Final, NamedTuple

from lakehouse.errors import Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2

TRIES: Final = 6
_FIRST_WAIT_S: Final = 0.2
_WAIT_S_MAX: Final = 10.0
_ASKED_WAIT_S_MAX: Final = 60.0
_CODES: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})
_REASONS: Final = frozenset({Reason.SESSION_NOT_LOGGED, Reason.SESSION_ID_IN_FLIGHT})
# What grpc says of a connection that broke, beside UNAVAILABLE: no status of ours came.
_BROKEN: Final = frozenset({"INTERNAL", "UNKNOWN"})
_SINGLE: Final = ("unix:", "unix-abstract:", "ipv4:", "ipv6:", "vsock:")

OnRepeat = Callable[[Fault, float], None]
"""Called with what a call ended with, and the seconds until it is repeated."""


class Repetition:
    """The calls of one session."""

    def __init__(self, tries: int) -> None:
        """Begin, with `tries` calls at most. Raises ValueError where that is below 1."""
        if tries < 1:
            raise ValueError(f"tries is {tries}; it must be at least 1")
        self._left = tries
        self._done = 0

    def wait_s(self, fault: Fault) -> float | None:
        """Return how long to wait before the next call; None where another one is not worth it, or not left."""
        self._left -= 1
        if self._left <= 0 or not is_worth_repeating(fault):
            return None
        own_s = min(_FIRST_WAIT_S * float(1 << self._done), _WAIT_S_MAX)
        self._done += 1
        asked_s = min((fault.retry_delay_ms or 0) / 1000, _ASKED_WAIT_S_MAX)
        # A little apart from others who wait for the same.
        return max(own_s, asked_s) * random.uniform(1.0, 1.25)  # noqa: S311  no secret

    def next_wait_s(self, fault: Fault, on_repeat: OnRepeat | None) -> float:
        """Return how long to wait before the next call, and tell `on_repeat`. Raises `fault` where there is none."""
        wait_s = self.wait_s(fault)
        if wait_s is None:
            raise fault
        if on_repeat is not None:
            on_repeat(fault, wait_s)
        return wait_s


def is_worth_repeating(fault: Fault) -> bool:
    """Whether the same call may be answered next time: the service, or the way to it, was away; the time ran out; or
    the answer is still in the making."""
    if fault.reason in _REASONS or fault.code in _CODES:
        return True
    return fault.reason is None and fault.code in _BROKEN


def with_session_id(request: iterate_pb2.IterateRequest, session_id: str) -> iterate_pb2.IterateRequest:
    """Return the request with this id; a request that has another one raises ValueError. Without both, a new one."""
    if session_id and request.session_id and session_id != request.session_id:
        raise ValueError(f"session_id is {session_id!r}, and the request's is {request.session_id!r}")
    asked = iterate_pb2.IterateRequest()
    asked.CopyFrom(request)
    asked.session_id = session_id or request.session_id or str(uuid.uuid4())
    return asked


class Address(NamedTuple):
    """One address of a name."""

    target: str
    authority: str
    """What a certificate has to say."""


class TargetName(NamedTuple):
    """A target that may have several addresses."""

    host: str
    port: int

    def addresses(self, found: list[tuple[int, str]]) -> list[Address]:
        """Return the addresses, in random order, of (family, address) pairs."""
        authority = f"{self.host}:{self.port}"
        targets = {
            f"ipv6:[{address}]:{self.port}" if family == socket.AF_INET6 else f"ipv4:{address}:{self.port}"
            for family, address in found
        }
        return [Address(target, authority) for target in random.sample(sorted(targets), len(targets))]


def name_of(target: str) -> TargetName | None:
    """Return the name that a gRPC target stands for; None where it is one address."""
    if target.startswith(_SINGLE):
        return None
    host, _, port = target.rpartition("/")[2].rpartition(":")
    if not port.isdecimal() or not host:
        return None
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return TargetName(host, int(port))
    return None
