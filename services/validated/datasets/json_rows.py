"""JSONL: an object a line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TextIO

from validated.datasets.dataset import Column, ColumnType
from validated.datasets.text_rows import BATCH_ROWS, Match, TextRows, is_escaped


class JsonRows(TextRows):
    """A file of JSON objects. A name that stands nowhere is an absent column; a value must be what its column is."""

    def _rows(self, text: TextIO, match: Match) -> Iterator[list[Sequence[str]]]:
        """Rows of JSONL. Their names together are the header; each batch may add some."""
        names: dict[str, None] = {}
        columns: list[tuple[Column, str | None]] = []
        rows = self._parsed(text)
        while batch := list(itertools.islice(rows, BATCH_ROWS)):
            known = len(names)
            for _, each in batch:
                names.update(dict.fromkeys(each))
            if len(names) != known or not columns:
                used = match(list(names))
                columns = [(column, used.get(column.name)) for column in self._dataset.columns]
            yield [
                [self._as_text(row, column, each.get(name)) if name else "" for column, name in columns]
                for row, each in batch
            ]
        if not names:
            raise self._refusal(0, "", "is empty; every line must be a JSON object")

    def _find_escaped(self, text: TextIO) -> tuple[int, str, str]:
        return next(((row, "", "") for row, line in enumerate(text, 1) if is_escaped(line)), (0, "", ""))

    def _parsed(self, text: TextIO) -> Iterator[tuple[int, dict[str, Any]]]:
        for row, line in enumerate(text, 1):
            if not line.strip():
                while rest := text.read(1 << 16):
                    if rest.strip():
                        raise self._refusal(row, "", "is a blank line in the middle; remove it")
                return
            try:
                # A decimal keeps the digits that it is written with.
                each = json.loads(line, object_pairs_hook=_distinct, parse_float=Decimal)
            except _RepeatedName as error:
                raise self._refusal(row, str(error)[:80], "stands twice in the object; keep one") from None
            except (ValueError, RecursionError, InvalidOperation) as error:
                raise self._refusal(row, "", f"is no JSON ({str(error)[:100]}); write one object a line") from None
            if not isinstance(each, dict):
                raise self._refusal(row, "", "is no JSON object; write one object a line")
            yield row, each

    def _as_text(self, row: int, column: Column, value: Any) -> str:
        kind = column.type
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            if kind is ColumnType.FLAG:
                return "true" if value else "false"
        elif isinstance(value, int):
            if (
                kind not in (ColumnType.NAME, ColumnType.LABELS, ColumnType.INSTANT, ColumnType.DATE)
                and abs(value) < 1 << 63
            ):
                return str(value)
        elif isinstance(value, Decimal):
            if kind in (ColumnType.LATITUDE, ColumnType.LONGITUDE):
                return repr(float(value))
            if kind is ColumnType.DECIMAL:
                return str(value)
        elif isinstance(value, list) and kind is ColumnType.LABELS:
            return json.dumps(value, ensure_ascii=False)
        what = {
            bool: "a boolean",
            int: "a number",
            float: "a number",
            Decimal: "a number",
            list: "a list",
            dict: "an object",
        }[type(value)]
        raise self._refusal(row, column.name, f"is {what} where {column.type} belongs; write it as text")


class _RepeatedName(Exception):  # noqa: N818  it never leaves this file
    pass


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    each = dict(pairs)
    if len(each) != len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedName(next(name for name in names if names.count(name) > 1))
    return each
