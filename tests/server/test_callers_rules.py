"""Goal: what is open is open, what is closed is closed, and who speaks for somebody is believed only where that was
said.

Method: a real server, by its settings; health and reflection by their own clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog
from caller_credentials import Authority, Signer, dns, issuer_table, key_set, replace_file, sha256
from callers_server import serving_callers
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from lakehouse.errors import Fault, Reason
from lakehouse.server import watched_files
from lakehouse.server.callers.key_source import KeySource
from lakehouse.settings import ConfigError

TOKEN = "t" * 40
AUTHORIZATION = (("authorization", f"Bearer {TOKEN}"),)


def callers_file(tmp_path: Path, *, more: str = "", token: str = TOKEN) -> Path:
    file = tmp_path / "callers.toml"
    replace_file(file, text_of(token) + more)
    return file


def text_of(token: str) -> str:
    return f"""
    [callers.scheduler]
    rpcs = ["Iterate", "Validate"]
    kinds = ["*"]
    models = ["*"]
    tokens_sha256 = ["{sha256(token)}"]
    """


async def health(address: str, metadata: Any = ()) -> str:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        try:
            answer = await stub.Check(request, metadata=metadata, timeout=10)
            call = stub.Watch(request, metadata=metadata, timeout=10)
            watched = await call.read()
            call.cancel()
        except grpc.aio.AioRpcError as error:
            return error.code().name
    assert watched.status == answer.status
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


async def reflected(address: str, metadata: Any = ()) -> list[str] | str:
    async def questions() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # aio's is none
        for _ in range(10):
            try:
                answers = [each async for each in stub.ServerReflectionInfo(questions(), metadata=metadata, timeout=10)]
                break
            except grpc.aio.AioRpcError as error:
                # grpc.aio's client puts this in the place of the status where that comes before its question has left.
                if error.details() != "Internal error from Core":
                    return error.code().name
    return [each.name for each in answers[0].list_services_response.service]


async def test_health_is_open_and_reflection_for_known_callers_unless_configured(tmp_path: Path) -> None:
    file = callers_file(tmp_path)
    async with serving_callers(callers={"file": file}) as served:
        assert await health(served.address) == "SERVING"
        assert await reflected(served.address) == "UNAUTHENTICATED"
        assert "lakehouse.iterate.v1.IterateService" in await reflected(served.address, AUTHORIZATION)
    async with serving_callers(callers={"file": file, "health": "callers", "reflection": "open"}) as served:
        assert await health(served.address) == "UNAUTHENTICATED"
        assert await health(served.address, AUTHORIZATION) == "SERVING"
        assert "lakehouse.iterate.v1.IterateService" in await reflected(served.address)


async def test_an_rpc_that_no_list_names_is_refused_and_the_refusal_stands_in_the_log(tmp_path: Path) -> None:
    async with serving_callers(callers={"file": callers_file(tmp_path)}) as served:
        assert await served.call("Iterate", *AUTHORIZATION) is None
        with structlog.testing.capture_logs() as lines:
            fault = await served.call("StreamIterate", *AUTHORIZATION)
        assert fault is not None
        assert (fault.code, fault.reason) == ("PERMISSION_DENIED", Reason.CALLER_NOT_ALLOWED)
        (line,) = [each for each in lines if each["event"] == "rpc"]
        assert (line["caller"], line["reason"]) == ("scheduler", Reason.CALLER_NOT_ALLOWED)
        registry = served.runtime.metrics.registry
        labels = {"caller": "scheduler", "reason": "CALLER_NOT_ALLOWED"}
        assert registry.get_sample_value("lakehouse_caller_refusals_total", labels) == 1
        assert registry.get_sample_value("lakehouse_caller_rpcs_total", {"caller": "scheduler"}) == 2


GATEWAY = """
    [callers.gateway]
    rpcs = ["Validate"]
    kinds = ["fill"]
    models = ["*"]
    tokens_sha256 = ["{token}"]
    may_name_callers = true
