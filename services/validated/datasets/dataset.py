"""What a table of ground truth is made of: named columns with types, and the columns that are its key."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

TEXT_CHARS_MAX: Final = 200
_CAMEL: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


class ColumnType(StrEnum):
    """How the values of a column are read, and what is refused in them."""

    ID = "id"
    """Text of 1 to 200 printing characters without spaces at its ends. Whole numbers of a typed file do as well."""
    NAME = "name"
    """The same, never a number."""
    TEXT = "text"
    """Text of at most 200 characters, spaces at its ends cut; may be empty."""
    FLAG = "flag"
    """One of the spellings of `columns.ACTIVE`; never empty where the column is there."""
    LABELS = "labels"
    """A list of texts, its JSON text, or texts separated by ";"."""
    LATITUDE = "latitude"
    LONGITUDE = "longitude"
    """Degrees, WGS 84; both or neither."""
    INSTANT = "instant"
    """RFC 3339 with an offset."""
    INTEGER = "integer"
    """A whole number of at most 18 digits, written plainly."""
    DECIMAL = "decimal"
    """A decimal number of at most 18 digits before and 18 after the point, without exponent. Never a float."""
    DATE = "date"
    """A day as YYYY-MM-DD."""


class Opposites(NamedTuple):
    """Names of columns that say the opposite of one of ours, in lower case."""

    stems: tuple[str, ...]
    """What a word of such a name begins with."""
    phrases: frozenset[str]
    """Such names, or what they begin with, folded by `fold_header`."""
    perhaps: frozenset[str]
    """Words that say it where somebody maps the column, and may be about something else where nobody does."""

    def has(self, name: str, *, is_mapped: bool) -> bool:
        """Whether a column called `name` says the opposite."""
        words = header_words(name)
        return (
            any(word.startswith(self.stems) for word in words)
            or fold_header(name).removeprefix("is").startswith(tuple(self.phrases))
            or (is_mapped and not self.perhaps.isdisjoint(words))
        )


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a dataset."""

    name: str
    type: ColumnType
    required: bool = False
    may_be_empty: bool | None = None
    """Whether a row may have no value here. None: as the type has it."""
    synonyms: tuple[str, ...] = ()
    """What others call such a column, folded by `fold_header`."""
    absent: str = ""
    """What a table without this column means, for people."""
    is_favourable: bool = False
    """Whether its absence speaks for somebody: then a synonym beside it is refused as well."""
    opposites: Opposites | None = None
    """How a column is called that says the opposite: its yes is our no."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table of ground truth."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    is_unique: bool
    """Whether a key stands in one row at most."""
    setting: str = "roster"
    """The table of the configuration that names its files, for those who have to mend it."""
    when_empty: str = "an empty roster would make everybody a phantom"
    can_be_mapped: bool = True
    """Whether the configuration can say what its columns are called elsewhere."""

    def column(self, name: str) -> Column:
        """Return the column called `name`."""
        return next(column for column in self.columns if column.name == name)


@dataclass(frozen=True, slots=True)
class TableFiles:
    """Where the rows of a dataset stand, and how they are written. Nothing of it is guessed from the rows."""

    path: Path
    """A file, or a folder of files of one format."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Our name of a column to the file's, where they differ."""
    ignore_columns: frozenset[str] = frozenset()
    """The file's columns that look like ours and are not."""
    delimiter: str = ","
    """Of .csv; .tsv has tabs."""
    encoding: str = "utf-8"
    """Of .csv, .tsv and .jsonl."""


class Problem(NamedTuple):
    """One thing that makes a table unusable."""

    file: str
    row: int
    """From 1, the header not counted; 0 for the file as a whole."""
    column: str
    text: str
    """What is wrong and what to do."""

    def __str__(self) -> str:
        place = f"row {self.row}" if self.row else ""
        where = ", ".join(part for part in (place, self.column) if part)
        return f"{self.file}: {where}: {self.text}" if where else f"{self.file}: {self.text}"


class Problems:
    """Problems of several tables, the first ones kept and all counted."""

    def __init__(self, kept_max: int) -> None:
        self.kept_max = kept_max
        self.kept: list[Problem] = []
        self.left_out = 0

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self.kept or self.left_out)

    def add(self, problem: Problem) -> None:
        """Keep `problem`, or count it."""
        if len(self.kept) < self.kept_max:
            self.kept.append(problem)
        else:
            self.left_out += 1


class RefusedError(Exception):
    """What the files hold cannot be used; trying again without a change changes nothing."""

    def __init__(self, *problems: Problem, left_out: int = 0, is_unfit: bool = False) -> None:
        super().__init__(str(problems[0]))
        self.problems = problems
        self.left_out = left_out
        self.is_unfit = is_unfit
        """Whether the table is no longer what the configuration says: then what was read of it before may not be
        believed either."""


class UnreadableError(Exception):
    """The files cannot be read now; later they may."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def fold_header(name: str) -> str:
    """Return a column's name as it is compared with others: letters and digits alone, in lower case, of one width."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


def header_words(name: str) -> list[str]:
    """Return the words of a column's name in lower case, those of camelCase as well."""
    return [word.lower() for word in re.findall(r"[^\W\d_]+", _CAMEL.sub(" ", name))]
