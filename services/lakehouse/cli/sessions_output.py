"""How `lakehouse sessions` speaks: options, tables, JSON, progress, and errors that say what to do."""

from __future__ import annotations

import base64
import csv
import functools
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar
from uuid import UUID

import click

from lakehouse.cli.exit_status import SystemFault, WrongRequest
from lakehouse.sessions.lake.errors import LakeUnavailableError, PublishRefusedError
from lakehouse.sessions.query.inert_text import escaped, one_line
from lakehouse.sessions.query.reader import QueryRefusedError, SessionReader
from lakehouse.sessions.store.names import DEFAULT_LOG_PATH, LOG_NAME
from lakehouse.sessions.store.segments import SessionLogUnavailableError
from lakehouse.sessions.upkeep.closing import CompactionRefusedError

if TYPE_CHECKING:
    from rich.progress import Progress

    from lakehouse.sessions.lake.table import LakeTable

_P = ParamSpec("_P")
_R = TypeVar("_R")

CELL_CHARS_MAX: Final = 200
_GAP: Final = 2
# Errors whose message says what to do.
_WITH_ADVICE: Final = (
    SessionLogUnavailableError,
    QueryRefusedError,
    CompactionRefusedError,
    LakeUnavailableError,
    PublishRefusedError,
)


def safe(text: str) -> str:
    """Return the text of a model or a caller for a terminal: what could steer it is shown as an escape."""
    return escaped(text)


def plural(count: object, noun: str) -> str:
    """``1 attempt``, ``2 attempts``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _log_file(_: click.Context, __: click.Parameter, value: Path) -> Path:
    """For the option's callback: refuse what can be no log's name, such as the empty one and a folder's."""
    if value.is_dir():
        raise click.BadParameter(f"{str(value)!r} is a folder: name the log in it, such as {value / LOG_NAME}")
    if value.exists() and not value.is_file():
        raise click.BadParameter(f"{str(value)!r} is no regular file")
    return value


def log_option(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Add `--log` as `log_path`."""
    return click.option(
        "--log",
        "log_path",
        envvar="LAKEHOUSE_SESSION_LOG",
        default=DEFAULT_LOG_PATH,
        show_default=True,
        show_envvar=True,
        type=click.Path(path_type=Path),
        callback=_log_file,
        help="The live session log; rotated files and Parquet are found beside it.",
    )(function)


def json_option(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Add `--json` as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def one_line_errors(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Turn the errors that a person can act on into one line and their exit status."""

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except _WITH_ADVICE as error:
            # A query that is refused is the person's, a log that is not there the machine's.
            raise (WrongRequest if isinstance(error, QueryRefusedError) else SystemFault)(str(error)) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            raise SystemFault(f"{error.filename or 'the log'}: {error.strerror or error}") from None

    return wrapped


class ProgressDisplay:
    """A bar on stderr when that is a terminal, and nothing otherwise. Used by one command at a time."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=None) if progress else None

    def start(self, description: str, total: int | None) -> None:
        """Begin a piece of work of ``total`` bytes, or of unknown length."""
        if self._progress is not None and self._task is not None:
            self._progress.reset(self._task, description=description, total=total)

    def fraction(self, done: float) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=1.0, completed=done)

    def advance(self, count: int) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, count)


@contextmanager
def progress_display(description: str) -> Iterator[ProgressDisplay]:
    if not sys.stderr.isatty():
        yield ProgressDisplay(None)
        return
    from rich.console import Console  # noqa: PLC0415  a quarter of a command's start, for terminals only
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        display = ProgressDisplay(progress)
        display.start(description, None)
        yield display


@contextmanager
def open_reader(
    log_path: Path, description: str = "Reading the session log", *, lake: LakeTable | None = None
) -> Iterator[tuple[SessionReader, ProgressDisplay]]:
    """Yield the log for questions, or the table; warnings of what could not be read go to stderr at the end."""
    with ExitStack() as held:
        display = held.enter_context(progress_display(description))
        if lake is None:
            reader = held.enter_context(SessionReader(log_path, progress=display.fraction))
        else:
            from lakehouse.sessions.lake.reading import TableReader  # noqa: PLC0415  for who reads the table

            reader = held.enter_context(TableReader(lake, progress=display.fraction))
        try:
            yield reader, display
        finally:
            for warning in reader.warnings:
                click.echo(f"Warning: {warning}", err=True)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=json_value))


def json_value(value: object) -> object:
    """Return what JSON has no type for, of DuckDB's values: times as RFC 3339 in UTC, decimals and intervals as
    text."""
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds") + ("Z" if value.tzinfo is None else "")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else str(value)
    if isinstance(value, timedelta | UUID):
        return str(value)
    return str(value)


def print_json_rows(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print an array of objects, an object a line, as the rows come."""
    separator = "[\n"
    for row in rows:
        fields = {name: _finite(value) for name, value in zip(names, row, strict=True)}
        click.echo(separator + json.dumps(fields, ensure_ascii=False, default=json_value), nl=False)
        separator = ",\n"
    click.echo("[]" if separator == "[\n" else "\n]")


def print_csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """RFC 4180; lists and structs as JSON, NULL as nothing."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_flat(value) for value in row] for row in rows)


def print_table(names: Sequence[str], rows: Iterable[Sequence[object]], *, right: frozenset[str] = frozenset()) -> None:
    """Columns as wide as their widest cell; a cell is one line of at most ``CELL_CHARS_MAX`` characters. Where the
    terminal is narrower than that, a block for each row.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(name), *(len(row[place]) for row in cells)]) for place, name in enumerate(names)]
    columns = _columns()
    if columns and sum(widths) + _GAP * (len(widths) - 1) > columns:
        _print_blocks(names, cells, columns)
        return
    click.secho(_line(names, widths, names, right), bold=True)
    for row in cells:
        click.echo(_line(row, widths, names, right))


def _columns() -> int:
    """How wide the reader's terminal is; 0 where there is none, and nothing has to fit."""
    if not (sys.stdout.isatty() or "COLUMNS" in os.environ):
        return 0
    return shutil.get_terminal_size().columns


def _print_blocks(names: Sequence[str], cells: Sequence[Sequence[str]], columns: int) -> None:
    indent = max(map(len, names)) + _GAP
    for number, row in enumerate(cells):
        if number:
            click.echo()
        for name, cell in zip(names, row, strict=True):
            parts = textwrap.wrap(cell, max(columns - indent, 20)) or [""]
            for place, part in enumerate(parts):
                head = click.style(name.ljust(indent), bold=True) if place == 0 else " " * indent
                click.echo((head + part).rstrip())


def _line(cells: Sequence[str], widths: Sequence[int], names: Sequence[str], right: frozenset[str]) -> str:
    padded = (
        cell.rjust(width) if name in right else cell.ljust(width)
        for cell, width, name in zip(cells, widths, names, strict=True)
    )
    return (" " * _GAP).join(padded).rstrip()


def _cell(value: object) -> str:
    return one_line(_flat(value), CELL_CHARS_MAX)


def _flat(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=json_value)
    if isinstance(value, int | float):
        return str(value)
    return str(json_value(value))


def _finite(value: object) -> object:
    # JSON has no NaN and no infinity.
    return str(value) if isinstance(value, float) and value - value != 0 else value
