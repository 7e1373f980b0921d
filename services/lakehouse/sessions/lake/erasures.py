"""What was erased, as the table's properties say it, so that no log publishes it again.

A log that still holds a row of an erased session may not have published it yet, or may have lost its mark. So the table
keeps what was asked for: names as SHA-256 of their text, never the names; and until when, since whoever comes back is
published again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from lakehouse.sessions.store.archive import known

PREFIX: Final = "lakehouse.erasure."


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Rows that were erased: those that fit all of what is given."""

    until: str
    """RFC 3339: rows of a later ``timestamp`` are not meant."""
    caller_sha256: str | None = None
    session_sha256: tuple[str, ...] = ()
    """One of these; empty: any."""
    before: str | None = None
    """RFC 3339."""

    def to_property(self) -> tuple[str, str]:
        """Return the table's property: its name, the same for the same rows, and its value."""
        asked = orjson.dumps([self.caller_sha256, sorted(self.session_sha256), self.before])
        return PREFIX + hashlib.sha256(asked).hexdigest()[:16], orjson.dumps(asdict(self)).decode()


def digest(name: str) -> str:
    """Return what the table keeps of a name."""
    return hashlib.sha256(name.encode()).hexdigest()


def erasures_of(properties: Mapping[str, str]) -> list[Erasure]:
    """Return what the table's properties say was erased. Raises ValueError for one that cannot be read."""
    found = []
    for name, value in sorted(properties.items()):
        if name.startswith(PREFIX):
            try:
                values: dict[str, Any] = orjson.loads(value)
                values["session_sha256"] = tuple(values.get("session_sha256") or ())
                found.append(known(Erasure, values))
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"the table's property {name} cannot be read ({error}): a newer lakehouse wrote it"
                ) from None
    return found


def not_erased(erasures: Sequence[Erasure]) -> tuple[str, dict[str, object]]:
    """Return SQL that holds for rows that were not erased, and its parameters."""
    conditions: list[str] = []
    parameters: dict[str, object] = {}
    for number, erasure in enumerate(erasures):
        terms = [f"timestamp <= CAST($until{number} AS TIMESTAMP)"]
        parameters[f"until{number}"] = erasure.until.removesuffix("Z")
        if erasure.caller_sha256 is not None:
            terms.append(f"sha256(caller) = $caller{number}")
            parameters[f"caller{number}"] = erasure.caller_sha256
        if erasure.session_sha256:
            terms.append(f"sha256(session_id) IN (SELECT unnest($sessions{number}))")
            parameters[f"sessions{number}"] = list(erasure.session_sha256)
        if erasure.before is not None:
            terms.append(f"timestamp < CAST($before{number} AS TIMESTAMP)")
            parameters[f"before{number}"] = erasure.before.removesuffix("Z")
        conditions.append(f"NOT coalesce({' AND '.join(terms)}, false)")
    return " AND ".join(conditions) or "true", parameters
