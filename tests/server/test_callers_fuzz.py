"""Goal: whatever is sent as a credential, it is no crash and no pass.

Method: the directory of a callers' file, asked by hypothesis: noise, tokens that are nearly right, headers and claims
of every JSON shape well signed by a stranger, certificates with every name and every byte.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from caller_credentials import (
    AUDIENCE,
    ISSUER,
    Authority,
    Signer,
    dns,
    issuer_table,
    key_set,
    rsa_signer,
    segment,
    sha256,
    uri,
)
from cryptography import x509
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lakehouse.server.callers.authentication import Directory
from lakehouse.server.callers.file import read_callers_file
from lakehouse.server.callers.key_set import KeySet, read_key_set
from lakehouse.server.callers.key_source import KeySource
from lakehouse.server.callers.unknown import UnknownCredential

TOKEN = "opaque-" + "k" * 40
OURS, STRANGER = Signer("es-1"), Signer("es-1")
RSA = rsa_signer("rs-1")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FUZZ = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Directory]:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "keys.json").write_text(key_set(OURS, RSA))
    file = folder / "callers.toml"
    file.write_text(
        f"""
        {issuer_table(folder / "keys.json", "ES256", "RS256")}
        [callers.scheduler]
        subjects = [{{issuer = "corp", subject = "svc-scheduler"}}]
        tokens_sha256 = ["{sha256(TOKEN)}"]
        certificates = ["spiffe://example.test/scheduler", "dns:scheduler.test"]
        """
    )
    callers = read_callers_file(file)
    source = KeySource("corp", callers.issuers["corp"])
    source.start()
    yield Directory(callers, [source])
    source.close()


def passes(directory: Directory, authorization: str) -> bool:
    try:
        caller = directory.by_authorization(authorization)
    except UnknownCredential as unknown:
        # Fixed words, never the sender's.
        assert unknown.problem.replace(" ", "").isalpha()
        return False
    assert caller.name == "scheduler"
    return True


def test_the_right_ones_pass(directory: Directory) -> None:
    assert passes(directory, f"Bearer {TOKEN}")
    assert passes(directory, f"Bearer {OURS.token()}")
    assert passes(directory, f"Bearer {RSA.token()}")


@FUZZ
@given(st.text(max_size=300))
@example("Bearer ey..")
@example("Bearer " + "." * 8000)
@example("Bearer ey" + "[" * 6000 + ".ey.")
def test_noise(directory: Directory, text: str) -> None:
    assert not passes(directory, text)
    assert not passes(directory, "Bearer " + text)
    assert not passes(directory, "Bearer ey" + text)


@FUZZ
@given(st.data())
def test_a_token_with_one_character_other(directory: Directory, data: st.DataObject) -> None:
    token = data.draw(st.sampled_from([TOKEN, OURS.token(), RSA.token()]))
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    changed = data.draw(
        st.sampled_from(
            [token[:place] + other + token[place + 1 :], token[:place] + other + token[place:], token[:place]]
        )
    )
    if passes(directory, f"Bearer {changed}"):
        # The last character of base64 has bits that say nothing: the very same header, claims and signature.
        assert changed[:-1] == token[:-1]


@FUZZ
@given(header=JSON, claims=JSON, signature=st.binary(max_size=80))
@example(header={"alg": "ES256", "kid": "es-1"}, claims=[], signature=b"")
@example(header={"alg": ["ES256"]}, claims={"iss": ISSUER}, signature=b"x")
def test_tokens_of_any_json(directory: Directory, header: Any, claims: Any, signature: bytes) -> None:
    assert not passes(directory, f"Bearer {segment(header)}.{segment(claims)}.{segment(signature)}")


@FUZZ
@given(header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5c"]), JSON), claims=JSON)
def test_what_a_stranger_signs(directory: Directory, header: dict[str, Any], claims: Any) -> None:
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "svc-scheduler", "exp": int(time.time()) + 600}
    merged = {**good, **claims} if isinstance(claims, dict) else claims
    assert not passes(directory, f"Bearer {STRANGER.token_of(header, json.dumps(merged).encode())}")


@FUZZ
@given(name=st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat"]), value=JSON)
@example(name="exp", value=10**400)
@example(name="exp", value=float("inf"))
@example(name="exp", value="9999999999")
@example(name="aud", value=[[AUDIENCE]])
@example(name="nbf", value=float("nan"))
def test_claims_of_any_json_well_signed(directory: Directory, name: str, value: Any) -> None:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "svc-scheduler", "exp": now + 600, name: value}
    passed = passes(directory, f"Bearer {OURS.token_of({}, json.dumps(claims).encode())}")
    if passed:
        # Only what says nothing against it.
        assert name in {"exp", "nbf", "iat"} or (name == "aud" and AUDIENCE in value)
        with contextlib.suppress(TypeError):
            assert name != "exp" or int(value) > now - 31
            assert name != "nbf" or int(value) <= now + 31


@FUZZ
@given(header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64"]), JSON, min_size=1))
def test_headers_of_any_json_well_signed(directory: Directory, header: dict[str, Any]) -> None:
    if passes(directory, f"Bearer {OURS.token_of(header)}"):
        assert header.get("alg", "ES256") == "ES256"
        # No key id: the issuer has one key of the algorithm.
        assert header.get("kid", "es-1") in ("es-1", None)
        assert "crit" not in header
        assert "b64" not in header


@FUZZ
@given(
    dns_names=st.lists(st.text(st.characters(min_codepoint=0, max_codepoint=127), max_size=24), max_size=4),
    uris=st.lists(st.text(st.characters(min_codepoint=0, max_codepoint=127), max_size=40), max_size=4),
)
@example(dns_names=["scheduler.test\0.evil.test"], uris=[])
@example(dns_names=[], uris=["spiffe://example.test/scheduler\0/x", "dns:scheduler.test"])
@example(dns_names=["spiffe://example.test/scheduler"], uris=["scheduler.test"])
def test_certificates_of_any_names(
    directory: Directory, authority: Authority, dns_names: list[str], uris: list[str]
) -> None:
    try:
        names: list[x509.GeneralName] = [*map(dns, dns_names), *map(uri, uris)]
        certificate, _ = authority.issue("fuzz", names)
    except ValueError:
        return  # nobody can make such a certificate with this library
    try:
        directory.by_certificate({"x509_pem_cert": [certificate.read_bytes()]})
    except UnknownCredential:
        return
    named = {each.lower() for each in dns_names} & {"scheduler.test"} or set(uris) & {"spiffe://example.test/scheduler"}
    assert named


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@FUZZ
@given(st.binary(max_size=200), st.integers(0, 900), st.integers(0, 255))
def test_certificates_of_any_bytes(
    directory: Directory, authority: Authority, noise: bytes, place: int, byte: int
) -> None:
    for pem in (noise, b"-----BEGIN CERTIFICATE-----\n" + noise, authority.pem[:place] + bytes([byte]) + authority.pem):
        with pytest.raises(UnknownCredential):
            directory.by_certificate({"x509_pem_cert": [pem]})
    with pytest.raises(UnknownCredential):
        directory.by_certificate({"peer_dns": [b"scheduler.test"], "x509_common_name": [b"scheduler.test"]})


@FUZZ
@given(
    JSON
    | st.fixed_dictionaries(
        {
            "keys": st.lists(
                st.dictionaries(
                    st.sampled_from(["kty", "kid", "use", "alg", "crv", "x", "y", "n", "e", "d", "key_ops", "k"]),
                    JSON | st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "AQAB", "sig"]),
                ),
                max_size=4,
            )
        }
    )
)
def test_key_sets_of_any_json_give_keys_or_say_why_not(document: Any) -> None:
    try:
        keys = read_key_set(json.dumps(document).encode(), ["ES256", "RS256", "EdDSA"])
    except ValueError:
        return
    assert isinstance(keys, KeySet)


def test_a_key_set_with_a_private_key_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from jwt.algorithms import ECAlgorithm

    assert isinstance(OURS.key, EllipticCurvePrivateKey)
    private = ECAlgorithm.to_jwk(OURS.key, as_dict=True)
    with pytest.raises(ValueError, match="private key") as caught:
        read_key_set(json.dumps({"keys": [private]}).encode(), ["ES256"])
    assert private["d"] not in str(caught.value)


def test_keys_that_are_weak_for_another_use_or_symmetric_are_passed_over() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    weak = Signer("weak", rsa.generate_private_key(65537, 1024))
    curve = Signer("p384", ec.generate_private_key(ec.SECP384R1()))
    encryption = {**OURS.jwk, "kid": "enc", "use": "enc"}
    shared = {"kty": "oct", "k": "AAAA", "kid": "shared", "alg": "HS256"}
    document = {"keys": [weak.jwk, curve.jwk, encryption, shared, {**OURS.jwk, "kid": "good"}]}

    keys = read_key_set(json.dumps(document).encode(), ["ES256", "RS256"])

    assert len(keys.find("ES256", "good")) == 1
    for name in ("weak", "p384", "enc", "shared"):
        assert not keys.find("RS256", name)
        assert not keys.find("ES256", name)
    twice = {"keys": [OURS.jwk, STRANGER.jwk]}
    with pytest.raises(ValueError, match="same id"):
        read_key_set(json.dumps(twice).encode(), ["ES256"])
