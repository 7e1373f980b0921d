"""Rows of CSV, TSV and JSONL, read once and strictly, and written down in one form that leaves nothing to interpret:
a line for each row, the columns that are read parted by U+001F, nothing quoted. DuckDB reads that form.

What does not fit is refused with its row: a short or long row, a second header, mixed line ends, bytes that are no
text, a value that is no text where one belongs.
"""

from __future__ import annotations

import abc
import codecs
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, TextIO

from validated.datasets.dataset import Dataset, Problem, RefusedError

SEPARATOR: Final = "\x1f"
BATCH_ROWS: Final = 4096
FIELD_CHARS_MAX: Final = 100_000
LINE_BYTES_MAX: Final = 16_000_000

# What files of other formats begin with, and what to do.
_OTHER_FORMATS: Final = {
    b"\x1f\x8b": "packed by gzip; give its name the ending .gz",
    b"\x28\xb5\x2f\xfd": "packed by zstd; give its name the ending .zst",
    b"PK\x03\x04": "a zip archive, as a spreadsheet is one; export the sheet as CSV UTF-8",
    b"PAR1": "Parquet; give its name the ending .parquet",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet; export the sheet as CSV UTF-8",
    b"BZh": "packed by bzip2; pack it by gzip or zstd",
    b"\xfd7zX": "packed by xz; pack it by gzip or zstd",
    b"%PDF": "a PDF; export the table as CSV UTF-8",
}

Match = Callable[[Sequence[str]], dict[str, str]]
"""Our columns to those of a header; raises RefusedError."""


class RowWriter:
    """Writes rows in the one form, and refuses what it cannot hold."""

    def __init__(self, dataset: Dataset, shown: str, out: TextIO, *, rows_max: int) -> None:
        """`shown` is the name of the file or the table for people."""
        self._dataset = dataset
        self._shown = shown
        self._out = out
        self._rows_max = rows_max
        self.count = 0
        """How many rows were written."""

    def add(self, batch: Sequence[Sequence[str]]) -> None:
        """Write rows, each with the columns of the dataset in their order. Raises RefusedError."""
        before = self.count
        self.count += len(batch)
        if self.count > self._rows_max:
            text = f"more than {self._rows_max} rows; raise {self._dataset.setting}.rows_max"
            raise RefusedError(Problem(self._shown, 0, "", text))
        width = len(self._dataset.columns)
        chunk = "\n".join(map(SEPARATOR.join, batch))
        if (
            chunk.count("\n") != len(batch) - 1
            or chunk.count(SEPARATOR) != len(batch) * (width - 1)
            or "\r" in chunk
            or "\x00" in chunk
        ):
            self._refuse_control(batch, before)
        try:
            self._out.write(chunk + "\n")
        except UnicodeEncodeError:
            self._refuse_control(batch, before)
            raise

    def _refuse_control(self, batch: Sequence[Sequence[str]], before: int) -> None:
        for row, values in enumerate(batch, before + 1):
            for column, value in zip(self._dataset.columns, values, strict=True):
                if any(each in "\n\r\x00" + SEPARATOR or "\ud800" <= each <= "\udfff" for each in value):
                    text = f"{value[:80]!a} holds characters that do not print; remove them"
                    raise RefusedError(Problem(self._shown, row, column.name, text))


