"""Starts of services, one after the other in one process: for what a start says of settings that it refuses.

A module for tests (`starts`), and the program that it runs.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
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


@contextlib.contextmanager
def _outputs_in(file: Any) -> Iterator[None]:
    """Let both streams, the log's writer included, go to `file`."""
    kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    for descriptor in kept:
        os.dup2(file.fileno(), descriptor)
    try:
        yield
    finally:
        for descriptor, copy in kept.items():
            os.dup2(copy, descriptor)
            os.close(copy)


def _ended(start: Start) -> Ended:
    from lakehouse.server import log

    main = importlib.import_module(f"{start.service}.__main__").main
    sys.argv = [start.service, *start.arguments]
    os.environ.update(start.environ)
    status: object = 0
    try:
        with tempfile.TemporaryFile() as file:
            with _outputs_in(file):
                try:
                    main()
                except SystemExit as error:
                    status = error.code
                sys.stdout.flush()
                sys.stderr.flush()
                log.flush()
            file.seek(0)
            return Ended(int(str(status or 0)), file.read().decode())
    finally:
        for name in start.environ:
            del os.environ[name]


def _run(given: Iterable[Any]) -> None:
    json.dump([_ended(Start(*each)) for each in given], sys.stdout)


if __name__ == "__main__":
    from lakehouse.server.process import begin_process

    begin_process()
    _run(json.load(sys.stdin))
