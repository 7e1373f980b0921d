"""What ``lakehouse dataset`` and ``lakehouse kinds`` share: validated's own reader, run in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from lakehouse.cli.exit_status import SystemFault

config_option = click.option(
    "--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Configuration file."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


def look(action: str, config: Path | None, *arguments: str, given: str | None = None) -> dict[str, Any]:
    """Return the report of an action of ``validated.declared_tool``. Raises click's errors where there is none."""
    # This package imports no service.
    command_line = [sys.executable, "-m", "validated.declared_tool", action, *arguments]
    command_line += ["--config", str(config)] if config is not None else []
    data = None if given is None else given.encode()
    result = subprocess.run(command_line, capture_output=True, check=False, input=data)  # noqa: S603  our own module
    try:
        # The service's log comes before it.
        report: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = result.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
        raise SystemFault(f"the reader failed: {last[0]}") from None
    if "usage" in report:
        raise click.UsageError(report["usage"])
    return report
