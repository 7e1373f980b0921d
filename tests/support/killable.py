"""Processes that are made to be killed: iterate and chatd, which SIGKILL themselves right after a step, and a caller.

They are forked from a process that has imported them, ``Template``: an import takes longer than a session. A service's
steps are those of ``STEPS``. A caller's are ``connected`` and ``answered``, or, where it streams, ``connected``,
``ids``, which only a stream gets before the end, and the names of the events. One that ``waits`` does so where it is
connected, for SIGUSR1.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HANG_S: Final = 60

STEPS: Final = {
    "iterate": {
        "claimed": ("iterate.recall.recall", "Recall", "claim"),
        "briefed": ("iterate.hops", "GateHop", "brief"),
        "begun": ("iterate.session_log.in_flight", "InFlightFiles", "begin"),
        "ids sent": ("iterate.shared_session", "SharedSession", "on_begun"),
        "model answered": ("iterate.hops", "ChatHop", "complete"),
        "judged": ("iterate.hops", "GateHop", "validate"),
        "attempt noted": ("iterate.session_log.in_flight", "InFlightFiles", "attempt"),
        "end noted": ("iterate.session_log.in_flight", "InFlightFiles", "end"),
        "row appended": ("lakehouse.sessions.store.append", "LogFile", "append"),
        "row marked": ("iterate.session_log.in_flight", "InFlightFiles", "mark"),
        "answer made": ("iterate.shared_session", "SharedSession", "answer"),
        # Of a log that takes no row.
        "row spilled": ("iterate.session_log.in_flight", "InFlightFiles", "move_to_spill"),
    },
    "chatd": {
        "asked": ("chatd.routes", "Router", "choose"),
        "model answered": ("chatd.providers.openai", "OpenAiProvider", "complete"),
        "answer made": ("chatd.servicer", "ChatServicer", "Complete"),
    },
}
"""Of each service, in the order in which a session takes them: the module, class and method of what is to have been
done."""


@dataclass(eq=False)
class Killable:
    """One process. All that it says is a line, which ``said`` gives: a service its address, a caller ``connected``
    where it waits then, ``ids`` where it streams, and the answer in hex, or the status and its reason."""

    serial: int
    process_id: asyncio.Future[int]
    lines: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    status: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    """How it ended, as of subprocess: a negative signal."""

    async def said(self) -> str:
        """Return its next line. Raises AssertionError where it ends without one."""
        said = asyncio.ensure_future(self.lines.get())
        await asyncio.wait((said, self.status), timeout=HANG_S, return_when=asyncio.FIRST_COMPLETED)
        if not said.done():
            await asyncio.sleep(0)  # both may have come at once
        if not said.done():
            said.cancel()
            raise AssertionError(
                "it said nothing" + (f", and ended by {self.status.result()}" if self.status.done() else "")
            )
        return said.result()

    def send(self, number: signal.Signals) -> None:
        # What has ended may not be known to have yet.
        with contextlib.suppress(ProcessLookupError):
            if not self.status.done():
                os.kill(self.process_id.result(), number)

    async def kill(self) -> None:
        """Kill it, if it lives, and wait for its end."""
        self.send(signal.SIGKILL)
        await asyncio.wait_for(asyncio.shield(self.status), HANG_S)

    async def was_killed(self) -> None:
        """Wait until it is. Raises AssertionError where it ended otherwise: then nothing was shown."""
        assert await asyncio.wait_for(asyncio.shield(self.status), HANG_S) == -signal.SIGKILL


class Template:
    """The process from which the others are forked; they are killed with it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._killables: list[Killable] = []

    async def serve(self, service: str, config: dict[str, Any], step: str = "") -> tuple[Killable, str]:
        """Start a service, which dies right after `step`; gives its address too."""
        killable = await self._fork({"role": service, "config": config, "step": step})
        return killable, await killable.said()

    async def call(self, address: str, request: Any, step: str = "", *, stream: bool = False) -> Killable:
        """Start a caller of iterate, which dies right after `step`; of Iterate or of StreamIterate."""
        wanted = {"address": address, "request": _hex(request), "step": step, "stream": stream}
        return await self._fork({"role": "caller", **wanted})

    async def _fork(self, wanted: dict[str, Any]) -> Killable:
        killable = Killable(len(self._killables), asyncio.get_running_loop().create_future())
        self._killables.append(killable)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(wanted).encode() + b"\n")
        await asyncio.wait_for(asyncio.shield(killable.process_id), HANG_S)
        return killable

    async def _follow(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            what = json.loads(line)
            killable = self._killables[what["serial"]]
            if "process_id" in what:
                killable.process_id.set_result(what["process_id"])
            elif "status" in what:
                killable.status.set_result(what["status"])
            else:
                killable.lines.put_nowait(what["said"])


@contextlib.asynccontextmanager
async def template(*roles: str) -> AsyncIterator[Template]:
    """Yield what processes of these roles (`iterate`, `chatd`, `caller`) are forked from."""
    services = str(Path(__file__).resolve().parents[2] / "services")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        *roles,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": services},
    )
    made = Template(process)
    following = asyncio.create_task(made._follow())
    try:
        yield made
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), HANG_S)
        await following


