"""``shown``: a request as one target may see it. What is restricted goes to targets with `may_see_candidates` alone.

After it nothing restricted is left in the request that is not for its target: adapters, providers, spans and log lines
behind it cannot give away what they do not have.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from chatd.completion import CompletionRequest, Message, SentFormat

_NO_TRANSLATION: Final = "plain"


def shown(request: CompletionRequest, *, may_see: bool) -> CompletionRequest:
    """`request` with its restricted content in the place of the other, or without it.

    The response format keeps both schemas where the target may see them: which of them it bears is not decided here.
    """
    if not request.restricted:
        return request
    messages, wanted = request.messages, request.response_format
    if wanted is not None and not may_see:
        wanted = replace(wanted, restricted_schema_json="")
    shown_messages = tuple([message for each in messages if (message := _shown(each, may_see=may_see)) is not None])
    sent = SentFormat(
        restricted_content=may_see and any(each.restricted_content for each in messages),
        degraded="" if may_see else "MAY_NOT_SEE",
    )
    return request._replace(messages=shown_messages, response_format=wanted, restricted=False, sent_format=sent)


def shown_whole(request: CompletionRequest, *, may_see: bool) -> CompletionRequest:
    """`request` as a provider gets it that reads every schema as it is: the scripted one, the one that replays."""
    if request.response_format is None and not request.restricted:
        return request
    request = shown(request, may_see=may_see)
    wanted, sent = request.response_format, request.sent_format or SentFormat()
    if wanted is None:
        return request
    if wanted.form == "json_object":
        return request._replace(sent_format=sent._replace(form="json_object"))
    restricted = wanted.restricted_schema_json
    wanted = replace(wanted, schema_json=restricted or wanted.schema_json, restricted_schema_json="")
    sent = sent._replace(form="json_schema", schema="restricted" if restricted else "plain", dialect=_NO_TRANSLATION)
    return request._replace(response_format=wanted, sent_format=sent)


def _shown(message: Message, *, may_see: bool) -> Message | None:
    """None: there is nothing in it for this target."""
    if not message.restricted_content:
        return message
    if may_see:
        return Message(message.role, message.restricted_content)
    return Message(message.role, message.content) if message.content else None
