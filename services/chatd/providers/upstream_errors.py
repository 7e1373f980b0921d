"""What an endpoint's refusal means: its words, wherever in the body they stand, and the fault that they stand for.

The words are judged by the table in upstream_errors.toml; where it says nothing, by the HTTP status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from chatd.error_rules import ErrorRule, Meaning, plain, rules_with
from chatd.masking import masked
from chatd.retry import read_retry_after_ms
from chatd.upstream_fault import UpstreamFault
from lakehouse.errors import Reason

# Bounds of what is read of an error body.
_DEPTH_MAX: Final = 6
_NODES_MAX: Final = 64
_LIST_MAX: Final = 8
_WORD_CHARS_MAX: Final = 200
_MESSAGE_CHARS_MAX: Final = 4000
_NESTED_JSON_CHARS_MAX: Final = 64 * 1024
_GENERATED_CHARS_MAX: Final = 256 * 1024

_CODE_KEYS: Final = (
    "code",
    "type",
    "status",
    "__type",
    "reason",
    "error_code",
    "error_type",
    "errorType",
    "Code",
    "errorCode",
    "errorcode",
)
_MESSAGE_KEYS: Final = (
    "message", "msg", "error", "detail", "error_message", "errorMessage", "error_msg", "title", "raw", "cause",
    "Message", "status_msg", "faultstring", "quotaId", "quotaMetric",
)  # fmt: skip
_PARAM_KEYS: Final = ("param", "loc", "field")
# In the order in which words of the same kind count: the error itself before what it was made from.
_INNER_KEYS: Final = (
    "error", "errors", "message", "detail", "details", "innererror", "inner_error", "metadata", "raw", "cause", "body",
    "violations", "fieldViolations", "content_filter_result", "base_resp", "data", "fault",
)  # fmt: skip
_DECODER: Final = json.JSONDecoder()
_TITLE: Final = re.compile(r"<title[^<>]{0,100}>([^<]{1,200})", re.IGNORECASE)

_BY_STATUS: Final[Mapping[int, Reason]] = {
    401: Reason.PROVIDER_AUTH,
    402: Reason.PROVIDER_QUOTA,
    403: Reason.PROVIDER_AUTH,
    404: Reason.MODEL_NOT_FOUND,
    405: Reason.MODEL_NOT_FOUND,
    407: Reason.PROVIDER_AUTH,
    408: Reason.PROVIDER_UNREACHABLE,
    410: Reason.MODEL_NOT_FOUND,
    413: Reason.CONTEXT_TOO_LONG,
    # TGI and Bedrock: the model failed while it was making the answer.
    424: Reason.PROVIDER_FAILED,
    425: Reason.PROVIDER_UNREACHABLE,
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
    "system_role": "messages",
    "output_config": "response_format",
    "response_schema": "response_format",
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
_DETAIL_CHARS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class ErrorWords:
    """The endpoint's own words, as far as it said any."""

    code: str = ""
    """The first `code`; for people and for the status in a 200."""
    codes: frozenset[str] = frozenset()
    """All words of the kinds `code`, `type` and `status`, in lower case."""
    message: str = ""
    """What was said in prose, the outer words first."""
    param: str = ""
    generated: str | None = None
    """What the model made, where the endpoint calls it invalid and shows it."""
    retry_after_ms: int | None = None
    """What the body asks callers to wait."""
    is_page: bool = False
    """Whether it was a page for people, a proxy's or a web server's, not an answer of an API."""


@dataclass(slots=True)
class _Gathered:
    codes: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    params: list[str] = field(default_factory=list)
    generated: str | None = None
    retry_delay: str = ""
    nodes: int = 0

    def visit(self, node: object, depth: int = 0) -> None:
        self.nodes += 1
        if depth > _DEPTH_MAX or self.nodes > _NODES_MAX:
            return
        if isinstance(node, str):
            self._visit_text(node, depth)
        elif isinstance(node, list):
            for each in node[:_LIST_MAX]:
                self.visit(each, depth + 1)
        elif isinstance(node, dict):
            self._visit_object(node, depth)

    def _visit_text(self, text: str, depth: int) -> None:
        # Gateways put the body that they got, as text, into the message of their own.
        brace = min((at for at in (text.find("{"), text.find("[{")) if at >= 0), default=-1)
        if brace >= 0 and len(text) <= _NESTED_JSON_CHARS_MAX:
            inner = _json_at(text, brace)
            # `messages[0]` is no JSON.
            if isinstance(inner[0] if isinstance(inner, list) and inner else inner, dict):
                if text[:brace].strip():
                    self.messages.append(text[:brace].strip()[:_MESSAGE_CHARS_MAX])
                self.visit(inner, depth + 1)
                return
        if text.strip():
            self.messages.append(text.strip()[:_MESSAGE_CHARS_MAX])

    def _visit_object(self, node: Mapping[Any, Any], depth: int) -> None:
        for key in _CODE_KEYS:
            word = _word(node.get(key))
            if word:
                self.codes.append(word)
        for key in _PARAM_KEYS:
            value = node.get(key)
            steps = value if isinstance(value, list) else [value]
            path = ".".join(word for step in steps[:_LIST_MAX] if (word := _word(step)))
            if path:
                self.params.append(path)
        generated = node.get("failed_generation")
        if isinstance(generated, str) and self.generated is None:
            self.generated = generated[:_GENERATED_CHARS_MAX]
        delay = node.get("retryDelay")
        if isinstance(delay, str) and not self.retry_delay:
            self.retry_delay = delay[:40]
        flagged = node.get("filtered")
        if flagged is True:
            self.codes.append("content_filter")
        for key in _MESSAGE_KEYS:
            value = node.get(key)
            if isinstance(value, str):
                self._visit_text(value, depth)
        for key in _INNER_KEYS:
            value = node.get(key)
            if isinstance(value, dict | list):
                self.visit(value, depth + 1)


