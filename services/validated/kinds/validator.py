"""What a kind is made of: the protocol that every validator has, those of this repository and those from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lakehouse.server.specs import Spec
from lakehouse.strict_json.parser import JsonValue
from validated.config import LimitsTable
from validated.datasets.worker import RosterVersion, WorkerLookup
from validated.findings import Findings


@dataclass(frozen=True, slots=True)
class Tools:
    """What a validator may use, given to it once when the service starts."""

    roster: WorkerLookup
    limits: LimitsTable
    region: str = "US"
    """Where phone numbers without a country code are from: two letters, ISO 3166."""


class Ground(NamedTuple):
    """What the ground truth said, apart from the findings."""

    grounded: bool | None
    """Whether every worker whom the artifact names stands in the roster; None where it names nobody."""
    roster: RosterVersion
    """The one version that answered everything."""


class Validator(Protocol):
    """The rules of one kind."""

    async def validate(self, artifact: JsonValue, spec: Spec, findings: Findings) -> Ground | None:
        """Add to `findings`, which is empty, what is wrong with `artifact`; None where no roster was asked.

        The verdict must depend on these arguments and on the roster alone. Raises Fault where the request or the
        system is at fault, RosterUnavailable where the roster does not answer.
        """


MakeValidator = Callable[[Tools], Validator]
