"""How an engine is asked and answers: a question as JSON on standard input, one line of JSON as the answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from bench.engines.questions import Dialect, questions, row_digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the table is."""

    location: str
    """Its folder: ``file:///…`` or ``s3://…``."""
    metadata: str
    """Its metadata file at this moment."""
    snapshot_id: int
    catalog_uri: str
    """Of the SQL catalog, as SQLAlchemy has it."""
    s3: dict[str, str] = field(default_factory=dict)
    """``endpoint``, ``key``, ``secret``, ``region`` of the bucket's server; empty for a folder."""

    @property
    def folder(self) -> str:
        """The path of a table on this machine."""
        return self.location.removeprefix("file://")


def read_place() -> Place:
    """Return what this process was asked about."""
    return Place(**json.load(sys.stdin))


def answer(
    name: str,
    dialect: Dialect,
    query: Callable[[str], Iterable[Sequence[Any]]],
    rows: Iterable[dict[str, Any]],
    *,
    null_lists: bool = True,
) -> None:
    """Print the answer to everything."""
    sys.stdout.write(json.dumps(asked(name, dialect, query, rows, null_lists=null_lists)) + "\n")


def asked(
    name: str,
    dialect: Dialect,
    query: Callable[[str], Iterable[Sequence[Any]]],
    rows: Iterable[dict[str, Any]],
    *,
    null_lists: bool = True,
) -> dict[str, Any]:
    """Ask everything and return the answer. ``rows``: all rows, each by its columns; ``null_lists``: see
    ``canonical``."""
    figures = {
        each: sorted(([_plain(value) for value in row] for row in query(sql)), key=repr)
        for each, sql in questions(dialect).items()
    }
    digests: dict[str, list[str]] = {}
    for row in rows:
        key, digest = row_digest(row, null_lists=null_lists)
        digests.setdefault(key, []).append(digest)
    return {"engine": name, "null_lists": null_lists, "figures": figures, "rows": digests}


def _plain(value: Any) -> Any:
    """Return a figure as JSON has it: a sum of integers is one, whatever an engine makes of it."""
    if isinstance(value, Decimal) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    return value
