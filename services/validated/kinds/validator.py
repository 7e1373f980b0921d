"""What a kind is made of: the protocol that every kind has, those of this repository and those from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from lakehouse.strict_json.parser import JsonValue
from lakehouse.validated.v1.validated_pb2 import ValidateRequest
from validated.config import CANDIDATE_FACTS, LimitsTable
from validated.datasets.worker import RosterVersion, WorkerLookup
from validated.findings import Finding, Findings
from validated.kinds.spec import Spec

SPEC_MEMBERS: Final = frozenset(field.name for field in ValidateRequest.DESCRIPTOR.oneofs_by_name["spec"].fields)
"""The members of ``oneof spec``: no kind without one of its own may be called so."""
PROMPT_CHARS_MAX: Final = 20_000
"""So much of a prompt is searched for people."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a kind may use, given to it once when the service starts."""

    roster: WorkerLookup
    limits: LimitsTable
    region: str = "US"
    """Where phone numbers without a country code are from: two letters, ISO 3166."""
    candidate_facts: Sequence[str] = CANDIDATE_FACTS
    """What a model may know of a worker."""


class DatasetVersion(NamedTuple):
    """A dataset in the version that decided."""

    name: str
    version: str


class Ground(NamedTuple):
    """What the ground truth said, apart from the findings."""

    grounded: bool | None
    """Whether every worker whom the artifact names stands in the roster; None where it names nobody."""
    roster: RosterVersion | None
    """The one version that answered everything; None where no roster was asked."""
    datasets: Sequence[DatasetVersion] = ()
    """Of a declared kind: each dataset that was asked, in the one version that answered everything."""


class Task(NamedTuple):
    """What a brief is asked for, beside the spec."""

    prompt: str = ""
    """The caller's words, at most ``PROMPT_CHARS_MAX`` of them."""
    candidates_max: int = 0
    """The most candidates that are wanted; 0: no ground truth is to be read."""
    seed: str = ""
    """Draws the sample of candidates."""


class Brief(NamedTuple):
    """What a model should know before it answers. The fields are those of ``BriefResponse``."""

    instructions: str = ""
    form_schema_json: str = ""
    candidates_schema_json: str = ""
    candidates: Sequence[dict[str, JsonValue]] = ()
    """The facts of each; ``worker_id`` or ``name`` are what a trace shows of it."""
    candidates_total: int = 0
    candidates_total_is_floor: bool = False
    needed: int = 0
    infeasible: bool = False
    findings: Sequence[Finding] = ()
    roster: RosterVersion | None = None
    datasets: Sequence[DatasetVersion] = ()
    candidates_json: str = ""
    """`candidates` as canonical JSON; it is made where it is empty."""


class Validator(Protocol):
    """A kind. Beside `validate`, which each must have, a class may have

    - ``async def brief(self, spec: Spec, task: Task) -> Brief``: what a model should know before it answers. Raises as
      `validate` does. A kind without it has an empty brief: its model learns from findings alone.
    - ``description: str``, ``spec_schema_json: str``, ``has_candidates: bool``: what ListKinds says of it.
    - ``def read_spec(message) -> Spec``: the spec of a kind whose name is a member of ``oneof spec``, which must have
      it. A kind from outside gets the object of ``spec_json``, read strictly, as ``spec.text``.
    - ``async def aclose(self) -> None``: awaited when the service ends.
    """

    async def validate(self, artifact: JsonValue, spec: Spec, findings: Findings) -> Ground | None:
        """Add to `findings`, which is empty, what is wrong with `artifact`; None where no ground truth was asked.

        The verdict must depend on these arguments and on the roster alone. Raises Fault where the request or the
        system is at fault, RosterUnavailable where the roster does not answer.
        """


MakeValidator = Callable[[Tools], Validator]