def _hex(request: Any) -> str:
    return str(request.SerializeToString().hex())


# In the template and what is forked from it.


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _deadly(method: Callable[..., Any]) -> Callable[..., Any]:
    if asyncio.iscoroutinefunction(method):

        async def last(*arguments: Any, **keywords: Any) -> Any:
            await method(*arguments, **keywords)
            die()

        return last

    def last_of_a_thread(*arguments: Any, **keywords: Any) -> Any:
        method(*arguments, **keywords)
        die()

    return last_of_a_thread


Say = Callable[[str], None]


async def _serve(say: Say, role: str, config: dict[str, Any], step: str) -> None:
    from lakehouse.server.bootstrap import running

    if step:
        module, class_name, method = STEPS[role][step]
        owner = getattr(importlib.import_module(module), class_name)
        setattr(owner, method, _deadly(getattr(owner, method)))
    main = importlib.import_module(f"{role}.__main__")
    table = getattr(main, f"{role.title()}Config")
    async with running(role, table.model_validate(config), main.compose) as served:
        say(served.address)
        await asyncio.Event().wait()


async def _call(say: Say, address: str, request: str, step: str, *, stream: bool) -> None:
    import grpc.aio

    from lakehouse.clients import AsyncIterateClient
    from lakehouse.errors import Fault, from_rpc_error
    from lakehouse.iterate.v1 import iterate_pb2, iterate_pb2_grpc

    asked = iterate_pb2.IterateRequest.FromString(bytes.fromhex(request))

    def done(now: str) -> None:
        if now == step:
            die()

    async with AsyncIterateClient(address) as client:
        await client.channel.channel_ready()
        done("connected")
        if step == "waits":
            say("connected")
            signal.sigwait({signal.SIGUSR1})
        try:
            if not stream:
                response = await client.iterate(asked, timeout_s=HANG_S)
                done("answered")
            else:
                stub = iterate_pb2_grpc.IterateServiceStub(client.channel)
                call = stub.StreamIterate(iterate_pb2.StreamIterateRequest(request=asked), timeout=HANG_S)
                await call.initial_metadata()
                done("ids")
                say("ids")
                async for event in call:
                    done(str(event.WhichOneof("event")))
                response = event.response
        except (Fault, grpc.aio.AioRpcError) as error:
            fault = error if isinstance(error, Fault) else from_rpc_error(error, where="iterate")
            say(f"{fault.code} {fault.reason}")
        else:
            say(_hex(response))


def _become(wanted: dict[str, Any], say: Say) -> None:
    role = wanted["role"]
    if role == "caller":
        # Before there are threads, so that none of them takes it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        call = _call(say, wanted["address"], wanted["request"], wanted["step"], stream=wanted["stream"])
        asyncio.run(call)
    else:
        asyncio.run(_serve(say, role, wanted["config"], wanted["step"]))


def _fork_what_is_wanted(said_fd: int) -> None:
    """Until the standard input ends."""
    serials: dict[int, int] = {}
    ended, noted = os.pipe()
    os.set_blocking(ended, False)
    os.set_blocking(noted, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(noted)
    pending, serial = b"", 0

    def say(**what: Any) -> None:
        os.write(said_fd, json.dumps(what).encode() + b"\n")

    while True:
        readable, _, _ = select.select([0, ended], [], [])
        if ended in readable:
            os.read(ended, 4096)
            while serials and (found := os.waitpid(-1, os.WNOHANG))[0]:
                say(serial=serials.pop(found[0]), status=os.waitstatus_to_exitcode(found[1]))
        if 0 not in readable:
            continue
        read = os.read(0, 1 << 20)
        if not read:
            for process_id in serials:
                os.kill(process_id, signal.SIGKILL)
            return
        *lines, pending = (pending + read).split(b"\n")
        for line in lines:
            process_id = os.fork()
            if not process_id:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                try:
                    _become(json.loads(line), lambda text, serial=serial: say(serial=serial, said=text))  # type: ignore[misc]
                except BaseException:  # noqa: BLE001  the end of a process
                    traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            serials[process_id] = serial
            say(serial=serial, process_id=process_id)
            serial += 1


if __name__ == "__main__":
    from lakehouse.server.process import begin_process

    begin_process()
    # What they print is nobody's.
    said_fd = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for wanted_role in sys.argv[1:]:
        importlib.import_module("lakehouse.clients" if wanted_role == "caller" else f"{wanted_role}.__main__")
    for table_of_steps in (STEPS[each] for each in sys.argv[1:] if each in STEPS):
        for module_name, _, _ in table_of_steps.values():
            importlib.import_module(module_name)
    _fork_what_is_wanted(said_fd)
