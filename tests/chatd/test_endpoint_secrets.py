"""Keys that change, secret headers of other names, proxies and authorities of one's own."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from chatd.config import OpenAiTable
from chatd.providers.endpoint_secrets import EndpointSecrets
from lakehouse.errors import Fault
from lakehouse.settings import ConfigError

fakes = sys.modules["chatd_tests_fake_endpoint"]
respond, completion, error = fakes.respond, fakes.completion, fakes.error
good = respond(200, completion("Hello."))
OPENSSL = shutil.which("openssl")


def only(key: str, words: str = "Incorrect API key provided") -> Any:
    """Return an endpoint that takes this key alone."""

    async def behave(exchange: Any) -> None:
        right = exchange.headers.get("authorization") == f"Bearer {key}"
        await (good if right else error(401, words))(exchange)

    return behave


def keys(endpoint: Any) -> list[str]:
    return [each.headers["authorization"].removeprefix("Bearer ") for each in endpoint.exchanges]


def replace_in_place(file: Path, text: str) -> None:
    file.write_text(text)


def replace_by_rename(file: Path, text: str) -> None:
    other = file.with_suffix(".new")
    other.write_text(text)
    other.rename(file)


def replace_as_kubernetes(file: Path, text: str) -> None:
    """Swap the link of the folder below which the file stands; the file is a link, too."""
    folder = file.parent / f"..{len(text)}-{text[-4:]}"
    folder.mkdir()
    (folder / "key").write_text(text)
    swapped = file.parent / "..data.new"
    swapped.symlink_to(folder)
    swapped.rename(file.parent / "..data")
    if not file.is_symlink():
        file.unlink()
        file.symlink_to(file.parent / "..data" / "key")


@pytest.mark.parametrize("replace", [replace_in_place, replace_by_rename, replace_as_kubernetes])
async def test_a_new_key_is_used_from_the_next_call_on(replace: Any, openai_chatd: Any, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-first-0000")
    async with openai_chatd([good], api_key_file=str(file)) as (chatd, endpoint):
        await chatd.ask()
        for key in ("sk-second-1111\n", "sk-third-2222"):
            replace(file, key)
            await chatd.ask()
        assert "sk-second" not in str(chatd.log)

    assert keys(endpoint) == ["sk-first-0000", "sk-second-1111", "sk-third-2222"]


@pytest.mark.parametrize("text", ["", "  \n", "sk-\x00", "two\nlines", "clé", None])
async def test_a_file_that_holds_no_key_changes_nothing(text: str | None, openai_chatd: Any, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-first-0000")
    async with openai_chatd([good], api_key_file=str(file)) as (chatd, endpoint):
        await chatd.ask()
        file.unlink() if text is None else file.write_text(text)
        await chatd.ask()
        file.write_text("sk-third-2222")
        await chatd.ask()

    assert keys(endpoint) == ["sk-first-0000", "sk-first-0000", "sk-third-2222"]


async def test_a_key_that_is_refused_is_read_again_and_the_call_repeated_once(
    openai_chatd: Any, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text("sk-first-0000")

    async def rotate_then_refuse(exchange: Any) -> None:
        # The same size and time as before: only reading shows it.
        before = file.stat()
        file.write_text("sk-other-1111")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        await error(401, "Incorrect API key provided: sk-first-0000")(exchange)

    behaviours = [rotate_then_refuse, only("sk-other-1111")]
    async with openai_chatd(behaviours, api_key_file=str(file), retry={"max_retries": 0}) as (chatd, endpoint):
        response = await chatd.ask()
        line = chatd.last_line
        assert "sk-first-0000" not in str(chatd.log)

    assert keys(endpoint) == ["sk-first-0000", "sk-other-1111"]
    assert (response.text, response.upstream_requests, line["retries"]) == ("Hello.", 2, 0)


async def test_a_key_that_is_refused_and_has_not_changed_is_not_tried_again(openai_chatd: Any, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-first-0000")
    async with openai_chatd([only("sk-right")], api_key_file=str(file)) as (chatd, endpoint):
        with pytest.raises(Fault) as caught:
            await chatd.ask()

    assert caught.value.reason == "PROVIDER_AUTH"
    assert len(endpoint.exchanges) == 1


async def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "key"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("sk-first-0000",))
    writer.start()
    table = OpenAiTable(type="openai", base_url="http://127.0.0.1/v1", api_key_file=pipe)
    secrets = EndpointSecrets(table, key_header="Authorization: Bearer {key}")
    writer.join()
    try:
        for read in (False, True):
            assert (await secrets.fresh(read=read)).hidden == ("sk-first-0000",)
        # A look that had opened the pipe would still wait for a writer.
        assert secrets._looking is None
    finally:
        secrets.close()


async def test_a_disk_that_hangs_holds_up_no_call(
    openai_chatd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text("sk-first-0000")
    thawed = threading.Event()
    async with openai_chatd([good], api_key_file=str(file)) as (chatd, endpoint):
        stat = Path.stat

        def frozen(path: Path, **named: Any) -> os.stat_result:
            if path == file:
                thawed.wait(10)
            return stat(path, **named)

        monkeypatch.setattr(Path, "stat", frozen)
        try:
            for _ in range(3):
                await chatd.ask(timeout_s=2)
        finally:
            thawed.set()

    assert keys(endpoint) == ["sk-first-0000"] * 3


async def test_calls_at_the_same_time_share_one_look(tmp_path: Path) -> None:
    import asyncio

    file = tmp_path / "key"
    file.write_text("sk-first-0000")
    table = OpenAiTable(type="openai", base_url="http://127.0.0.1/v1", api_key_file=file)
    secrets = EndpointSecrets(table, key_header="Authorization: Bearer {key}")
    looks: list[bool] = []
    look = secrets._look
    secrets._look = lambda *, read: (looks.append(read), look(read=read))[1]  # type: ignore[func-returns-value,method-assign]
    try:
        first = asyncio.gather(*(secrets.fresh() for _ in range(50)))
        await first
    finally:
        secrets.close()

    assert len(looks) == 2  # the one under way, and one for all who came during it


async def test_secret_headers_are_sent_and_never_logged(openai_chatd: Any, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("file-secret-0000")
    table = {"secret_headers": {"X-Gateway-Token": "env-secret-0000"}, "secret_headers_file": {"X-Team-Key": str(file)}}
    refusal = error(403, "no access with env-secret-0000 and file-secret-0000")
    async with openai_chatd([refusal, good], **table) as (chatd, endpoint):
        with pytest.raises(Fault):
            await chatd.ask()
        file.write_text("file-secret-1111")
        await chatd.ask()
        assert "-secret-0000" not in str(chatd.log)

    sent = [(each.headers["x-gateway-token"], each.headers["x-team-key"]) for each in endpoint.exchanges]
    assert sent == [("env-secret-0000", "file-secret-0000"), ("env-secret-0000", "file-secret-1111")]


def test_a_secret_that_no_header_can_hold_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("two\nlines")
    table = OpenAiTable(type="openai", base_url="http://127.0.0.1/v1", api_key_file=file)

    with pytest.raises(ConfigError, match="one line of ASCII"):
        EndpointSecrets(table, key_header="Authorization: Bearer {key}")


# Proxies ------------------------------------------------------------------------------------------------------------


PROXY_AUTHORIZATION = "Basic " + base64.b64encode(b"chatd:proxy-secret").decode()


async def test_a_proxy_of_the_providers_table_is_used_with_its_own_password(openai_chatd: Any, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("proxy-secret")
    async with fakes.FakeEndpoint([good]) as proxy:
        table = {"proxy": proxy.url, "proxy_user": "chatd", "proxy_password_file": str(file)}
        async with openai_chatd([good], **table) as (chatd, endpoint):
            await chatd.ask()

    assert [each.path for each in proxy.exchanges] == [f"{endpoint.url}/v1/chat/completions"]
    assert proxy.exchanges[0].headers["proxy-authorization"] == PROXY_AUTHORIZATION
    assert endpoint.exchanges == []


@pytest.mark.parametrize(
    ("environ", "used"),
    [
        ({"HTTP_PROXY": "PROXY"}, True),
        ({"http_proxy": "PROXY"}, True),
        ({"ALL_PROXY": "PROXY"}, True),
        ({"HTTP_PROXY": "PROXY", "NO_PROXY": "other.example, 10.0.0.0/8"}, True),
        ({"HTTP_PROXY": "PROXY", "NO_PROXY": "other.example, 127.0.0.1"}, False),
        ({"HTTP_PROXY": "PROXY", "NO_PROXY": "127.0.0.0/8"}, False),
        ({"HTTP_PROXY": "PROXY", "no_proxy": "*"}, False),
        ({"HTTPS_PROXY": "PROXY"}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("asked_for", [True, False])
async def test_the_environments_proxy_is_used_where_the_table_says_so(
    environ: dict[str, str], used: bool, asked_for: bool, openai_chatd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    # gRPC, by which the test asks, knows the environment's proxies too.
    monkeypatch.setenv("no_grpc_proxy", "127.0.0.1")
    async with fakes.FakeEndpoint([good]) as proxy:
        for name, value in environ.items():
            monkeypatch.setenv(name, value.replace("PROXY", proxy.url))
        async with openai_chatd([good], **({"proxy": "environment"} if asked_for else {})) as (chatd, endpoint):
            await chatd.ask()

    through = used and asked_for
    assert (len(proxy.exchanges), len(endpoint.exchanges)) == ((1, 0) if through else (0, 1))


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://user:secret@127.0.0.1:1080", "yes"])
def test_a_proxy_that_cannot_be_used_is_refused_at_the_start(proxy: str) -> None:
    with pytest.raises(ValueError, match="proxy") as caught:
        OpenAiTable(type="openai", base_url="http://127.0.0.1/v1", proxy=proxy)

    assert "secret@" not in str(caught.value)


async def test_a_proxy_that_is_not_there_is_an_endpoint_that_was_not_reached(openai_chatd: Any) -> None:
    async with fakes.FakeEndpoint([]) as gone:
        url = gone.url
    async with openai_chatd([good], proxy=url, retry={"max_retries": 0}) as (chatd, endpoint):
        with pytest.raises(Fault) as caught:
            await chatd.ask()

    assert caught.value.reason == "PROVIDER_UNREACHABLE"
    assert endpoint.exchanges == []


# Authorities --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")

    def openssl(*arguments: str) -> None:
        assert OPENSSL is not None
        subprocess.run([OPENSSL, *arguments], cwd=folder, check=True, capture_output=True, timeout=30)

    ec = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "2")
    openssl("req", *ec, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=endpoint")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "request.pem", "-out", "certificate.pem", *signing)
    return folder


@contextlib.asynccontextmanager
async def over_tls(authority: Path, behaviours: Any) -> AsyncIterator[Any]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "certificate.pem", authority / "key.pem")
    async with fakes.FakeEndpoint(behaviours, tls=context) as endpoint:
        yield endpoint


def connecting(target_port: int) -> Any:
    """Return a proxy that opens a tunnel to a port of this machine."""

    async def behave(exchange: Any) -> None:
        import asyncio

        reader, writer = await asyncio.open_connection("127.0.0.1", target_port)
        await exchange.send(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def copy(source: Any, sink: Any) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        with contextlib.suppress(ConnectionError):
            await asyncio.gather(copy(exchange.reader, writer), copy(reader, exchange.writer))

    return behave


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not on PATH")
async def test_an_authority_of_ones_own_is_trusted_and_no_other_is(openai_chatd: Any, authority: Path) -> None:
    async with over_tls(authority, [good]) as endpoint:
        url = endpoint.url.replace("http:", "https:") + "/v1"
        async with openai_chatd([], base_url=url, ca_file=str(authority / "ca.pem")) as (chatd, _):
            assert (await chatd.ask()).text == "Hello."
        async with openai_chatd([], base_url=url) as (chatd, _):
            with pytest.raises(Fault) as caught:
                await chatd.ask()

    assert caught.value.reason == "PROVIDER_UNREACHABLE"


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not on PATH")
@pytest.mark.parametrize("of_environment", [True, False])
@pytest.mark.parametrize("key_in_a_file", [True, False])
async def test_https_goes_through_a_proxy_that_sees_no_secret_but_its_own(
    of_environment: bool,
    key_in_a_file: bool,
    openai_chatd: Any,
    authority: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_grpc_proxy", "127.0.0.1")
    (tmp_path / "key").write_text("sk-endpoint-0000")
    async with over_tls(authority, [good]) as endpoint, fakes.FakeEndpoint([connecting(endpoint.port)]) as proxy:
        url = endpoint.url.replace("http:", "https:") + "/v1"
        table: dict[str, Any] = {"base_url": url, "ca_file": str(authority / "ca.pem")}
        table |= {"api_key_file": str(tmp_path / "key")} if key_in_a_file else {"api_key": "sk-endpoint-0000"}
        table |= {"secret_headers": {"X-Token": "sk-token-0000"}, "headers": {"X-Team": "ops"}}
        if of_environment:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//chatd:proxy-secret@"))
            table["proxy"] = "environment"
        else:
            table |= {"proxy": proxy.url, "proxy_user": "chatd", "proxy_password": "proxy-secret"}
        async with openai_chatd([], **table) as (chatd, _):
            for _ in range(2):
                assert (await chatd.ask()).text == "Hello."

    tunnel = proxy.exchanges[0]
    assert (tunnel.method, tunnel.path) == ("CONNECT", f"127.0.0.1:{endpoint.port}")
    assert tunnel.headers["proxy-authorization"] == PROXY_AUTHORIZATION
    assert "0000" not in str(tunnel.headers)
    assert [each.headers["authorization"] for each in endpoint.exchanges] == ["Bearer sk-endpoint-0000"] * 2
    assert [each.headers["x-token"] for each in endpoint.exchanges] == ["sk-token-0000"] * 2
    assert "proxy-authorization" not in endpoint.exchanges[0].headers


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not on PATH")
@pytest.mark.parametrize(("status", "requests"), [(407, 1), (502, 3)])
async def test_a_proxy_that_opens_no_tunnel_has_billed_nothing(
    status: int, requests: int, openai_chatd: Any, authority: Path
) -> None:
    async with (
        fakes.FakeEndpoint([respond(status)]) as proxy,
        openai_chatd([], base_url="https://127.0.0.1:1/v1", proxy=proxy.url) as (chatd, _),
    ):
        with pytest.raises(Fault) as caught:
            await chatd.ask()
        assert f"the proxy answered {status}" in str(chatd.last_line["upstream"])

    assert caught.value.reason == "PROVIDER_UNREACHABLE"
    assert len(proxy.exchanges) == requests


def test_an_authority_that_is_none_stops_the_start(tmp_path: Path) -> None:
    from chatd.providers.connection import open_session

    with pytest.raises(ValidationError, match="ca_file"):
        OpenAiTable(type="openai", base_url="https://127.0.0.1/v1", ca_file=tmp_path / "gone.pem")

    (tmp_path / "empty.pem").write_text("")
    table = OpenAiTable(type="openai", base_url="https://127.0.0.1/v1", ca_file=tmp_path / "empty.pem")
    with pytest.raises(ConfigError, match="ca_file"):
        open_session(table, {})
