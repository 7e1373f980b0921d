"""What an endpoint's refusal means: HTTP status and error object to reason. OpenAI's and Anthropic's words alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from chatd.retry import read_retry_after_ms
from chatd.upstream_fault import UpstreamFault
from lakehouse.errors import Reason


@dataclass(frozen=True, slots=True)
class ErrorWords:
    """The endpoint's own words, as far as it said any."""

    code: str = ""
    type: str = ""
    message: str = ""
    param: str = ""


# `error.code` and `error.type` of the endpoints that have them. The code is the finer one and is looked up first.
_BY_WORD: Final[Mapping[str, Reason]] = {
    "insufficient_quota": Reason.PROVIDER_QUOTA,
    "billing_hard_limit_reached": Reason.PROVIDER_QUOTA,
    "billing_not_active": Reason.PROVIDER_QUOTA,
    "billing_error": Reason.PROVIDER_QUOTA,
    "context_length_exceeded": Reason.CONTEXT_TOO_LONG,
    "exceed_context_size_error": Reason.CONTEXT_TOO_LONG,
    "request_too_large": Reason.CONTEXT_TOO_LONG,
    "content_filter": Reason.CONTENT_FILTERED,
    "content_policy_violation": Reason.CONTENT_FILTERED,
    "ResponsibleAIPolicyViolation": Reason.CONTENT_FILTERED,
    "model_not_found": Reason.MODEL_NOT_FOUND,
    "DeploymentNotFound": Reason.MODEL_NOT_FOUND,
    "not_found_error": Reason.MODEL_NOT_FOUND,
    "invalid_api_key": Reason.PROVIDER_AUTH,
    "authentication_error": Reason.PROVIDER_AUTH,
    "permission_error": Reason.PROVIDER_AUTH,
    # LiteLLM's proxy without a database, for a key that is not its master key; the status is 400.
    "no_db_connection": Reason.PROVIDER_AUTH,
    "rate_limit_exceeded": Reason.PROVIDER_RATE_LIMITED,
    "rate_limit_error": Reason.PROVIDER_RATE_LIMITED,
    "overloaded_error": Reason.PROVIDER_UNREACHABLE,
}
# For endpoints that say it in prose alone, with a 400 or 500.
_BY_PROSE: Final = (
    (
        re.compile(
            r"context (length|window|size)|maximum context|prompt is too long|too many (input )?tokens", re.IGNORECASE
        ),
        Reason.CONTEXT_TOO_LONG,
    ),
    (
        re.compile(r"invalid model name|model \S{1,256} (does not exist|not found)", re.IGNORECASE),
        Reason.MODEL_NOT_FOUND,
    ),
    (re.compile(r"credit balance|exceeded your current quota", re.IGNORECASE), Reason.PROVIDER_QUOTA),
)
_BY_STATUS: Final[Mapping[int, Reason]] = {
    401: Reason.PROVIDER_AUTH,
    402: Reason.PROVIDER_QUOTA,
    403: Reason.PROVIDER_AUTH,
    404: Reason.MODEL_NOT_FOUND,
    408: Reason.PROVIDER_UNREACHABLE,
    410: Reason.MODEL_NOT_FOUND,
    413: Reason.CONTEXT_TOO_LONG,
    429: Reason.PROVIDER_RATE_LIMITED,
    503: Reason.PROVIDER_UNREACHABLE,
    529: Reason.PROVIDER_UNREACHABLE,
}
# The endpoint did not take the request on: it may be sent again, now or after a while.
_REFUSED_FOR_NOW: Final = frozenset({Reason.PROVIDER_RATE_LIMITED, Reason.PROVIDER_UNREACHABLE})
_FIELDS: Final[Mapping[str, str]] = {
    "max_completion_tokens": "max_tokens",
    "stop_sequences": "stop",
    "system": "messages",
    "output_config": "response_format",
}
_REQUEST_FIELDS: Final = frozenset(
    {
        "messages",
        "temperature",
        "top_p",
        "max_tokens",
        "stop",
        "seed",
        "response_format",
        "tools",
        "tool_choice",
    }
)
_DETAIL_CHARS_MAX: Final = 240


def error_words(answer: object) -> ErrorWords:
    """The words of an error body: `{"error": {...}}`, `{"error": "..."}`, `{"message": "..."}`, or nothing."""
    if not isinstance(answer, dict):
        return ErrorWords()
    error = answer.get("error", answer)
    if isinstance(error, str):
        return ErrorWords(message=error)
    if not isinstance(error, dict):
        return ErrorWords()
    inner = error.get("innererror")
    inner_code = inner.get("code") if isinstance(inner, dict) else None
    return ErrorWords(
        code=_word(error.get("code")) or _word(inner_code),
        type=_word(error.get("type")),
        message=_word(error.get("message")),
        param=_word(error.get("param")),
    )


def from_http(status: int, words: ErrorWords, headers: Mapping[str, str], *, hidden: str) -> UpstreamFault:
    """The fault that an HTTP status and an error object stand for.

    A 200 with an error object takes the status from its `code`, where that is a number. `hidden` is the key, which an
    endpoint might quote.
    """
    if status == 200 and words.code.isdecimal() and 400 <= int(words.code[:4]) < 600:
        status = int(words.code)
    reason = _reason(status, words)
    refused = reason in _REFUSED_FOR_NOW
    # A 5xx of unknown cause, an error in place of an answer: what was spent before it, nobody says.
    billed = reason is Reason.PROVIDER_FAILED or reason is Reason.PROVIDER_BAD_ANSWER
    return UpstreamFault(
        reason,
        billed=billed,
        repeatable=(refused or reason is Reason.PROVIDER_FAILED) and headers.get("x-should-retry") != "false",
        retry_after_ms=read_retry_after_ms(headers) if refused else None,
        detail=_detail(status, words, hidden),
        field=_field(words) if reason is Reason.BAD_REQUEST else "",
    )


def _reason(status: int, words: ErrorWords) -> Reason:
    if status != 401:
        for word in (words.code, words.type):
            if word in _BY_WORD:
                return _BY_WORD[word]
    if status in {200, 400, 403, 422, 429, 500}:
        for pattern, reason in _BY_PROSE:
            if pattern.search(words.message):
                return reason
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return Reason.BAD_REQUEST
    # Neither an answer nor a refusal: a redirect, an empty 204, a proxy's page.
    return Reason.PROVIDER_BAD_ANSWER if 200 < status < 400 else Reason.PROVIDER_FAILED


def _field(words: ErrorWords) -> str:
    # OpenAI names the field in `param`, Anthropic at the head of its message: "temperature: may not be …".
    named = words.param or words.message.partition(":")[0][:64]
    name = re.split(r"[.\[]", named, maxsplit=1)[0]
    name = _FIELDS.get(name, name)
    return name if name in _REQUEST_FIELDS else ""


def _word(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)[:2000]


def _detail(status: int, words: ErrorWords, hidden: str) -> str:
    text = f"HTTP {status} {words.code or words.type} {words.message}"
    if hidden:
        text = text.replace(hidden, "***")
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:_DETAIL_CHARS_MAX]
