"""Goal: an issuer's keys by URL are there when they are needed, hold up nobody, and are nobody else's.

Method: a server of the test's own on loopback that answers, refuses, hangs, redirects or floods; calls over sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from caller_credentials import AUDIENCE, ISSUER, Signer, issuer_table, key_set, replace_file, sha256
from callers_server import serving_callers

from lakehouse.errors import Reason
from lakehouse.server.callers import key_fetch, key_source

TOKEN = "t" * 40


class Issuer:
    """What answers at the URL."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.location = ""
        self.asked = 0
        self.go = threading.Event()
        self.go.set()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                issuer.go.wait(20)
                self.send_response(issuer.status)
                if issuer.location:
                    self.send_header("Location", issuer.location)
                self.send_header("Content-Length", str(len(issuer.body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(issuer.body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base's name
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/keys"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.go.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    monkeypatch.setattr(key_source, "_ASKED_URL_S", 0.05)
    opened = Issuer()
    yield opened
    opened.close()


def callers_file(tmp_path: Path, url: str) -> Path:
    file = tmp_path / "callers.toml"
    file.write_text(
        f"""
        {issuer_table(url, "ES256")}
        [callers.scheduler]
        rpcs = ["*"]
        subjects = [{{issuer = "corp", subject = "svc-scheduler"}}]
        [callers.other]
        rpcs = ["*"]
        tokens_sha256 = ["{sha256(TOKEN)}"]
        """
    )
    return file


def bearer(token: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {token}")


async def test_the_first_call_waits_for_the_keys_and_a_new_key_is_fetched_when_it_is_first_named(
    tmp_path: Path, issuer: Issuer
) -> None:
    old, new = Signer("old"), Signer("new")
    issuer.body = key_set(old).encode()
    async with serving_callers(callers={"file": callers_file(tmp_path, issuer.url)}) as served:
        assert await served.call("Iterate", bearer(old.token())) is None
        asked = issuer.asked
        assert await served.call("Iterate", bearer(old.token(exp=4102444800))) is None
        assert issuer.asked == asked, "known keys are not asked for again"

        issuer.body = key_set(old, new).encode()
        outcomes = await asyncio.gather(*(served.call("Iterate", bearer(new.token())) for _ in range(20)))
        assert set(outcomes) == {None}
        assert await served.call("Iterate", bearer(old.token())) is None

        issuer.body = key_set(new).encode()
        served.runtime.callers.reload()  # type: ignore[union-attr]
        fault = None
        while fault is None:
            fault = await served.call("Iterate", bearer(old.token()))
        assert fault.reason is Reason.CALLER_UNKNOWN
        assert await served.call("Iterate", bearer(new.token())) is None


async def test_an_issuer_that_hangs_holds_up_its_own_callers_alone(tmp_path: Path, issuer: Issuer) -> None:
    signer = Signer("one")
    issuer.body = key_set(signer).encode()
    issuer.go.clear()
    async with serving_callers(callers={"file": callers_file(tmp_path, issuer.url)}, max_concurrent_rpcs=2) as served:
        waiting = [asyncio.create_task(served.call("Iterate", bearer(signer.token()))) for _ in range(8)]
        while not issuer.asked:
            await asyncio.sleep(0)
        # Those that wait take none of the two places.
        for _ in range(20):
            assert await served.call("Iterate", bearer(TOKEN)) is None
        assert not any(each.done() for each in waiting)
        issuer.go.set()
        assert all(fault is None or fault.reason is Reason.OVERLOADED for fault in await asyncio.gather(*waiting))


@pytest.mark.parametrize("fault", ["down", "error", "no JSON", "too long", "redirected"])
async def test_keys_that_cannot_be_had_let_nobody_in_and_those_read_before_stay(
    tmp_path: Path, issuer: Issuer, fault: str
) -> None:
    signer, other = Signer("one"), Signer("two")
    good = key_set(signer).encode()
    elsewhere = Issuer()
    elsewhere.body = key_set(other).encode()

    def breaks() -> None:
        issuer.status = {"down": 503, "error": 500, "redirected": 302}.get(fault, 200)
        issuer.location = elsewhere.url if fault == "redirected" else ""
        issuer.body = {"no JSON": b"{", "too long": b" " * (1 << 20) + good}.get(fault, b"")

    breaks()
    try:
        async with serving_callers(callers={"file": callers_file(tmp_path, issuer.url)}) as served:
            for each in (signer, other):
                refused = await served.call("StreamIterate", bearer(each.token()))
                assert refused is not None
                assert refused.reason is Reason.CALLER_UNKNOWN
            assert await served.call("Iterate", bearer(TOKEN)) is None

            issuer.status, issuer.location, issuer.body = 200, "", good
            assert await served.call("Iterate", bearer(signer.token())) is None
            breaks()
            refused = await served.call("Iterate", bearer(other.token()))
            assert refused is not None
            assert refused.reason is Reason.CALLER_UNKNOWN
            assert await served.call("Iterate", bearer(signer.token())) is None
            assert elsewhere.asked == 0
    finally:
        elsewhere.close()


async def test_strange_key_ids_have_the_issuer_asked_now_and_then_and_no_more(
    tmp_path: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_source, "_ASKED_URL_S", 0.5)
    signer = Signer("one")
    issuer.body = key_set(signer).encode()
    async with serving_callers(callers={"file": callers_file(tmp_path, issuer.url)}) as served:
        assert await served.call("Iterate", bearer(signer.token())) is None
        asked = issuer.asked
        tokens = [Signer(f"strange-{number}").token() for number in range(40)]
        faults = await asyncio.gather(*(served.call("Iterate", bearer(token)) for token in tokens))
        assert all(fault is not None and fault.reason is Reason.CALLER_UNKNOWN for fault in faults)
        assert issuer.asked - asked <= 2


async def test_as_many_calls_as_a_service_takes_may_wait_for_a_key_that_has_just_been_replaced(
    tmp_path: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_source, "_ASKED_URL_S", 0.5)
    old, new = Signer("old"), Signer("new")
    issuer.body = key_set(old).encode()
    async with serving_callers(callers={"file": callers_file(tmp_path, issuer.url)}) as served:
        assert await served.call("Iterate", bearer(old.token())) is None
        issuer.body = key_set(old, new).encode()
        outcomes = await asyncio.gather(*(served.call("Iterate", bearer(new.token())) for _ in range(200)))
    assert set(outcomes) == {None}


async def test_a_key_that_is_replaced_under_the_id_of_the_old_one_is_fetched_when_it_is_first_used(
    tmp_path: Path, issuer: Issuer
) -> None:
    old, new = Signer("the-key"), Signer("the-key")
    issuer.body = key_set(old).encode()
    async with serving_callers(callers={"file": callers_file(tmp_path, issuer.url)}) as served:
        assert await served.call("Iterate", bearer(old.token())) is None
        issuer.body = key_set(new).encode()
        assert await served.call("Iterate", bearer(new.token())) is None
        fault = await served.call("Iterate", bearer(old.token()))
        assert fault is not None
        assert fault.reason is Reason.CALLER_UNKNOWN


async def test_an_issuer_whose_keys_have_no_ids_may_replace_them_one_beside_the_other(
    tmp_path: Path, issuer: Issuer
) -> None:
    signers = [Signer(str(number)) for number in range(6)]

    def published(*of: Signer) -> bytes:
        return json.dumps({"keys": [{**each.jwk, "kid": None} for each in of]}).encode()

    def token(of: Signer) -> tuple[str, str]:
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "svc-scheduler", "exp": int(time.time()) + 600}
        return bearer(jwt.encode(claims, of.key, "ES256"))

    old, new = signers[:2]
    issuer.body = published(old)
    async with serving_callers(callers={"file": callers_file(tmp_path, issuer.url)}) as served:
        assert await served.call("Iterate", token(old)) is None
        issuer.body = published(old, new)
        assert await served.call("Iterate", token(new)) is None
        assert await served.call("Iterate", token(old)) is None
        issuer.body = published(new)
        served.runtime.callers.reload()  # type: ignore[union-attr]
        while await served.call("Iterate", token(old)) is None:
            pass
        assert await served.call("Iterate", token(new)) is None
        issuer.body = published(*signers)
        served.runtime.callers.reload()  # type: ignore[union-attr]
        while await served.call("Iterate", token(new)) is None:
            pass  # Of so many keys none is tried: each try is a stranger's to have us make.


async def test_keys_that_were_read_stay_while_the_callers_file_is_replaced_and_the_issuer_is_down(
    tmp_path: Path, issuer: Issuer
) -> None:
    signer = Signer("one")
    issuer.body = key_set(signer).encode()
    file = callers_file(tmp_path, issuer.url)
    async with serving_callers(callers={"file": file}) as served:
        callers = served.runtime.callers
        assert callers is not None
        assert await served.call("Iterate", bearer(signer.token())) is None
        issuer.status = 503
        table = "[issuers.corp]\nleeway_s = 10"
        replace_file(file, file.read_text().replace("[issuers.corp]", table) + "[callers.more]")
        callers.reload()
        while "more" not in callers.names():
            await asyncio.sleep(0.005)
        assert await served.call("Iterate", bearer(signer.token())) is None
        # Keys of another place are another issuer's word.
        replace_file(file, file.read_text().replace("/keys", "/elsewhere") + "\n[callers.last]")
        callers.reload()
        while "last" not in callers.names():
            await asyncio.sleep(0.005)
        fault = await served.call("Iterate", bearer(signer.token()))
        assert fault is not None
        assert fault.reason is Reason.CALLER_UNKNOWN


def test_a_url_that_answers_a_byte_at_a_time_is_left_after_the_time_for_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(key_fetch, "_FETCH_TIMEOUT_S", 0.3)
    over = threading.Event()
    for head in (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b""):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve(listener: socket.socket = listener, head: bytes = head) -> None:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(head)
                    while not over.wait(0.02):
                        connection.sendall(b"a")

            server = threading.Thread(target=serve)
            server.start()
            began = time.monotonic()
            with pytest.raises((OSError, ValueError, HTTPException)):
                key_fetch.fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/keys", None)
            assert time.monotonic() - began < 3
            server.join(5)
            assert not server.is_alive(), "nobody listens any more"