class TextRows(abc.ABC):
    """One file of text, unpacked already."""

    def __init__(self, dataset: Dataset, shown: str, path: Path, *, encoding: str) -> None:
        """`shown` is the name for people."""
        self._dataset = dataset
        self._shown = shown
        self._path = path
        self._encoding = encoding

    def write(self, match: Match, out: TextIO, *, rows_max: int) -> int:
        """Write the rows to `out`, the columns in the order of the dataset, an absent one empty; how many there are.
        Raises RefusedError.
        """
        self._check_mark()
        try:
            with self._open() as text:
                writer = RowWriter(self._dataset, self._shown, out, rows_max=rows_max)
                for batch in self._rows(text, match):
                    writer.add(batch)
                return writer.count
        except UnicodeDecodeError:
            raise self._locate_bad_bytes() from None
        except UnicodeEncodeError:
            raise
        except UnicodeError as error:
            # UTF-16 without its mark, and whatever else a decoder cannot begin with.
            text_ = (
                f"is not {self._encoding} ({error}); save the file as UTF-8, or set {self._dataset.setting}.encoding"
            )
            raise self._refusal(0, "", text_) from None

    def _open(self, errors: str = "strict") -> TextIO:
        encoding = "utf-8-sig" if codecs.lookup(self._encoding).name == "utf-8" else self._encoding
        return self._path.open(encoding=encoding, newline="", errors=errors)

    def _check_mark(self) -> None:
        with self._path.open("rb") as file:
            start = file.read(4)
        named = codecs.lookup(self._encoding).name
        for mark, packed in _OTHER_FORMATS.items():
            if start.startswith(mark):
                raise self._refusal(0, "", f"is no text but {packed}")
        for mark, name in (
            (codecs.BOM_UTF32_LE, "utf-32"),
            (codecs.BOM_UTF32_BE, "utf-32"),
            (codecs.BOM_UTF8, "utf-8"),
            (codecs.BOM_UTF16_LE, "utf-16"),
            (codecs.BOM_UTF16_BE, "utf-16"),
        ):
            if not start.startswith(mark):
                continue
            if named.startswith(name):
                # The mark of UTF-32 begins like that of UTF-16.
                break
            setting = f'{self._dataset.setting}.encoding = "{name}"'
            raise self._refusal(0, "", f"is {name.upper()} and was to be {named}; save it as UTF-8 (or set {setting})")
        if not named.startswith("utf") and self._is_utf8():
            setting = f"{self._dataset.setting}.encoding"
            raise self._refusal(0, "", f'is UTF-8 and was to be {named}; leave {setting} out, or set it to "utf-8"')
        if b"\x00" in start and not named.startswith(("utf-16", "utf-32")):
            raise self._refusal(0, "", "begins with zero bytes, as UTF-16 has them; save it as UTF-8")

    def _is_utf8(self) -> bool:
        """Whether a file that was to be of an encoding with a byte a letter is UTF-8 and more than ASCII: bytes beyond
        ASCII that fit by chance are none that anybody writes.
        """
        if len(bytes(range(128, 256)).decode(self._encoding, "replace")) != 128:
            return False
        decode = codecs.getincrementaldecoder("utf-8")().decode
        beyond = False
        with self._path.open("rb") as file:
            try:
                while block := file.read(1 << 20):
                    beyond = beyond or not block.isascii()
                    decode(block)
                decode(b"", True)  # noqa: FBT003  its own signature
            except UnicodeDecodeError:
                return False
        return beyond

    @abc.abstractmethod
    def _rows(self, text: TextIO, match: Match) -> Iterator[list[Sequence[str]]]:
        """Batches of rows, each with the columns of the dataset in their order."""

    def _locate_bad_bytes(self) -> RefusedError:
        """Return the refusal of a file that is not of its encoding."""
        setting = f"{self._dataset.setting}.encoding"
        advice = f'is not {self._encoding}; save the file as UTF-8, or set {setting} (such as "cp1252")'
        with self._open("surrogateescape") as text:
            row, column, shown = self._find_escaped(text)
        return self._refusal(row, column, f"{shown} {advice}".strip())

    @abc.abstractmethod
    def _find_escaped(self, text: TextIO) -> tuple[int, str, str]:
        """Row, column and value of the first byte that is no text; 0 and empty where it is not found."""

    def _refusal(self, row: int, column: str, text: str) -> RefusedError:
        return RefusedError(Problem(self._shown, row, column, text))


def is_escaped(text: str) -> bool:
    """Whether `text` holds what `surrogateescape` makes of a byte that is no text."""
    return any("\udc80" <= each <= "\udcff" for each in text)
