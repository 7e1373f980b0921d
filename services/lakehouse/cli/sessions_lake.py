"""What the commands that compact and those of the table of all replicas share: options, and the table itself."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import click

from lakehouse.cli.exit_status import WrongRequest
from lakehouse.cli.finite_numbers import HOURS_MAX, FiniteRange
from lakehouse.sessions.record import RECALL_HOURS

if TYPE_CHECKING:
    from lakehouse.sessions.lake.table import LakeTable

_P = ParamSpec("_P")
_R = TypeVar("_R")

_DURATION: Final = re.compile(r"([0-9]{1,6})(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Duration(click.ParamType[float]):
    """``60s``, ``10m``, ``2h``, ``1d``, to seconds."""

    name = "duration"

    def convert(self, value: float | str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float | int):
            return float(value)
        match = _DURATION.fullmatch(value)
        if match is None or int(match[1]) == 0:
            self.fail(f"{value!r:.60} is no duration: 60s, 10m, 2h or 1d", param, ctx)
        return int(match[1]) * _SECONDS[match[2]]


def config_option(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Add `--config`."""
    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="TOML file with the table [lake] (default: $LAKEHOUSE_CONFIG); LAKE_WAREHOUSE and the like go over it.",
    )(function)


def compaction_options(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Add `--settle-s`, `--recall-hours` and `--retention-days`: which files are compacted, and how long rows stay."""
    options = (
        click.option(
            "--settle-s",
            type=FiniteRange(0, HOURS_MAX * 3600),
            default=60.0,
            show_default=True,
            help="Leave files that were written less than so many seconds ago.",
        ),
        click.option(
            "--recall-hours",
            type=FiniteRange(0, HOURS_MAX),
            default=RECALL_HOURS,
            show_default=True,
            help="Leave files of the last so many hours, from which iterate answers a repeated call: its recall_hours.",
        ),
        click.option(
            "--retention-days",
            type=FiniteRange(0, HOURS_MAX / 24, min_open=True),
            envvar="LAKEHOUSE_RETENTION_DAYS",
            show_envvar=True,
            help="Then remove compacted rows of days (UTC) that are older than that. Default: none is.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def check_retention(retention_days: float | None, recall_hours: float) -> None:
    """Raise click's error where rows would go that iterate still answers from."""
    if retention_days is not None and retention_days * 24 <= recall_hours:
        raise click.UsageError(
            f"--retention-days {retention_days:g} must be more than --recall-hours {recall_hours:g}: iterate answers a"
            " repeated call from the rows of that time"
        )


def table_option(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Add `--table` as `in_table`, and `--config`."""
    option = click.option(
        "--table",
        "in_table",
        is_flag=True,
        help="Read the table of all replicas, not the log: what was published, with the column `host`.",
    )
    return option(config_option(function))


def open_lake(config: Path | None) -> LakeTable:
    """Return the configured table, which need not exist yet. Raises LakeUnavailableError, click's errors."""
    from lakehouse.sessions.lake.config import load_lake_config  # noqa: PLC0415  for who publishes or reads the table
    from lakehouse.sessions.lake.table import LakeTable, require_packages  # noqa: PLC0415
    from lakehouse.settings import ConfigError  # noqa: PLC0415

    try:
        loaded = load_lake_config(config, os.environ)
    except ConfigError as error:
        raise WrongRequest(str(error)) from None
    require_packages()
    return LakeTable(loaded)