"""


async def test_whom_it_calls_for_is_believed_of_a_caller_that_may_say_so_and_of_nobody_else(tmp_path: Path) -> None:
    file = callers_file(tmp_path, more=GATEWAY.format(token=sha256("g" * 40)))
    gateway = ("authorization", f"Bearer {'g' * 40}")
    async with serving_callers("validated", callers={"file": file}) as served:

        async def seen(*metadata: tuple[str, str]) -> tuple[str, str | None]:
            assert await served.call("Validate", *metadata) is None
            caller = served.reached.pop().caller
            assert caller is not None
            return caller.name, caller.via.name if caller.via else None

        assert await seen(gateway) == ("gateway", None)
        assert await seen(gateway, ("x-lakehouse-caller", "scheduler")) == ("scheduler", "gateway")
        assert await seen(gateway, ("x-lakehouse-caller", "of-iterate-alone")) == ("of-iterate-alone", "gateway")
        assert await seen(*AUTHORIZATION, ("x-lakehouse-caller", "gateway")) == ("scheduler", None)
        # It calls for somebody; what it may call is its own.
        fault = await served.call("Iterate", gateway, ("x-lakehouse-caller", "scheduler"))
        assert fault is not None
        assert fault.reason is Reason.CALLER_NOT_ALLOWED
        fault = await served.call("Validate", gateway, ("x-lakehouse-caller", "no name"))
        assert fault is not None
        assert fault.reason is Reason.CALLER_UNKNOWN
    async with serving_callers("iterate", callers={"file": file}) as served:
        # Nobody begins a session for somebody else.
        assert await served.call("Validate", gateway, ("x-lakehouse-caller", "scheduler")) is None
        caller = served.reached.pop().caller
        assert caller is not None
        assert (caller.name, caller.via) == ("gateway", None)


async def test_a_certificate_alone_makes_iterate_the_one_who_is_believed(tmp_path: Path) -> None:
    from ipaddress import ip_address

    from cryptography import x509

    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", [x509.IPAddress(ip_address("127.0.0.1"))])
    file = callers_file(
        tmp_path,
        more="""
        [callers.iterate]
        certificates = ["dns:iterate.test"]
        rpcs = ["Validate"]
        kinds = ["*"]
        may_name_callers = true
        """,
    )
    tls = {"certificate_file": certificate, "key_file": key, "client_ca_file": authority.file}
    async with serving_callers("validated", tls=tls, callers={"file": file}) as served:
        iterate = authority.credentials(authority.issue("iterate", [dns("iterate.test")]))
        other = authority.credentials(authority.issue("other", [dns("chatd.test")]))
        named = ("x-lakehouse-caller", "scheduler")
        assert await served.call("Validate", named, credentials=iterate) is None
        fault = await served.call("Validate", named, credentials=other)
        assert fault is not None
        assert fault.reason is Reason.CALLER_UNKNOWN
        assert [call.caller.name for call in served.reached if call.caller] == ["scheduler"]


async def test_a_replaced_file_counts_and_a_broken_one_changes_nothing_and_is_reported(tmp_path: Path) -> None:
    file = callers_file(tmp_path)
    async with serving_callers(callers={"file": file}) as served:
        callers = served.runtime.callers
        assert callers is not None
        new = ("authorization", f"Bearer {'n' * 40}")

        replace_file(file, "[callers.")
        with structlog.testing.capture_logs() as lines:
            callers.reload()
            while not callers.counts.file_is_broken:
                await asyncio.sleep(0.01)
        assert await served.call("Iterate", *AUTHORIZATION) is None
        assert any(line["log_level"] == "error" and "callers file" in line["event"] for line in lines)
        assert served.runtime.metrics.registry.get_sample_value("lakehouse_callers_file_broken") == 1

        callers_file(tmp_path, token="n" * 40)
        callers.reload()
        while await served.call("Iterate", new) is not None:
            await asyncio.sleep(0.01)
        fault = await served.call("Iterate", *AUTHORIZATION)
        assert fault is not None
        assert fault.reason is Reason.CALLER_UNKNOWN
        assert not callers.counts.file_is_broken


async def test_a_file_that_names_keys_which_come_later_is_taken_when_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched_files, "_POLL_S", 0.01)
    monkeypatch.setattr(watched_files, "_RETRY_S", 0.05)
    file, keys = callers_file(tmp_path), tmp_path / "keys.json"
    async with serving_callers(callers={"file": file}) as served:
        callers = served.runtime.callers
        assert callers is not None
        with structlog.testing.capture_logs() as lines:
            replace_file(file, text_of(TOKEN) + issuer_table(keys, "ES256") + "[callers.more]")
            while not callers.counts.file_is_broken:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.2)
            assert sum("callers file" in line["event"] for line in lines) == 1, "said once"
            replace_file(keys, key_set(Signer("one")))
            while "more" not in callers.names():
                await asyncio.sleep(0.005)
        assert not callers.counts.file_is_broken


async def test_whatever_goes_wrong_with_one_version_of_the_file_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = callers_file(tmp_path)
    async with serving_callers(callers={"file": file}) as served:
        callers = served.runtime.callers
        assert callers is not None
        with monkeypatch.context() as broken:

            def no_thread(*_: object, **__: object) -> None:
                raise RuntimeError("can't start new thread")

            broken.setattr(KeySource, "start", no_thread)
            replace_file(file, text_of(TOKEN) + issuer_table("https://issuer.test/keys", "ES256"))
            callers.reload()
            while not callers.counts.file_is_broken:
                await asyncio.sleep(0.005)
        replace_file(file, text_of(TOKEN) + "[callers.more]")
        callers.reload()
        async with asyncio.timeout(10):
            while "more" not in callers.names():
                await asyncio.sleep(0.005)


async def test_no_call_of_a_right_caller_fails_while_the_file_is_replaced_again_and_again(tmp_path: Path) -> None:
    file = callers_file(tmp_path)
    async with serving_callers(callers={"file": file}) as served:
        callers = served.runtime.callers
        assert callers is not None
        done = asyncio.Event()
        faults: list[Fault | None] = []

        async def load() -> None:
            while not done.is_set():
                faults.append(await served.call("Iterate", *AUTHORIZATION))

        loads = [asyncio.create_task(load()) for _ in range(4)]
        for number in range(20):
            replace_file(file, "[broken" if number % 5 == 4 else f"{text_of(TOKEN)}\n[callers.c{number}]\n")
            callers.reload()
            expected = f"c{number}"
            while number % 5 != 4 and expected not in callers.names():
                await asyncio.sleep(0.005)
        done.set()
        await asyncio.gather(*loads)

    assert faults
    assert set(faults) == {None}


async def test_without_callers_a_bind_beyond_loopback_warns_and_loopback_does_not() -> None:
    for bind, warns in (("127.0.0.1:0", False), ("0.0.0.0:0", True)):
        with structlog.testing.capture_logs() as lines:
            async with serving_callers(bind=bind) as served:
                assert await served.call("Iterate", *AUTHORIZATION) is None
                assert served.reached[-1].caller is None
        assert any(line["event"] == "anybody may call who reaches the listener" for line in lines) == warns


async def test_a_start_with_a_file_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    from lakehouse.server.config import ServerTable, load

    class Table(ServerTable):
        bind: str = "127.0.0.1:0"

    for text, words in (("[callers.x]\nrpc = 1", "callers.x.rpc: unknown key"), (None, "No such file")):
        file = tmp_path / "callers.toml"
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load("iterate", Table, file=None, environ={"ITERATE_CALLERS__FILE": str(file)})
        assert words in str(caught.value)
    twice = callers_file(tmp_path, more=f'[callers.other]\ntokens_sha256 = ["{sha256(TOKEN)}"]')
    with pytest.raises(ConfigError, match=r"callers\.other and callers\.scheduler have the same token") as refused:
        load("iterate", Table, file=None, environ={"ITERATE_CALLERS__FILE": str(twice)})
    assert sha256(TOKEN) not in str(refused.value)
