"""What is looked at beside the look-ups of a roster in PostgreSQL: the rows of the companions, and what is taken for
granted.
"""

from __future__ import annotations

from typing import Any

import psycopg
import structlog

from validated.config import RosterTable
from validated.datasets.postgres_shape import Shape
from validated.datasets.postgres_statements import Statements

_log = structlog.get_logger()


async def find_strays(
    connection: psycopg.AsyncConnection[Any], table: RosterTable, shape: Shape, statements: Statements
) -> str:
    """Return what is wrong with the rows of the companions; empty where nothing is, or where they are too many to
    read."""
    for companion in shape.companions.values():
        try:
            cursor = await connection.execute(statements.strays(companion))
        except psycopg.errors.QueryCanceled:
            _log.warning("companion not audited", table=companion.shown, advice="raise statement_timeout_ms")
            continue
        rows, spaced, unknown = (await cursor.fetchall())[0]
        if spaced:
            return (
                f"{companion.shown}: {spaced} of {rows} rows have no text, one for all, spaces around it or what "
                "does not print; mend them"
            )
        total = f"{companion.shown}: {unknown} of {rows} rows name a worker who is not in the roster"
        if unknown > table.companions_unknown_max * rows:
            limit = f"more than {table.companions_unknown_max:.2%}"
            return f"{total}: {limit}; write the ids as the roster does, or raise roster.companions_unknown_max"
        if unknown:
            _log.warning("roster companion", problem=f"{total}; ignored")
    return ""


def notes_of(shape: Shape) -> list[str]:
    """Return what is not read, and what is taken for granted."""
    notes = []
    for table in shape.tables():
        notes += [f"{table.shown} has no {name}: {meaning}" for name, meaning in table.matched.defaulted.items()]
        if table.row_security:
            notes.append(f"{table.shown}: row-level security may hide rows; who is hidden is a phantom")
    return notes
