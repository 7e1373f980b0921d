"""The judgement of one fixture's rows: whole rows of this schema first, equal bytes second.

Equal outputs prove nothing where all are empty, or all the same error; so each is held to be a row by itself before
it is compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

# Timestamp and daemon, which each writer stamps by itself, where the key order puts them: a string of a fixture that
# looks like them stands elsewhere.
_STAMPS = re.compile(
    rb'\A(\{"schema":"session\.iterate\.v1","session_id":"(?:[^"\\]|\\.)*","timestamp":")'
    rb'(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)(","daemon":")([^"]*)(")'
)
_AROUND = 40


class UnsoundRowError(Exception):
    """An output that is no row of this schema by this writer; the message says why."""


def blanked(row: bytes, daemon: str) -> bytes:
    """Return the row, without its LF, with timestamp and daemon emptied.

    Raises:
        UnsoundRowError: it is empty, not one JSON object in one line, of another schema, or stamped wrongly.
    """
    if not row:
        raise UnsoundRowError("empty")
    if b"\n" in row or b"\r" in row:
        raise UnsoundRowError("more than one line")
    try:
        value = json.loads(row)
    except ValueError as error:
        raise UnsoundRowError(f"not JSON ({error}): {_excerpt(row, 0)}") from None
    if not isinstance(value, dict) or value.get("schema") != "session.iterate.v1":
        raise UnsoundRowError(f"not an object of schema session.iterate.v1: {_excerpt(row, 0)}")
    stamps = _STAMPS.match(row)
    if stamps is None:
        raise UnsoundRowError(f"schema, session_id, timestamp, daemon do not open it: {_excerpt(row, 0)}")
    if stamps[4] != daemon.encode():
        raise UnsoundRowError(f"its daemon is {stamps[4]!r}, not {daemon}")
    return _STAMPS.sub(rb"\1\3\5", row)


def problems(rows: Mapping[str, tuple[str, bytes]], golden: bytes | None) -> list[str]:
    """Return what is wrong with the rows of one fixture; nothing is wrong with an empty list.

    Args:
        rows: for each language, the daemon that it stamps and the row that it printed, without LF.
        golden: the committed row with timestamp and daemon emptied; None where there is none yet, which is a
            problem too.
    """
    found: list[str] = []
    sound: dict[str, bytes] = {}
    for language, (daemon, row) in rows.items():
        try:
            sound[language] = blanked(row, daemon)
        except UnsoundRowError as error:
            found.append(f"{language}: {error}")
    if not rows:
        found.append("no writer ran")
    if golden is None:
        found.append("no golden row is committed (--update-golden writes it)")
    others = dict(sound)
    if golden is not None:
        reference, expected = "golden", golden
    elif sound:
        reference, expected = next(iter(sound.items()))
        del others[reference]
    else:
        return found
    for language, row in others.items():
        if row != expected:
            found.append(f"{language} differs from {reference} {difference(row, expected)}")
    return found


def agreed(rows: Mapping[str, tuple[str, bytes]]) -> bytes | None:
    """Return the one blanked row that all writers printed; None unless all are sound and equal."""
    try:
        distinct = {blanked(row, daemon) for daemon, row in rows.values()}
    except UnsoundRowError:
        return None
    return distinct.pop() if len(distinct) == 1 else None


def difference(left: bytes, right: bytes) -> str:
    """Where two outputs part, with what stands there in each."""
    at = next((at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
    return f"at byte {at}: {_excerpt(left, at)} against {_excerpt(right, at)}"


def _excerpt(row: bytes, at: int) -> str:
    return repr(row[max(0, at - _AROUND // 2) : at + _AROUND])
