"""``Router``: which endpoint answers, and which one after it; and what the answer cost, which depends on that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from chatd.completion import Completion, CompletionRequest, Listener, OnDelta, Usage
from chatd.config import PriceTable, RouteTable
from chatd.endpoint import Endpoint, Tally
from chatd.upstream_fault import UpstreamFault
from lakehouse.errors import Fault, Reason, Violation

# Faults that another endpoint would have as well: the caller's own time, the caller's own request.
_FINAL: Final = frozenset({Reason.DEADLINE, Reason.BAD_REQUEST})


class Target(NamedTuple):
    """What was asked for: a provider or a route by name, and a model; both may be empty."""

    provider: str = ""
    model: str = ""


class Choice(NamedTuple):
    """An endpoint and a model on it, both known."""

    endpoint: Endpoint
    model: str


class Cost(NamedTuple):
    """What a call cost by the configured prices, in US dollars."""

    input_usd: float
    output_usd: float

    @property
    def total_usd(self) -> float:
        return self.input_usd + self.output_usd


class Answer(NamedTuple):
    """A completion and who gave it."""

    completion: Completion
    provider: str
    cost: Cost | None


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
        """The answer of the first that gives one.

        Another endpoint is tried after every fault that it may not have, until a piece of an answer has gone to
        `on_delta`. Where all fail, the fault is the first target's, unless a later one may have been billed: a status
        that says "no model was called" must not hide that one was.

        Raises Fault.
        """
        told: UpstreamFault | None = None
        listener = None if on_delta is None else Listener(on_delta)
        for choice in choices:
            if told is not None:
                tally.fallbacks += 1
            try:
                completion = await choice.endpoint.complete(
                    request, choice.model, deadline_s=deadline_s, listener=listener, tally=tally
                )
            except UpstreamFault as fault:
                if told is None or (fault.billed and not told.billed):
                    told = fault
                if fault.reason in _FINAL or (listener is not None and listener.heard):
                    break
            else:
                return Answer(completion, choice.endpoint.name, _cost(completion, choice))
        if told is None:
            raise AssertionError("choose() gives at least one choice")
        raise told.to_fault() from told

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
            known = ", ".join(sorted({*self._endpoints, *self._routes}))
            violations.append(
                Violation(f"{where}.provider", f"no provider or route {_quoted(name)}; there are: {known[:500]}")
            )
            return []
        if not target.model and not endpoint.table.default_model:
            violations.append(Violation(f"{where}.model", f"the provider {name!r} has no default model: name one"))
            return []
        return [self._known(name, target.model)]

    def _known(self, provider: str, model: str) -> Choice:
        endpoint = self._endpoints[provider]
        return Choice(endpoint, model or endpoint.table.default_model)


def _cost(completion: Completion, choice: Choice) -> Cost | None:
    prices = choice.endpoint.table.prices
    if not prices:
        return None
    price = prices.get(completion.model) or prices.get(choice.model)
    return None if price is None else cost_of(completion.usage, price)


def _without_repetitions(choices: Sequence[Choice]) -> tuple[Choice, ...]:
    return tuple({(choice.endpoint.name, choice.model): choice for choice in choices}.values())


def cost_of(usage: Usage, price: PriceTable) -> Cost:
    """What `usage` costs at `price`."""
    cached = min(usage.cached_input_tokens, usage.input_tokens)
    cached_price = price.input if price.cached_input is None else price.cached_input
    input_usd = ((usage.input_tokens - cached) * price.input + cached * cached_price) / 1e6
    return Cost(input_usd, usage.output_tokens * price.output / 1e6)


def _quoted(name: str) -> str:
    return ascii(name[:64])
