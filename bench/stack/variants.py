"""Everybody who is measured, and how he is started."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests" / "support"))

from bench.stack import job
from bench.stack.proc import children
from caller_ground import Ground

_START_S = 120.0
# LiteLLM's proxy does not start without a long one.
_KEY = "sk-bench-0123456789abcdef0123456789abcdef"
PEERS = ("instructor", "pydantic-ai", "litellm")


class StartError(Exception):
    """A process of the bench did not come up; the text has its last words."""


@dataclass
class Runner:
    """A process that runs sessions on command; see ``closed_loop.obey``."""

    process: Process

    async def run(self, **command: Any) -> dict[str, Any]:
        """Return what one closed loop gave: {"seconds", "latencies_us"}. Raises StartError where the process died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        line = await self.process.stdout.readline()
        if not line:
            raise StartError(f"the runner ended with status {await self.process.wait()}: its errors stand above")
        result: dict[str, Any] = json.loads(line)
        return result


@dataclass
class Variant:
    """One competitor, running."""

    name: str
    runner: Runner
    pids: dict[str, int]
    """The processes whose CPU and memory count, by role."""
    command: dict[str, Any] = field(default_factory=dict)
    traced: bool = False
    sink: str = ""
    """Where its traces go, `host:port`."""


@dataclass
class Field:
    """Starts everybody, each in processes of its own, and ends them all at the end of the block."""

    folder: Path
    stack: contextlib.AsyncExitStack
    model: str = ""
    sinks: dict[str, str] = field(default_factory=dict)
    _load: Runner | None = None

    async def start(self, names: tuple[str, ...], before: Path | None = None) -> list[Variant]:
        """Return the variants of `names`: ours, floor, grounding, callers, the peers; and ours as
        a checkout, `before`, has it. Raises StartError."""
        self.model = await self._fake("model")
        self._load = await self._runner([sys.executable, "-m", "bench.stack.load"], {})
        variants: list[Variant] = []
        if "floor" in names:
            variants.append(await self._floor())
        if "ours" in names:
            variants += [await self.ours(log=log, traced=traced) for traced in (False, True) for log in (False, True)]
        if "grounding" in names:
            variants += await self._grounded()
        if "callers" in names:
            variants += await self._callers_known()
        if before:
            for log, traced in ((False, False), (True, False), (True, True)):
                name = f"before, log {_on(log)}, tracing {_on(traced)}"
                variants.append(await self.ours(log=log, traced=traced, name=name, root=before))
        for name in PEERS:
            if name in names:
                variants += [await self._peer(name, traced=traced) for traced in (False, True)]
        return variants

    async def ours(
        self,
        *,
        log: bool,
        traced: bool,
        name: str = "",
        root: Path = job.ROOT,
        environ: Mapping[str, str] | None = None,
    ) -> Variant:
        """Our three services, as they are deployed, with their session log and their tracing on or off."""
        name = name or f"ours, log {_on(log)}, tracing {_on(traced)}"
        python = sys.executable if root == job.ROOT else str(root / ".venv" / "bin" / "python")
        sink = await self._fake("sink") if traced else ""
        folder = self.folder / name.replace(", ", "-").replace(" ", "-")
        folder.mkdir()
        given = {
            **os.environ,
            "VALIDATED_ROSTER__PATH": str(job.ROSTER),
            "ITERATE_SESSION_LOG_PATH": str(folder / "sessions.jsonl") if log else "",
            "CHATD_DEFAULT_PROVIDER": "fake0",
        }
        for latency_ms in job.LATENCIES_MS:
            prefix = f"CHATD_PROVIDERS__FAKE{latency_ms}__"
            given[f"{prefix}TYPE"] = "openai"
            given[f"{prefix}BASE_URL"] = f"http://{self.model}/{latency_ms}/v1"
            given[f"{prefix}DEFAULT_MODEL"] = job.MODEL
        pids: dict[str, int] = {}
        addresses: dict[str, str] = {}
        for service in ("validated", "chatd", "iterate"):
            prefix = service.upper()
            given[f"{prefix}_BIND"] = "127.0.0.1:0"
            given[f"{prefix}_LOG_FORMAT"] = "json"
            if traced:
                given[f"{prefix}_TRACING__HOST"] = f"http://{sink}"
                given[f"{prefix}_TRACING__PUBLIC_KEY"] = f"pk-bench-{service}"
                given[f"{prefix}_TRACING__SECRET_KEY"] = "sk-bench"
            if service == "iterate":
                given["ITERATE_CHATD"], given["ITERATE_VALIDATED"] = addresses["chatd"], addresses["validated"]
            given.update(environ or {})
            pids[service], addresses[service] = await self._service([python, "-m", service], given, folder)
        return Variant(name, self._callers(), pids, {"target": addresses["iterate"]}, traced, sink)

    async def _grounded(self) -> list[Variant]:
        """Ours with its log, by what the model gets to know: with the candidates its first answer is accepted. What the
        brief itself costs is the difference of grounding none and `before`, of a checkout without briefs."""
        # A brief that is late on a busy machine would make another job of it.
        environ = {"ITERATE_BRIEF_MS_MAX": "20000"}
        ours = await self.ours(log=True, traced=False, name="ours, grounding", environ=environ)
        variants = []
        for prompt_bytes in (300, job.PROMPT_BYTES):
            for grounding, attempts in (("NONE", 2), ("FORM", 2), ("CANDIDATES", 1)):
                command = {"grounding": grounding, "attempts": attempts, "prompt_bytes": prompt_bytes}
                name = f"ours, grounding {grounding.lower()}, prompt {prompt_bytes} B"
                variants.append(replace(ours, name=name, command={**ours.command, **command}))
        return variants

    async def _callers_known(self) -> list[Variant]:
        """Ours with its log, by who calls: nobody in particular or a known caller, by a JWT over plain text (iterate
        alone knows callers), and by a certificate over mTLS on every hop (all three do)."""
        folder = self.folder / "callers"
        folder.mkdir()
        ground = Ground(folder)
        environ = ground.environ()
        files = {name: value for name, value in environ.items() if name.endswith("_CALLERS__FILE")}
        mtls = {name: value for name, value in environ.items() if name not in files}
        tls = {"tls": [str(folder / name) for name in ("ca.pem", "client.key", "client.pem")]}
        jwt = {"token": ground.signer.token(exp=int(time.time()) + 86_400)}
        variants = []
        for name, added, command in (
            ("callers off", {}, {}),
            ("callers by JWT", {"ITERATE_CALLERS__FILE": files["ITERATE_CALLERS__FILE"]}, jwt),
            ("mTLS, callers off", mtls, tls),
            ("mTLS, callers by certificate", environ, tls),
        ):
            variant = await self.ours(log=True, traced=False, name=f"ours, {name}", environ=added)
            variant.command |= command
            variants.append(variant)
        return variants

    async def _floor(self) -> Variant:
        command = [sys.executable, "-m", "bench.stack.floor"]
        pids: dict[str, int] = {}
        addresses: dict[str, str] = {}
        for role in ("validated", "chatd", "iterate"):
            peers = {
                "validated": (),
                "chatd": (f"http://{self.model}",),
                "iterate": (addresses.get("chatd", ""), addresses.get("validated", "")),
            }[role]
            process = await self._process([*command, role, *peers], {}, stdout=PIPE)
            pids[role], addresses[role] = process.pid, await _first_line(process, f"floor {role}")
        return Variant("floor", self._callers(), pids, {"target": addresses["iterate"]})

    async def _peer(self, name: str, *, traced: bool) -> Variant:
        sink = await self._fake("sink") if traced else ""
        environ = {"OPENAI_API_KEY": _KEY, "LITELLM_MASTER_KEY": _KEY}
        if traced:
            environ |= {
                "LANGFUSE_PUBLIC_KEY": f"pk-bench-{name}",
                "LANGFUSE_SECRET_KEY": "sk-bench",
                "LANGFUSE_BASE_URL": f"http://{sink}",
                "LANGFUSE_HOST": f"http://{sink}",
                "LANGFUSE_OTEL_HOST": f"http://{sink}",
                # As often as ours.
                "LANGFUSE_FLUSH_INTERVAL": "1",
                "OTEL_BSP_SCHEDULE_DELAY": "1000",
            }
        base_url = f"http://{self.model}"
        pids = {}
        if name == "litellm":
            pids["proxy"], base_url = await self._litellm_proxy(environ, traced=traced)
        module = f"bench.stack.peers.{name.replace('-', '_')}_peer"
        runner = await self._runner([str(peers_python()), "-m", module, base_url, "on" if traced else "off"], environ)
        pids["loop"] = runner.process.pid
        return Variant(f"{name}, tracing {_on(traced)}", runner, pids, {}, traced, sink)

    async def _litellm_proxy(self, environ: Mapping[str, str], *, traced: bool) -> tuple[int, str]:
        port = free_port()
        config = self.folder / f"litellm-{port}.yaml"
        config.write_text(_litellm_config(self.model, traced=traced), encoding="utf-8")
        command = [str(peers_python().parent / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
        production = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        with (self.folder / f"litellm-{port}.log").open("wb") as output:
            process = await self._process(
                [*command, "--port", str(port), "--num_workers", "1"],
                {**environ, **production},
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
            )
        await _answers(process, port, "/health/liveliness", Path(output.name))
        return process.pid, f"http://127.0.0.1:{port}"

    async def _service(self, command: list[str], environ: Mapping[str, str], folder: Path) -> tuple[int, str]:
        """Return a service whose log goes to a file, as a container's does; what comes back is its pid and its
        address."""
        service = command[-1]
        path = folder / f"{service}.log"
        with path.open("wb") as output:
            process = await self._process(command, environ, stdout=output)
        for _ in range(int(_START_S / 0.02)):
            for line in path.read_bytes().splitlines():
                if b'"listening"' in line:
                    return process.pid, str(json.loads(line)["address"])
            if process.returncode is not None:
                break
            await asyncio.sleep(0.02)
        raise StartError(f"{service} does not listen: {_last_words(path)}")

    async def _fake(self, role: str) -> str:
        process = await self._process([sys.executable, "-m", "bench.stack.endpoint", role], {}, stdout=PIPE)
        return f"127.0.0.1:{await _first_line(process, role)}"

    async def _runner(self, command: list[str], environ: Mapping[str, str]) -> Runner:
        process = await self._process(command, environ, stdout=PIPE)
        if await _first_line(process, " ".join(command[1:])) != "ready":
            raise StartError(f"{command} is not ready")
        return Runner(process)

    def _callers(self) -> Runner:
        assert self._load is not None
        return self._load

    async def _process(
        self, command: list[str], environ: Mapping[str, str], *, stdout: Any, stderr: Any = None
    ) -> Process:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE if stdout is PIPE else DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **environ},
            cwd=job.ROOT,
            limit=64 * 1024 * 1024,
        )
        self.stack.push_async_callback(_end, process)
        return process


