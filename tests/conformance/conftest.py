"""Servers that others wrote, as processes. All tests here are skipped where their environment was not made."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".tools" / "conformance" / "bin" / "python"
# llama.cpp's own server, where this machine has one.
LLAMA_SERVER = os.environ.get("LAKEHOUSE_LLAMA_SERVER") or shutil.which("llama-server")
START_S = 120.0
# Tokens of context for a conversation with candidates; a byte is a token.
LONG = 16_384

Ask = Callable[[str, str], Awaitable[Any]]


def _load(name: str, path: Path) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


# The chatd of the unit tests, and the fake endpoint that they use.
chatd = _load("chatd_tests_conftest", HERE.parent / "chatd" / "conftest.py").chatd


@pytest.fixture(scope="session")
def conformance_python() -> Path:
    """Return the interpreter that has the SDKs and servers."""
    if not PYTHON.exists():
        pytest.skip("no .tools/conformance: make it with `python scripts/conformance_env.py`")
    return PYTHON


@dataclass
class Server:
    """A server process that is starting."""

    url: str
    probe_path: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, command: list[str], probe_path: str, folder: Path) -> Server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environ = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(port)],
                stdout=output,
                stderr=output,
                env=environ,
                cwd=folder,
                start_new_session=True,
            )
        return cls(f"http://127.0.0.1:{port}", probe_path, process, log)

    def wait(self) -> str:
        """Its URL, once it answers."""
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        return self.url

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url + self.probe_path, timeout=2):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


@pytest.fixture(scope="session", autouse=True)
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """All servers, started before the first test: they take their time, and the SDK tests do not need them."""
    started: dict[str, Server] = {}
    try:
        if PYTHON.exists():
            litellm = [str(PYTHON.with_name("litellm")), "--config", str(HERE / "litellm.yaml")]
            started["litellm"] = Server.start(litellm, "/health/liveliness", tmp_path_factory.mktemp("litellm"))
            for name, context in (("llama", 512), ("llama_long", LONG)):
                folder = tmp_path_factory.mktemp(name)
                model = folder / "tiny.gguf"
                command = [str(PYTHON), str(HERE / "make_tiny_model.py"), str(model), str(context)]
                if subprocess.run(command, check=False).returncode == 0:
                    llama = [str(PYTHON), "-m", "llama_cpp.server", "--model", str(model), "--n_ctx", str(context)]
                    started[name] = Server.start([*llama, "--n_threads", "1"], "/v1/models", folder)
                    if name == "llama_long" and LLAMA_SERVER:
                        own = [LLAMA_SERVER, "--model", str(model), "--ctx-size", str(context), "--parallel", "1"]
                        started["llama_cpp"] = Server.start(
                            [*own, "--threads", "1"], "/v1/models", tmp_path_factory.mktemp("llama_cpp")
                        )
        yield started
    finally:
        for server in started.values():
            server.stop()


@pytest.fixture(scope="session")
def litellm_url(conformance_python: Path, servers: dict[str, Server]) -> str:
    """LiteLLM's proxy with mocked models."""
    return servers["litellm"].wait()


@pytest.fixture(scope="session")
def llama_url(conformance_python: Path, servers: dict[str, Server]) -> str:
    """llama-cpp-python's server with a tiny model of random weights: what it says is noise, how it says it is not."""
    if "llama" not in servers:
        pytest.skip("llama-cpp-python and gguf are not in .tools/conformance")
    return servers["llama"].wait()


@pytest.fixture(scope="session", params=["llama_cpp_python", "llama_cpp"])
def schema_server(
    request: pytest.FixtureRequest, conformance_python: Path, servers: dict[str, Server]
) -> tuple[str, str]:
    """Return a server of random weights that holds answers to JSON Schemas: its URL and its dialect."""
    dialect = str(request.param)
    name = "llama_long" if dialect == "llama_cpp_python" else dialect
    if name not in servers:
        pytest.skip("no llama-server on the PATH or in LAKEHOUSE_LLAMA_SERVER, or no gguf in .tools/conformance")
    return servers[name].wait(), dialect


@contextlib.asynccontextmanager
async def _sdk(python: Path, script: str) -> AsyncIterator[Ask]:
    process = await asyncio.create_subprocess_exec(
        str(python), str(HERE / script), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def ask(base_url: str, what: str = "whole") -> Any:
        stdin.write(json.dumps([base_url, what]).encode() + b"\n")
        async with asyncio.timeout(60):
            line = await stdout.readline()
        assert line, "the SDK's process ended"
        return json.loads(line)

    try:
        yield ask
    finally:
        stdin.close()
        await process.wait()


@pytest_asyncio.fixture(scope="session")
async def openai_sdk(conformance_python: Path) -> AsyncIterator[Ask]:
    """`await openai_sdk(base_url, "whole" or "stream")`: what the official SDK understood."""
    async with _sdk(conformance_python, "ask_with_openai.py") as ask:
        yield ask


@pytest_asyncio.fixture(scope="session")
async def anthropic_sdk(conformance_python: Path) -> AsyncIterator[Ask]:
    """As `openai_sdk`."""
    async with _sdk(conformance_python, "ask_with_anthropic.py") as ask:
        yield ask
