"""Goal: three services that know their callers serve one session and another, name whose it was, keep nothing of a
credential anywhere, and lose no right call while certificates, authorities, keys and callers are replaced.

Method: real processes with mTLS and callers on all three; everything that they write is searched, byte by byte.
"""

from __future__ import annotations

import asyncio
import json
import operator
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from caller_credentials import Authority, Signer, key_set, replace_file, sha256
from caller_ground import CALLERS_OF_OTHERS, SERVICES, TOKEN, Ground, callers_of_iterate

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.clients import AsyncChatClient, AsyncIterateClient, AsyncValidateClient
from lakehouse.errors import Fault, Reason
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.validated.v1 import validated_pb2

HANG_S = 120
# Between two sessions of a caller: a load that leaves the machine to the services.
PAUSE_S = 0.02
BY_TOKEN_SCRIPTED_ALONE = """
    [callers.by-token]
    kinds = ["*"]
    models = ["scripted/*"]
"""


async def test_callers_are_named_everywhere_and_nothing_of_a_credential_is(
    start_stack: Any, make_request: Callable[..., iterate_pb2.IterateRequest], tmp_path: Path
) -> None:
    ground = Ground(tmp_path)
    replace_file(tmp_path / "others.toml", CALLERS_OF_OTHERS + BY_TOKEN_SCRIPTED_ALONE)
    jwt, wrong, expired = ground.signer.token(), Signer("key-1").token(), ground.signer.token(exp=1)
    tokens: dict[str, str | None] = {"by-jwt": jwt, "by-token": TOKEN, "by-certificate": None}
    seen: list[str] = []
    async with start_stack(**ground.environ()) as stack:
        addresses = stack.stack.addresses
        sessions = {}
        for name, token in tokens.items():
            async with AsyncIterateClient(stack.address, credentials=ground.credentials(), token=token) as client:
                # What the file of chatd says of by-token is what iterate may ask in its name.
                provider = {} if name == "by-token" else {"provider": "fake"}
                if name == "by-token":
                    with pytest.raises(Fault) as caught:
                        await client.iterate(make_request(provider="fake"), timeout_s=30)
                    assert (caught.value.reason, caught.value.where) == (Reason.CALLER_NOT_ALLOWED, "chatd")
                    provider = {"provider": "scripted"}
                response = await client.iterate(make_request(**provider), timeout_s=60)
                sessions[name] = response
                seen.append(str(response))
        for token in (wrong, expired, TOKEN[:-1]):
            async with AsyncIterateClient(stack.address, credentials=ground.credentials(), token=token) as client:
                with pytest.raises(Fault) as caught:
                    await client.iterate(make_request(), timeout_s=30)
                assert caught.value.reason is Reason.CALLER_UNKNOWN
                seen.append(str(caught.value) + str(caught.value.metadata))
        # Nobody but iterate reaches the two behind it, whatever it says of itself.
        as_iterate = (("x-lakehouse-caller", "by-jwt"),)
        for metadata in ((), as_iterate):
            async with AsyncChatClient(addresses["chatd"], credentials=ground.credentials()) as chat:
                with pytest.raises(Fault) as caught:
                    await chat.complete(chatd_pb2.CompleteRequest(), timeout_s=20, metadata=metadata)
                assert caught.value.reason is Reason.CALLER_UNKNOWN
            async with AsyncValidateClient(addresses["validated"], credentials=ground.credentials()) as gate:
                with pytest.raises(Fault) as caught:
                    await gate.validate(validated_pb2.ValidateRequest(), timeout_s=20, metadata=metadata)
                assert caught.value.reason is Reason.CALLER_UNKNOWN
        roots = [
            stack.receiver.wait_for(lambda receiver, trace=response.trace_id: receiver.tree(trace), 20)
            for response in sessions.values()
        ]
        rows = {row["session_id"]: row for row in stack.rows()}
        seen += [json.dumps(tree.as_json()) for tree in stack.receiver.trees()]
        seen += [str(tree) for tree in stack.receiver.trees()]

    lines = [entry for _, entry in stack.logs if isinstance(entry, dict) and entry.get("event") == "rpc"]
    assert roots
    for name, response in sessions.items():
        assert rows[response.session_id]["caller"] == name
        of_session = [line for line in lines if line.get("session_id") == response.session_id]
        assert {line["caller"] for line in of_session} == {name}
        assert {line.get("via") for line in of_session if "Iterate" not in line["method"]} == {"iterate"}
    problems = {line["caller_problem"] for line in lines if "caller_problem" in line}
    assert {"wrong signature", "expired", "token of nobody listed", "certificate of nobody listed"} <= problems

    everything = "\n".join([*seen, json.dumps(stack.rows()), *(str(entry) for _, entry in stack.logs)])
    everything += "".join(
        file.read_text(errors="replace") for file in stack.log_path.parent.rglob("*") if file.is_file()
    )
    for secret in (jwt, wrong, expired, TOKEN, TOKEN[:-1], sha256(TOKEN)):
        assert secret not in everything
        assert secret[-24:] not in everything
    for token in (jwt, wrong, expired):
        assert token.split(".")[1] not in everything
    assert "BEGIN CERTIFICATE" not in everything


