"""``python -m validated.kinds.json_schema_process MEMORY_MB SCHEMAS_KEPT CHECK_MS``: checks artifacts against schemas.

Reads frames (length, four bytes little-endian, then JSON) {spec: {schema}, artifact, errors_max} from standard input,
answers each with {errors: [[path, message], …], left_out} or {problem}. Ends with its input, by SIGALRM when a check
takes far too long (whoever asked is then gone), or by its memory limit.
"""

from __future__ import annotations

import contextlib
import json
import signal
import struct
import sys
from collections import OrderedDict
from typing import Any, BinaryIO

import jsonschema_rs

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Errors beyond what is wanted are counted up to here: each costs as much as one that is kept.
_COUNTED_MAX = 10_000
_REGEX_BYTES_MAX = 1 << 20
_QUOTE_CHARS_MAX = 80
_MESSAGE_CHARS_MAX = 300
_LENGTH = struct.Struct("<I")
_MASK = "the value"


class Schemas:
    """Compiled schemas by their canonical text, the longest unused dropped first."""

    def __init__(self, kept_max: int) -> None:
        self._kept_max = kept_max
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def compiled(self, schema: Any) -> Any:
        """A validator. Raises ValueError where `schema` cannot be used; its text says why."""
        key = json.dumps(schema, sort_keys=True)
        validator = self._kept.pop(key, None)
        if validator is None:
            validator = _compile(schema)
        self._kept[key] = validator
        while len(self._kept) > self._kept_max:
            self._kept.popitem(last=False)
        return validator


def _compile(schema: Any) -> Any:
    dialect = schema.get("$schema", DIALECT) if isinstance(schema, dict) else DIALECT
    if not isinstance(dialect, str) or dialect.rstrip("#") != DIALECT:
        raise ValueError(f"$schema must be {DIALECT} or left out")
    try:
        return jsonschema_rs.Draft202012Validator(
            schema,
            offline=True,
            mask=_MASK,
            # The engine without backtracking: linear in the text, whatever the pattern.
            pattern_options=jsonschema_rs.RegexOptions(size_limit=_REGEX_BYTES_MAX, dfa_size_limit=_REGEX_BYTES_MAX),
        )
    except jsonschema_rs.ValidationError as error:
        if "retriev" in error.message.lower():
            raise ValueError(f"a reference leads outside the schema: {_cut(error.message, 120)}") from None
        at = "/".join(str(step) for step in error.instance_path)
        told = _cut(error.message, _MESSAGE_CHARS_MAX)
        raise ValueError(f"not a JSON Schema at /{_cut(at, _QUOTE_CHARS_MAX)}: {told}") from None
    except Exception as error:  # noqa: BLE001  the library's other refusals (references, anchors) have no common class
        raise ValueError(f"not a JSON Schema: {_cut(str(error), _MESSAGE_CHARS_MAX)}") from None


def check(schemas: Schemas, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request."""
    try:
        validator = schemas.compiled(request["spec"]["schema"])
    except ValueError as error:
        return {"problem": str(error)}
    artifact, errors_max = request["artifact"], request["errors_max"]
    if validator.is_valid(artifact):
        return {"errors": [], "left_out": 0}
    errors: list[tuple[list[str | int], str]] = []
    left_out = 0
    for found in validator.iter_errors(artifact):
        if len(errors) < errors_max:
            errors.append((list(found.instance_path), _told(found)))
        else:
            left_out += 1
            if left_out == _COUNTED_MAX:
                break
    return {"errors": errors, "left_out": left_out}


def _told(error: Any) -> str:
    message = _cut(error.message, _MESSAGE_CHARS_MAX)
    value = error.instance
    if isinstance(value, (dict, list)):
        return message
    return f"{message}; it is {_cut(json.dumps(value, ensure_ascii=False), _QUOTE_CHARS_MAX)}"


def _cut(text: str, chars_max: int) -> str:
    kept = "".join(each if each.isprintable() else f"U+{ord(each):04X}" for each in text[: chars_max + 1])
    return kept if len(kept) <= chars_max else kept[: chars_max - 1] + "…"


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        sys.exit(0)
    return data


def main() -> None:
    """See the module's docstring."""
    memory_mb, schemas_kept, check_ms = (int(argument) for argument in sys.argv[1:4])
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415  absent on Windows

        resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    schemas = Schemas(schemas_kept)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    answer = b""
    while True:
        stdout.write(_LENGTH.pack(len(answer)) + answer)
        stdout.flush()
        (size,) = _LENGTH.unpack(_read(stdin, _LENGTH.size))
        request = json.loads(_read(stdin, size))
        # The default action of SIGALRM ends the process even inside native code.
        signal.setitimer(signal.ITIMER_REAL, 2 * check_ms / 1000)
        answer = json.dumps(check(schemas, request)).encode()
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
