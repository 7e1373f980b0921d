"""How a command reaches a service: address, and TLS by flags or environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
import grpc

from lakehouse.errors import Fault, Reason
from lakehouse.server.tls import channel_credentials
from lakehouse.server.tls_diagnosis import tls_problem
from lakehouse.settings import check_target

_UNREACHABLE = (None, Reason.CHATD_UNREACHABLE, Reason.VALIDATED_UNREACHABLE, Reason.DEADLINE)
_File = click.Path(dir_okay=False, path_type=Path)

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class TlsFlags:
    """What was said about TLS; nothing: plain text."""

    ca_file: Path | None
    certificate_file: Path | None
    key_file: Path | None

    @property
    def secure(self) -> bool:
        return self.ca_file is not None or self.certificate_file is not None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None for plain text. Raises click.UsageError where a file cannot be used."""
        if (self.certificate_file is None) != (self.key_file is None):
            raise click.UsageError("give --cert and --key, or neither")
        if not self.secure:
            return None
        try:
            return channel_credentials(self.ca_file, self.certificate_file, self.key_file)
        except OSError as error:
            raise click.UsageError(f"TLS: {error.filename}: {error.strerror}") from None
        except ValueError as error:
            raise click.UsageError(f"TLS: {error}") from None

    def explain(self, fault: Fault, address: str) -> str:
        """Return what TLS has to do with a call that did not get through; empty where it has nothing to."""
        if fault.code not in {"UNAVAILABLE", "DEADLINE_EXCEEDED"} or fault.reason not in _UNREACHABLE:
            return ""
        return tls_problem(
            address,
            secure=self.secure,
            ca_file=self.ca_file,
            certificate_file=self.certificate_file,
            key_file=self.key_file,
        )


def tls_options(function: F) -> F:
    """Add `ca`, `cert` and `key` to a command."""
    for option in (
        click.option("--key", type=_File, envvar="LAKEHOUSE_KEY", help="PEM of its private key."),
        click.option("--cert", type=_File, envvar="LAKEHOUSE_CERT", help="PEM of our certificate."),
        click.option("--ca", type=_File, envvar="LAKEHOUSE_CA", help="PEM of the authorities to trust: call by TLS."),
    ):
        function = option(function)
    return function


def checked_address(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """For an option's callback: an address with a port, since gRPC would take a missing one for 443."""
    if value is not None:
        try:
            check_target(value)
        except ValueError as error:
            raise click.BadParameter(f"{value!r} {error}") from None
    return value
