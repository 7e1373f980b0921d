"""The domain of chatd: a conversation that goes to a model, and the answer that comes back. No grpc, no HTTP.

What is made for every request is a NamedTuple: as unchangeable as a frozen dataclass, at half its price.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

# The longest answer, in UTF-8 bytes: of the text, of the reasoning, and of the tool calls together.
ANSWER_BYTES_MAX: Final = 1024 * 1024


class Delta(NamedTuple):
    """A piece of an answer in the making."""

    text: str = ""
    reasoning: str = ""


OnDelta = Callable[[Delta], Awaitable[None]]
"""Hears each piece as it arrives. What it raises ends the call: the listener is gone."""

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model's wish to call a function."""

    id: str
    name: str
    arguments_json: str
    """As the model wrote it: JSON text, not checked."""


class Message(NamedTuple):
    """One turn."""

    role: Role
    content: str
    tool_call_id: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    restricted_content: str = ""
    """For system and user turns: what stands in the place of `content` for a target that may see candidates. "": the
    same for all."""


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A function that the model may call."""

    name: str
    description: str
    parameters_json: str
    """Its parameters: a JSON Schema as canonical JSON text."""


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The form that the answer must have, as far as the provider can be asked for it."""

    form: Literal["json_object", "json_schema"]
    schema_json: str = ""
    """For json_schema: the schema as canonical JSON text."""
    schema_name: str = ""
    restricted_schema_json: str = ""
    """For json_schema: what stands in its place for a target that may see candidates and can bear it. "": nothing."""
    strict: bool = False
    """As it is sent: whether the endpoint is asked to hold the answer to the schema."""
    dialect: str = ""
    """As it is sent: the dialect of the schema."""


class SentFormat(NamedTuple):
    """What of a request's form and restricted content one target is sent."""

    form: Literal["text", "json_object", "json_schema"] = "text"
    schema: Literal["", "none", "plain", "restricted"] = ""
    """"": none was asked for."""
    dialect: str = ""
    restricted_content: bool = False
    degraded: Literal["", "MAY_NOT_SEE", "TOO_LARGE", "NOT_BORNE", "REFUSED"] = ""
    """Why it is less than what was asked for."""

    @property
    def shows_restricted(self) -> bool:
        """Whether anything restricted is in it."""
        return self.restricted_content or self.schema == "restricted"


class Form(NamedTuple):
    """How a request is put for one model of one HTTP endpoint; see ``adaptation``, which makes it."""

    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stream: bool = False
    """Ask for a stream although nobody listens."""
    stream_usage: bool = True
    """Ask for the usage at a stream's end (`stream_options`)."""
    extra_body: Mapping[str, Any] = MappingProxyType({})
    """Further fields of the body."""


PLAIN_FORM: Final = Form()


class CompletionRequest(NamedTuple):
    """One conversation and how to answer it. None and "" leave the choice to the provider."""

    messages: tuple[Message, ...]
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    response_format: ResponseFormat | None = None
    tools: tuple[ToolDefinition, ...] = ()
    tool_choice: str = ""
    attempt: int = 1
    """Which attempt of a session this is, from 1."""
    form: Form = PLAIN_FORM
    restricted: bool = False
    """Whether anything of it is restricted. Never in a request as a provider gets it."""
    sent_format: SentFormat | None = None
    """What of its form and its restricted content stands in it: known once a target is. None: it has neither."""


class FinishReason(StrEnum):
    """Why an answer ended."""

    UNSPECIFIED = "unspecified"
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    """The model declined; the text is what it said before that, if anything."""
    MALFORMED = "malformed"
    """The provider says that the model made no valid output; the text is what it made, where the provider shows it."""


class Usage(NamedTuple):
    """Tokens as the provider counted them; 0 where it did not say."""

    input_tokens: int = 0
    """Cached ones included."""
    output_tokens: int = 0
    """Reasoning included."""
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    """Of `input_tokens`: written to the provider's cache."""


class Completion(NamedTuple):
    """A model's whole answer."""

    text: str
    model: str
    """As the provider named it; the one asked for where it did not."""
    sent: float
    """When the request was sent, `time.monotonic()`."""
    first_token: float
    """When the first text was there, `time.monotonic()`; the whole answer where it was not streamed."""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()
    finish_reason: FinishReason = FinishReason.UNSPECIFIED
    text_from_reasoning: bool = False
    """The endpoint gave its answer as reasoning alone; `text` repeats it."""

    async def hand_to(self, on_delta: OnDelta) -> None:
        """Give a listener the answer of an endpoint that made it in one go."""
        if self.reasoning:
            await on_delta(Delta(reasoning=self.reasoning))
        if self.text:
            await on_delta(Delta(text=self.text))


class Listener:
    """Hands the pieces of one RPC's answer on, and remembers that there were any: after that nothing is repeated."""

    def __init__(self, on_delta: OnDelta) -> None:
        self._on_delta = on_delta
        self.heard = False

    async def __call__(self, delta: Delta) -> None:
        self.heard = True
        await self._on_delta(delta)


def fits(text: str) -> bool:
    """Whether `text` is within ANSWER_BYTES_MAX as UTF-8."""
    if len(text) * 4 <= ANSWER_BYTES_MAX:
        return True
    return len(text) <= ANSWER_BYTES_MAX and len(text.encode()) <= ANSWER_BYTES_MAX
