"""Which of the endpoints that a request may reach its caller may ask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chatd.routes import Choice, Router, Target
from lakehouse.server.callers.policy import Caller, not_allowed


def allowed_choices(
    router: Router, caller: Caller, choices: Sequence[Choice], asked: Iterable[Target]
) -> tuple[Choice, ...]:
    """`choices` without those that the caller may not ask: what a route leads to is no way around the policy.

    Raises Fault (CALLER_NOT_ALLOWED) where one of the targets that were asked for has nobody left.
    """
    allowed = tuple(each for each in choices if _may_ask(caller, each))
    if len(allowed) < len(choices) or not allowed:
        for target in asked:
            if not any(_may_ask(caller, each) for each in router.choose(target)):
                raise not_allowed("target")
    return allowed


def _may_ask(caller: Caller, choice: Choice) -> bool:
    return caller.may_ask_model(choice.endpoint.name, choice.model)
