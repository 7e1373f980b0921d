"""Goal: a caller reaches no model of chatd that its policy does not name, by whatever road.

Method: a real chatd with scripted providers, a route over them, and a caller who may ask some.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from caller_credentials import replace_file, sha256

from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.errors import Fault, Reason

TOKEN = "t" * 40
METADATA = (("authorization", f"Bearer {TOKEN}"),)
SCRIPTED = {"type": "scripted", "default_model": "small"}


def target(provider: str = "", model: str = "") -> chatd_pb2.Target:
    return chatd_pb2.Target(provider=provider, model=model)


def settings(folder: Path, models: str) -> dict[str, Any]:
    file = folder / "callers.toml"
    replace_file(
        file,
        f'[callers.x]\nrpcs = ["Complete", "StreamComplete"]\nmodels = {models}\ntokens_sha256 = ["{sha256(TOKEN)}"]\n',
    )
    return {
        "providers": {"cheap": SCRIPTED, "dear": SCRIPTED},
        "routes": {
            "mixed": {"targets": [{"provider": "dear", "model": "large"}, {"provider": "cheap", "model": "small"}]},
            "dear-alone": {"targets": [{"provider": "dear", "model": "large"}]},
        },
        "default_provider": "mixed",
        "callers": {"file": file},
    }


def request(asked: chatd_pb2.Target, *fallbacks: chatd_pb2.Target) -> chatd_pb2.CompleteRequest:
    message = chatd_pb2.Message(role=chatd_pb2.ROLE_USER, content="hello")
    return chatd_pb2.CompleteRequest(messages=[message], target=asked, fallbacks=fallbacks)


async def test_a_route_leads_to_no_model_that_the_caller_may_not_ask(chatd: Callable[..., Any], tmp_path: Path) -> None:
    async with chatd(**settings(tmp_path, '["cheap/*"]')) as running:
        for asked in (target(), target("mixed"), target("cheap"), target("cheap", "other")):
            answer = await running.client.complete(request(asked), timeout_s=20, metadata=METADATA)
            assert answer.provider == "cheap"
        for asked, fallbacks in (
            (target("dear"), ()),
            (target("dear-alone"), ()),
            (target("dear", "large"), (target("cheap"),)),
            (target("cheap"), (target("dear"),)),
            (target("mixed"), (target("dear-alone"),)),
        ):
            with pytest.raises(Fault) as caught:
                await running.client.complete(request(asked, *fallbacks), timeout_s=20, metadata=METADATA)
            assert (caught.value.reason, caught.value.metadata["denied"]) == (Reason.CALLER_NOT_ALLOWED, "target")
            with pytest.raises(Fault) as caught:
                async for _ in running.client.stream_complete(
                    request(asked, *fallbacks), timeout_s=20, metadata=METADATA
                ):
                    pass
            assert caught.value.reason is Reason.CALLER_NOT_ALLOWED


async def test_a_model_is_judged_by_what_it_is_and_not_by_what_was_left_out(
    chatd: Callable[..., Any], tmp_path: Path
) -> None:
    async with chatd(**settings(tmp_path, '["cheap/small"]')) as running:
        answer = await running.client.complete(request(target("cheap")), timeout_s=20, metadata=METADATA)
        assert answer.provider == "cheap"
        with pytest.raises(Fault) as caught:
            await running.client.complete(request(target("cheap", "small2")), timeout_s=20, metadata=METADATA)
        assert caught.value.reason is Reason.CALLER_NOT_ALLOWED
