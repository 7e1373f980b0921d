"""What a caller may: RPCs, kinds, models, grounding, iterations, and its limits. Matching alone; no file, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from lakehouse.errors import Fault, Reason

ANY: Final = "*"
RPCS: Final = (
    "Iterate",
    "StreamIterate",
    "GetSession",
    "Complete",
    "StreamComplete",
    "Brief",
    "Validate",
    "ListKinds",
)
"""Every RPC of the three services, by its name, which is its own."""
GroundingMax = Literal["none", "form", "candidates"]
GROUNDINGS: Final[tuple[GroundingMax, ...]] = get_args(GroundingMax)
"""From the least to the most."""


@dataclass(frozen=True, slots=True)
class ModelPattern:
    """`provider/model`. A provider is named whole, or `*`; a model whole, or by its beginning and `*`.

    Empty parts stand for a request that names none: `/` is whoever answers by default, `fast/` the route fast.
    """

    provider: str
    model: str
    is_prefix: bool

    @classmethod
    def parse(cls, text: str) -> ModelPattern:
        """Raise ValueError where the text is no pattern."""
        provider, slash, model = text.partition("/")
        if text == ANY:
            provider, slash, model = ANY, "/", ANY
        if not slash:
            raise ValueError("must be provider/model, provider/* or *")
        is_prefix = model.endswith(ANY)
        if is_prefix:
            model = model[:-1]
        if ANY in model or (ANY in provider and provider != ANY):
            raise ValueError("may hold * for the whole provider, and at the model's end")
        return cls(provider, model, is_prefix)

    def fits(self, provider: str, model: str) -> bool:
        if self.provider not in (ANY, provider):
            return False
        return model.startswith(self.model) if self.is_prefix else model == self.model


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A caller's permissions, which are none unless given, and limits, which are none (None) unless set."""

    rpcs: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    models: tuple[ModelPattern, ...] = ()
    grounding_max: GroundingMax | None = None
    max_iterations: int | None = None
    sessions_in_flight: int | None = None
    sessions_per_minute: int | None = None
    tokens_per_day: int | None = None
    nano_usd_per_day: int | None = None
    session_tokens_reserved: int = 4_000
    session_nano_usd_reserved: int = 50_000_000

    def may_call(self, rpc: str) -> bool:
        return rpc in self.rpcs or ANY in self.rpcs

    def may_ask_kind(self, kind: str) -> bool:
        return kind in self.kinds or ANY in self.kinds

    def may_ask_model(self, provider: str, model: str) -> bool:
        return any(pattern.fits(provider, model) for pattern in self.models)

    def may_ground(self, grounding: str) -> bool:
        return self.grounding_max is None or (
            grounding in GROUNDINGS and GROUNDINGS.index(grounding) <= GROUNDINGS.index(self.grounding_max)
        )

    def may_iterate(self, iterations: int) -> bool:
        return self.max_iterations is None or iterations <= self.max_iterations


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls."""

    name: str
    policy: Policy
    via: Caller | None = None
    """Who called indeed and said that it calls for this one: iterate, on its hops."""

    def may_ask_kind(self, kind: str) -> bool:
        """Whether the caller, and whoever calls for it, may."""
        return self.policy.may_ask_kind(kind) and (self.via is None or self.via.policy.may_ask_kind(kind))

    def may_ask_model(self, provider: str, model: str) -> bool:
        """As `may_ask_kind`."""
        return self.policy.may_ask_model(provider, model) and (
            self.via is None or self.via.policy.may_ask_model(provider, model)
        )


def not_allowed(denied: str) -> Fault:
    """CALLER_NOT_ALLOWED; `denied` names the field of the request that the caller's policy shuts out, or `rpc`."""
    return Fault(Reason.CALLER_NOT_ALLOWED, metadata={"denied": denied})


def check_kind(caller: Caller | None, kind: str) -> None:
    """Raise Fault where the caller may not ask for this kind. None: callers are off."""
    if caller is not None and not caller.may_ask_kind(kind):
        raise not_allowed("kind")
