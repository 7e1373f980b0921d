"""What validators ask of a roster, and what they get, whichever backend stands behind it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from validated.datasets.texts import fold_all


class Worker(NamedTuple):
    """One person of the roster. Texts are as the roster spells them; an unknown one is empty."""

    worker_id: str
    name: str
    role: str = ""
    city: str = ""
    state: str = ""
    active: bool = True
    certifications: tuple[str, ...] = ()
    latitude: float | None = None
    """Degrees north, WGS 84; None together with `longitude`."""
    longitude: float | None = None
    phone: str = ""

    @property
    def texts(self) -> Mapping[str, str]:
        """`worker_id` to `state` by name: all that an artifact may state of the worker."""
        return {
            "worker_id": self.worker_id,
            "name": self.name,
            "role": self.role,
            "city": self.city,
            "state": self.state,
        }


class Shift(NamedTuple):
    """A span of time, both ends aware of their offset. The end is not part of it: one shift may follow another."""

    start: datetime
    end: datetime


class Found(NamedTuple):
    """A worker with what the roster says about the question that was asked."""

    worker: Worker
    overlap: Shift | None = None
    """An existing assignment that overlaps the asked shift."""
    do_not_send: bool = False
    """Whether the asked client refuses this worker."""


@dataclass(frozen=True, slots=True)
class RosterVersion:
    """Which ground truth answered."""

    source: str
    version: str
    row_count: int
    loaded_at: str
    """RFC 3339, UTC."""


class Names(Protocol):
    """Texts in which full names are looked for."""

    @property
    def chars(self) -> int:
        """How long they are: a thousand take less than a millisecond."""

    def keys(self, begins: Callable[[str], bool]) -> Sequence[str]:
        """Return the distinct keys (``name_key``) of the runs of words that may be somebody's name. `begins` says
        whether the key of a name begins so; what begins like no name is left out.
        """


class Question(NamedTuple):
    """What one validation wants to know; it is asked once, so that one version answers all of it."""

    worker_ids: Sequence[str]
    """Distinct; compared by code points."""
    names: Names | None = None
    """Where there are full names whose bearers are wanted too (``Answer.namesakes``)."""
    shift: Shift | None = None
    client_id: str = ""


class Wanted(NamedTuple):
    """Somebody whom an artifact names and the roster does not have."""

    worker_id: str
    name: str


class Criteria(NamedTuple):
    """Where to look for workers who would qualify; the validator checks each of them in full afterwards."""

    role: str
    places: Sequence[tuple[str, str]]
    """(city, state), an empty one for any; no places: anywhere."""


class Candidates(NamedTuple):
    """Workers who may be suggested, distinct; who is the nearest, and who qualifies, is the asker's business."""

    worker_ids: Sequence[str]
    names: Sequence[str]
    """Folded, in the same order."""
    at: Callable[[int], Found]
    """The worker at a position of both, with what the roster says about the question."""
    is_whole: bool = False
    """Whether nobody else fits the criteria, so that who qualifies can be counted."""

    @staticmethod
    def of(workers: Sequence[Found]) -> Candidates:
        """Return the distinct ones among these as candidates."""
        distinct = list({found.worker.worker_id: found for found in workers}.values())
        return Candidates(
            [found.worker.worker_id for found in distinct],
            fold_all([found.worker.name for found in distinct]),
            distinct.__getitem__,
        )


class Draw(NamedTuple):
    """Who is looked for before an answer: a sample of those who qualify, and whoever is named."""

    question: Question
    """Who is named, by id or by name, and the shift and the client that all are held against."""
    criteria: Criteria
    certifications: Sequence[str]
    """Folded. A backend that has to leave somebody out may look first at those who seem to hold them."""
    seed: str
    """The same seed and roster version give the same workers in the same order."""
    wanted: int
    """So many who qualify are enough."""
    needed: int
    """With fewer who qualify the backend looks further, to be certain that there are no others."""


def place_in_draw(seed: str, worker_id: str) -> bytes:
    """Return what those of a draw are sorted by where they come in no order: the same on each machine, and nobody's
    favour."""
    return hashlib.blake2b(f"{seed}\0{worker_id}".encode(), digest_size=16).digest()


class Drawn(NamedTuple):
    """One version's answer to a draw."""

    version: RosterVersion
    named: Sequence[Found]
    """Whoever has a named id, and bearers of the named keys: at most 64 of one key, 256 of all."""
    qualified: Sequence[Found]
    """Those who qualify, distinct, in the order of the draw: a sample in which nobody is favoured."""
    others: Sequence[Found]
    """Those who were looked at and do not qualify."""
    is_whole: bool
    """Whether everybody who can qualify was looked at: certain, never guessed."""


class Answer(Protocol):
    """One version's answer to one question."""

    @property
    def version(self) -> RosterVersion:
        """The version that answered everything below."""

    @property
    def found(self) -> Mapping[str, Found]:
        """The asked ids that stand in the roster."""

    @property
    def namesakes(self) -> Sequence[Worker]:
        """For each asked name that somebody bears, a worker who does; one for each way to spell it, where there are
        several, but not for more than some 16 bearers.
        """

    async def near(self, wanted: Sequence[Wanted], criteria: Criteria) -> Candidates:
        """All who fit `criteria`, or where these are many some of them and workers whose id or name is near to one of
        `wanted`: bounded in count and time, in no order. Advice, not judgement: a backend that cannot gives none.
        """


class WorkerLookup(Protocol):
    """A roster that can be asked."""

    async def look_up(self, question: Question) -> Answer:
        """Raise RosterUnavailable where the roster cannot be read now."""

    async def draw(self, draw: Draw, qualifies: Callable[[Found], bool]) -> Drawn:
        """Return a sample of those whom `qualifies` accepts, bounded in count. Raises as `look_up` does."""


class RosterUnavailable(Exception):  # noqa: N818  the reason's own name
    """No roster can answer now; the text is for the log."""
