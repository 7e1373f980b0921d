"""Why a call did not get through, where TLS is the reason: gRPC itself says "failed to connect" of most of it."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

from lakehouse.targets import unix_path

_WAIT_S = 2.0


def tls_problem(
    target: str,
    *,
    secure: bool,
    ca_file: Path | None = None,
    certificate_file: Path | None = None,
    key_file: Path | None = None,
    server_name: str = "",
) -> str:
    """Return what is wrong between us and the listener at `target`, in a sentence; empty where it is not TLS, or not
    known.

    `secure` says whether we spoke TLS to it. One connection is made, and a second one where that answers more.
    """
    try:
        connection, name = _connect(target)
    except (OSError, ValueError):
        return ""
    with contextlib.closing(connection):
        if not secure:
            error = _handshake_error(connection, _unverified(), name)
            # An alert is TLS as well.
            speaks_tls = error is None or isinstance(error, _ClosedAfterwardsError) or "ALERT" in _reason(error)
            return f"{target} speaks TLS and was called in plain text: give --ca (and --cert, --key)" * speaks_tls
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file is not None else None)
        if certificate_file is not None:
            context.load_cert_chain(certificate_file, key_file)
        error = _handshake_error(connection, context, server_name or name)
    if error is None:
        return ""
    return _sentence(target, error, server_name or name, has_certificate=certificate_file is not None)


class _ClosedAfterwardsError(ConnectionError):
    """The handshake was finished, and the listener closed the connection without a word."""


def _connect(target: str) -> tuple[socket.socket, str]:
    if target.startswith("unix:"):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_WAIT_S)
        connection.connect(unix_path(target))
        return connection, "localhost"
    scheme, _, rest = target.rpartition("/")
    # dns:///name:port, dns://resolver/name:port, ipv4:address:port or host:port.
    address = rest if scheme else target.removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:")
    host, _, port = address.partition(",")[0].rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    connection = socket.create_connection((host, int(port)), _WAIT_S)
    connection.settimeout(_WAIT_S)
    return connection, host


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # It is only asked whether TLS is spoken: nothing is sent over this connection.
    context.verify_mode = ssl.CERT_NONE
    return context


def _handshake_error(connection: socket.socket, context: ssl.SSLContext, name: str) -> Exception | None:
    context.set_alpn_protocols(["h2"])
    try:
        # In TLS 1.3 a listener refuses a certificate, or a missing one, after the client has finished.
        with context.wrap_socket(connection, server_hostname=name) as secured, contextlib.suppress(TimeoutError):
            if not secured.recv(1):
                return _ClosedAfterwardsError()
    except (OSError, ValueError) as error:
        return error
    return None


def _sentence(target: str, error: Exception, name: str, *, has_certificate: bool) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: the certificate of {target} is not good for {name}: {error.verify_message}"
    reason = _reason(error)
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        return f"TLS: {target} speaks plain text: leave out --ca, --cert and --key"
    # gRPC's listeners close the connection without an alert that says so.
    closed = isinstance(error, _ClosedAfterwardsError)
    if "CERTIFICATE_REQUIRED" in reason or ((closed or "HANDSHAKE_FAILURE" in reason) and not has_certificate):
        return f"TLS: {target} demands a client certificate: give --cert and --key"
    if closed:
        return f"TLS: {target} refuses our certificate: another authority has signed it, or it has expired"
    if "ALERT" in reason and ("CA" in reason or "CERTIFICATE" in reason):
        return f"TLS: {target} refuses our certificate ({reason.lower().replace('_', ' ')})"
    if isinstance(error, ssl.SSLError):
        return f"TLS: the handshake with {target} failed ({reason.lower().replace('_', ' ') or 'no reason given'})"
    return ""


def _reason(error: Exception) -> str:
    """OpenSSL's word for it; empty where it is none of OpenSSL's."""
    return str(getattr(error, "reason", None) or "")
