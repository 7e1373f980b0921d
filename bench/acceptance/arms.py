"""What is compared: how much the model gets to know, and what happens to an answer that comes again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lakehouse.iterate.v1 import iterate_pb2

# Two names of the one model: which is sent JSON Schemas, and which is asked for a JSON object and no more.
SCHEMA, WORDS = "schema", "words"
MODEL: Final = "SmolLM2-135M-Instruct"


@dataclass(frozen=True, slots=True)
class Arm:
    """One setting, with an iterate and a session log of its own, so that the same id draws the same candidates."""

    name: str
    grounding: iterate_pb2.Grounding
    provider: str
    attempts: int
    on_no_progress: str = "continue"

    @property
    def is_grounded(self) -> bool:
        """Whether the model is offered candidates."""
        return self.grounding == iterate_pb2.GROUNDING_CANDIDATES

    @property
    def twin(self) -> Arm | None:
        """For an arm that stops: the one that continues, and is the same in all else."""
        if self.on_no_progress == "continue":
            return None
        return next(
            arm
            for arm in ARMS
            if arm.on_no_progress == "continue" and (arm.grounding, arm.provider) == (self.grounding, self.provider)
        )

    def log_in(self, folder: Path) -> Path:
        """Its session log."""
        return folder / f"{self.name.replace(',', '').replace(' ', '-')}.jsonl"


_CANDIDATES: Final = iterate_pb2.GROUNDING_CANDIDATES
ARMS: Final = (
    Arm("NONE", iterate_pb2.GROUNDING_NONE, SCHEMA, 1),
    Arm("FORM", iterate_pb2.GROUNDING_FORM, SCHEMA, 1),
    Arm("CANDIDATES, no schema, continue", _CANDIDATES, WORDS, 3),
    Arm("CANDIDATES, no schema, stop", _CANDIDATES, WORDS, 3, "stop"),
    Arm("CANDIDATES, schema, continue", _CANDIDATES, SCHEMA, 3),
    Arm("CANDIDATES, schema, stop", _CANDIDATES, SCHEMA, 3, "stop"),
)


def order(number: int, thin: int) -> list[Arm]:
    """Return the arms for the task of that number, twins after those whose they are; the ones without a schema, which
    use up their attempts, for every `thin`-th task alone. Those with candidates share a prompt, which the server keeps:
    with and without a schema are first, and pay for reading it, by turns."""
    told_less = [arm for arm in ARMS if not arm.is_grounded]
    by_provider = [[arm for arm in ARMS if arm.is_grounded and arm.provider == each] for each in (WORDS, SCHEMA)]
    if number % thin:
        return told_less + by_provider[1]
    first = number % 2
    return told_less + by_provider[first] + by_provider[1 - first]


def shared_environ(llama_url: str, roster: Path) -> dict[str, str]:
    """Return the settings of validated and chatd; `roster` is a folder such as the example's."""
    environ = {
        "VALIDATED_ROSTER__PATH": str(roster / "workers.csv"),
        "VALIDATED_ROSTER__ASSIGNMENTS_PATH": str(roster / "assignments.csv"),
        "CHATD_DEFAULT_PROVIDER": SCHEMA,
    }
    for name in (SCHEMA, WORDS):
        prefix = f"CHATD_PROVIDERS__{name.upper()}__"
        environ |= {
            f"{prefix}TYPE": "openai",
            f"{prefix}BASE_URL": f"{llama_url}/v1",
            f"{prefix}DEFAULT_MODEL": MODEL,
            f"{prefix}READ_TIMEOUT_MS": "600000",
        }
    environ[f"CHATD_PROVIDERS__{SCHEMA.upper()}__SCHEMA_DIALECT"] = "llama_cpp_python"
    return environ


def iterate_environ(arm: Arm, folder: Path, candidates: int) -> Mapping[str, str]:
    """Return the settings of the arm's iterate, whose log is in `folder`."""
    return {
        "ITERATE_SESSION_LOG_PATH": str(arm.log_in(folder)),
        "ITERATE_CANDIDATES_MAX": str(candidates),
        "ITERATE_ON_NO_PROGRESS": arm.on_no_progress,
        # What is measured is the model, not how busy the machine is.
        "ITERATE_BRIEF_MS_MAX": "20000",
    }
