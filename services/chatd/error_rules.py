"""``ErrorRule``: what an endpoint's error means, as data: the package's table and an operator's own lines alike.

Words are no regular expressions: a phrase is text of which the parts between `*` must stand in the message in that
order, so that no phrase and no message can make the search slow.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from lakehouse.errors import Reason
from lakehouse.settings import Table

_Word = Annotated[str, Field(min_length=1, max_length=200)]
_ReasonName = Literal[
    "BAD_REQUEST",
    "PROVIDER_AUTH",
    "PROVIDER_QUOTA",
    "MODEL_NOT_FOUND",
    "CONTEXT_TOO_LONG",
    "CONTENT_FILTERED",
    "PROVIDER_RATE_LIMITED",
    "PROVIDER_UNREACHABLE",
    "PROVIDER_FAILED",
    "PROVIDER_BAD_ANSWER",
]
_Unsupported = Literal[
    "",
    "named",
    "temperature",
    "top_p",
    "seed",
    "stop",
    "max_tokens",
    "response_format",
    "response_schema",
    "stream_options",
    "system_role",
    "stream_only",
    "tools",
    "tool_choice",
    "logprobs",
]
# Bounded, so that a search is linear in the message.
_NUMBER: Final = r"[0-9][0-9,._]{0,24}"
_ONE_WORD: Final = r"[^ ]{1,256}"
_QUOTES: Final = str.maketrans(
    dict.fromkeys("'\"`\u00b4\u2018\u2019\u201c\u201d\\*", None) | dict.fromkeys("[]{}", " ")
)


class ErrorRule(Table):
    """One line of the table: what must be true of an error, and what the error then means.

    Of `status`, `code` and `words` all that are given must fit, each by any one of its values. Without regard to case
    and quotation marks.
    """

    reason: _ReasonName
    status: Annotated[tuple[Annotated[int, Field(ge=100, le=599)], ...], Field(max_length=32)] = ()
    """The HTTP status; of an error inside a 200 the one that it names."""
    code: Annotated[tuple[_Word, ...], Field(max_length=100)] = ()
    """The error's `code`, `type` or `status` word."""
    words: Annotated[tuple[_Word, ...], Field(max_length=100)] = ()
    """Phrases of the message. `*` stands for anything, `{number}` for a number, `{word}` for one word, `{parameter}`
    for the name of a request parameter."""
    unless_code: Annotated[tuple[_Word, ...], Field(max_length=100)] = ()
    """Where one of these stands too, the rule does not fit."""
    unless_words: Annotated[tuple[_Word, ...], Field(max_length=100)] = ()
    unsupported: _Unsupported = ""
    """For BAD_REQUEST: what the endpoint cannot bear, so that the call may be made without it; `named`: what `param` or
    `{parameter}` names."""
    repeat: bool | None = None
    """Whether the same call may succeed a moment later. None: for rate limits and overload."""
    billed: bool | None = None
    """Whether the call may have been billed. None: for PROVIDER_FAILED and PROVIDER_BAD_ANSWER."""
    malformed: bool = False
    """The model did answer, and the endpoint calls the answer invalid: an answer with the finish reason MALFORMED."""

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if not (self.status or self.code or self.words):
            raise ValueError("say when it fits: status, code or words")
        for phrase in (*self.words, *self.unless_words):
            if not any(plain(part).strip() for part in _PLACEHOLDERS.sub("", phrase).split("*")):
                raise ValueError(f"{phrase[:40]!r}: must hold some words")
        if self.unsupported and self.reason != "BAD_REQUEST":
            raise ValueError("unsupported is for BAD_REQUEST")
        return self


_PLACEHOLDERS: Final = re.compile(r"(\{number\}|\{word\}|\{parameter\})")


class Meaning(NamedTuple):
    """What a rule says of an error."""

    reason: Reason
    unsupported: str
    repeat: bool | None
    billed: bool | None
    malformed: bool


