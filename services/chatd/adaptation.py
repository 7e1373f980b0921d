"""``Adapter``: makes of a neutral request what a model of an endpoint bears, by configuration and by what it has
refused.

The rule of healing. A refusal that was not billed and names something that the endpoint cannot bear is answered by one
more request without it, at once: one for each thing, at most `REPEATS_MAX` a call, outside the retry budget, and only
before a piece of an answer was heard. Messages, tools and stop strings are never left out, and `max_tokens` takes its
other name but is never dropped: the answer would be another. What has helped is remembered for an hour.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from chatd.abilities import ANTHROPIC, NEWER_ANTHROPIC, Abilities, AbilitiesTable, MaxTokensField, abilities_of
from chatd.completion import CompletionRequest, Form, Message, ResponseFormat, SentFormat
from chatd.config import AnthropicTable, HttpProviderTable, OpenAiTable, ProviderTable
from chatd.schemas.put_format import Put, Rung, put_format
from chatd.upstream_fault import UpstreamFault

REPEATS_MAX: Final = 4
REMEMBERED_S: Final = 3600.0
REMEMBERED_MAX: Final = 1024

# What is done about each thing; the names stand in log lines and spans.
_DROPPED: Final = frozenset({"temperature", "top_p", "seed"})
# Restricted schemas are all of one make.
_SCHEMA_TO_PLAIN: Final = "response_schema=plain"
# With the schema's digest: that one schema of a caller is refused says nothing about the next.
_SCHEMA_TO_OBJECT: Final = "response_schema=json_object:"
_FORMAT_DROPPED: Final = "response_format"
_UNSAID: Final = SentFormat()


class AdaptationMemory:
    """What has helped, by (provider, model, step), for REMEMBERED_S; at most REMEMBERED_MAX, the longest unused go."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, str], dict[str, float]] = OrderedDict()
        self.by_model: Mapping[tuple[str, str], Mapping[str, float]] = self._known
        """All of it, old and new; empty where there is nothing to ask for."""

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def known(self, provider: str, model: str) -> tuple[str, ...]:
        """Return the steps that help this model, in the order in which they were found."""
        steps = self._known.get((provider, model))
        if steps is None:
            return ()
        self._known.move_to_end((provider, model))
        now = self._clock()
        for step in [step for step, until in steps.items() if until <= now]:
            del steps[step]
        if not steps:
            del self._known[provider, model]
        return tuple(steps)

    def remember(self, provider: str, model: str, step: str) -> None:
        """Keep a step that has helped."""
        steps = self._known.setdefault((provider, model), {})
        steps[step] = self._clock() + REMEMBERED_S
        self._known.move_to_end((provider, model))
        while len(self) > REMEMBERED_MAX:
            self._known.popitem(last=False)

    def forget(self, provider: str, model: str, step: str) -> None:
        """Drop a step that helps no longer."""
        self._known.get((provider, model), {}).pop(step, None)


class Adapter:
    """Adapts the requests of one provider."""

    def __init__(
        self,
        provider: str,
        abilities: Abilities,
        models: Mapping[str, Abilities],
        memory: AdaptationMemory,
        *,
        names_max_tokens: bool,
    ) -> None:
        """`abilities` are those of all models but `models`; `names_max_tokens`: whether the limit has two names
        there."""
        self._provider = provider
        self._abilities = abilities
        self._models = models
        self._memory = memory
        self._names_max_tokens = names_max_tokens

    def known(self, model: str) -> tuple[str, ...]:
        """Return the steps that are remembered of `model`."""
        # Nearly always there is nothing to remember of anybody.
        return self._memory.known(self._provider, model) if self._memory.by_model else ()

    def adapt(self, request: CompletionRequest, model: str, steps: tuple[str, ...] = ()) -> CompletionRequest:
        """`request`, as its target may see it, as `model` bears it, with `steps` taken beyond its configuration."""
        abilities = self._models.get(model, self._abilities) if self._models else self._abilities
        if not (abilities.drop or steps or request.response_format is not None) and abilities.system_role:
            return request if abilities.form is request.form else request._replace(form=abilities.form)
        changed: dict[str, Any] = {name: None for name in _DROPPED if name in abilities.drop or name in steps}
        if "max_tokens" in abilities.drop:
            changed["max_tokens"] = None
        if "stop" in abilities.drop:
            changed["stop"] = ()
        if "tool_choice" in abilities.drop or "tool_choice" in steps:
            changed["tool_choice"] = ""
        if request.response_format is not None:
            put = _format(request.response_format, request.sent_format or _UNSAID, abilities, steps)
            changed["response_format"], changed["sent_format"] = put
        if (not abilities.system_role) or "system_role" in steps:
            changed["messages"] = fold_system(request.messages)
        return request._replace(**changed, form=_form(abilities.form, steps))

    def next_step(
        self, name: str, request: CompletionRequest, model: str, steps: tuple[str, ...], *, streamed: bool
    ) -> str:
        """Return what to do about `name` in the request that was sent with `steps`; "" where there is nothing."""
        sent = self.adapt(request, model, steps)
        form = sent.form
        if name in _DROPPED and getattr(sent, name) is not None:
            return name
        if name == "tool_choice" and sent.tool_choice == "auto":
            return name
        if name == "max_tokens" and sent.max_tokens is not None and self._names_max_tokens:
            return name
        if name == "stream_options" and (streamed or form.stream) and form.stream_usage:
            return name
        if name == "stream_only" and not (streamed or form.stream):
            return name
        if name == "system_role" and any(each.role == "system" for each in sent.messages):
            return name
        if name in {"response_schema", "response_format"} and sent.response_format is not None:
            wanted = sent.response_format
            if wanted.form != "json_schema" or request.response_format is None:
                return _FORMAT_DROPPED
            restricted = sent.sent_format is not None and sent.sent_format.schema == "restricted"
            return _SCHEMA_TO_PLAIN if restricted else _to_object(request.response_format)
        return f"extra_body.{name}" if name in form.extra_body else ""

    def remember(self, model: str, steps: tuple[str, ...]) -> None:
        """Keep steps that have helped."""
        for step in steps:
            self._memory.remember(self._provider, model, step)

    def forget(self, model: str, step: str) -> None:
        """Drop a step that helps no longer."""
        self._memory.forget(self._provider, model, step)


