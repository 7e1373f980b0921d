"""Goal: nobody passes whom the callers' file does not know, on any RPC, and what he gets to know is nothing.

Method: a real server with all RPCs of the three services; every kind of credential, right and wrong, on each of them;
and the log that each call leaves.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
import pytest_asyncio
import structlog
from caller_credentials import (
    AUDIENCE,
    ISSUER,
    Authority,
    Signer,
    dns,
    key_set,
    replace_file,
    rsa_signer,
    segment,
    sha256,
    uri,
)
from callers_server import METHODS, Served, serving_callers

from lakehouse.errors import Reason
from lakehouse.server.callers import key_source

TOKEN = "opaque-" + "k" * 40
REVOKED = "opaque-" + "r" * 40
SPIFFE = "spiffe://example.test/ns/prod/sa/scheduler"
RPCS = sorted(METHODS)


@dataclass
class Ground:
    """The credentials of a test run."""

    folder: Path
    es256: Signer
    rs256: Signer
    eddsa: Signer
    stranger: Signer
    served: Served


def callers_file(folder: Path, *, tokens: tuple[str, ...] = (TOKEN,)) -> str:
    hashes = json.dumps([sha256(token) for token in tokens])
    return f"""
[issuers.corp]
issuer = "{ISSUER}"
audiences = ["{AUDIENCE}", "other"]
algorithms = ["ES256", "RS256", "EdDSA"]
jwks_file = "{folder / "keys.json"}"

[groups.everything]
rpcs = ["*"]
kinds = ["*"]
models = ["*"]

[callers.scheduler]
groups = ["everything"]
subjects = [{{issuer = "corp", subject = "svc-scheduler"}}]
tokens_sha256 = {hashes}
certificates = ["{SPIFFE}", "dns:scheduler.test"]

[callers.nobody]
subjects = [{{issuer = "corp", subject = "svc-nobody"}}]
"""


@pytest.fixture(scope="module", autouse=True)
def looked_at_soon() -> Iterator[None]:
    """Each signature that does not hold has the keys looked at once more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_source, "_ASKED_FILE_S", 0.005)
        yield


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    folder = tmp_path_factory.mktemp("callers")
    signers = (Signer("es-1"), rsa_signer("rs-1"), _eddsa("ed-1"))
    (folder / "keys.json").write_text(key_set(*signers))
    file = folder / "callers.toml"
    file.write_text(callers_file(folder))
    async with serving_callers(callers={"file": file}) as served:
        yield Ground(folder, *signers, Signer("es-1"), served)


