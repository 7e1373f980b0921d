"""A script: the replies of the scripted provider, in a TOML file that a person reads and writes.

    [[replies]]
    attempt = 1                  # only for this attempt of a session; left out: for any
    attempt_from = 2             # only for this attempt and later ones
    contains = "forklift"        # only where the text looked at contains this, whatever the case
    matches = "(?i)toledo"       # only where this regular expression is found in it
    look_in = "last_user"        # the text looked at: the last user turn, or the whole "conversation"
    text = "..."                 # the answer, word for word: JSON, prose around it, code fences, nonsense
    from_schema = true           # in place of a text: the first and least JSON that fits the schema that was sent
    reasoning = "..."            # kept apart from it
    finish_reason = "stop"       # stop, length, tool_calls, content_filter
    delay_ms = 50                # before the answer begins
    delta_ms = 5                 # between the words of a streamed answer
    hang = true                  # never answers
    error = "PROVIDER_FAILED"    # fails with this reason in place of an answer
    retry_after_ms = 1000        # what the failure asks to wait
    input_tokens = 12            # usage; left out: the words of the conversation
    output_tokens = 34           # usage; left out: the words of the answer

The first reply that fits is given. One with `from_schema` fits only where a schema was sent that JSON can be made of
(`least_artifact.py` says how): it stands for a model that keeps to what it was shown.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from chatd.completion import CompletionRequest, FinishReason, ResponseFormat
from chatd.providers.least_artifact import NoArtifactError, least_artifact
from lakehouse.errors import Reason
from lakehouse.settings import ConfigError, Milliseconds, Table

# Regular expressions see this much of a conversation's end: they are the operator's, the conversation is not.
_MATCH_CHARS_MAX: Final = 64 * 1024
_ERRORS: Final = frozenset(
    reason
    for reason in Reason
    if reason.startswith("PROVIDER_") or reason in {"MODEL_NOT_FOUND", "CONTEXT_TOO_LONG", "CONTENT_FILTERED"}
)

Tokens = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Reply(Table):
    """One reply and when it is given; see the module."""

    attempt: Annotated[int, Field(ge=1)] | None = None
    attempt_from: Annotated[int, Field(ge=1)] | None = None
    contains: str = ""
    matches: str = ""
    look_in: Literal["last_user", "conversation"] = "last_user"
    text: str = ""
    from_schema: bool = False
    reasoning: str = ""
    finish_reason: FinishReason = FinishReason.STOP
    delay_ms: Milliseconds = 0
    delta_ms: Milliseconds = 0
    hang: bool = False
    error: Reason | None = None
    retry_after_ms: Milliseconds | None = None
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    cached_input_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0

    @field_validator("matches")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.error is not None and self.error not in _ERRORS:
            raise ValueError(f"error: one of {', '.join(sorted(_ERRORS))}")
        if (self.text or self.hang or self.from_schema) and self.error is not None:
            raise ValueError("a reply has a text, or hangs, or has an error")
        if self.from_schema and (self.text or self.hang):
            raise ValueError("a reply is made from_schema, or has a text, or hangs")
        return self

    def fits(self, attempt: int, last_user: str, conversation: str) -> bool:
        """Whether this reply is for such a request."""
        if self.attempt is not None and attempt != self.attempt:
            return False
        if self.attempt_from is not None and attempt < self.attempt_from:
            return False
        text = last_user if self.look_in == "last_user" else conversation
        if self.contains and self.contains.casefold() not in text.casefold():
            return False
        return not self.matches or re.search(self.matches, text[-_MATCH_CHARS_MAX:]) is not None


class Script(Table):
    """The replies, in the order in which they are tried."""

    replies: Annotated[tuple[Reply, ...], Field(min_length=1, max_length=10_000)]

    def reply_to(self, request: CompletionRequest) -> Reply | None:
        """Return the first reply that fits, or None; one that is made from the schema has its text then."""
        last_user = next((each.content for each in reversed(request.messages) if each.role == "user"), "")
        conversation = "\n".join(each.content for each in request.messages)
        for reply in self.replies:
            if not reply.fits(request.attempt, last_user, conversation):
                continue
            if not reply.from_schema:
                return reply
            text = _made_of(request.response_format)
            if text:
                return reply.model_copy(update={"text": text})
        return None


def _made_of(wanted: ResponseFormat | None) -> str:
    """JSON that fits the schema that was sent; "" where none was, or none is found."""
    if wanted is None or not wanted.schema_json:
        return ""
    try:
        return least_artifact(wanted.schema_json)
    except NoArtifactError:
        return ""


def load_script(file: Path) -> Script:
    """Return the script in `file`. Raises ConfigError with every problem."""
    try:
        return Script.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError([f"script {file}: {error.strerror}"]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([f"script {file}: not TOML: {error}"]) from None
    except ValidationError as error:
        raise ConfigError(
            [
                f"script {file}: {'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
                for each in error.errors(include_input=False, include_url=False)
            ]
        ) from None