def open_adapter(provider: str, table: ProviderTable, memory: AdaptationMemory) -> Adapter | None:
    """Return the adapter of a configured provider; None where its requests go as they are."""
    if not isinstance(table, HttpProviderTable):
        return None

    vendor = None
    if isinstance(table, AnthropicTable):
        vendor = NEWER_ANTHROPIC if table.refuses_sampling else ANTHROPIC

    def abilities(model: AbilitiesTable | None) -> Abilities:
        return abilities_of(
            table.base_url,
            table,
            model,
            vendor=vendor,
            stream_usage=isinstance(table, OpenAiTable) and table.stream_usage,
            json_mode=table.json_mode,
            has_json_object=isinstance(table, OpenAiTable),
            strict=isinstance(table, OpenAiTable) and table.json_schema_strict,
        )

    return Adapter(
        provider,
        abilities(None),
        {name: abilities(model) for name, model in table.models.items()},
        memory,
        names_max_tokens=isinstance(table, OpenAiTable),
    )


class Healing:
    """One call's steps, from its first refusal on."""

    def __init__(self, adapter: Adapter, request: CompletionRequest, model: str, *, streamed: bool) -> None:
        self._adapter = adapter
        self._request = request
        self._model = model
        self._streamed = streamed
        self._repeats = 0
        self._key_changed = False
        self._remembered = adapter.known(model)
        self.steps = self._remembered
        """All steps that the next request takes."""

    def again(self, fault: UpstreamFault) -> CompletionRequest | None:
        """Return the request to repeat at once after `fault`; None where nothing is to be done about it."""
        if fault.billed:
            return None
        spent = self._repeats >= REPEATS_MAX
        if fault.key_changed and not self._key_changed:
            self._key_changed = True
        elif fault.unsupported:
            step = self._adapter.next_step(
                fault.unsupported, self._request, self._model, self.steps, streamed=self._streamed
            )
            if not step:
                return None
            if step in self._remembered and step in self.steps:
                # The endpoint has changed its mind: what helped an hour ago is what it refuses now.
                self._adapter.forget(self._model, step)
                self._remembered = tuple(each for each in self._remembered if each != step)
                self.steps = tuple(each for each in self.steps if each != step)
            elif step in self.steps:
                return None
            else:
                # Another thing is refused now: what was done about the ones before has helped, however the call ends.
                # Of one that takes several tries, as a schema does, only the answer tells.
                self._remember(tuple(each for each in self.steps if not each.startswith("response_")))
                if not spent:
                    self.steps = (*self.steps, step)
        else:
            return None
        if spent:
            return None
        self._repeats += 1
        return self._adapter.adapt(self._request, self._model, self.steps)

    def helped(self) -> None:
        """Remember what was new, since the endpoint answered."""
        self._remember(self.steps)

    def _remember(self, steps: tuple[str, ...]) -> None:
        self._adapter.remember(self._model, tuple(each for each in steps if each not in self._remembered))


def fold_system(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """`messages` without system turns: their text stands in front of the first user turn, which is made if there is
    none."""
    system = "\n\n".join(each.content for each in messages if each.role == "system")
    if not system:
        return messages
    folded = [each for each in messages if each.role != "system"]
    at = next((index for index, each in enumerate(folded) if each.role == "user"), None)
    if at is None:
        folded.insert(0, Message("user", system))
    else:
        folded[at] = folded[at]._replace(content=f"{system}\n\n{folded[at].content}")
    return tuple(folded)


def _format(wanted: ResponseFormat, shown: SentFormat, abilities: Abilities, steps: tuple[str, ...]) -> Put:
    answer_form = abilities.answer_form
    if _FORMAT_DROPPED in abilities.drop:
        answer_form = answer_form._replace(json_mode="none")
    most: Rung = "restricted"
    if _FORMAT_DROPPED in steps:
        most = "text"
    elif steps and _to_object(wanted) in steps:
        most = "json_object"
    elif _SCHEMA_TO_PLAIN in steps:
        most = "plain"
    return put_format(wanted, shown, answer_form, most=most)


def _to_object(wanted: ResponseFormat) -> str:
    return _SCHEMA_TO_OBJECT + hashlib.sha256(wanted.schema_json.encode()).hexdigest()[:8]


def _form(form: Form, steps: tuple[str, ...]) -> Form:
    if not steps:
        return form
    other: MaxTokensField = "max_tokens" if form.max_tokens_field != "max_tokens" else "max_completion_tokens"
    kept = {key: value for key, value in form.extra_body.items() if f"extra_body.{key}" not in steps}
    return Form(
        max_tokens_field=other if "max_tokens" in steps else form.max_tokens_field,
        stream=form.stream or "stream_only" in steps,
        stream_usage=form.stream_usage and "stream_options" not in steps,
        extra_body=kept,
    )
