"""A stack of the three services as child processes of this one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakehouse.cli.log_entry import in_words
from lakehouse.server.parent import PARENT_VARIABLE

SERVICES = ("validated", "chatd", "iterate")
# A service that has not stopped this long after SIGTERM is killed: its drain, its log and its tracing have limits below
# it unless they are configured otherwise.
_STOP_S = 60.0
_LINE_BYTES_MAX = 1024 * 1024

OnLog = Callable[[str, "dict[str, Any] | str"], None]
OnWaiting = Callable[[str], None]
# After so long without a change it is said what the stack waits for.
_PATIENCE_S = 2.0


class StackError(Exception):
    """The stack cannot start, or a service of it died; the text says which and how."""


@dataclass(slots=True)
class Stack:
    """The processes and where they listen."""

    on_log: OnLog
    """Gets each line that a service writes: the service and the decoded JSON, or the text where it is none."""
    environ: Mapping[str, str]
    """Goes over this process's own environment."""
    config: Path | None = None
    alone: bool = False
    """Take no settings but `environ` and the services' defaults: not those that this process was started with."""
    on_waiting: OnWaiting | None = None
    """Gets the causes for which the stack is not ready, where that takes longer than a few seconds."""
    addresses: dict[str, str] = field(default_factory=dict)
    causes: dict[str, list[str]] = field(default_factory=dict)
    """Of each service that listens: why it is not ready; nothing where it is."""
    processes: dict[str, Process] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _last_lines: dict[str, str] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, *, timeout_s: float = 60.0) -> None:
        """Start all three and wait until each is ready, as its health says. Raises StackError."""
        ends_at = asyncio.get_running_loop().time() + timeout_s
        await asyncio.gather(self.start_service("validated", timeout_s), self.start_service("chatd", timeout_s))
        await self.start_service("iterate", timeout_s)
        try:
            async with asyncio.timeout_at(ends_at):
                await self.ready()
        except TimeoutError:
            raise StackError(f"not ready after {timeout_s:.0f} s: {self._unready()}") from None

    def _unready(self) -> str:
        return "; ".join(f"{name}: {cause}" for name, causes in self.causes.items() for cause in causes)

    async def ready(self) -> None:
        """Wait until all services are ready. Raises StackError where one ends meanwhile."""
        ended = asyncio.create_task(self.wait())
        said = ""
        try:
            while any(self.causes.get(name) is None or self.causes[name] for name in self.processes):
                self._changed.clear()
                changed = asyncio.create_task(self._changed.wait())
                done, _ = await asyncio.wait({changed, ended}, timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                if not done and self.on_waiting is not None and (unready := self._unready()) != said:
                    said = unready
                    self.on_waiting(said)
                if ended.done():
                    name = ended.result()
                    raise StackError(
                        f"{name} ended before it was ready: {self._last_lines.get(name, 'it said nothing')}"
                    )
        finally:
            ended.cancel()

    async def start_service(self, name: str, timeout_s: float = 60.0) -> None:
        """Start one service (again) and wait until it listens: on its former address, where it had one."""
        environ = self._environ_of(name)
        ours, theirs = socket.socketpair()
        environ[PARENT_VARIABLE] = f"{theirs.fileno()}:{os.getpid()}"
        command = [sys.executable, "-m", name]
        if self.config is not None:
            command += ["--config", str(self.config)]
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environ,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=_LINE_BYTES_MAX,
                # A Ctrl-C in the terminal is for this process alone: it stops the services in order, once.
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        self.processes[name] = process
        self.causes.pop(name, None)
        listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # Whoever waits may have given up.
        listening.add_done_callback(lambda future: future.cancelled() or future.exception())
        for reading in (self._follow(name, ours, listening), self._read(name, process, listening)):
            task = asyncio.create_task(reading)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            self.addresses[name] = await asyncio.wait_for(listening, timeout_s)
        except TimeoutError:
            raise StackError(f"{name} does not listen after {timeout_s:.0f} s") from None

    def _environ_of(self, name: str) -> dict[str, str]:
        inherited = dict(os.environ)
        if self.alone:
            from lakehouse.server.config import CONFIG_FILE_VARIABLE  # noqa: PLC0415  see `_given`

            settings = (CONFIG_FILE_VARIABLE, *(f"{each.upper()}_" for each in SERVICES))
            inherited = {key: value for key, value in inherited.items() if not key.startswith(settings)}
        environ = {**inherited, **self.environ, f"{name.upper()}_LOG_FORMAT": "json"}
        if name in self.addresses:
            environ[f"{name.upper()}_BIND"] = self.addresses[name]
        if name == "iterate":
            given = self._given(name, environ)
            for hop in ("chatd", "validated"):
                # What was configured is obeyed: the name in a certificate, or one that runs elsewhere.
                if hop not in given:
                    environ[f"ITERATE_{hop.upper()}"] = _reachable(self.addresses[hop])
        return environ

    def _given(self, name: str, environ: Mapping[str, str]) -> Mapping[str, Any]:
        # Pydantic, which a command that starts a validated alone can do without.
        from lakehouse.server.config import configuration_file, given_values  # noqa: PLC0415
        from lakehouse.settings import ConfigError  # noqa: PLC0415

        try:
            return given_values(name, file=configuration_file(self.config, environ), environ=environ)
        except ConfigError:
            return {}  # the service itself says what is wrong

    async def stop(self) -> None:
        """Stop all: iterate first, so that its sessions can end. Bounded; what does not stop is killed."""
        for name in reversed(SERVICES):
            await self.stop_service(name)
        await asyncio.gather(*self._tasks, return_exceptions=True)

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

    async def _follow(self, name: str, ours: socket.socket, listening: asyncio.Future[str]) -> None:
        """Take what the service reports of itself, whatever its log level is. Our end stays open until the service has
        ended: a closed one would end it."""
        reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES_MAX)
        try:
            while line := await reader.readline():
                said = json.loads(line)
                self.causes[name] = said["causes"]
                if not listening.done():
                    listening.set_result(said["address"])
                self._changed.set()
        finally:
            writer.close()

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
            self._last_lines[name] = in_words(entry)
            self.on_log(name, entry)
        status = await process.wait()
        if not listening.done():
            last = self._last_lines.get(name, "it said nothing")
            listening.set_exception(StackError(f"{name} ended with status {status} before it listened: {last}"))


@contextlib.asynccontextmanager
async def running_stack(
    *,
    on_log: OnLog,
    environ: Mapping[str, str],
    config: Path | None = None,
    alone: bool = False,
    on_waiting: OnWaiting | None = None,
) -> AsyncIterator[Stack]:
    """Yield a stack for the time of the block. Raises StackError."""
    stack = Stack(on_log=on_log, environ=environ, config=config, alone=alone, on_waiting=on_waiting)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


def _reachable(address: str) -> str:
    """Return an address that a process of this machine can call, where `address` is one to listen on."""
    host, _, port = address.rpartition(":")
    return {"0.0.0.0": f"127.0.0.1:{port}", "[::]": f"[::1]:{port}"}.get(host, address)  # noqa: S104  compared, not bound


def free_port_binds() -> dict[str, str]:
    """Environment that makes each service listen on a free port of 127.0.0.1."""
    return {f"{name.upper()}_BIND": "127.0.0.1:0" for name in SERVICES}


def examples() -> Path:
    """Return the folder of the example roster: in a checkout `examples/`, in an installed package its own copy.

    Raises StackError where neither is there.
    """
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "examples", package.parent.parent / "examples"):
        if (folder / "roster" / "workers.csv").is_file():
            return folder
    raise StackError("the example roster is not there: install the package whole, or run from a checkout")
