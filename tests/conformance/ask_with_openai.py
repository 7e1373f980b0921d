"""Ask endpoints with the official `openai` SDK and tell what it understood. Runs in .tools/conformance.

One JSON list [base_url, "whole" or "stream"] a line on standard input, one JSON object a line on standard output.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import openai


def main() -> None:
    for line in sys.stdin:
        base_url, what = json.loads(line)
        client = openai.OpenAI(base_url=base_url, api_key="sk-sdk", max_retries=0, timeout=10)
        sys.stdout.write(json.dumps(_ask(client, what)) + "\n")
        sys.stdout.flush()


def _ask(client: openai.OpenAI, what: str) -> Any:
    ask: dict[str, Any] = {"model": "fake-1", "messages": [{"role": "user", "content": "Hi."}]}
    try:
        if what == "stream":
            return _streamed(client, ask)
        return client.chat.completions.create(**ask).model_dump(mode="json")
    except openai.APIStatusError as error:
        return {"error": type(error).__name__, "status": error.status_code, "code": error.code}


def _streamed(client: openai.OpenAI, ask: dict[str, Any]) -> dict[str, Any]:
    text, finish_reason, usage = "", None, None
    for chunk in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            finish_reason = chunk.choices[0].finish_reason or finish_reason
        if chunk.usage:
            usage = chunk.usage.total_tokens
    return {"text": text, "finish_reason": finish_reason, "total_tokens": usage}


if __name__ == "__main__":
    main()