class Parameters:
    """The names under which endpoints know what a request may hold, and our one name for each."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._neutral = {alias: neutral for neutral, aliases in names.items() for alias in aliases}
        longest_first = sorted(self._neutral, key=len, reverse=True)
        alternatives = "|".join(re.escape(alias) for alias in longest_first)
        self.pattern = rf"(?<![a-z0-9_])({alternatives})(?:\.[a-z0-9_]{{1,40}}){{0,2}}(?![a-z0-9_])"

    def neutral(self, alias: str) -> str:
        """Our name of it; "" where it is no known parameter."""
        return self._neutral.get(alias, "")

    def at(self, path: str) -> str:
        """Our name of the parameter at `path`, such as `body.response_format.type`; "" where there is none."""
        steps = [step for step in re.split(r"[.\[\]/]", plain(path[:200])) if step not in {"", "body", "query"}]
        name = steps[0].strip() if steps else ""
        if name == "response_format" and "json_schema" in steps:
            return "response_schema"
        return self.neutral(name)


class ErrorRules:
    """Rules in the order in which they are asked."""

    def __init__(self, rules: Sequence[ErrorRule], parameters: Parameters) -> None:
        self._parameters = parameters
        self._rules = [_Compiled(rule, parameters) for rule in rules]

    def first(self, status: int, codes: frozenset[str], message: str, param: str) -> Meaning | None:
        """Return what the first rule that fits says; None where none fits.

        `codes` are in lower case, `message` is `plain`.
        """
        for rule in self._rules:
            meaning = rule.fits(status, codes, message, param)
            if meaning is not None:
                return meaning
        return None

    def parameter_at(self, path: str) -> str:
        """See ``Parameters.at``."""
        return self._parameters.at(path)


class _Compiled:
    def __init__(self, rule: ErrorRule, parameters: Parameters) -> None:
        self._rule = rule
        self._parameters = parameters
        self._status = frozenset(rule.status)
        self._code = frozenset(each.lower() for each in rule.code)
        self._unless_code = frozenset(each.lower() for each in rule.unless_code)
        self._words = [_phrase(each, parameters.pattern) for each in rule.words]
        self._unless_words = [_phrase(each, parameters.pattern) for each in rule.unless_words]

    def fits(self, status: int, codes: frozenset[str], message: str, param: str) -> Meaning | None:
        rule = self._rule
        if self._status and status not in self._status:
            return None
        if self._code and self._code.isdisjoint(codes):
            return None
        if self._unless_code and not self._unless_code.isdisjoint(codes):
            return None
        alias: str | None = ""
        if self._words:
            alias = next((found for phrase in self._words if (found := _find(phrase, message)) is not None), None)
            if alias is None:
                return None
        if any(_find(phrase, message) is not None for phrase in self._unless_words):
            return None
        unsupported: str = rule.unsupported
        if unsupported == "named":
            # The words name it more finely than the field: `json_schema` of a `response_format`.
            parameters = self._parameters
            unsupported = parameters.neutral(alias or "") or parameters.at(param) or _field_at(param)
        return Meaning(Reason(rule.reason), unsupported, rule.repeat, rule.billed, rule.malformed)


def _field_at(path: str) -> str:
    """Return the endpoint's own name of a field that is none of ours, as an operator's `extra_body` may hold it."""
    name = plain(path[:200]).removeprefix("body.").partition(".")[0]
    return name if name.isidentifier() and name not in {"messages", "none", "body"} else ""


_Phrase = list[str | re.Pattern[str]]


def _phrase(text: str, parameter_pattern: str) -> _Phrase:
    parts: _Phrase = []
    for part in text.split("*"):
        pieces = _PLACEHOLDERS.split(part)
        if len(pieces) == 1:
            parts.append(_plain_part(part))
            continue
        known = {"{number}": _NUMBER, "{word}": _ONE_WORD, "{parameter}": parameter_pattern}
        parts.append(re.compile("".join(known.get(piece) or re.escape(_plain_part(piece)) for piece in pieces)))
    return [part for part in parts if part]


def _find(phrase: _Phrase, message: str) -> str | None:
    """None where `phrase` is not in `message`; else the parameter's name in it, or ""."""
    at = 0
    alias = ""
    for part in phrase:
        if isinstance(part, str):
            at = message.find(part, at)
            if at < 0:
                return None
            at += len(part)
            continue
        match = part.search(message, at)
        if match is None:
            return None
        at = match.end()
        if match.re.groups:
            alias = match[1]
    return alias


def plain(text: str) -> str:
    """`text` in lower case, without quotation marks, with single spaces."""
    return " ".join(text.lower().translate(_QUOTES).split())


def _plain_part(text: str) -> str:
    # A space at a part's edge is meant: it keeps `limit: 0 ` apart from `limit: 05`.
    made = plain(text)
    return f"{' ' * text.startswith(' ')}{made}{' ' * (text.endswith(' ') and bool(made))}"


@cache
def _packaged() -> tuple[tuple[ErrorRule, ...], Parameters]:
    text = resources.files("chatd.providers").joinpath("upstream_errors.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    return tuple(ErrorRule.model_validate(each) for each in table["errors"]), Parameters(table["parameters"])


@cache
def packaged_rules() -> tuple[ErrorRule, ...]:
    """Return the rules of the package's table, in order."""
    return _packaged()[0]


@cache
def rules_with(own: tuple[ErrorRule, ...]) -> ErrorRules:
    """Return an operator's `own` rules, then the package's."""
    rules, parameters = _packaged()
    return ErrorRules((*own, *rules), parameters)
