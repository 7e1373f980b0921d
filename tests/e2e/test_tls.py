"""Goal: with mTLS on every listener a session runs, and a caller without a certificate is turned away.

Method: an authority made by openssl for this test alone.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from lakehouse.clients import AsyncIterateClient
from lakehouse.errors import Fault
from lakehouse.iterate.v1 import iterate_pb2

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not on PATH")


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    def openssl(*arguments: str) -> None:
        subprocess.run([OPENSSL or "", *arguments], cwd=tmp_path, check=True, capture_output=True)

    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "2")
    openssl("req", *ec, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=lakehouse")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "request.pem", "-out", "certificate.pem", *signing)
    return tmp_path


async def test_a_session_runs_over_mutual_tls_and_nothing_without_a_certificate(
    start_stack: Any, make_request: Callable[..., iterate_pb2.IterateRequest], certificates: Path
) -> None:
    environ = {}
    for service in ("ITERATE", "CHATD", "VALIDATED"):
        environ[f"{service}_TLS__CERTIFICATE_FILE"] = str(certificates / "certificate.pem")
        environ[f"{service}_TLS__KEY_FILE"] = str(certificates / "key.pem")
        environ[f"{service}_TLS__CLIENT_CA_FILE"] = str(certificates / "ca.pem")
    environ["ITERATE_HOP_TLS__CA_FILE"] = str(certificates / "ca.pem")
    environ["ITERATE_HOP_TLS__CERTIFICATE_FILE"] = str(certificates / "certificate.pem")
    environ["ITERATE_HOP_TLS__KEY_FILE"] = str(certificates / "key.pem")
    authority, key, chain = ((certificates / name).read_bytes() for name in ("ca.pem", "key.pem", "certificate.pem"))

    async with start_stack(**environ) as stack:
        credentials = grpc.ssl_channel_credentials(authority, key, chain)
        async with AsyncIterateClient(stack.address, credentials=credentials) as client:
            response = await client.iterate(make_request(), timeout_s=30)
        strangers = [None, grpc.ssl_channel_credentials(authority)]
        for stranger in strangers:
            async with AsyncIterateClient(stack.address, credentials=stranger) as client:
                with pytest.raises(Fault) as caught:
                    await client.iterate(make_request(), timeout_s=5)
            assert caught.value.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}

    assert response.WhichOneof("outcome") == "accepted"
