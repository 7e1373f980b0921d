"""An issuer's public keys, as a JSON Web Key Set (RFC 7517) states them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

KEY_SET_BYTES_MAX: Final = 256 * 1024
_KEYS_MAX: Final = 100
_KEY_ID_CHARS_MAX: Final = 512
# Keys that a token without a key id is tried with: several stand there while one replaces another.
_UNNAMED_MAX: Final = 4
_RSA_BITS: Final = (2048, 4096)

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class KeySet:
    """Public keys by algorithm and key id."""

    def __init__(self, keys: Iterable[tuple[str, str | None, PublicKey]]) -> None:
        """`keys`: algorithm, key id (None: without one), key. Raises ValueError where two have one name."""
        self._named: dict[tuple[str, str], PublicKey] = {}
        self._all: dict[str, list[PublicKey]] = {}
        for algorithm, key_id, key in keys:
            self._all.setdefault(algorithm, []).append(key)
            if key_id is None:
                continue
            if (algorithm, key_id) in self._named:
                raise ValueError("two keys have the same id")
            self._named[algorithm, key_id] = key

    def find(self, algorithm: str, key_id: str | None) -> Sequence[PublicKey]:
        """Return the key that a token names, one or none. Where it names none, those of its algorithm; none where
        they are many."""
        if key_id is not None:
            key = self._named.get((algorithm, key_id))
            return () if key is None else (key,)
        keys = self._all.get(algorithm, ())
        return keys if len(keys) <= _UNNAMED_MAX else ()


def read_key_set(data: bytes, algorithms: Iterable[str]) -> KeySet:
    """Return the keys for these algorithms; whatever else a set holds is passed over.

    Raises ValueError where it is no key set, where it has no such key, or holds a private one.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or len(entries) > _KEYS_MAX:
        raise ValueError(f'is no key set: an object with "keys", a list of at most {_KEYS_MAX}')
    wanted = set(algorithms)
    found = [key for entry in entries if isinstance(entry, dict) and (key := _read_key(entry, wanted)) is not None]
    if not found:
        raise ValueError(f"has no key to verify {' or '.join(sorted(wanted))} with")
    return KeySet(found)


def _read_key(entry: Mapping[str, Any], wanted: set[str]) -> tuple[str, str | None, PublicKey] | None:
    if "d" in entry:
        raise ValueError("holds a private key: publish the public ones alone, and replace this one")
    try:
        algorithm = {"RSA": "RS256", "EC": "ES256", "OKP": "EdDSA"}.get(entry["kty"])
        if algorithm is None or algorithm not in wanted or not _is_for_signatures(entry, algorithm):
            return None
        key = _public_key(algorithm, dict(entry))
    except Exception:  # noqa: BLE001  whatever Python or a library says of a stranger's values: it is no key
        return None
    return None if key is None else (algorithm, entry.get("kid"), key)


def _is_for_signatures(entry: Mapping[str, Any], algorithm: str) -> bool:
    key_id = entry.get("kid")
    return (
        entry.get("use", "sig") == "sig"
        and entry.get("alg", algorithm) in (algorithm, "Ed25519")
        and "verify" in entry.get("key_ops", ["verify"])
        and (key_id is None or (isinstance(key_id, str) and len(key_id) <= _KEY_ID_CHARS_MAX))
    )


def _public_key(algorithm: str, entry: dict[str, Any]) -> PublicKey | None:
    if algorithm == "RS256":
        key = RSAAlgorithm.from_jwk(entry)
        least, most = _RSA_BITS
        return key if isinstance(key, RSAPublicKey) and least <= key.key_size <= most else None
    if algorithm == "ES256":
        curve_key = ECAlgorithm.from_jwk(entry)
        is_p256 = isinstance(curve_key, EllipticCurvePublicKey) and isinstance(curve_key.curve, SECP256R1)
        return curve_key if is_p256 else None  # type: ignore[return-value]
    edwards_key = OKPAlgorithm.from_jwk(entry)
    return edwards_key if isinstance(edwards_key, Ed25519PublicKey) else None
