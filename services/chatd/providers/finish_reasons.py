"""Why an answer ended, in every vendor's words: one table for all, since proxies pass the words of one through as
another's.

Names are compared in lower case, without a prefix such as `FinishReason.`; what is in no table is UNSPECIFIED.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from chatd.completion import FinishReason

_WORDS: Final[Mapping[FinishReason, str]] = {
    # OpenAI; TGI (eos_token, stop_sequence); Anthropic (end_turn); Cohere (complete); IBM, AI21, Together (eos,
    # endoftext).
    FinishReason.STOP: "stop eos eos_token end_turn stop_sequence complete completed endoftext end_of_text finished"
    " stop_token eos_token_id eot eot_token end done normal natural_stop",
    # Gemini and Cohere (max_tokens), Mistral (model_length), Anthropic, OpenAI's Responses (max_output_tokens).
    # Anthropic's pause_turn: the server's own limit on a long turn.
    FinishReason.LENGTH: (
        "length max_tokens max_output_tokens max_completion_tokens model_length max_length length_limit token_limit"
        " error_limit model_context_window_exceeded context_window_exceeded context_length_exceeded context_length"
        " max_tokens_reached time_limit pause_turn max_new_tokens max_gen_len max_completion_length max_length_exceeded"
        " max_output_tokens_exceeded max_token token_limit_reached length_capped truncated incomplete"
        " ctx_length context_limit"
    ),
    FinishReason.TOOL_CALLS: "tool_calls tool_call tool_use function_call function_calls",
    # OpenAI and Azure; Gemini; Bedrock (guardrail_intervened, content_filtered); Cohere (error_toxic); Zhipu
    # (sensitive).
    FinishReason.CONTENT_FILTER: (
        "content_filter content_filtered content_filtering content_policy content_policy_violation safety recitation"
        " prohibited_content blocklist spii language image_safety image_prohibited_content image_recitation model_armor"
        " guardrail_intervened guardrail guardrails error_toxic sensitive moderation moderated blocked censored"
        " filtered filter content_filter_error content_blocked safety_violation safety_filter policy policy_violation"
        " inappropriate inappropriate_content unsafe harmful flagged risk content_risk"
    ),
    FinishReason.REFUSAL: "refusal refused",
    # Gemini; Bedrock.
    FinishReason.MALFORMED: (
        "malformed_function_call malformed_tool_call malformed_tool_use malformed_model_output malformed_response"
        " unexpected_tool_call too_many_tool_calls missing_thought_signature invalid_tool_call"
    ),
}
_REASONS: Final = {word: reason for reason, words in _WORDS.items() for word in words.split()}
_PARTS: Final[Mapping[FinishReason, frozenset[str]]] = {
    FinishReason.CONTENT_FILTER: frozenset(
        (
            "safety",
            "filter",
            "filtered",
            "filtering",
            "moderation",
            "moderated",
            "guardrail",
            "guardrails",
            "blocklist",
            "sensitive",
            "toxic",
        )
    ),
    FinishReason.LENGTH: frozenset(("tokens", "length", "context", "truncated", "truncation", "cutoff")),
}
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")
# The endpoint gave up; what came before is no whole answer. Mistral, OpenRouter (error); vLLM (abort); DeepSeek; Zhipu.
_BROKEN: Final = frozenset(
    {
        *("error", "abort", "aborted", "cancelled", "canceled", "user_cancel", "failed", "timeout"),
        *("insufficient_system_resource", "network_error", "engine_error", "internal_error", "server_error"),
    }
)
# What a proxy's own word may hide.
_VAGUE: Final = frozenset({FinishReason.UNSPECIFIED, FinishReason.STOP})


def read_finish_reason(value: object) -> FinishReason:
    """Return what the vendor's word stands for."""
    if not isinstance(value, str):
        return FinishReason.UNSPECIFIED
    plain = _plain(value)
    return _REASONS.get(value) or _REASONS.get(plain) or _by_parts(frozenset(plain.split("_")))


def is_broken(value: object) -> bool:
    """Whether the word says that the endpoint gave up."""
    return isinstance(value, str) and value not in _REASONS and _plain(value) in _BROKEN


def finish_word(choice: Mapping[str, Any]) -> object:
    """Return the word of a choice: its own, or what OpenRouter calls native where that says more."""
    word = choice.get("finish_reason")
    native = choice.get("native_finish_reason")
    if native and read_finish_reason(word) in _VAGUE and read_finish_reason(native) not in _VAGUE:
        return native
    return word or native or choice.get("finishReason") or choice.get("done_reason")


def _by_parts(parts: frozenset[str]) -> FinishReason:
    """Return what a word that stands in no table is made of: vendors coin new ones out of the same parts."""
    for reason, known in _PARTS.items():
        if parts & known:
            return reason
    return FinishReason.UNSPECIFIED


def _plain(word: str) -> str:
    return (
        _CAMEL.sub("_", word[:100].rpartition(".")[2].strip())
        .lower()
        .replace("-", "_")
        .replace(" ", "_")
        .removeprefix("finish_reason_")
    )
