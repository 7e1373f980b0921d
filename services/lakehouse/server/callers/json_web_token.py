"""JSON Web Tokens (RFC 7519): whose is it, and until when. Any doubt is a refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt

from lakehouse.server.callers.key_set import KeySet, PublicKey
from lakehouse.server.callers.key_source import KeySource
from lakehouse.server.callers.unknown import UnknownCredential

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_SUBJECT_CHARS_MAX: Final = 256
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt", "application/jwt"})


class UnknownKey(UnknownCredential):
    """The token is signed by a key that its issuer's set does not have, as far as it was read. An issuer may have
    replaced its key since, under the same id or without one."""

    def __init__(self, source: KeySource, problem: str = "key id unknown") -> None:
        super().__init__(problem)
        self.source = source


@dataclass(frozen=True, slots=True)
class Verified:
    """A token that holds."""

    issuer: str
    """Its name in the callers' file."""
    subject: str
    expires_s: float
    """Unix seconds, leeway included."""
    source: KeySource
    keys: KeySet
    """Of the source: what holds by them holds while they are the source's."""


def looks_like_jwt(token: str) -> bool:
    """Three parts in base64url, the first of which begins as a JSON object does. The library would read past whatever
    else stands in them."""
    return token.startswith("ey") and _COMPACT.fullmatch(token) is not None


def verify(token: str, sources: Mapping[str, KeySource]) -> Verified:
    """Return `sources` by the claim `iss`. Raises UnknownCredential."""
    try:
        return _verify(token, sources)
    except UnknownCredential:
        raise
    except jwt.ExpiredSignatureError:
        raise UnknownCredential("expired") from None
    except jwt.ImmatureSignatureError:
        raise UnknownCredential("not valid yet") from None
    except jwt.InvalidAudienceError:
        raise UnknownCredential("wrong audience") from None
    except jwt.MissingRequiredClaimError:
        raise UnknownCredential("a claim is missing") from None
    except Exception:  # noqa: BLE001  whatever the library says of a stranger's bytes: nobody is known by them
        raise UnknownCredential("unreadable token") from None


def _verify(token: str, sources: Mapping[str, KeySource]) -> Verified:
    header: dict[str, Any] = jwt.get_unverified_header(token)
    claimed = jwt.decode(token, options={"verify_signature": False})
    issuer = claimed.get("iss")
    source = sources.get(issuer) if isinstance(issuer, str) else None
    if source is None:
        raise UnknownCredential("wrong issuer")
    table = source.table
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in table.algorithms:
        raise UnknownCredential("algorithm not allowed")
    # `b64` and what `crit` names would change what the signature is over; keys that a token brings are not looked at.
    if "crit" in header or "b64" in header or str(header.get("typ", "JWT")).lower() not in _TYPES:
        raise UnknownCredential("header not allowed")
    key_id = header.get("kid")
    if key_id is not None and not isinstance(key_id, str):
        raise UnknownCredential("unreadable token")
    keys = source.keys
    candidates = keys.find(algorithm, key_id) if keys is not None else ()
    if keys is None or not candidates:
        raise UnknownKey(source)
    claims = _claims(token, algorithm, candidates, source)
    expires_s = float(claims["exp"]) + table.leeway_s
    return Verified(source.name, _subject(claims, table.subject_claim), expires_s, source, keys)


def _claims(token: str, algorithm: str, candidates: Sequence[PublicKey], source: KeySource) -> Mapping[str, Any]:
    """Return the claims by the first of the keys that has signed them. Raises UnknownKey, and what the library says."""
    table = source.table
    for key in candidates:
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key=key,
                algorithms=[algorithm],
                audience=list(table.audiences),
                issuer=table.issuer,
                leeway=table.leeway_s,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.InvalidSignatureError:
            continue
        return claims
    raise UnknownKey(source, "wrong signature")


def _subject(claims: Mapping[str, Any], claim: str) -> str:
    subject = claims.get(claim)
    if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT_CHARS_MAX:
        raise UnknownCredential("a claim is missing")
    return subject


def by_issuer(sources: Sequence[KeySource]) -> dict[str, KeySource]:
    """Return sources by the claim that their tokens bear."""
    return {source.table.issuer: source for source in sources}
