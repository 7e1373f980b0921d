"""Usage in OpenAI's words and those of the compatible endpoints, wherever they put it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from chatd.completion import Usage
from chatd.providers.answer_parts import COUNT_MAX, token_count

# The first name that is there counts.
_INPUT: Final = ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_eval_count")
_OUTPUT: Final = ("completion_tokens", "output_tokens", "candidatesTokenCount", "eval_count")
_TOTAL: Final = ("total_tokens", "totalTokenCount")
# OpenAI; Moonshot; DeepSeek; Gemini.
_CACHED: Final = ("cached_tokens", "cache_read_tokens", "prompt_cache_hit_tokens", "cachedContentTokenCount")
_REASONING: Final = ("reasoning_tokens", "thoughtsTokenCount")
_WRITTEN: Final = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
# Most say no more than this.
_PLAIN: Final = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
_INPUT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS: Final = ("completion_tokens_details", "output_tokens_details")


def find_usage(answer: Mapping[str, Any], choice: Mapping[str, Any] | None = None) -> Mapping[str, Any] | None:
    """Return the usage object of an answer or of a piece of one; None where there is none."""
    usage = answer.get("usage")
    if usage is None and choice is not None:
        # Moonshot.
        usage = choice.get("usage")
    if usage is None:
        # Groq; Gemini; Ollama's own words at the top.
        inner = answer.get("x_groq")
        usage = inner.get("usage") if isinstance(inner, dict) else None
        usage = usage or answer.get("usageMetadata") or answer.get("usage_metadata")
        if usage is None and "eval_count" in answer:
            usage = answer
    return usage if isinstance(usage, dict) else None


def read_usage(usage: Mapping[str, Any] | None) -> Usage:
    """Return the counts; what is missing or no count is 0.

    Some leave reasoning out of the output (xAI, Gemini) and show it in the total alone: then it is added.
    """
    if usage is None:
        return Usage()
    if usage.keys() == _PLAIN:
        asked_for, answered_with = usage["prompt_tokens"], usage["completion_tokens"]
        if type(asked_for) is type(answered_with) is int and asked_for >= 0 and answered_with >= 0:
            total = asked_for + answered_with
            if total == usage["total_tokens"] and total <= COUNT_MAX:
                return Usage(asked_for, answered_with)
    input_tokens, output_tokens = _count(usage, _INPUT), _count(usage, _OUTPUT)
    asked, answered = _details(usage, _INPUT_DETAILS), _details(usage, _OUTPUT_DETAILS)
    reasoning = _count(answered, _REASONING) or _count(usage, _REASONING)
    surplus = _count(usage, _TOTAL) - input_tokens - output_tokens
    if surplus > 0 and input_tokens and reasoning in {0, surplus}:
        output_tokens, reasoning = token_count(output_tokens + surplus), surplus
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_input_tokens=_count(asked, _CACHED) or _count(usage, _CACHED),
        reasoning_tokens=reasoning,
        cache_write_tokens=_count(asked, _WRITTEN) or _count(usage, _WRITTEN),
    )


def _details(usage: Mapping[str, Any], names: tuple[str, ...]) -> Mapping[str, Any]:
    for name in names:
        found = usage.get(name)
        if isinstance(found, dict):
            return found
    return {}


def _count(counts: Mapping[str, Any], names: tuple[str, ...]) -> int:
    if not counts:
        return 0
    for name in names:
        value = counts.get(name)
        if value is not None:
            return token_count(value)
    return 0
