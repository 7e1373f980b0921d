"""Who calls: by token (`authorization: Bearer`), else by client certificate.

A token that is sent decides: one that nobody is known by is refused, whatever the certificate says. Nothing of a
credential is kept, logged or answered; what is remembered of a verified JWT is a keyed hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from lakehouse.server.callers.certificates import CertificateName, certificate_names
from lakehouse.server.callers.file import CallersFile
from lakehouse.server.callers.json_web_token import by_issuer, looks_like_jwt, verify
from lakehouse.server.callers.key_set import KeySet
from lakehouse.server.callers.key_source import KeySource
from lakehouse.server.callers.policy import Caller
from lakehouse.server.callers.unknown import UnknownCredential

TOKEN_CHARS_MAX: Final = 8192
VERIFIED_MAX: Final = 4096
"""JWTs remembered; the one not seen for longest is forgotten."""
VERIFIED_S: Final = 300.0
"""How long at most."""
CERTIFICATES_MAX: Final = 1024
"""Certificates whose names are remembered."""
_BEARER: Final = "bearer "

AuthContext = Mapping[str, Iterable[bytes]]


class Directory:
    """Whom the callers' file knows, by what. Made anew for each version of the file and of the issuers' keys."""

    def __init__(
        self, file: CallersFile, sources: Iterable[KeySource], *, now_s: Callable[[], float] = time.time
    ) -> None:
        self.callers = {name: Caller(name, file.policy_of(name)) for name in file.callers}
        """By name."""
        self.believed = frozenset(name for name, table in file.callers.items() if table.may_name_callers)
        self._sources = by_issuer(list(sources))
        self._now_s = now_s
        self._by_certificate: dict[CertificateName, Caller] = {}
        self._by_subject: dict[tuple[str, str], Caller] = {}
        self._by_token: dict[bytes, tuple[bytes, Caller]] = {}
        # Nobody outside can tell which tokens fall together under it.
        self._secret = secrets.token_bytes(32)
        self._certificates: OrderedDict[bytes, Caller] = OrderedDict()
        self._verified: OrderedDict[bytes, tuple[Caller, float, KeySource, KeySet]] = OrderedDict()
        for name, table in file.callers.items():
            caller = self.callers[name]
            for each in table.certificates:
                is_dns = each.startswith("dns:")
                certificate_name = (is_dns, each[4:] if is_dns else each)
                self._by_certificate[certificate_name] = caller
            for subject in table.subjects:
                self._by_subject[subject.issuer, subject.subject] = caller
            for text in table.tokens_sha256:
                digest = bytes.fromhex(text)
                self._by_token[self._keyed(digest)] = (digest, caller)

    def by_authorization(self, value: str) -> Caller:
        """The caller of an `authorization` value. Raises UnknownCredential."""
        if len(value) > TOKEN_CHARS_MAX + len(_BEARER):
            raise UnknownCredential("token too long")
        if value[: len(_BEARER)].lower() != _BEARER:
            raise UnknownCredential("not a bearer token")
        token = value[len(_BEARER) :].strip(" ")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise UnknownCredential("unreadable token")
        return self._by_jwt(token) if looks_like_jwt(token) else self._by_opaque_token(token)

    def by_certificate(self, context: AuthContext) -> Caller:
        """The caller of a connection's client certificate, which the handshake has verified. Raises
        UnknownCredential: without a certificate, and where its names are nobody's or those of several callers."""
        pem = next(iter(context.get("x509_pem_cert", ())), b"")
        if not pem:
            raise UnknownCredential("no credential")
        caller = self._certificates.get(pem)
        if caller is not None:
            self._certificates.move_to_end(pem)
            return caller
        names = certificate_names(pem)
        found = {each.name: each for name in names if (each := self._by_certificate.get(name)) is not None}
        if len(found) != 1:
            raise UnknownCredential("certificate of several callers" if found else "certificate of nobody listed")
        caller = self._certificates[pem] = next(iter(found.values()))
        if len(self._certificates) > CERTIFICATES_MAX:
            self._certificates.popitem(last=False)
        return caller

    def _by_opaque_token(self, token: str) -> Caller:
        digest = hashlib.sha256(token.encode()).digest()
        found = self._by_token.get(self._keyed(digest))
        if found is None or not hmac.compare_digest(found[0], digest):
            raise UnknownCredential("token of nobody listed")
        return found[1]

    def _by_jwt(self, token: str) -> Caller:
        key = self._keyed(token.encode())
        known = self._verified.get(key)
        if known is not None:
            caller, expires_s, source, keys = known
            if self._now_s() < expires_s and source.keys is keys:
                self._verified.move_to_end(key)
                return caller
            del self._verified[key]
        verified = verify(token, self._sources)
        found = self._by_subject.get((verified.issuer, verified.subject))
        if found is None:
            raise UnknownCredential("subject of nobody listed")
        expires_s = min(verified.expires_s, self._now_s() + VERIFIED_S)
        self._verified[key] = (found, expires_s, verified.source, verified.keys)
        if len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return found

    def _keyed(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, digest_size=32, key=self._secret).digest()
