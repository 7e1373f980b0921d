"""Processes of tests, forked from a server that has imported what they run: none costs the start of an interpreter."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from functools import cache
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from unittest import mock

_PRELOADED = ["__main__", "dying_sessions", "duckdb"]


@cache
def processes() -> ForkServerContext:
    """Return what starts them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    # Before python/cpython#117378 the server looks for them in a path of its own, and passes over what it cannot find.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        forkserver.ensure_running()
    return context


def run(target: Callable[..., object], *args: object) -> int | None:
    """Return how a process ended that runs `target`: 0, or minus the signal that killed it; None after a minute."""
    process = processes().Process(target=target, args=args)
    process.start()
    process.join(60)
    return process.exitcode
