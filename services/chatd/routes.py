"""``Router``: which endpoint answers, and which one after it; and what the answer cost, which depends on that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from chatd.completion import Completion, CompletionRequest, FinishReason, Listener, OnDelta
from chatd.config import RouteTable
from chatd.endpoint import Endpoint, Tally
from chatd.prices import Cost, cost_of
from chatd.upstream_fault import UpstreamFault
from lakehouse.errors import Fault, Reason, Violation
from lakehouse.near_names import did_you_mean

# Ends of an answer that another model may not come to.
_NO_ANSWER: Final = frozenset({FinishReason.REFUSAL, FinishReason.MALFORMED})


class Target(NamedTuple):
    """What was asked for: a provider or a route by name, and a model; both may be empty."""

    provider: str = ""
    model: str = ""


class Choice(NamedTuple):
    """An endpoint and a model on it, both known."""

    endpoint: Endpoint
    model: str


class Answer(NamedTuple):
    """A completion and who gave it."""

    completion: Completion
    provider: str
    cost: Cost | None
    sent: CompletionRequest
    """The request as that one got it."""


class Router:
    """The configured endpoints under their names, and the routes over them."""

    def __init__(self, endpoints: Mapping[str, Endpoint], routes: Mapping[str, RouteTable], default: str) -> None:
        self._endpoints = endpoints
        self._routes = {name: self._spelt_out(route) for name, route in routes.items()}
        self._default = default
        # What a target without a model stands for; most requests name no more than that.
        self._ready = {
            **{
                name: (Choice(endpoint, endpoint.table.default_model),)
                for name, endpoint in endpoints.items()
                if endpoint.table.default_model
            },
            **self._routes,
        }

    def choose(self, target: Target, fallbacks: Sequence[Target] = ()) -> tuple[Choice, ...]:
        """Everybody who may answer, in order; routes are spelt out, repetitions left out.

        Raises Fault: UNKNOWN_PROVIDER for a name that is not configured, BAD_REQUEST where no model is known.
        """
        if not (target.model or fallbacks):
            ready = self._ready.get(target.provider or self._default)
            if ready is not None:
                return ready
        violations: list[Violation] = []
        choices = [*self._expand(target, "target", violations)]
        for index, fallback in enumerate(fallbacks):
            choices += self._expand(fallback, f"fallbacks[{index}]", violations)
        if violations:
            unknown = any(each.field.endswith(".provider") for each in violations)
            reason = Reason.UNKNOWN_PROVIDER if unknown else Reason.BAD_REQUEST
            raise Fault(reason, where="chatd", violations=tuple(violations))
        return _without_repetitions(choices)

    async def complete(
        self,
        request: CompletionRequest,
        choices: Sequence[Choice],
        *,
        deadline_s: float,
        on_delta: OnDelta | None,
        tally: Tally,
    ) -> Answer:
        """Return the answer of the first that gives one.

        Another endpoint is tried after every fault but the end of the caller's time (what one endpoint refuses, another
        may take), and after a refusal or malformed output, until a piece of an answer has gone to `on_delta`. Where
        none gives an answer, the last refusal or malformed output is the answer, for a model was asked and said so.
        Where all fail, the fault is the first target's, unless a later one may have been billed: a status that says "no
        model was called" must not hide that one was. The cost is stated only where nobody else may have billed.

        Raises Fault.
        """
        first: UpstreamFault | None = None
        unhelpful: Answer | None = None
        answered_last = False
        listener = None if on_delta is None else Listener(on_delta)
        for number, choice in enumerate(choices):
            if number:
                tally.fallbacks += 1
            try:
                completion = await choice.endpoint.complete(
                    request, choice.model, deadline_s=deadline_s, listener=listener, tally=tally
                )
            except UpstreamFault as fault:
                answered_last = False
                if first is None or (fault.billed and not first.billed):
                    first = fault
                if fault.reason is Reason.DEADLINE or (listener is not None and listener.heard):
                    break
                continue
            cost = None if tally.billed_in_vain else _cost(completion, choice)
            answer = Answer(completion, choice.endpoint.name, cost, tally.sent or request)
            if completion.finish_reason not in _NO_ANSWER or (listener is not None and listener.heard):
                return answer
            unhelpful, answered_last = answer, True
            if choice is not choices[-1]:
                tally.billed_in_vain = True
                tally.details += (f"{choice.endpoint.name}: {completion.finish_reason}",)
        if unhelpful is not None and not (listener is not None and listener.heard):
            if listener is not None:
                await unhelpful.completion.hand_to(listener)
            # Whoever was asked after it gave nothing, and may have billed.
            return unhelpful if answered_last else unhelpful._replace(cost=None)
        if first is None:
            raise AssertionError("choose() gives at least one choice")
        raise first.to_fault() from first

    def _spelt_out(self, route: RouteTable) -> tuple[Choice, ...]:
        return _without_repetitions([self._known(each.provider, each.model) for each in route.targets])

    def _expand(self, target: Target, where: str, violations: list[Violation]) -> Sequence[Choice]:
        name = target.provider or self._default
        route = self._routes.get(name)
        if route is not None:
            if target.model:
                violations.append(
                    Violation(f"{where}.model", f"the route {name!r} names its own models: leave it empty")
                )
                return []
            return route
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            names = sorted({*self._endpoints, *self._routes})
            known = f"there are: {', '.join(names)[:500]}{did_you_mean(name, names)}"
            violations.append(Violation(f"{where}.provider", f"no provider or route {_quoted(name)}; {known}"))
            return []
        if not target.model and not endpoint.table.default_model:
            violations.append(Violation(f"{where}.model", f"the provider {name!r} has no default model: name one"))
            return []
        return [self._known(name, target.model)]

    def _known(self, provider: str, model: str) -> Choice:
        endpoint = self._endpoints[provider]
        return Choice(endpoint, model or endpoint.table.default_model)


def _cost(completion: Completion, choice: Choice) -> Cost | None:
    prices = choice.endpoint.prices
    if not prices:
        return None
    price = prices.get(completion.model) or prices.get(choice.model)
    return None if price is None else cost_of(completion.usage, price)


def _without_repetitions(choices: Sequence[Choice]) -> tuple[Choice, ...]:
    return tuple({(choice.endpoint.name, choice.model): choice for choice in choices}.values())


def _quoted(name: str) -> str:
    return ascii(name[:64])