async def test_no_call_of_a_right_caller_fails_while_everything_is_replaced(
    start_stack: Any, make_request: Callable[..., iterate_pb2.IterateRequest], tmp_path: Path
) -> None:
    ground = Ground(tmp_path)
    ages = {f"{service.upper()}_CONNECTION_AGE_MS": "500" for service in SERVICES}
    async with start_stack(**ground.environ(), **ages) as stack:
        over = asyncio.Event()
        sessions = [0] * 3
        clients = [
            AsyncIterateClient(stack.address, credentials=ground.credentials(), token=token)
            for token in (ground.token, TOKEN, None)
        ]

        async def work(number: int, client: AsyncIterateClient) -> None:
            while not over.is_set():
                response = await client.iterate(make_request(), timeout_s=60)
                assert response.WhichOneof("outcome") == "accepted"
                sessions[number] += 1
                await asyncio.sleep(PAUSE_S)

        async def replaced() -> None:
            """Every service has been asked to look, and some sessions of each caller have passed."""
            for service in SERVICES:
                stack.stack.processes[service].send_signal(signal.SIGHUP)
            enough = [each + 5 for each in sessions]
            async with asyncio.timeout(HANG_S):
                while any(map(operator.lt, sessions, enough)):
                    await asyncio.sleep(0.05)

        workers = [asyncio.create_task(work(number, client)) for number, client in enumerate(clients)]
        try:
            await replaced()
            await _replace_keys_and_callers(ground, replaced)
            await _replace_authority(ground, stack, clients, replaced)
        finally:
            over.set()
            results = await asyncio.gather(*workers, return_exceptions=True)
            for client in clients:
                await client.close()
        entries = [entry for _, entry in stack.logs if isinstance(entry, dict)]
        errors = [entry["event"] for entry in entries if entry.get("level") == "error"]

    assert results == [None] * 3
    assert set(errors) == {"callers file cannot be used, the callers read before stay"}


async def _replace_keys_and_callers(ground: Ground, replaced: Callable[[], Awaitable[None]]) -> None:
    folder = ground.folder
    # Its keys: the new one is used at once, and the old one leaves.
    fresh = Signer("key-2")
    replace_file(folder / "keys.json", key_set(ground.signer, fresh))
    ground.signer = fresh
    await replaced()
    replace_file(folder / "keys.json", key_set(fresh))
    await replaced()
    # The callers' files, one of them broken for a while.
    replace_file(folder / "iterate.toml", callers_of_iterate(folder, "[callers.more]"))
    replace_file(folder / "others.toml", "[callers.")
    await replaced()
    replace_file(folder / "others.toml", CALLERS_OF_OTHERS + "[callers.more]")
    await replaced()


async def _replace_authority(
    ground: Ground, stack: Any, clients: list[AsyncIterateClient], replaced: Callable[[], Awaitable[None]]
) -> None:
    # The authority: both are trusted, then everybody is somebody of the new one, then the old one leaves.
    old, new = ground.authority, Authority(ground.folder, "two")
    ground.trust(old, new)
    await replaced()
    await _read_again(stack, 1)
    ground.authority = new
    ground.issue()
    for client in clients:
        client.reconnect(ground.credentials())
    await replaced()
    await _read_again(stack, 2)
    ground.trust(new)
    await replaced()


async def _read_again(stack: Any, times: int) -> None:
    """Every service has read its certificates so often; the callers' files are counted by their names."""

    def reads(service: str) -> int:
        return sum(
            name == service
            and isinstance(entry, dict)
            and entry.get("event") == "files read again"
            and any(str(file).endswith("ca.pem") for file in entry["files"])
            for name, entry in stack.logs
        )

    async with asyncio.timeout(HANG_S):
        while reads("iterate") < 2 * times or reads("chatd") < times or reads("validated") < times:
            await asyncio.sleep(0.05)
