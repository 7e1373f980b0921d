"""Goal: with mTLS on every listener a session runs, a caller without a certificate is turned away and hears of TLS, and
certificates are replaced under load without a failed call.

Method: authorities made by openssl for this test alone.
"""

from __future__ import annotations

import asyncio
import operator
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from lakehouse.cli.exit_status import SYSTEM_FAULT
from lakehouse.clients import AsyncIterateClient, IterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not on PATH")

LAKEHOUSE = str(Path(sys.executable).parent / "lakehouse")
SERVICES = ("iterate", "chatd", "validated")
SPEC = '{"role": "forklift operator", "count": 3, "city": "Toledo", "state": "OH"}'
HANG_S = 90
# Between two sessions of a worker: a load that leaves the machine to the services.
PAUSE_S = 0.02


class Authority:
    """Issues certificates for 127.0.0.1 into a folder, each file replaced by a rename."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        folder.mkdir(exist_ok=True)
        self._openssl(
            *("req", "-x509", *self._EC, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2"),
            *("-subj", f"/CN={name}"),
        )
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")

    _EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

    @property
    def pem(self) -> str:
        return (self.folder / f"{self.name}.pem").read_text()

    def issue(self) -> None:
        """key.pem and certificate.pem, made anew."""
        self._openssl("req", *self._EC, "-keyout", "key.new", "-out", "request.pem", "-subj", "/CN=lakehouse")
        authority = ("-CA", f"{self.name}.pem", "-CAkey", f"{self.name}.key", "-CAcreateserial")
        self._openssl(
            *("x509", "-req", "-in", "request.pem", "-out", "certificate.new", "-days", "2", "-extfile", "names"),
            *authority,
        )
        (self.folder / "key.new").rename(self.folder / "key.pem")
        (self.folder / "certificate.new").rename(self.folder / "certificate.pem")

    def _openssl(self, *arguments: str) -> None:
        subprocess.run([OPENSSL or "", *arguments], cwd=self.folder, check=True, capture_output=True)


def trust(folder: Path, *authorities: Authority) -> None:
    (folder / "ca.new").write_text("".join(each.pem for each in authorities))
    (folder / "ca.new").rename(folder / "ca.pem")


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    authority = Authority(tmp_path, "one")
    authority.issue()
    trust(tmp_path, authority)
    return tmp_path


def settings(certificates: Path) -> dict[str, str]:
    environ = {
        "ITERATE_HOP_TLS__CA_FILE": str(certificates / "ca.pem"),
        "ITERATE_HOP_TLS__CERTIFICATE_FILE": str(certificates / "certificate.pem"),
        "ITERATE_HOP_TLS__KEY_FILE": str(certificates / "key.pem"),
    }
    for service in SERVICES:
        environ[f"{service.upper()}_TLS__CERTIFICATE_FILE"] = str(certificates / "certificate.pem")
        environ[f"{service.upper()}_TLS__KEY_FILE"] = str(certificates / "key.pem")
        environ[f"{service.upper()}_TLS__CLIENT_CA_FILE"] = str(certificates / "ca.pem")
    return environ


def credentials(folder: Path) -> grpc.ChannelCredentials:
    authority, key, chain = ((folder / name).read_bytes() for name in ("ca.pem", "key.pem", "certificate.pem"))
    return grpc.ssl_channel_credentials(authority, key, chain)


async def said_by(*command: str, **environ: str) -> tuple[int, str]:
    """Exit status and all output of a command."""
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode is not None
    return process.returncode, output.decode()


async def test_a_session_runs_over_mutual_tls_and_everybody_else_hears_what_is_missing(
    start_stack: Any, make_request: Callable[..., iterate_pb2.IterateRequest], certificates: Path, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "strange", "stranger")
    stranger.issue()
    ca, cert, key = (str(certificates / name) for name in ("ca.pem", "certificate.pem", "key.pem"))
    strange_cert, strange_key = (str(stranger.folder / name) for name in ("certificate.pem", "key.pem"))
    async with start_stack(**settings(certificates)) as stack:
        async with AsyncIterateClient(stack.address, credentials=credentials(certificates)) as client:
            response = await client.iterate(make_request(), timeout_s=30)
        for unknown in (None, grpc.ssl_channel_credentials(Path(ca).read_bytes())):
            async with AsyncIterateClient(stack.address, credentials=unknown) as client:
                with pytest.raises(Fault) as caught:
                    await client.iterate(make_request(), timeout_s=2)
            assert caught.value.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}

        session = (LAKEHOUSE, "iterate", "--kind", "fill", "--prompt", "p", "--spec", SPEC, "--address", stack.address)
        probe = (sys.executable, "-m", "lakehouse.server.health_probe", stack.address)
        ours = ("--ca", ca, "--cert", cert, "--key", key)
        by_environment = {"LAKEHOUSE_CA": ca, "LAKEHOUSE_CERT": cert, "LAKEHOUSE_KEY": key}
        refused = {
            "speaks TLS": (),
            "demands a client certificate": ("--ca", ca),
            "refuses our certificate": ("--ca", ca, "--cert", strange_cert, "--key", strange_key),
            "is not good for": ("--ca", str(stranger.folder / "stranger.pem"), "--cert", cert, "--key", key),
        }
        unprobed = ("speaks TLS", "demands a client certificate")
        accepted, serving, answers, probed = await asyncio.gather(
            asyncio.gather(said_by(*session, *ours), said_by(*session, **by_environment)),
            asyncio.gather(said_by(*probe, *ours), said_by(*probe, "--liveness", **by_environment)),
            asyncio.gather(*(said_by(*session, *flags) for flags in refused.values())),
            asyncio.gather(*(said_by(*probe, *refused[words]) for words in unprobed)),
        )

    assert response.WhichOneof("outcome") == "accepted"
    assert [status for status, _ in accepted] == [0, 0], accepted
    for words, (status, output) in zip(refused, answers, strict=True):
        assert (status, words in output) == (SYSTEM_FAULT, True), (words, output)
    for status, output in serving:
        assert (status, "SERVING" in output) == (0, True), output
    for words, (status, output) in zip(unprobed, probed, strict=True):
        assert (status, words in output) == (1, True), (words, output)


async def test_tls_towards_a_plain_listener_is_named(stack: Any, certificates: Path) -> None:
    ca = str(certificates / "ca.pem")
    addresses = stack.stack.addresses
    outputs = await asyncio.gather(
        said_by(LAKEHOUSE, "chat", "hello", "--address", addresses["chatd"], "--ca", ca),
        said_by(*(sys.executable, "-m", "lakehouse.server.health_probe", addresses["validated"], "--ca", ca)),
    )

    for _, output in outputs:
        assert "speaks plain text" in output
    # The command's statuses, and the probe's own.
    assert [status for status, _ in outputs] == [SYSTEM_FAULT, 1]


def sessions_until(
    over: Callable[[], bool], client: IterateClient, request: iterate_pb2.IterateRequest, sessions: list[int]
) -> None:
    while not over():
        assert client.iterate(request, timeout_s=30).WhichOneof("outcome") == "accepted"
        sessions[-1] += 1
        time.sleep(PAUSE_S)


async def test_certificates_and_authorities_are_replaced_under_load_without_a_failed_call(
    start_stack: Any, make_request: Callable[..., iterate_pb2.IterateRequest], certificates: Path
) -> None:
    ages = {f"{service.upper()}_CONNECTION_AGE_MS": "300" for service in SERVICES}
    before = credentials(certificates)
    async with start_stack(**settings(certificates), **ages) as stack:
        client = AsyncIterateClient(stack.address, credentials=before)
        in_thread = IterateClient(stack.address, credentials=before)
        over = asyncio.Event()
        sessions = [0] * 4

        async def work(number: int) -> None:
            while not over.is_set():
                response = await client.iterate(make_request(), timeout_s=30)
                assert response.WhichOneof("outcome") == "accepted"
                sessions[number] += 1
                await asyncio.sleep(PAUSE_S)

        async def replaced(times: int) -> None:
            """Every service has read its files so often, and everybody's sessions have gone on."""
            for service in SERVICES:
                stack.stack.processes[service].send_signal(signal.SIGHUP)
            # iterate reads two sets: its listener's and its hops'.
            wanted = {"iterate": 2 * times, "chatd": times, "validated": times}
            async with asyncio.timeout(HANG_S):
                while any(_reads(stack.logs, service) < count for service, count in wanted.items()):
                    await asyncio.sleep(0.05)
                # Who is behind the others may still be on a connection from before.
                enough = [each + 5 for each in sessions]
                while any(map(operator.lt, sessions, enough)):
                    await asyncio.sleep(0.05)

        in_a_thread = asyncio.to_thread(sessions_until, over.is_set, in_thread, make_request(), sessions)
        workers = [asyncio.create_task(each) for each in (work(0), work(1), work(2), in_a_thread)]
        try:
            two = Authority(certificates, "two")
            old = (certificates / "ca.pem").read_text()
            (certificates / "ca.new").write_text(old + two.pem)
            (certificates / "ca.new").rename(certificates / "ca.pem")
            await replaced(1)
            two.issue()
            client.reconnect(credentials(certificates))
            in_thread.reconnect(credentials(certificates))
            await replaced(2)
            trust(certificates, two)
            await replaced(3)
        finally:
            over.set()
            results = await asyncio.gather(*workers, return_exceptions=True)
            await client.close()
            in_thread.close()
        async with AsyncIterateClient(stack.address, credentials=before) as late:
            with pytest.raises(Fault):
                await late.iterate(make_request(), timeout_s=2)
        served = [await asyncio.to_thread(_issuer, address) for address in stack.stack.addresses.values()]

    assert results == [None] * 4
    assert served == ["two"] * 3


def _reads(logs: list[tuple[str, Any]], service: str) -> int:
    return sum(
        name == service and isinstance(entry, dict) and entry.get("event") == "files read again" for name, entry in logs
    )


def _issuer(address: str) -> str:
    host, _, port = address.rpartition(":")
    pem = ssl.get_server_certificate((host, int(port)))
    printed = subprocess.run(
        [OPENSSL or "", "x509", "-noout", "-issuer", "-nameopt", "multiline"],
        input=pem,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return printed.rpartition("=")[2].strip()
