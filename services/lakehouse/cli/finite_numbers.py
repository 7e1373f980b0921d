"""Numbers of a command line, which are never NaN or infinite, and the deadline that every call takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import click

TIMEOUT_S_MAX: Final = 86_400.0
HOURS_MAX: Final = 100 * 366 * 24.0
"""A hundred years: a moment so long ago is still one that a calendar has."""


class FiniteRange(click.FloatRange):
    """As click's, which lets NaN through every limit."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            if not math.isfinite(float(value)):
                self.fail(f"{value!r:.60} is not a finite number.", param, ctx)
        except (TypeError, ValueError):
            pass  # click says what is wrong with it
        number: float = super().convert(value, param, ctx)
        return number


def timeout_option(default_s: float) -> Callable[[Any], Any]:
    """Return a decorator that adds `--timeout` as `timeout_s`."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=FiniteRange(min=0, min_open=True, max=TIMEOUT_S_MAX),
        default=default_s,
        show_default=True,
        help="Deadline, seconds.",
    )
