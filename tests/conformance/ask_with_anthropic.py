"""Ask endpoints with the official `anthropic` SDK and tell what it understood. Runs in .tools/conformance.

One JSON list [base_url, "whole" or "stream"] a line on standard input, one JSON object a line on standard output.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import anthropic


def main() -> None:
    for line in sys.stdin:
        base_url, what = json.loads(line)
        client = anthropic.Anthropic(base_url=base_url, api_key="sk-sdk", max_retries=0, timeout=10)
        sys.stdout.write(json.dumps(_ask(client, what)) + "\n")
        sys.stdout.flush()


def _ask(client: anthropic.Anthropic, what: str) -> Any:
    ask: dict[str, Any] = {
        "model": "fake-claude-1",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hi."}],
    }
    try:
        if what == "stream":
            with client.messages.stream(**ask) as stream:
                pieces = list(stream.text_stream)
                return {"pieces": pieces, "message": stream.get_final_message().model_dump(mode="json")}
        return client.messages.create(**ask).model_dump(mode="json")
    except anthropic.APIStatusError as error:
        return {"error": type(error).__name__, "status": error.status_code}


if __name__ == "__main__":
    main()
