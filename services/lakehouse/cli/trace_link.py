"""A trace's page in Langfuse, for the commands that show sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar
from urllib.parse import quote, urlsplit

import click

_P = ParamSpec("_P")
_R = TypeVar("_R")


def langfuse_options(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Add `--langfuse-host` and `--langfuse-project`."""
    for option in (
        click.option(
            "--langfuse-project", envvar="LANGFUSE_PROJECT_ID", show_envvar=True, help="The project's id, for the link."
        ),
        click.option(
            "--langfuse-host",
            envvar=["LANGFUSE_BASE_URL", "LANGFUSE_HOST"],
            callback=_web_address,
            help="Langfuse's base URL: links the trace. [env: LANGFUSE_BASE_URL, LANGFUSE_HOST]",
        ),
    ):
        function = option(function)
    return function


def _web_address(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if not value:
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise click.BadParameter(f"{value!r:.80} is no web address: give https://HOST")
    return value


def langfuse_link(host: str | None, project: str | None, trace_id: str) -> str | None:
    """Return the trace's page; without a project id Langfuse looks the project up itself."""
    if not host or not trace_id:
        return None
    trace = quote(trace_id, safe="")
    if project:
        return f"{host.rstrip('/')}/project/{quote(project, safe='')}/traces/{trace}"
    return f"{host.rstrip('/')}/trace/{trace}"
