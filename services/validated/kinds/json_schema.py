"""Kind ``json_schema``: any JSON that the request's schema accepts.

A schema may be hostile: a few hundred bytes of nested references keep the fastest library busy for hours, in native
code that no thread can stop. So the check runs in processes of their own (``json_schema_process``), which have a bound
on memory and are killed when their time is up.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from lakehouse.errors import Violation, bad_request
from lakehouse.strict_json.parser import JsonValue, print_canonical
from lakehouse.validated.v1.validated_pb2 import JsonSchemaSpec
from validated.config import LimitsTable
from validated.findings import Findings, pointer, quoted
from validated.kinds.schema_keywords import KEYWORDS, misspelt
from validated.kinds.spec import Spec, parsed
from validated.kinds.spec_schema import schema_of_message
from validated.kinds.validator import Brief, Ground, Task, Tools

_FIELD: Final = "json_schema.schema_json"
_PROGRAM: Final = Path(__file__).with_name("json_schema_process.py")
_START_S: Final = 10.0
_LENGTH: Final = struct.Struct("<I")
_WORDS: Final = "The object must be valid by the JSON Schema of the task."

# What is taken for a schema, by its names and the one that holds the schema or something around it.
_WRAPPERS: Final[tuple[tuple[frozenset[str], str, str], ...]] = (
    (frozenset(("name", "description", "strict", "schema")), "schema", "the json_schema of an OpenAI response_format"),
    (frozenset(("type", "json_schema")), "json_schema", "an OpenAI response_format"),
    (frozenset(("response_format",)), "response_format", "a part of a request to OpenAI"),
    (frozenset(("type", "name", "description", "strict", "schema")), "schema", "the text format of OpenAI's responses"),
    (frozenset(("type", "function")), "function", "the definition of a tool"),
    (frozenset(("type", "name", "description", "strict", "parameters")), "parameters", "the definition of a function"),
    (frozenset(("type", "name", "description", "input_schema")), "input_schema", "the definition of a tool"),
)


class JsonSchemaValidator:
    """Checks in at most `limits.schema_processes` processes, started on first use."""

    description = "Any JSON that the spec's own JSON Schema accepts."
    spec_schema_json = schema_of_message(JsonSchemaSpec, ("schema_json",))
    has_candidates = False

    def __init__(self, tools: Tools) -> None:
        self._limits = tools.limits
        self._turn = asyncio.Semaphore(tools.limits.schema_processes)
        self._idle: list[_Process] = []

    @staticmethod
    def read_spec(message: JsonSchemaSpec) -> Spec:
        """Return the spec, where its text is JSON and may be a schema: whether it is one, shows when it is compiled.
        Raises Fault (BAD_REQUEST).
        """
        if not message.schema_json:
            raise bad_request(Violation(_FIELD, "a JSON Schema is required"))
        schema = parsed(_FIELD, message.schema_json)
        if not isinstance(schema, (dict, bool)):
            raise bad_request(Violation(_FIELD, "a JSON Schema is a JSON object, or true or false"))
        problem = _no_schema(schema) if isinstance(schema, dict) else ""
        if problem:
            raise bad_request(Violation(_FIELD, problem))
        return Spec("json_schema", message, print_canonical({"schema": schema}))

    async def brief(self, spec: Spec, task: Task) -> Brief:
        """See Validator. Compiles the schema and checks an empty object, so that one which cannot be used is refused
        before an answer is paid for. Raises Fault as `validate` does.
        """
        text = spec.text or ""
        await self._ask(f'{{"spec":{text}}}')
        # The one name of the spec is its schema's.
        return Brief(instructions=_WORDS, form_schema_json=text.removeprefix('{"schema":')[:-1])

    async def validate(self, artifact: JsonValue, spec: Spec, findings: Findings) -> Ground | None:
        """See Validator. Raises Fault where the schema is none, leads outside itself, or costs too much to check."""
        errors_max = findings.findings_max
        answer = await self._ask(
            f'{{"spec":{spec.text},"artifact":{print_canonical(artifact)},"errors_max":{errors_max}}}'
        )
        for path, message in answer["errors"]:
            findings.add("SCHEMA", pointer(path), message)
        findings.left_out += answer["left_out"]
        return None

    async def _ask(self, request: str) -> dict[str, Any]:
        async with self._turn:
            process = self._idle.pop() if self._idle else _Process(self._limits)
            exchange = asyncio.ensure_future(asyncio.to_thread(self._check, process, request))
            try:
                return await asyncio.shield(exchange)
            except asyncio.CancelledError:
                # Nobody waits for this answer, and the process must not go to the next caller while it is on its way.
                process.interrupt()
                await asyncio.wait((exchange,))
                exchange.exception()
                raise

    async def aclose(self) -> None:
        """End the processes."""
        while self._idle:
            self._idle.pop().kill()

    def _check(self, process: _Process, request: str) -> dict[str, Any]:
        try:
            answer = process.ask(request.encode(), self._limits.schema_ms / 1000)
        except TimeoutError:
            process.kill()
            text = f"checking against it took more than {self._limits.schema_ms} ms; make it simpler"
            raise bad_request(Violation(_FIELD, text)) from None
        except EOFError:
            process.kill()
            text = f"checking against it took more than {self._limits.schema_memory_mb} MB; make it simpler"
            raise bad_request(Violation(_FIELD, text)) from None
        except BaseException:
            process.kill()
            raise
        self._idle.append(process)
        if "problem" in answer:
            raise bad_request(Violation(_FIELD, answer["problem"]))
        return answer


def _no_schema(value: dict[str, JsonValue]) -> str:
    """Return what is wrong with `value` where it is something around a schema, or says less than it means to."""
    for names, inner, what in _WRAPPERS:
        if inner in value and value.keys() <= names and isinstance(value[inner], (dict, bool)):
            return f'this is {what}, not a JSON Schema; give what stands in its "{inner}"'
    if value and value.keys().isdisjoint(KEYWORDS):
        found = ", ".join(f'"{quoted(name)}"' for name in list(value)[:3])
        return f"no keyword of JSON Schema stands at its top, but {found}: it would accept anything; {{}} says so"
    if (slip := misspelt(value)) is not None:
        name, keyword = slip
        return f'"{quoted(name)}" is no keyword of JSON Schema, which would leave it out; did you mean "{keyword}"?'
    return ""


class _Process:
    """One checking process. Used by one thread at a time."""

    def __init__(self, limits: LimitsTable) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._interrupted = False
        self._in = self._out = -1

    def ask(self, request: bytes, timeout_s: float) -> dict[str, Any]:
        """Return the answer to `request`. Raises TimeoutError, or EOFError where the process died of it."""
        if self._process is None:
            self._start()
        ends_at = time.monotonic() + timeout_s
        self._write(_LENGTH.pack(len(request)) + request, ends_at)
        answer: dict[str, Any] = json.loads(self._read(ends_at))
        return answer

    def interrupt(self) -> None:
        """Make a running `ask` end with EOFError; from any thread."""
        self._interrupted = True
        if self._process is not None:
            self._process.kill()

    def kill(self) -> None:
        """End it; nobody may be in `ask`."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _start(self) -> None:
        limits = (self._limits.schema_memory_mb, self._limits.schemas_kept, self._limits.schema_ms)
        process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            # By its path, without the package around it: it starts ten times as fast.
            [sys.executable, "-P", str(_PROGRAM), *map(str, limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018  both are pipes
        self._in, self._out = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._process = process
        if self._interrupted:
            process.kill()
        # A first empty frame says that it runs: the start takes longer than a check and is not the schema's fault.
        self._read(time.monotonic() + _START_S)

    def _write(self, data: bytes, ends_at: float) -> None:
        view = memoryview(data)
        while view:
            ready = _wait(self._in, select.POLLOUT, ends_at)
            if not ready:
                raise TimeoutError
            try:
                view = view[os.write(self._in, view) :]
            except BrokenPipeError:
                raise EOFError from None

    def _read(self, ends_at: float) -> bytes:
        (size,) = _LENGTH.unpack(self._read_bytes(_LENGTH.size, ends_at))
        return self._read_bytes(size, ends_at)

    def _read_bytes(self, size: int, ends_at: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            ready = _wait(self._out, select.POLLIN, ends_at)
            if not ready:
                raise TimeoutError
            part = os.read(self._out, size - len(data))
            if not part:
                raise EOFError
            data += part
        return bytes(data)


def _wait(descriptor: int, event: int, ends_at: float) -> bool:
    # Not select(): it knows no descriptor above 1023.
    waiter = select.poll()
    waiter.register(descriptor, event)
    return bool(waiter.poll(max(0.0, ends_at - time.monotonic()) * 1000))
