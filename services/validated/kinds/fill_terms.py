"""What a FillSpec demands of a worker, and whether one meets it. Pure: no roster, no artifact."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, NamedTuple

from lakehouse.validated.v1.validated_pb2 import FillSpec
from validated.datasets.texts import fold
from validated.datasets.worker import Criteria, Found, Shift, Worker
from validated.findings import quoted

_EARTH_RADIUS_KM: Final = 6371.0088
_INSTANT: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII)


class Place(NamedTuple):
    """A city and a state as the spec spells them, and folded; an empty one means any."""

    city: str
    state: str
    folded_city: str
    folded_state: str

    def takes_city(self, folded: str) -> bool:
        """Whether the place takes a worker of that city."""
        return not self.city or self.folded_city == folded

    def takes_state(self, folded: str) -> bool:
        """Whether the place takes a worker of that state."""
        return not self.state or self.folded_state == folded

    def __str__(self) -> str:
        return _spelt(self.city, self.state)


class Breach(NamedTuple):
    """A demand that a worker does not meet."""

    code: str
    message: str


@dataclass(slots=True, eq=False)
class FillTerms:
    """The demands of one FillSpec that ``FillValidator.read_spec`` has passed."""

    role: str
    folded_role: str
    count: int
    places: tuple[Place, ...]
    """Where a worker may be based; none: anywhere. Empty where the distance decides."""
    shift: Shift | None
    certifications: tuple[str, ...]
    client_id: str
    site: tuple[float, float] | None
    max_distance_km: float | None
    _placed: dict[tuple[str, str, str], bool] = field(default_factory=dict, repr=False)
    """What `_is_placed` has answered."""

    @staticmethod
    def read(spec: FillSpec) -> FillTerms:
        """Return the terms of `spec`."""
        start, end = read_instant(spec.shift_start), read_instant(spec.shift_end)
        far = spec.max_distance_km if spec.HasField("max_distance_km") else None
        places: list[Place] = []
        if far is None:
            if spec.city or spec.state:
                places.append(_place(spec.city, spec.state))
            places += [_place(each.city, each.state) for each in spec.allowed_locations]
        return FillTerms(
            role=spec.role,
            folded_role=fold(spec.role),
            count=spec.count,
            places=tuple(places),
            shift=Shift(start, end) if start is not None and end is not None else None,
            certifications=tuple(spec.required_certifications),
            client_id=spec.client_id,
            site=(spec.site.latitude, spec.site.longitude) if spec.HasField("site") else None,
            max_distance_km=far,
        )

    def criteria(self) -> Criteria:
        """Where workers who meet the terms are to be looked for."""
        return Criteria(self.role, tuple([(place.city, place.state) for place in self.places]))

    @property
    def folded_certifications(self) -> tuple[str, ...]:
        """`certifications` as they are compared."""
        return tuple([fold(each) for each in self.certifications])

    def anywhere(self) -> FillTerms:
        """Return the same terms without the places."""
        return replace(self, places=(), _placed={})

    def has_role(self, worker: Worker) -> bool:
        """Whether `worker` holds the role."""
        return fold(worker.role) == self.folded_role

    def missing(self, worker: Worker) -> list[str]:
        """Return the certifications that `worker` does not hold, as the spec spells them."""
        held_by = {fold(each) for each in worker.certifications}
        return [each for each in self.certifications if fold(each) not in held_by]

    def met_by(self, found: Found) -> bool:
        """Whether `found` meets every demand: whether `breaches` gives none."""
        worker = found.worker
        if not worker.active or found.overlap is not None or found.do_not_send:
            return False
        place = (worker.role, worker.city, worker.state)
        placed = self._placed.get(place)
        if placed is None:
            placed = self._placed[place] = self._is_placed(worker)
        return (
            placed
            and (not self.certifications or not self.missing(worker))
            and (self.max_distance_km is None or next(self._distance_breaches(worker, ""), None) is None)
        )

    def breaches(self, found: Found, *, by_name: bool = True, private: Collection[str] = ()) -> Iterator[Breach]:
        """Every demand that `found` does not meet. `by_name`: he is called by id and name, else by the id alone.
        `private` are those of his texts that may not be said.
        """
        if self.met_by(found):
            return
        worker = found.worker
        who = quoted(worker.worker_id)
        if by_name and worker.name not in private:
            who = f"{who} ({quoted(worker.name)})"
        if not worker.active:
            yield Breach("INACTIVE_WORKER", f"{who} is not active; name an active worker")
        if not self.has_role(worker):
            held = f'is "{quoted(worker.role)}" in the roster' if worker.role else "has no role in the roster"
            if worker.role in private:
                held = "has another role in the roster"
            yield Breach("WRONG_ROLE", f'{who} {held}; the role asked for is "{quoted(self.role)}"')
        yield from self._place_breaches(worker, who, private)
        yield from self._distance_breaches(worker, who)
        if self.certifications:
            missing = self.missing(worker)
            if missing:
                names = ", ".join(quoted(each) for each in missing[:5]) + (", …" if len(missing) > 5 else "")
                yield Breach("MISSING_CERTIFICATION", f"{who} does not hold {names}")
        if found.overlap is not None:
            start, end = found.overlap.start.isoformat(), found.overlap.end.isoformat()
            yield Breach("SHIFT_OVERLAP", f"{who} already works from {start} to {end}, which overlaps the shift")
        if found.do_not_send:
            yield Breach("DO_NOT_SEND", f'{who} is on the do-not-send list of client "{quoted(self.client_id)}"')

    def _is_placed(self, worker: Worker) -> bool:
        return self.has_role(worker) and self._is_in_place(fold(worker.city), fold(worker.state))

    def _is_in_place(self, city: str, state: str) -> bool:
        for place in self.places:
            if place.takes_city(city) and place.takes_state(state):
                return True
        return not self.places

    def _place_breaches(self, worker: Worker, who: str, private: Collection[str]) -> Iterator[Breach]:
        city, state = fold(worker.city), fold(worker.state)
        if self._is_in_place(city, state):
            return
        cities = [place.takes_city(city) for place in self.places]
        states = [place.takes_state(state) for place in self.places]
        allowed = "; ".join(str(place) for place in self.places[:5]) + ("; …" if len(self.places) > 5 else "")
        based = _spelt(worker.city, worker.state) or "no known place"
        if worker.city in private or worker.state in private:
            based = "another place"
        message = f"{who} is based in {based}; allowed: {allowed}"
        if not any(states):
            yield Breach("WRONG_STATE", message)
        if any(states) or not any(cities):
            yield Breach("WRONG_CITY", message)

    def _distance_breaches(self, worker: Worker, who: str) -> Iterator[Breach]:
        if self.max_distance_km is None or self.site is None:
            return
        if worker.latitude is None or worker.longitude is None:
            yield Breach(
                "NO_COORDINATES",
                f"{who} has no coordinates in the roster, so the distance is not known",
            )
            return
        away = distance_km(self.site, (worker.latitude, worker.longitude))
        if away > self.max_distance_km:
            yield Breach(
                "TOO_FAR",
                f"{who} is {away:.1f} km from the site; at most {self.max_distance_km:g} km are allowed",
            )


def _place(city: str, state: str) -> Place:
    return Place(city, state, fold(city), fold(state))


def _spelt(city: str, state: str) -> str:
    return ", ".join(part for part in (quoted(city), quoted(state)) if part)


def distance_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Great-circle distance of two (latitude, longitude) pairs in degrees, on a sphere of the Earth's mean radius."""
    latitude_1, longitude_1, latitude_2, longitude_2 = (math.radians(each) for each in (*one, *other))
    half = (
        math.sin((latitude_2 - latitude_1) / 2) ** 2
        + math.cos(latitude_1) * math.cos(latitude_2) * math.sin((longitude_2 - longitude_1) / 2) ** 2
    )
    return 2 * _EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(half)))


def read_instant(text: str) -> datetime | None:
    """Return the instant that an RFC 3339 text with an offset names; None where the text is none."""
    # fromisoformat takes more than RFC 3339: week dates, no seconds, a space for the T.
    if not text or not _INSTANT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:
        return None
