"""JSON from a model endpoint: fast where it is sound, forgiving in what endpoints do: a byte order mark, the half of a
surrogate pair, integers beyond 64 bits, NaN and Infinity.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson

from lakehouse.strict_json.rules import replace_surrogates_within

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# orjson reads such an integer as a double. Only what a tool is called with is printed as JSON again: only there it
# counts.
_LONG_INTEGER: Final = re.compile(rb"\d{19}")


# Python's own names of what is no number: servers of models write them among logprobs and usage.
_NO_NUMBER: Final = re.compile(rb"[\s:,\[](?:NaN|-?Infinity)\s*[,\]}]")


class NotJsonError(ValueError):
    """The bytes are not a JSON object in UTF-8; the text says why, without quoting them."""


def read_object(body: bytes) -> dict[str, Any]:
    r"""Return the object in `body`. A lone surrogate escape (`\ud83d`, an emoji that was cut in two) becomes U+FFFD.

    Raises NotJsonError, for broken UTF-8 too: replacing it could turn a wrong answer into another wrong one unseen.
    """
    value = _read(body)
    if value is None:
        value = replace_surrogates_within(_read_exactly(body))
    return _object(value)


def read_piece(body: bytes) -> dict[str, Any]:
    """As `read_object`, but lone surrogates stay: the other half may be in the next piece. See `mend_surrogates`."""
    value = _read(body)
    return _object(_read_exactly(body) if value is None else value)


def print_json(value: object) -> str:
    """`value`, as `read_object` gave it, as compact JSON text; integers keep every digit."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def mend_surrogates(text: str) -> str:
    """`text` with the halves of a pair joined and each lone one as U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _read(body: bytes) -> Any:
    """Return the value; None where it has to be read exactly."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not body.startswith(BYTE_ORDER_MARK) and b"\\ud" not in body.lower() and not _NO_NUMBER.search(body):
            raise NotJsonError("not JSON" if body.strip() else "empty") from error
        return None
    return None if _calls_tools(value) and _LONG_INTEGER.search(body) else value


def _calls_tools(value: Any) -> bool:
    """Whether an answer, or a piece of one, in OpenAI's or Anthropic's form calls a tool."""
    if not isinstance(value, dict):
        return False
    choices = value.get("choices")
    if not isinstance(choices, list):
        content = value.get("content")
        blocks = content if isinstance(content, list) else [value.get("content_block")]
        return any(isinstance(block, dict) and block.get("type") == "tool_use" for block in blocks)
    for choice in choices:
        turn = (choice.get("message") or choice.get("delta")) if isinstance(choice, dict) else None
        # Content that is no text may be an object that comes back as JSON as well.
        if isinstance(turn, dict) and (
            turn.get("tool_calls") or turn.get("function_call") or isinstance(turn.get("content"), dict | list)
        ):
            return True
    return False


def _read_exactly(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise NotJsonError("not JSON") from error


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, list) and len(value) == 1:
        # An array of one object: Gemini's errors.
        value = value[0]
    if not isinstance(value, dict):
        raise NotJsonError("not a JSON object")
    return value
