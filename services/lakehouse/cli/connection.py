"""How a command reaches a service: address, TLS and who calls, by flags or environment."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import grpc

from lakehouse.errors import Fault, Reason
from lakehouse.server.tls_diagnosis import tls_problem
from lakehouse.targets import check_target

_UNREACHABLE = (None, Reason.CHATD_UNREACHABLE, Reason.VALIDATED_UNREACHABLE, Reason.DEADLINE)
_File = click.Path(dir_okay=False, path_type=Path)

# iterate takes no longer ones.
_TOKEN_BYTES_MAX = 16 * 1024


@dataclass(frozen=True)
class Connection:
    """How to reach a service: plain text unless something is said about TLS, as nobody unless a credential is given."""

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    token_file: Path | None = None

    @property
    def secure(self) -> bool:
        return self.ca_file is not None or self.certificate_file is not None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return None for plain text. Raises click.UsageError where a file cannot be used."""
        if (self.certificate_file is None) != (self.key_file is None):
            raise click.UsageError("give --cert and --key, or neither")
        if not self.secure:
            return None
        from lakehouse.server.tls import channel_credentials  # noqa: PLC0415  pydantic, which plain text can do without

        try:
            return channel_credentials(self.ca_file, self.certificate_file, self.key_file)
        except OSError as error:
            raise click.UsageError(f"TLS: {error.filename}: {error.strerror}") from None
        except ValueError as error:
            raise click.UsageError(f"TLS: {error}") from None

    def token(self) -> str | None:
        """Return the token of the file; None without one. Raises click.UsageError, which never shows the token."""
        if self.token_file is None:
            return None
        try:
            with self.token_file.open("rb") as file:
                token = file.read(_TOKEN_BYTES_MAX + 1).strip()
        except OSError as error:
            raise click.UsageError(f"--token-file {self.token_file}: {error.strerror}") from None
        if not token or len(token) > _TOKEN_BYTES_MAX or any(not 0x21 <= each <= 0x7E for each in token):
            text = f"must hold one token and nothing else, of at most {_TOKEN_BYTES_MAX} printable ASCII characters"
            raise click.UsageError(f"--token-file {self.token_file}: {text}")
        return token.decode()

    def explain(self, fault: Fault, address: str) -> str:
        """Return what the connection's flags have to do with a call that did not get through; empty where they have
        nothing to."""
        if fault.reason is Reason.CALLER_UNKNOWN:
            if self.token_file is None and self.certificate_file is None:
                return f"{address} wants to know who calls: give --token-file, or --cert and --key"
            return f"{address} does not know the credential that was sent: `lakehouse callers whoami` says why, there"
        if fault.code not in {"UNAVAILABLE", "DEADLINE_EXCEEDED"} or fault.reason not in _UNREACHABLE:
            return ""
        return tls_problem(
            address,
            secure=self.secure,
            ca_file=self.ca_file,
            certificate_file=self.certificate_file,
            key_file=self.key_file,
        )


def connection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a decorator that gives a command `connection`."""

    @functools.wraps(function)
    def with_connection(
        *, ca: Path | None, cert: Path | None, key: Path | None, token_file: Path | None, **rest: Any
    ) -> Any:
        return function(connection=Connection(ca, cert, key, token_file), **rest)

    command: Callable[..., Any] = with_connection
    for option in (
        click.option(
            "--token-file",
            type=_File,
            envvar="LAKEHOUSE_TOKEN_FILE",
            help="File with the token that says who calls. Without TLS it can be read on the way.",
        ),
        click.option("--key", type=_File, envvar="LAKEHOUSE_KEY", help="PEM of its private key."),
        click.option("--cert", type=_File, envvar="LAKEHOUSE_CERT", help="PEM of our certificate."),
        click.option("--ca", type=_File, envvar="LAKEHOUSE_CA", help="PEM of the authorities to trust: call by TLS."),
    ):
        command = option(command)
    return command


def iterate_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `address`, of iterate, and `connection`."""
    return click.option(
        "--address",
        default="127.0.0.1:50051",
        show_default=True,
        envvar="LAKEHOUSE_ITERATE",
        callback=checked_address,
        help="iterate.",
    )(connection_options(function))


def checked_address(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """For an option's callback: an address with a port, since gRPC would take a missing one for 443."""
    if value is not None:
        try:
            check_target(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} {error}") from None
    return value