def _eddsa(key_id: str) -> Signer:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Signer(key_id, Ed25519PrivateKey.generate())


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def hs256(secret: bytes, **header: object) -> str:
    """Return a token signed with a shared secret, made by hand: libraries refuse to."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "svc-scheduler", "exp": now + 600}
    text = f"{segment({'alg': 'HS256', 'typ': 'JWT', **header})}.{segment(claims)}"
    return f"{text}.{segment(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"


def unsigned(algorithm: str) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "svc-scheduler", "exp": now + 600}
    return f"{segment({'alg': algorithm, 'typ': 'JWT'})}.{segment(claims)}."


def now() -> int:
    return int(time.time())


# Newer releases of the library refuse such a header while they read it.
CRITICAL = "header not allowed" if tuple(map(int, jwt.__version__.split(".")[:2])) < (2, 12) else "unreadable token"
Metadata = tuple[tuple[str, str], ...]
WRONG: dict[str, tuple[Callable[[Ground], Metadata], str]] = {
    "none": (lambda _: (), "no credential"),
    "not a bearer": (lambda _: (("authorization", f"Basic {TOKEN}"),), "not a bearer token"),
    "empty": (lambda _: (("authorization", "Bearer "),), "unreadable token"),
    "two tokens": (lambda _: (*bearer(TOKEN), *bearer(TOKEN)), "several tokens"),
    "too long": (lambda _: bearer("a" * 9000), "token too long"),
    "token of nobody": (lambda _: bearer(TOKEN[:-1]), "token of nobody listed"),
    "the hash itself": (lambda _: bearer(sha256(TOKEN)), "token of nobody listed"),
    "revoked": (lambda _: bearer(REVOKED), "token of nobody listed"),
    "expired": (lambda g: bearer(g.es256.token(exp=now() - 120)), "expired"),
    "not yet": (lambda g: bearer(g.es256.token(nbf=now() + 600)), "not valid yet"),
    "no expiry": (lambda g: bearer(g.es256.token(exp=None)), "a claim is missing"),
    "no audience": (lambda g: bearer(g.es256.token(aud=None)), "a claim is missing"),
    "no subject": (lambda g: bearer(g.es256.token(sub=None)), "a claim is missing"),
    "wrong issuer": (lambda g: bearer(g.es256.token(iss="https://elsewhere.test/")), "wrong issuer"),
    "issuer's beginning": (lambda g: bearer(g.es256.token(iss=ISSUER[:-1])), "wrong issuer"),
    "wrong audience": (lambda g: bearer(g.es256.token(aud="billing")), "wrong audience"),
    "wrong signature": (lambda g: bearer(g.stranger.token()), "wrong signature"),
    "cut signature": (lambda g: bearer(g.es256.token()[:-8]), "unreadable token|wrong signature"),
    "alg none": (lambda _: bearer(unsigned("none")), "algorithm not allowed"),
    "alg None": (lambda _: bearer(unsigned("None")), "algorithm not allowed"),
    "HS256 with the public key": (lambda g: bearer(hs256(g.rs256.public_pem, kid="rs-1")), "algorithm not allowed"),
    "another key's algorithm": (lambda g: bearer(g.rs256.token(headers={"kid": "es-1"})), "key id unknown"),
    "key id unknown": (lambda g: bearer(g.es256.token(headers={"kid": "es-2"})), "key id unknown"),
    "key id of a path": (lambda g: bearer(g.es256.token(headers={"kid": "../../etc/passwd"})), "key id unknown"),
    "a key of its own": (lambda g: bearer(g.stranger.token(headers={"jwk": g.stranger.jwk})), "wrong signature"),
    "keys of its own URL": (
        lambda g: bearer(g.stranger.token(headers={"jku": "https://elsewhere.test/keys"})),
        "wrong signature",
    ),
    "critical header": (lambda g: bearer(g.es256.token(headers={"crit": ["x"], "x": 1})), CRITICAL),
    "unencoded payload": (lambda g: bearer(g.es256.token_of({"b64": True})), "header not allowed"),
    "another kind of token": (lambda g: bearer(g.es256.token(headers={"typ": "logout+jwt"})), "header not allowed"),
    "subject of nobody": (lambda g: bearer(g.es256.token("svc-stranger")), "subject of nobody listed"),
    "caller named by himself": (lambda _: (("x-lakehouse-caller", "scheduler"),), "no credential"),
}
RIGHT: dict[str, Callable[[Ground], Metadata]] = {
    "opaque": lambda _: bearer(TOKEN),
    "lower case scheme": lambda _: (("authorization", f"bearer {TOKEN}"),),
    "ES256": lambda g: bearer(g.es256.token()),
    "RS256": lambda g: bearer(g.rs256.token()),
    "EdDSA": lambda g: bearer(g.eddsa.token()),
    "one of two audiences": lambda g: bearer(g.es256.token(aud=["billing", "other"])),
    "just expired": lambda g: bearer(g.es256.token(exp=now() - 2)),
}


@pytest.mark.parametrize("rpc", RPCS)
async def test_whoever_is_not_known_gets_one_answer_and_no_reason(ground: Ground, rpc: str) -> None:
    ground.served.reached.clear()
    for case, (credential, problem) in WRONG.items():
        with structlog.testing.capture_logs() as lines:
            fault = await ground.served.call(rpc, *credential(ground))
        assert fault is not None, case
        assert (fault.code, fault.reason) == ("UNAUTHENTICATED", Reason.CALLER_UNKNOWN), case
        assert fault.message == "The caller is not known here: send a valid credential.", case
        assert set(fault.metadata) <= {"trace_id", "session_id"}, case
        (line,) = [each for each in lines if each["event"] == "rpc"]
        assert line["reason"] is Reason.CALLER_UNKNOWN
        assert line["caller_problem"] in problem.split("|"), case
        assert "caller" not in line
    assert ground.served.reached == []


@pytest.mark.parametrize("rpc", RPCS)
async def test_a_known_caller_is_served_and_named(ground: Ground, rpc: str) -> None:
    for case, credential in RIGHT.items():
        with structlog.testing.capture_logs() as lines:
            assert await ground.served.call(rpc, *credential(ground)) is None, case
        call = ground.served.reached.pop()
        assert call.caller is not None
        assert call.caller.name == "scheduler"
        assert [each["caller"] for each in lines if each["event"] == "rpc"] == ["scheduler"]


@pytest.mark.parametrize("rpc", RPCS)
async def test_a_caller_to_whom_nothing_is_given_may_nothing(ground: Ground, rpc: str) -> None:
    ground.served.reached.clear()

    fault = await ground.served.call(rpc, *bearer(ground.es256.token("svc-nobody")))

    assert fault is not None
    assert (fault.code, fault.reason) == ("PERMISSION_DENIED", Reason.CALLER_NOT_ALLOWED)
    assert fault.metadata["denied"] == "rpc"
    assert ground.served.reached == []


async def test_a_token_that_is_remembered_ends_with_its_key_and_its_listing(tmp_path: Path) -> None:
    first, second = Signer("one"), Signer("two")
    (tmp_path / "keys.json").write_text(key_set(first))
    file = tmp_path / "callers.toml"
    file.write_text(callers_file(tmp_path))
    async with serving_callers(callers={"file": file}) as served:
        token = bearer(first.token())
        assert await served.call("Iterate", *token) is None

        replace_file(tmp_path / "keys.json", key_set(second))
        # Its first use has the file looked at: the new key is known at once, and the old one no more.
        assert await served.call("Iterate", *bearer(second.token())) is None
        fault = await served.call("Iterate", *token)
        assert fault is not None
        assert fault.reason is Reason.CALLER_UNKNOWN


# --- certificates


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def with_tls(folder: Path, authority: Authority) -> dict[str, Any]:
    from ipaddress import ip_address

    from cryptography import x509

    certificate, key = authority.issue("server", [x509.IPAddress(ip_address("127.0.0.1"))])
    (folder / "keys.json").write_text(key_set(Signer("es-1")))
    file = folder / "callers.toml"
    file.write_text(
        callers_file(folder) + '[callers.other]\ncertificates = ["dns:other.test", "spiffe://example.test/other"]\n'
    )
    return {
        "tls": {"certificate_file": certificate, "key_file": key, "client_ca_file": authority.file},
        "callers": {"file": file},
    }


async def test_a_certificate_names_its_caller_and_no_other_name_in_it_does(
    tmp_path: Path, authority: Authority
) -> None:
    right = {
        "uri": [uri(SPIFFE)],
        "dns": [dns("scheduler.test")],
        "dns in capitals": [dns("Scheduler.TEST")],
        "both of one caller": [uri(SPIFFE), dns("scheduler.test")],
        "with names of nobody": [uri(SPIFFE), dns("web-7.internal")],
    }
    wrong: dict[str, tuple[list[Any], str]] = {
        "names of nobody": ([dns("web-7.internal")], "certificate of nobody listed"),
        "no names": ([], "no name in the certificate"),
        "names of two callers": ([uri(SPIFFE), dns("other.test")], "certificate of several callers"),
        "longer uri": ([uri(SPIFFE + "/admin")], "certificate of nobody listed"),
        "uri in capitals": ([uri(SPIFFE.upper())], "certificate of nobody listed"),
        "a uri as a dns name": ([dns("spiffe://example.test/ns/prod/sa/scheduler")], "certificate of nobody listed"),
        "a dns name as a uri": ([uri("dns:scheduler.test")], "certificate of nobody listed"),
        "a wildcard": ([dns("*.test")], "certificate of nobody listed"),
        "with a dot": ([dns("scheduler.test.")], "certificate of nobody listed"),
        "cut by zero": ([dns("scheduler.test\0.evil.test")], "certificate of nobody listed"),
        "in the common name": ([], "no name in the certificate"),
    }
    async with serving_callers(**with_tls(tmp_path, authority)) as served:
        for case, names in right.items():
            credentials = authority.credentials(authority.issue("client", names))
            assert await served.call("Iterate", credentials=credentials) is None, case
            assert served.reached[-1].caller is not None
            assert served.reached[-1].caller.name == "scheduler"
        served.reached.clear()
        for case, (names, problem) in wrong.items():
            credentials = authority.credentials(authority.issue("client", names, common_name="scheduler.test"))
            with structlog.testing.capture_logs() as lines:
                fault = await served.call("StreamIterate", credentials=credentials)
            assert fault is not None, case
            if fault.code == "UNAVAILABLE":
                continue  # the handshake has refused such a name already
            assert fault.reason is Reason.CALLER_UNKNOWN, case
            assert [each["caller_problem"] for each in lines if each["event"] == "rpc"] == [problem], case
    assert served.reached == []


async def test_a_wrong_token_is_not_made_good_by_a_right_certificate(tmp_path: Path, authority: Authority) -> None:
    async with serving_callers(**with_tls(tmp_path, authority)) as served:
        credentials = authority.credentials(authority.issue("client", [uri(SPIFFE)]))
        fault = await served.call("Iterate", *bearer("wrong"), credentials=credentials)
        assert fault is not None
        assert fault.reason is Reason.CALLER_UNKNOWN
        # A token says who calls where a proxy's certificate is all that the connection has.
        proxy = authority.credentials(authority.issue("proxy", [dns("other.test")]))
        assert await served.call("Iterate", *bearer(TOKEN), credentials=proxy) is None
        assert served.reached[-1].caller is not None
        assert served.reached[-1].caller.name == "scheduler"


async def test_an_expired_certificate_and_one_of_another_authority_end_in_the_handshake(
    tmp_path: Path, authority: Authority
) -> None:
    strange = Authority(tmp_path, "strange")
    async with serving_callers(**with_tls(tmp_path, authority)) as served:
        for files in (
            authority.issue("expired", [uri(SPIFFE)], days=-1),
            strange.issue("strange-client", [uri(SPIFFE)]),
            None,
        ):
            fault = await served.call("Iterate", credentials=authority.credentials(files), timeout_s=5)
            assert fault is not None
            assert fault.reason in {None, Reason.DEADLINE}
            assert fault.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert served.reached == []
