"""``lakehouse`` as its entry point runs it, in this process: for words and statuses, where no process is looked at."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from click.testing import CliRunner

from lakehouse.cli.exit_status import TRACEBACK_VARIABLE, end_process
from lakehouse.cli.main import main


def lakehouse(
    *arguments: object, stdin: str = "", env: Mapping[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Return what the command writes and its status. An error that a process would end with a traceback for is raised.

    `env` is set over this process's environment for the time of the call; None takes a variable away.
    """
    words = [str(each) for each in arguments]
    status: int | str | None = None
    with CliRunner().isolation(input=stdin, env={TRACEBACK_VARIABLE: "1", **(env or {})}) as (out, err, _):
        try:
            end_process(lambda: main.main(words, prog_name="lakehouse", standalone_mode=False))
        except SystemExit as error:
            status = error.code
    assert isinstance(status, int), status
    return subprocess.CompletedProcess(words, status, out.getvalue().decode(), err.getvalue().decode())
