"""A stack of the three services as child processes of this one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SERVICES = ("validated", "chatd", "iterate")
# A service that has not stopped this long after SIGTERM is killed: its drain and its tracing have limits below it.
_STOP_S = 30.0
_LINE_BYTES_MAX = 1024 * 1024

OnLog = Callable[[str, "dict[str, Any] | str"], None]


class StackError(Exception):
    """The stack cannot start, or a service of it died; the text says which and how."""


@dataclass(slots=True)
class Stack:
    """The processes and where they listen."""

    on_log: OnLog
    """Gets each line that a service writes: the service and the decoded JSON, or the text where it is none."""
    environ: Mapping[str, str]
    config: Path | None = None
    addresses: dict[str, str] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    _readers: set[asyncio.Task[None]] = field(default_factory=set)
    _last_lines: dict[str, str] = field(default_factory=dict)

    async def start(self, *, timeout_s: float = 60.0) -> None:
        """Start all three and wait until each listens. Raises StackError."""
        await asyncio.gather(self.start_service("validated", timeout_s), self.start_service("chatd", timeout_s))
        await self.start_service("iterate", timeout_s)

    async def start_service(self, name: str, timeout_s: float = 60.0) -> None:
        """Start one service (again) and wait until it listens: on its former address, where it had one."""
        environ = {**os.environ, **self.environ, f"{name.upper()}_LOG_FORMAT": "json"}
        if name in self.addresses:
            environ[f"{name.upper()}_BIND"] = self.addresses[name]
        if name == "iterate":
            environ["ITERATE_CHATD"] = self.addresses["chatd"]
            environ["ITERATE_VALIDATED"] = self.addresses["validated"]
        command = [sys.executable, "-m", name]
        if self.config is not None:
            command += ["--config", str(self.config)]
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environ,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=_LINE_BYTES_MAX,
            # A Ctrl-C in the terminal is for this process alone: it stops the services in order, once.
            start_new_session=True,
        )
        self.processes[name] = process
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        reader = asyncio.create_task(self._read(name, process, listening))
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        try:
            self.addresses[name] = await asyncio.wait_for(listening, timeout_s)
        except TimeoutError:
            raise StackError(f"{name} does not listen after {timeout_s:.0f} s") from None

    async def stop(self) -> None:
        """Stop all: iterate first, so that its sessions can end. Bounded; what does not stop is killed."""
        for name in reversed(SERVICES):
            await self.stop_service(name)
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def stop_service(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End one service by a signal and wait for it."""
        process = self.processes.pop(name, None)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def wait(self) -> str:
        """Wait until a service ends by itself; its name."""
        waits = {asyncio.create_task(process.wait()): name for name, process in self.processes.items()}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return waits[done.pop()]
        finally:
            for task in waits:
                task.cancel()

    async def _read(self, name: str, process: Process, listening: asyncio.Future[str]) -> None:
        assert process.stdout is not None  # noqa: S101  asked for above
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # a line longer than the limit: the stream has dropped it
                continue
            if not line:
                break
            text = line.decode("utf-8", "replace").rstrip("\n")
            entry: dict[str, Any] | str = text
            with contextlib.suppress(ValueError):
                decoded = json.loads(text)
                if isinstance(decoded, dict):
                    entry = decoded
            self._last_lines[name] = text
            if isinstance(entry, dict) and entry.get("event") == "listening" and not listening.done():
                listening.set_result(str(entry["address"]))
            self.on_log(name, entry)
        status = await process.wait()
        if not listening.done():
            last = self._last_lines.get(name, "it said nothing")
            listening.set_exception(StackError(f"{name} ended with status {status} before it listened: {last}"))


@contextlib.asynccontextmanager
async def running_stack(
    *, on_log: OnLog, environ: Mapping[str, str], config: Path | None = None
) -> AsyncIterator[Stack]:
    """A stack for the time of the block. Raises StackError."""
    stack = Stack(on_log=on_log, environ=environ, config=config)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


def free_port_binds() -> dict[str, str]:
    """Environment that makes each service listen on a free port of 127.0.0.1."""
    return {f"{name.upper()}_BIND": "127.0.0.1:0" for name in SERVICES}


def examples() -> Path:
    """The folder of the example roster: in a checkout `examples/`, in an installed package its own copy.

    Raises StackError where neither is there.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "examples", package.parent.parent / "examples"):
        if (folder / "roster" / "workers.csv").is_file():
            return folder
    raise StackError("the example roster is not there: install the package whole, or run from a checkout")
