"""CSV and TSV, by RFC 4180 to the letter."""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Final, TextIO

from validated.datasets.dataset import Dataset, RefusedError
from validated.datasets.text_rows import BATCH_ROWS, FIELD_CHARS_MAX, LINE_BYTES_MAX, Match, TextRows, is_escaped

_BLOCK_BYTES: Final = 1 << 20
_NOT_PLAIN: Final = (b'"', b"\r", b"\x00", b"\x1f")


class DelimitedRows(TextRows):
    """A file of rows whose values are parted by one character."""

    def __init__(self, dataset: Dataset, shown: str, path: Path, *, encoding: str, delimiter: str) -> None:
        super().__init__(dataset, shown, path, encoding=encoding)
        self._delimiter = delimiter
        parted = re.escape(delimiter)
        # A value in quotes, from the delimiter or line end before it to the one behind it.
        self._quoted = re.compile(rf'(?:\A|(?<=[{parted}\r\n]))"[^"]*(?:""[^"]*)*"(?=[{parted}\r\n]|\Z)')
        self.line_count = 0
        """Lines after the header; known after `plain_header`."""

    def plain_header(self) -> list[str] | None:
        """Return the header of a file that leaves nothing to interpret, None where it is no such file: UTF-8, lines
        that end with LF, no quote, and just as many delimiters as its lines need. Whoever reads it has to find as many
        rows as it has lines, all of the header's width; then they are what `write` would give.
        """
        if codecs.lookup(self._encoding).name != "utf-8":
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

    def _rows(self, text: TextIO, match: Match) -> Iterator[list[Sequence[str]]]:
        csv.field_size_limit(FIELD_CHARS_MAX)
        lines: list[str] = []
        reader = csv.reader(_kept(text, lines), delimiter=self._delimiter, strict=True)
        row = 0
        try:
            header = next(reader, None)
            if header is None or not any(header):
                raise self._refusal(0, "", "is empty or begins with a blank line; its first line must name the columns")
            self._check_header(header)
            lines.clear()
            pick = self._picker(header, match(header))
            width = len(header)
            while batch := list(itertools.islice(reader, BATCH_ROWS)):
                if set(map(len, batch)) != {width}:
                    batch = self._whole_rows(batch, header, row, reader)
                if header in batch:
                    text_ = "repeats the header; two files were put together: remove the line"
                    raise self._refusal(row + batch.index(header) + 1, "", text_)
                if any('"' in value for values in batch for value in values):
                    self._check_quotes(lines, row)
                lines.clear()
                yield list(map(pick, batch))
                row += len(batch)
        except csv.Error as error:
            raise self._locate_csv_error(str(error)) from None
        newlines = text.newlines
        if isinstance(newlines, tuple):
            self._check_line_ends()

    def _check_header(self, header: Sequence[str]) -> None:
        if len(header) == 1:
            for other in (";", "\t", ",", "|", "^", "~"):
                if other in header[0]:
                    setting = f"{self._dataset.setting}.delimiter"
                    text = f"the header seems to be parted by {other!r}; set {setting} = {json.dumps(other)}"
                    raise self._refusal(0, "", text)
        if header[0].lower().startswith("sep="):
            raise self._refusal(0, "", "its first line is a spreadsheet's own and names no columns; remove it")
        for name in header:
            if not name.isprintable() or name != name.strip():
                problem = (
                    "has spaces around it; trim it" if name.isprintable() else "holds characters that do not print"
                )
                raise self._refusal(0, ascii(name[:80])[1:-1], f"the header's name {problem}")
            if not name:
                text = "the header has a column without a name; name it, or drop the delimiter"
                if not any(header[1:]):
                    text = "its first line is a title and names no columns; remove it"
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
            for row, _ in enumerate(csv.reader(watched(text), delimiter=self._delimiter, strict=True)):
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
            for row, _ in enumerate(csv.reader(text, delimiter=self._delimiter, strict=True), 1):  # noqa: B007
                pass
        if "field larger" in says:
            says = f"a value is longer than {FIELD_CHARS_MAX} characters: is a quote not closed?"
        if says == "unexpected end of data":
            says = "a quote that is opened here, or in a row before, is never closed"
        return self._refusal(row, "", f"{says}; quote values by RFC 4180")

    def _find_escaped(self, text: TextIO) -> tuple[int, str, str]:
        header: list[str] = []
        with contextlib.suppress(csv.Error):
            for row, values in enumerate(csv.reader(text, delimiter=self._delimiter)):
                header = header or values
                for at, value in enumerate(values):
                    if is_escaped(value):
                        return row, header[at] if at < len(header) and row else "", f"{value[:80]!a}"
        return 0, "", ""

    def _check_quotes(self, lines: Sequence[str], before: int) -> None:
        """Raise RefusedError where a quote stands inside of an unquoted value: some read it as a letter, some not."""
        if '"' not in self._quoted.sub("", "".join(lines)):
            return
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        first = 0
        for row, _ in enumerate(reader, before + 1):
            if '"' in self._quoted.sub("", "".join(lines[first : reader.line_num])):
                text = "has a quote inside of a value that is not quoted; put the value in quotes and double its own"
                raise self._refusal(row, "", text)
            first = reader.line_num


def _kept(text: TextIO, lines: list[str]) -> Iterator[str]:
    for line in text:
        lines.append(line)
        yield line
