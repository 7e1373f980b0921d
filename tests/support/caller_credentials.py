"""Credentials for tests of callers: certificates, keys, tokens, and the callers' file that knows them."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.test/"
AUDIENCE = "lakehouse"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass
class Signer:
    """A private key with an id, as an issuer has it."""

    key_id: str
    key: PrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def algorithm(self) -> str:
        if isinstance(self.key, rsa.RSAPrivateKey):
            return "RS256"
        return "ES256" if isinstance(self.key, ec.EllipticCurvePrivateKey) else "EdDSA"

    @property
    def jwk(self) -> dict[str, Any]:
        public: Any = self.key.public_key()
        kinds: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
        return {**kinds[self.algorithm].to_jwk(public, as_dict=True), "kid": self.key_id, "use": "sig"}

    @property
    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def token(self, subject: str = "svc-scheduler", *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a token that holds, unless `claims` say otherwise; a claim of None is left out."""
        now = int(time.time())
        everything = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 600, **claims}
        payload = {name: value for name, value in everything.items() if value is not None}
        return jwt.encode(payload, self.key, self.algorithm, headers={"kid": self.key_id, **(headers or {})})

    def token_of(self, header: dict[str, Any], claims: bytes | None = None) -> str:
        """Return a well-signed ES256 token with this header and these claims, which need be none: libraries refuse
        to."""
        assert isinstance(self.key, ec.EllipticCurvePrivateKey)
        payload = self.token().split(".")[1] if claims is None else segment(claims)
        text = f"{segment({'alg': 'ES256', 'kid': self.key_id, **header})}.{payload}"
        return f"{text}.{segment(ECAlgorithm(ECAlgorithm.SHA256).sign(text.encode(), self.key))}"


def rsa_signer(key_id: str = "rsa-1") -> Signer:
    return Signer(key_id, rsa.generate_private_key(65537, 2048))


def key_set(*signers: Signer) -> str:
    return json.dumps({"keys": [signer.jwk for signer in signers]})


def issuer_table(keys: Path | str, *algorithms: str) -> str:
    """`[issuers.corp]` of a callers' file: ours, whose keys stand in a file, or at a URL."""
    place = "jwks_file" if isinstance(keys, Path) else "jwks_url"
    return f'''
[issuers.corp]
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}"]
algorithms = {json.dumps(algorithms)}
{place} = "{keys}"
'''


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def segment(value: object) -> str:
    """Return a part of a token made by hand."""
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


@dataclass
class Authority:
    """A certificate authority of one test."""

    folder: Path
    name: str = "ca"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test {self.name}")])
        self._subject = subject
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self.file = self.folder / f"{self.name}.pem"
        self.file.write_bytes(self.pem)

    def issue(
        self, name: str, sans: Sequence[x509.GeneralName], *, days: int = 1, common_name: str = "x"
    ) -> tuple[Path, Path]:
        """Certificate and key files of a leaf with these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=3))
            .not_valid_after(now + dt.timedelta(days=days))
        )
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(sans)), critical=False)
        certificate_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate_file.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate_file, key_file

    def credentials(self, files: tuple[Path, Path] | None = None) -> grpc.ChannelCredentials:
        """Return what trusts this authority, and is whom `files` say."""
        chain, key = (file.read_bytes() for file in files) if files else (None, None)
        return grpc.ssl_channel_credentials(self.pem, key, chain)


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def dns(text: str) -> x509.GeneralName:
    return x509.DNSName(text)


def replace_file(file: Path, text: str) -> None:
    """As operators should: whole, by a rename."""
    fresh = file.with_name(file.name + ".new")
    fresh.write_text(text)
    fresh.rename(file)
