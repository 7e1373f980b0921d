"""Who calls: by token (`authorization: Bearer`), else by client certificate.

A token that is sent decides: one that nobody is known by is refused, whatever the certificate says. Nothing of a
credential is kept, logged or answered; what is remembered of a token is a keyed hash.
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
TOKENS_MAX: Final = 4096
"""Tokens remembered; the one not seen for longest is forgotten."""
VERIFIED_S: Final = 300.0
"""How long a JWT is remembered at most."""
CERTIFICATES_MAX: Final = 1024
"""Certificates whose names are remembered."""
_BEARER: Final = "bearer "

AuthContext = Mapping[str, Iterable[bytes]]
_Known = tuple[Caller, float, KeySource | None, KeySet | None]
"""Whose a token is; of a JWT until when (Unix seconds), and by which keys of which issuer."""


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
        self._tokens: OrderedDict[bytes, _Known] = OrderedDict()
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
        """Return the caller of an `authorization` value. Raises UnknownCredential."""
        if len(value) > TOKEN_CHARS_MAX + len(_BEARER):
            raise UnknownCredential("token too long")
        # Before anything else: nearly every call has a token that was seen before.
        key = self._keyed(value.encode("utf-8", "surrogatepass"))
        known = self._tokens.get(key)
        if known is not None:
            caller, expires_s, source, keys = known
            if source is None or (self._now_s() < expires_s and source.keys is keys):
                self._tokens.move_to_end(key)
                return caller
            del self._tokens[key]
        if value[: len(_BEARER)].lower() != _BEARER:
            raise UnknownCredential("not a bearer token")
        token = value[len(_BEARER) :].strip(" ")
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise UnknownCredential("unreadable token")
        entry = self._by_jwt(token) if looks_like_jwt(token) else self._by_opaque_token(token)
        self._tokens[key] = entry
        if len(self._tokens) > TOKENS_MAX:
            self._tokens.popitem(last=False)
        return entry[0]

    def by_certificate(self, context: AuthContext) -> Caller:
        """Return the caller of a connection's client certificate, which the handshake has verified. Raises
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

    def _by_opaque_token(self, token: str) -> _Known:
        digest = hashlib.sha256(token.encode()).digest()
        found = self._by_token.get(self._keyed(digest))
        if found is None or not hmac.compare_digest(found[0], digest):
            raise UnknownCredential("token of nobody listed")
        return found[1], 0.0, None, None

    def _by_jwt(self, token: str) -> _Known:
        verified = verify(token, self._sources)
        caller = self._by_subject.get((verified.issuer, verified.subject))
        if caller is None:
            raise UnknownCredential("subject of nobody listed")
        return caller, min(verified.expires_s, self._now_s() + VERIFIED_S), verified.source, verified.keys

    def _keyed(self, data: bytes) -> bytes:
        return hashlib.blake2b(data, digest_size=32, key=self._secret).digest()
