"""Whether this machine has the addresses that a service is to listen on. Nothing stays open."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from lakehouse.settings import split_bind, unix_path


def bind_problem(bind: str) -> str | None:
    """Why nobody could listen on a bind address; None where somebody can, or already does."""
    address = split_bind(bind)
    return socket_problem(Path(unix_path(bind))) if address is None else port_problem(*address)


def port_problem(host: str, port: int) -> str | None:
    """Why nobody could listen there; None where somebody can, or already does: that is for the start to find out."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return f"there is no host {host!r}"
    problem = None
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return None
            problem = f"cannot listen on {host} port {port}: {error.strerror}"
        else:
            return None
    return problem


def socket_problem(path: Path) -> str | None:
    """Why nobody could listen on a Unix socket; None where somebody can, or already does."""
    try:
        if path.exists() and not path.is_socket():
            return f"{path} is there and is no socket"
        if not path.parent.is_dir():
            return f"there is no folder {path.parent}"
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None if os.access(path.parent, os.W_OK | os.X_OK) else f"no permission to write into {path.parent}"
