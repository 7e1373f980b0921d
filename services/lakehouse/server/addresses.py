"""Whether this machine lets a service listen where it is to listen, and who else does. Nothing stays open."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lakehouse.targets import split_bind, unix_path

_PROC: Final = Path("/proc")
# RFC 6761, RFC 6762, RFC 8375, and what clusters and offices use.
_PRIVATE_NAMES: Final = (
    *(".localhost", ".local", ".internal", ".home.arpa", ".test", ".example", ".invalid"),
    *(".lan", ".corp", ".home", ".intranet", ".private", ".svc"),
)
_LISTENING: Final = "0A"
# A trial connection to a Unix socket: a listener that does not even accept holds the path all the same.
_CONNECT_S: Final = 0.5


def bind_problem(bind: str) -> str | None:
    """Why nobody could listen on a bind address now; None where somebody can."""
    address = split_bind(bind)
    return socket_problem(Path(unix_path(bind))) if address is None else port_problem(*address)


def port_problem(host: str, port: int) -> str | None:
    """Why nobody could listen there now; None where somebody can."""
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
                return f"cannot listen on {host} port {port}: {another_process(_port_inodes(str(address[0]), port))}"
            problem = f"cannot listen on {host} port {port}: {error.strerror}"
        else:
            return None
    return problem


def socket_problem(path: Path) -> str | None:
    """Why nobody could listen on a Unix socket now; None where somebody can."""
    try:
        if path.exists() and not path.is_socket():
            return f"{path} is there and is no socket"
        if not path.parent.is_dir():
            return f"there is no folder {path.parent}"
        if path.exists() and _is_listening(path):
            # gRPC would take the path away from its listener in silence.
            return f"cannot listen on {path}: {another_process(_socket_inodes(path))}"
    except OSError as error:
        return f"{path}: {error.strerror}"
    return None if os.access(path.parent, os.W_OK | os.X_OK) else f"no permission to write into {path.parent}"


def is_private(host: str) -> bool:
    """Whether a host's name or address says that it is not on the public internet. Nothing is looked up."""
    name = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return "." not in name or name.endswith(_PRIVATE_NAMES)
    return not address.is_global


def another_process(inodes: frozenset[int]) -> str:
    """`another process is there`, with its pid and what it runs where /proc says so."""
    for pid, program in _owners(inodes):
        return f"another process is there: pid {pid} ({program})"
    return "another process is there"


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(_CONNECT_S)
        try:
            caller.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _port_inodes(host: str, port: int) -> frozenset[int]:
    """Return the sockets that listen on a TCP address, or on a port of every address, by their inodes."""
    wanted = ipaddress.ip_address(host.partition("%")[0])
    inodes = set()
    for table in ("tcp", "tcp6"):
        for fields in _rows(_PROC / "net" / table):
            if len(fields) > 9 and fields[3] == _LISTENING:
                address, _, number = fields[1].partition(":")
                found = _address(address)
                if int(number, 16) == port and (found == wanted or found.is_unspecified or wanted.is_unspecified):
                    inodes.add(int(fields[9]))
    return frozenset(inodes)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address of /proc/net/tcp: hex, each 32 bits in the machine's order."""
    raw = bytes.fromhex(text)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    address = ipaddress.ip_address(raw)
    return getattr(address, "ipv4_mapped", None) or address


def _socket_inodes(path: Path) -> frozenset[int]:
    named = str(path)
    return frozenset(
        int(fields[6]) for fields in _rows(_PROC / "net" / "unix") if len(fields) > 7 and fields[7] == named
    )


def _rows(table: Path) -> list[list[str]]:
    try:
        return [line.split() for line in table.read_text(encoding="utf-8", errors="replace").splitlines()[1:]]
    except OSError:  # no /proc, or none that we may read
        return []


def _owners(inodes: frozenset[int]) -> Iterator[tuple[int, str]]:
    if not inodes:
        return
    names = {f"socket:[{inode}]" for inode in inodes}
    for process in _PROC.glob("[0-9]*"):
        # A process that ends meanwhile, or another user's.
        with contextlib.suppress(OSError):
            if any(_link(descriptor) in names for descriptor in (process / "fd").iterdir()):
                yield int(process.name), _program(process)


def _link(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""


def _program(process: Path) -> str:
    """Return what a process runs, without its other arguments, which may be secret."""
    words = process.joinpath("cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    program = Path(words[0]).name or process.joinpath("comm").read_text(encoding="utf-8").strip()
    if re.match(r"python[\d.]*\Z", program) and len(words) > 2:
        program += f" -m {words[2]}" if words[1] == "-m" else f" {Path(words[1]).name}"
    return program[:100]