def error_words(answer: object) -> ErrorWords:
    """Return the words of an error body: an object, an array, a text; nested in any of the ways that endpoints have."""
    is_page = isinstance(answer, str) and answer.lstrip()[:1] == "<"
    gathered = _Gathered()
    if isinstance(answer, str) and is_page:
        title = _TITLE.search(answer[:20_000])
        gathered.messages.append(title[1].strip() if title else "a page, not JSON")
    else:
        gathered.visit(answer)
    messages = list(dict.fromkeys(gathered.messages))
    text = " / ".join(messages)[:_MESSAGE_CHARS_MAX]
    # What a client wraps around names the class before the words: "litellm.ContextWindowExceededError: …".
    codes = [*gathered.codes, *(each for message in messages if (each := _class_name(message)))]
    return ErrorWords(
        code=next((each for each in codes if each), ""),
        codes=frozenset(each.lower().rpartition("#")[2] for each in codes),
        message=text,
        param=next(iter(gathered.params), ""),
        generated=gathered.generated,
        retry_after_ms=read_retry_after_ms({}, f"retry in {gathered.retry_delay}" if gathered.retry_delay else text),
        is_page=is_page,
    )


def from_http(
    status: int,
    words: ErrorWords,
    headers: Mapping[str, str],
    *,
    hidden: str | Sequence[str],
    rules: tuple[ErrorRule, ...] = (),
    path: str = "",
) -> UpstreamFault:
    """Return the fault that an HTTP status and an error's words stand for.

    A 200 with an error takes the status from its `code`, where that is one. `hidden` are the keys, which an endpoint
    might quote; `rules` are the operator's own; `path` is what was asked for, for the hint at a 404.
    """
    if status == 200:
        status = _status_within(words) or status
    table = rules_with(rules)
    meaning = table.first(status, words.codes, plain(words.message), words.param)
    by_status = meaning is None
    if meaning is None:
        meaning = Meaning(_reason_of(status), "", None, None, malformed=False)
    reason = meaning.reason
    refused = reason in _REFUSED_FOR_NOW
    billed = (
        reason in {Reason.PROVIDER_FAILED, Reason.PROVIDER_BAD_ANSWER} if meaning.billed is None else meaning.billed
    )
    repeatable = refused or reason is Reason.PROVIDER_FAILED if meaning.repeat is None else meaning.repeat
    wait_ms = read_retry_after_ms(headers)
    bad_request = reason is Reason.BAD_REQUEST
    hint = _hint(status, path if by_status or words.is_page else "")
    return UpstreamFault(
        reason,
        billed=billed,
        repeatable=repeatable and headers.get("x-should-retry") != "false",
        retry_after_ms=(words.retry_after_ms if wait_ms is None else wait_ms) if refused else None,
        detail=_detail(status, words, hidden) + hint,
        unquoted=f"HTTP {status}{hint}",
        field=_field(words, meaning.unsupported or table.parameter_at(words.param)) if bad_request else "",
        unsupported=meaning.unsupported if bad_request and not billed else "",
        generated=words.generated or "" if meaning.malformed else None,
    )


def _status_within(words: ErrorWords) -> int | None:
    """Return the HTTP status that an error inside a 200 names."""
    numbers = [
        int(word) for word in (words.code, *words.codes) if word.isascii() and word.isdecimal() and len(word) == 3
    ]
    return next((number for number in numbers if 400 <= number < 600), None)


def _reason_of(status: int) -> Reason:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return Reason.BAD_REQUEST
    # Neither an answer nor a refusal: a redirect, an empty 204, a proxy's page.
    return Reason.PROVIDER_BAD_ANSWER if 200 < status < 400 else Reason.PROVIDER_FAILED


def _field(words: ErrorWords, parameter: str) -> str:
    # OpenAI names the field in `param`, Anthropic at the head of its message: "temperature: may not be …".
    named = parameter or words.param or words.message.partition(":")[0][:64]
    name = re.split(r"[.\[]", named.removeprefix("body."), maxsplit=1)[0]
    name = _FIELDS.get(name, name)
    return name if name in _REQUEST_FIELDS else ""


def _class_name(message: str) -> str:
    """`ContextWindowExceededError` of "litellm.ContextWindowExceededError: …"."""
    head, colon, _ = message[:120].partition(":")
    name = head.rpartition(".")[2].strip()
    return name if colon and name.isidentifier() and name.endswith(("Error", "Exception")) else ""


def _word(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)[:_WORD_CHARS_MAX] if isinstance(value, str) or abs(value) < 10**18 else ""


def _json_at(text: str, at: int) -> object:
    """Return the JSON that begins at `at`, whatever follows it; None where there is none."""
    try:
        return _DECODER.raw_decode(text, at)[0]
    except (ValueError, RecursionError):
        return None


def _detail(status: int, words: ErrorWords, hidden: str | Sequence[str]) -> str:
    # Masked before it is cut: the cut would leave a key that nothing recognises.
    text = masked(f"HTTP {status} {words.code} {words.message}", *((hidden,) if isinstance(hidden, str) else hidden))
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())[:_DETAIL_CHARS_MAX]


def _hint(status: int, path: str) -> str:
    """Return what an operator may have got wrong where the endpoint knows nothing at `path`."""
    if status not in {404, 405} or not path:
        return ""
    where = f" (POST {path[:120]}"
    if "/v1/v1/" in path:
        return f"{where}: base_url may have one /v1 too many)"
    if re.search(r"/v\d", path) is None:
        return f"{where}: base_url may lack /v1)"
    return f"{where}: is base_url right?)"