@contextlib.asynccontextmanager
async def open_field(folder: Path) -> AsyncIterator[Field]:
    """Yield a field for the time of the block; its files go into `folder`."""
    async with contextlib.AsyncExitStack() as stack:
        yield Field(folder, stack)


def all_pids(variant: Variant) -> dict[str, list[int]]:
    """Return the processes of each role, those that a role's process has started included."""
    return {role: children(pid) for role, pid in variant.pids.items()}


def peers_python() -> Path:
    """Return the interpreter of the peers' environment."""
    return job.ROOT / ".venv-bench" / "bin" / "python"


def free_port() -> int:
    """Return a port that is free now."""
    import socket  # noqa: PLC0415  this one use

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _litellm_config(model: str, *, traced: bool) -> str:
    models = "".join(
        f"  - model_name: fake{each}\n"
        "    litellm_params:\n"
        f"      model: openai/{job.MODEL}\n"
        f"      api_base: http://{model}/{each}/v1\n"
        "      api_key: sk-bench\n"
        for each in job.LATENCIES_MS
    )
    settings = "litellm_settings:\n  request_timeout: 600\n  set_verbose: False\n"
    if traced:
        settings += '  callbacks: ["langfuse_otel"]\n'
    return f"model_list:\n{models}{settings}"


def _on(yes: bool) -> str:  # noqa: FBT001  a word of a label
    return "on" if yes else "off"


async def _first_line(process: Process, who: str) -> str:
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _START_S)
    except TimeoutError:
        raise StartError(f"{who} says nothing") from None
    if not line:
        raise StartError(f"{who} ended with status {await process.wait()}: its errors stand above")
    return line.decode().strip()


async def _answers(process: Process, port: int, path: str, output: Path) -> None:
    for _ in range(int(_START_S / 0.2)):
        if process.returncode is not None:
            break
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET %b HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n" % path.encode())
            status = await reader.readline()
            writer.close()
            if b" 200 " in status:
                return
        await asyncio.sleep(0.2)
    raise StartError(f"{path} does not answer: {_last_words(output)}")


def _last_words(output: Path) -> str:
    return output.read_text(encoding="utf-8", errors="replace")[-2000:]


async def _end(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 15)
        except TimeoutError:
            process.kill()
            await process.wait()
