"""Starts of services, one after the other, for what a start says of settings that it refuses: each is a child of one
process, which imports the services once.

A module for tests (`starts`), and the program that it runs.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Start(NamedTuple):
    """`python -m <service> <arguments>` with these settings, and no others of ours."""

    service: str
    environ: Mapping[str, str]
    arguments: tuple[str, ...] = ()


class Ended(NamedTuple):
    """What a start that serves nothing comes to."""

    status: int
    output: str
    """Of both streams."""


def starts(*each: Start) -> list[Ended]:
    """Return what comes of each, which must end by itself. They run as the services' own ``main``."""
    ours = ("GRPC_", "LAKEHOUSE_", "ITERATE_", "CHATD_", "VALIDATED_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    program = subprocess.run(
        [sys.executable, __file__], input=json.dumps(each), env=clean, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert program.returncode == 0, program.stderr
    return [Ended(*ended) for ended in json.loads(program.stdout)]


def _ended(start: Start) -> Ended:
    """Run a start in a child of this process, which has imported everything and started nothing."""
    main = importlib.import_module(f"{start.service}.__main__").main
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if child == 0:
            for descriptor in (1, 2):
                os.dup2(file.fileno(), descriptor)
            sys.argv = [start.service, *start.arguments]
            os.environ.update(start.environ)
            status: object = 70
            try:
                main()
                status = 0
            except SystemExit as error:
                status = error.code or 0
            finally:
                # As at the end of a process: the log writes what waits.
                atexit._run_exitfuncs()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(int(str(status)))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        file.seek(0)
        return Ended(status, file.read().decode())


def _run(given: Iterable[Any]) -> None:
    json.dump([_ended(Start(*each)) for each in given], sys.stdout)


if __name__ == "__main__":
    from lakehouse.server.process import begin_process

    begin_process()
    _run(json.load(sys.stdin))
