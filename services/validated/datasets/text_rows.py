"""Rows of CSV, TSV and JSONL, read once and strictly, and written down in one form that leaves nothing to interpret:
a line for each row, the columns that are read parted by U+001F, nothing quoted. DuckDB reads that form.

What does not fit is refused with its row: a short or long row, a second header, mixed line ends, bytes that are no
text, a value that is no text where one belongs.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, TextIO

from validated.datasets.dataset import Column, ColumnType, Dataset, Problem, RefusedError

SEPARATOR: Final = "\x1f"
_BATCH_ROWS: Final = 4096
_BLOCK_BYTES: Final = 1 << 20
_NOT_PLAIN: Final = (b'"', b"\r", b"\x00", b"\x1f")
FIELD_CHARS_MAX: Final = 100_000
LINE_BYTES_MAX: Final = 16_000_000

Match = Callable[[Sequence[str]], dict[str, str]]
"""Our columns to those of a header; raises RefusedError."""


class TextRows:
    """One file of text, unpacked already."""

    def __init__(self, dataset: Dataset, shown: str, path: Path, *, encoding: str, delimiter: str | None) -> None:
        """`shown` is the name for people; `delimiter` None: JSONL."""
        self._dataset = dataset
        self._shown = shown
        self._path = path
        self._encoding = encoding
        self._delimiter = delimiter
        self.line_count = 0
        """Lines after the header; known after `plain_header`."""

    def write(self, match: Match, out: TextIO, *, rows_max: int) -> int:
        """Write the rows to `out`, the columns in the order of the dataset, an absent one empty; how many there are.
        Raises RefusedError.
        """
        self._check_mark()
        csv.field_size_limit(FIELD_CHARS_MAX)
        try:
            with self._open() as text:
                rows = self._delimited(text, match) if self._delimiter else self._objects(text, match)
                return self._write(rows, out, rows_max)
        except UnicodeDecodeError:
            raise self._locate_bad_bytes() from None

    def plain_header(self) -> list[str] | None:
        """The header of a file that leaves nothing to interpret, None where it is no such file: UTF-8, lines that end
        with LF, no quote, and just as many delimiters as its lines need. Whoever reads it has to find as many rows as
        it has lines, all of the header's width; then they are what `write` would give.
        """
        if self._delimiter is None or codecs.lookup(self._encoding).name != "utf-8":
            return None
        self._check_mark()
        header: list[str] = []
        lines = delimiters = 0
        last = b""
        decode = codecs.getincrementaldecoder("utf-8")().decode
        with self._path.open("rb") as file, contextlib.suppress(UnicodeDecodeError):
            first = file.readline(LINE_BYTES_MAX)
            if first.startswith(codecs.BOM_UTF8):
                return None
            file.seek(0)
            while block := file.read(_BLOCK_BYTES):
                if any(each in block for each in _NOT_PLAIN):
                    return None
                lines += block.count(b"\n")
                delimiters += block.count(self._delimiter.encode())
                last = block[-1:]
                decode(block)
            decode(b"", True)  # noqa: FBT003  its own signature
            header = first.decode().rstrip("\n").split(self._delimiter)
        if not header:
            return None
        self.line_count = lines + (last not in (b"", b"\n")) - 1
        if delimiters != (self.line_count + 1) * (len(header) - 1) or not any(header):
            return None
        self._check_header(header)
        return header

    def _open(self, errors: str = "strict") -> TextIO:
        encoding = "utf-8-sig" if codecs.lookup(self._encoding).name == "utf-8" else self._encoding
        return self._path.open(encoding=encoding, newline="", errors=errors)

    def _check_mark(self) -> None:
        with self._path.open("rb") as file:
            start = file.read(4)
        named = codecs.lookup(self._encoding).name
        for mark, name in (
            (codecs.BOM_UTF8, "utf-8"),
            (codecs.BOM_UTF16_LE, "utf-16"),
            (codecs.BOM_UTF16_BE, "utf-16"),
        ):
            if start.startswith(mark) and not named.startswith(name):
                raise self._refusal(
                    0,
                    "",
                    f'is {name.upper()} and was to be {named}; save it as UTF-8 (or set roster.encoding = "{name}")',
                )
        if b"\x00" in start and not named.startswith(("utf-16", "utf-32")):
            raise self._refusal(0, "", "begins with zero bytes, as UTF-16 has them; save it as UTF-8")

    def _write(self, batches: Iterator[list[Sequence[str]]], out: TextIO, rows_max: int) -> int:
        count = 0
        width = len(self._dataset.columns)
        for batch in batches:
            count += len(batch)
            if count > rows_max:
                raise self._refusal(0, "", f"more than {rows_max} rows; raise roster.rows_max")
            lines = list(map(SEPARATOR.join, batch))
            chunk = "\n".join(lines)
            if (
                chunk.count("\n") != len(batch) - 1
                or chunk.count(SEPARATOR) != len(batch) * (width - 1)
                or "\r" in chunk
                or "\x00" in chunk
            ):
                self._refuse_control(batch, count - len(batch))
            try:
                out.write(chunk + "\n")
            except UnicodeEncodeError:
                self._refuse_control(batch, count - len(batch))
                raise
        return count

    def _refuse_control(self, batch: Sequence[Sequence[str]], before: int) -> None:
        for row, values in enumerate(batch, before + 1):
            for column, value in zip(self._dataset.columns, values, strict=True):
                if any(each in "\n\r\x00" + SEPARATOR or "\ud800" <= each <= "\udfff" for each in value):
                    raise self._refusal(
                        row, column.name, f"{value[:80]!a} holds characters that do not print; remove them"
                    )

    def _delimited(self, text: TextIO, match: Match) -> Iterator[list[Sequence[str]]]:
        assert self._delimiter is not None  # noqa: S101  the caller looked
        reader = csv.reader(text, delimiter=self._delimiter, strict=True)
        row = 0
        try:
            header = next(reader, None)
            if header is None or not any(header):
                raise self._refusal(0, "", "is empty or begins with a blank line; its first line must name the columns")
            self._check_header(header)
            pick = self._picker(header, match(header))
            width = len(header)
            while batch := list(itertools.islice(reader, _BATCH_ROWS)):
                if set(map(len, batch)) != {width}:
                    batch = self._whole_rows(batch, header, row, reader)
                if header in batch:
                    text_ = "repeats the header; two files were put together: remove the line"
                    raise self._refusal(row + batch.index(header) + 1, "", text_)
                yield list(map(pick, batch))
                row += len(batch)
        except csv.Error as error:
            raise self._locate_csv_error(str(error)) from None
        newlines = text.newlines
        if isinstance(newlines, tuple):
            self._check_line_ends()

    def _check_header(self, header: Sequence[str]) -> None:
        for name in header:
            if not name.isprintable() or name != name.strip():
                problem = (
                    "has spaces around it; trim it" if name.isprintable() else "holds characters that do not print"
                )
                raise self._refusal(0, ascii(name[:80])[1:-1], f"the header's name {problem}")
            if not name:
                raise self._refusal(0, "", "the header has a column without a name; name it, or drop the delimiter")
        if len(header) == 1:
            for other in (";", "\t", ",", "|"):
                if other in header[0]:
                    text = f"the header seems to be parted by {other!r}; set roster.delimiter = {json.dumps(other)}"
                    raise self._refusal(0, "", text)

    def _picker(self, header: Sequence[str], used: dict[str, str]) -> Callable[[list[str]], Sequence[str]]:
        # An absent column stands at an index past the end of the row, which `pick` makes empty.
        at = [
            header.index(used[column.name]) if column.name in used else len(header) for column in self._dataset.columns
        ]
        get = itemgetter(*at)
        if len(header) not in at:
            # Two columns or more, so that it gives a tuple.
            return get

        def pick(row: list[str]) -> Sequence[str]:
            row.append("")
            return get(row)  # type: ignore[no-any-return]  # as above

        return pick

    def _whole_rows(
        self, batch: list[list[str]], header: list[str], before: int, reader: Iterable[list[str]]
    ) -> list[list[str]]:
        """`batch` without blank lines at the end of the file. Raises RefusedError for every other odd row."""
        if not any(batch[-1]):
            # Blank lines at the very end are harmless.
            rest = next((row for row in reader if row), None)
            while rest is None and batch and not batch[-1]:
                batch.pop()
        for row, values in enumerate(batch, before + 1):
            if len(values) == len(header):
                continue
            if not values:
                raise self._refusal(row, "", "is a blank line in the middle; remove it")
            if values[: len(header)] == header or header[: len(values)] == values:
                text = "repeats the header, with other columns; two files were put together: keep them apart"
            elif len(values) < len(header):
                text = f"has {len(values)} of {len(header)} columns: a short row, or a footer; mend or remove it"
            else:
                text = f"has {len(values)} columns where the header has {len(header)}; quote what holds the delimiter"
            column = header[min(len(values), len(header) - 1)]
            raise self._refusal(row, column, text)
        return batch

    def _check_line_ends(self) -> None:
        """Only those of rows count: a line break inside quotes is the value's own."""
        last = ""

        def watched(text: TextIO) -> Iterator[str]:
            nonlocal last
            for line in text:
                last = line
                yield line

        with self._open() as text:
            first = ""
            for row, _ in enumerate(csv.reader(watched(text), delimiter=self._delimiter or ",", strict=True)):
                end = last[len(last.rstrip("\r\n")) :]
                first = first or end
                if end and end != first:
                    text_ = (
                        f"ends with {end!r} where the rows before end with {first!r}; save it with one sort of line end"
                    )
                    raise self._refusal(row, "", text_)

    def _locate_csv_error(self, says: str) -> RefusedError:
        row = 0
        with self._open("replace") as text, contextlib.suppress(csv.Error):
            for row, _ in enumerate(csv.reader(text, delimiter=self._delimiter or ",", strict=True), 1):  # noqa: B007
                pass
        if "field larger" in says:
            says = f"a value is longer than {FIELD_CHARS_MAX} characters: is a quote not closed?"
        return self._refusal(row, "", f"{says}; quote values by RFC 4180")

    def _locate_bad_bytes(self) -> RefusedError:
        advice = f'is not {self._encoding}; save the file as UTF-8, or set roster.encoding (such as "cp1252")'
        with self._open("surrogateescape") as text:
            if self._delimiter is None:
                for row, line in enumerate(text, 1):
                    if _is_escaped(line):
                        return self._refusal(row, "", advice)
            else:
                header: list[str] = []
                try:
                    for row, values in enumerate(csv.reader(text, delimiter=self._delimiter)):
                        header = header or values
                        for at, value in enumerate(values):
                            if _is_escaped(value):
                                column = header[at] if at < len(header) and row else ""
                                return self._refusal(row, column, f"{value[:80]!a} {advice}")
                except csv.Error:
                    pass
        return self._refusal(0, "", advice)

    def _objects(self, text: TextIO, match: Match) -> Iterator[list[Sequence[str]]]:
        """Rows of JSONL. Their names together are the header; each batch may add some."""
        names: dict[str, None] = {}
        columns: list[tuple[Column, str | None]] = []
        rows = self._parsed(text)
        while batch := list(itertools.islice(rows, _BATCH_ROWS)):
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

    def _parsed(self, text: TextIO) -> Iterator[tuple[int, dict[str, Any]]]:
        for row, line in enumerate(text, 1):
            if not line.strip():
                while rest := text.read(1 << 16):
                    if rest.strip():
                        raise self._refusal(row, "", "is a blank line in the middle; remove it")
                return
            try:
                each = json.loads(line, object_pairs_hook=_distinct)
            except _RepeatedName as error:
                raise self._refusal(row, str(error)[:80], "stands twice in the object; keep one") from None
            except (ValueError, RecursionError) as error:
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
            if kind not in (ColumnType.NAME, ColumnType.LABELS, ColumnType.INSTANT) and abs(value) < 1 << 63:
                return str(value)
        elif isinstance(value, float):
            if kind in (ColumnType.LATITUDE, ColumnType.LONGITUDE):
                return repr(value)
        elif isinstance(value, list) and kind is ColumnType.LABELS:
            return json.dumps(value, ensure_ascii=False)
        what = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}[type(value)]
        raise self._refusal(row, column.name, f"is {what} where {column.type} belongs; write it as text")

    def _refusal(self, row: int, column: str, text: str) -> RefusedError:
        return RefusedError(Problem(self._shown, row, column, text))


class _RepeatedName(Exception):  # noqa: N818  it never leaves this file
    pass


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    each = dict(pairs)
    if len(each) != len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedName(next(name for name in names if names.count(name) > 1))
    return each


def _is_escaped(text: str) -> bool:
    return any("\udc80" <= each <= "\udcff" for each in text)
