"""Addresses as people write them: what a service listens on (`bind`), and what is called (a gRPC target)."""

from __future__ import annotations

import os
from typing import Final

# What fits into a socket's address, `sun_path`, without its end.
_UNIX_PATH_BYTES_MAX: Final = 107
_TARGET_SCHEMES: Final = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")


def split_bind(bind: str) -> tuple[str, int] | None:
    """Host, without the brackets of IPv6, and port of a valid bind address; None for a Unix socket."""
    if bind.startswith("unix:"):
        return None
    host, _, port = bind.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def hosts_overlap(one: str, other: str) -> bool:
    """Whether one port of both hosts cannot be listened on twice."""
    loopback, every = {"127.0.0.1", "localhost", "::1"}, {"0.0.0.0", "::"}  # noqa: S104  compared, not bound
    return one == other or bool({one, other} & every) or {one, other} <= loopback


def unix_path(bind: str) -> str:
    """Return the path in `unix:path` or `unix:///path`."""
    path = bind.removeprefix("unix:")
    return path.removeprefix("//") if path.startswith("///") else path


def check_bind(bind: str) -> None:
    """Raise ValueError where `bind` is neither `host:port` nor `unix:/path`.

    gRPC itself takes `127.0.0.1` for port 443 and `127.0.0.1:99999` for a port that nobody asked for.
    """
    if bind.startswith("unix:"):
        path = unix_path(bind)
        if not path or path.endswith("/"):
            raise ValueError("must name a socket: unix:/path")
        if len(os.fsencode(path)) > _UNIX_PATH_BYTES_MAX:
            raise ValueError(f"the path of a socket has at most {_UNIX_PATH_BYTES_MAX} bytes")
        return
    host, _, port = bind.rpartition(":")
    if not host:
        raise ValueError("must be host:port, such as 127.0.0.1:50051 or 0.0.0.0:50051 for all, or unix:/path")
    _check_host_port(host, port, least=0)


def check_target(target: str) -> str:
    """Raise ValueError where `target` is not a gRPC target with a port, or a socket; returns it where it is."""
    if not target or any(character.isspace() for character in target):
        raise ValueError("must be host:port, dns:///name:port or unix:/path")
    if target.startswith(("http:", "https:")):
        raise ValueError("is a URL: gRPC targets are host:port, dns:///name:port or unix:/path")
    if not target.startswith(_TARGET_SCHEMES):
        host, _, port = target.rpartition(":")
        _check_host_port(host, port, least=1)
    elif target.startswith(("dns:", "ipv4:", "ipv6:")):
        # gRPC takes a missing port for 443.
        scheme, _, rest = target.partition(":")
        authority = rest.startswith("//")
        names = rest[2:].partition("/")[2] if authority else rest
        for name in names.split(",") if scheme != "dns" else [names]:
            host, _, port = name.rpartition(":")
            _check_host_port(host, port, least=1)
    return target


def _check_host_port(host: str, port: str, *, least: int) -> None:
    if not (port.isascii() and port.isdigit() and least <= int(port[:6]) <= 65535):
        raise ValueError(f"must be host:port with a port from {least} to 65535")
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or any(character.isspace() for character in host) or (":" in host and not bracketed):
        raise ValueError("must be host:port; an IPv6 address stands in brackets, [::1]:50051")
