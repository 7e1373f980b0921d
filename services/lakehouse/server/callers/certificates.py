"""The names in a client certificate, which the handshake has verified.

They are read here, from the certificate itself: of those that gRPC's core gives, each ends at its first zero byte.
"""

from __future__ import annotations

from cryptography import x509

from lakehouse.server.callers.unknown import UnknownCredential

_NAMES_MAX = 100
CertificateName = tuple[bool, str]
"""Whether it is a DNS name, else a URI; and the name. No text of one kind is ever a name of the other."""


def certificate_names(pem: bytes) -> list[CertificateName]:
    """URI and DNS names of a certificate, the latter in lower case. Raises UnknownCredential."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found: list[CertificateName] = [
            (False, name) for name in names.get_values_for_type(x509.UniformResourceIdentifier)
        ]
        found += [(True, name.lower()) for name in names.get_values_for_type(x509.DNSName)]
    except x509.ExtensionNotFound:
        raise UnknownCredential("no name in the certificate") from None
    except Exception:  # noqa: BLE001  whatever the library says of a stranger's bytes: nobody is known by them
        raise UnknownCredential("unreadable certificate") from None
    if len(found) > _NAMES_MAX:
        raise UnknownCredential("too many names in the certificate")
    return found
