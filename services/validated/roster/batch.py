"""A batch of worker rows, checked and converted a column at a time: most batches are good, and this is three times as
fast as a row at a time. What is good here passes ``build``'s check of single rows, which says what is wrong.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from validated.roster.columns import CERTIFICATIONS_MAX, TEXT_CHARS_MAX, read_active, read_certifications

_EMPTY_OR_SPACED: Final = re.compile(r"^ | $|^$", re.MULTILINE)


class Columns(NamedTuple):
    """The columns of good rows, sorted by id."""

    ids: Sequence[str]
    names: Sequence[str]
    roles: Sequence[str]
    cities: Sequence[str]
    states: Sequence[str]
    active: Sequence[bool]
    certifications: Sequence[tuple[str, ...]]
    latitudes: Sequence[float]
    """NaN where none is known."""
    longitudes: Sequence[float]
    phones: Sequence[str]


class Converter:
    """Converts batches; remembers how texts that repeat were read."""

    def __init__(self) -> None:
        self._active: dict[str | None, bool] = {}
        self._certifications: dict[str | None, tuple[str, ...]] = {}

    def columns(self, batch: Sequence[tuple[Any, ...]]) -> Columns | None:
        """The columns of `batch`, rows as ``Source.workers`` gives them; None where a row of it may be bad."""
        _, ids, names, roles, cities, states, actives, held, latitudes, longitudes, phones = zip(*batch, strict=True)
        # Sorted, so that equal ids would stand side by side; those of two batches are compared by the caller.
        if not _good_texts(ids) or not _good_texts(names) or len(set(ids)) != len(ids):
            return None
        if not self._read(actives, held):
            return None
        optional = [_trimmed(column) for column in (roles, cities, states, phones)]
        points = _points(latitudes, longitudes)
        if points is None or any(column is None for column in optional):
            return None
        roles_read, cities_read, states_read, phones_read = (column or () for column in optional)
        return Columns(
            ids,
            names,
            roles_read,
            cities_read,
            states_read,
            [self._active[each] for each in actives],
            [self._certifications[each] for each in held],
            *points,
            phones_read,
        )

    def _read(self, actives: Sequence[str | None], held: Sequence[str | None]) -> bool:
        for text in set(actives) - self._active.keys():
            active = read_active(text)
            if active is None:
                return False
            self._active[text] = active
        for text in set(held) - self._certifications.keys():
            certifications = read_certifications(text)
            if certifications is None or len(certifications) > CERTIFICATIONS_MAX:
                return False
            self._certifications[text] = certifications
        return True


def _good_texts(texts: Sequence[str | None]) -> bool:
    if None in texts:
        return False
    joined = "\n".join(texts)  # type: ignore[arg-type]  # no None, as said above
    return (
        joined.count("\n") == len(texts) - 1
        and joined.replace("\n", "").isprintable()
        and _EMPTY_OR_SPACED.search(joined) is None
        and max(map(len, texts)) <= TEXT_CHARS_MAX  # type: ignore[arg-type]  # as above
    )


def _trimmed(texts: Sequence[str | None]) -> list[str] | None:
    distinct = set(texts)
    if any(len(text) > TEXT_CHARS_MAX for text in distinct if text):
        return None
    read = {text: text.strip() if text else "" for text in distinct}
    return [read[text] for text in texts]


def _points(
    latitudes: Sequence[str | None], longitudes: Sequence[str | None]
) -> tuple[list[float], list[float]] | None:
    columns = []
    for texts, limit in ((latitudes, 90.0), (longitudes, 180.0)):
        try:
            degrees = [float(text) if text else math.nan for text in texts]
        except ValueError:
            return None
        if sum(-limit <= each <= limit for each in degrees) != sum(map(bool, texts)):
            return None
        columns.append(degrees)
    if list(map(bool, latitudes)) != list(map(bool, longitudes)):
        return None
    return columns[0], columns[1]
