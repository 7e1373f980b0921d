"""TLS of the listener and of the channels to others, with files that may be replaced while the process runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import grpc

from lakehouse.server.config import TlsTable
from lakehouse.server.watched_files import WatchedFiles
from lakehouse.settings import check_certificates


class ListenerTls:
    """The listener's credentials. A new certificate counts from the next connection on; open ones stay as they are."""

    def __init__(self, tls: TlsTable) -> None:
        """Raise OSError where a file cannot be read, ValueError where one cannot be used."""
        self._tls = tls
        files = (tls.certificate_file, tls.key_file, tls.client_ca_file)
        self._files = WatchedFiles([file for file in files if file is not None], self._read)
        self._new: grpc.ServerCertificateConfiguration | None = None
        initial = self._configuration()
        self.credentials = grpc.dynamic_ssl_server_credentials(
            initial,
            self._take,  # type: ignore[arg-type]  # None is documented: no change
            require_client_authentication=tls.client_ca_file is not None,
        )

    def watched(self) -> AbstractContextManager[None]:
        """Read the files again when they change, for the time of the block."""
        return self._files.watched()

    def reload(self) -> None:
        """Look at the files now."""
        self._files.look()

    def _take(self) -> grpc.ServerCertificateConfiguration | None:
        # Called for each new connection, in one of the core's threads: memory only. None: no change.
        new, self._new = self._new, None
        return new

    def _read(self) -> None:
        self._new = self._configuration()

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        tls = self._tls
        key, chain, authorities = _read_together(tls.key_file, tls.certificate_file, tls.client_ca_file)
        assert key is not None and chain is not None  # noqa: S101, PT018  a listener has both files
        return grpc.ssl_server_certificate_configuration([(key, chain)], authorities)


class ChannelTls:
    """The credentials of channels to others: what they trust, and who they are."""

    def __init__(self, *, ca_file: Path, certificate_file: Path | None, key_file: Path | None) -> None:
        """Raise OSError where a file cannot be read, ValueError where one cannot be used."""
        self._ca_file, self._certificate_file, self._key_file = ca_file, certificate_file, key_file
        self._on_change: Callable[[grpc.ChannelCredentials], None] | None = None
        files = (ca_file, certificate_file, key_file)
        self._files = WatchedFiles([file for file in files if file is not None], self._read)
        self.credentials = self._made()

    def watched(self, on_change: Callable[[grpc.ChannelCredentials], None]) -> AbstractContextManager[None]:
        """Call `on_change` in a thread with new credentials when the files change, for the time of the block."""
        self._on_change = on_change
        return self._files.watched()

    def reload(self) -> None:
        """Look at the files now."""
        self._files.look()

    def _read(self) -> None:
        self.credentials = self._made()
        if self._on_change is not None:
            self._on_change(self.credentials)

    def _made(self) -> grpc.ChannelCredentials:
        return channel_credentials(self._ca_file, self._certificate_file, self._key_file)


def channel_credentials(
    ca_file: Path | None, certificate_file: Path | None, key_file: Path | None
) -> grpc.ChannelCredentials:
    """Return what a channel trusts (None: gRPC's own authorities), and who it is. Raises OSError or ValueError."""
    key, chain, authorities = _read_together(key_file, certificate_file, ca_file)
    return grpc.ssl_channel_credentials(authorities, key, chain)


def _read_together(*files: Path | None) -> list[bytes | None]:
    """Key, certificate chain and authorities, known to fit one another. Raises OSError or ValueError."""
    key_file, certificate_file, ca_file = files
    texts = [file.read_bytes() if file is not None else None for file in files]
    check_certificates(certificate_file=certificate_file, key_file=key_file, ca_file=ca_file)
    if texts != [file.read_bytes() if file is not None else None for file in files]:
        raise ValueError("they are being replaced")
    return texts
