"""``python -P json_schema_process.py MEMORY_MB SCHEMAS_KEPT CHECK_MS``: checks artifacts against schemas.

Reads frames (length, four bytes little-endian, then JSON) {spec: {schema}, artifact, errors_max} from standard input,
answers each with {errors: [[path, message], …], left_out} or {problem}; without an artifact it is the schema that is
tried, on an empty object. Ends with its input, by SIGALRM when a check
takes far too long (whoever asked is then gone), or by its memory limit.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import struct
import sys
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, BinaryIO

import jsonschema_rs

_DIALECTS: dict[str, Any] = {
    "json-schema.org/draft-04/schema": jsonschema_rs.Draft4Validator,
    "json-schema.org/draft-06/schema": jsonschema_rs.Draft6Validator,
    "json-schema.org/draft-07/schema": jsonschema_rs.Draft7Validator,
    "json-schema.org/draft/2019-09/schema": jsonschema_rs.Draft201909Validator,
    "json-schema.org/draft/2020-12/schema": jsonschema_rs.Draft202012Validator,
}
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
# What the engine without backtracking cannot do, by how it is written.
_BEYOND_REGEX = {
    "(?=": "a look-ahead",
    "(?!": "a look-ahead",
    "(?<=": "a look-behind",
    "(?<!": "a look-behind",
    "(?>": "an atomic group",
}
_BACK_REFERENCE = re.compile(r"(?:^|[^\\])(?:\\\\)*\\(?:[1-9]|k[<{'])")
_TYPES = "string, number, integer, boolean, object, array, null"
_BRANCH_DEPTH_MAX = 16
_OPTIONS_TOLD_MAX = 8
_OPTIONS_COMPARED_MAX = 10_000
_EMPTY_NAMES_TRIED_MAX = 1000
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
        """Return a validator. Raises ValueError where `schema` cannot be used; its text says why."""
        key = json.dumps(schema, sort_keys=True)
        validator = self._kept.pop(key, None)
        if validator is None:
            validator = _compile(schema)
        self._kept[key] = validator
        while len(self._kept) > self._kept_max:
            self._kept.popitem(last=False)
        return validator


def _compile(schema: Any) -> Any:
    dialect = schema.get("$schema", _DIALECT) if isinstance(schema, dict) else _DIALECT
    name = (
        dialect.removeprefix("http://").removeprefix("https://").removesuffix("#") if isinstance(dialect, str) else ""
    )
    if name not in _DIALECTS:
        known = ", ".join(f"http://{each}#" if "draft-" in each else f"https://{each}" for each in _DIALECTS)
        raise ValueError(f"$schema must be left out or one of {known}")
    try:
        return _DIALECTS[name](
            schema,
            offline=True,
            mask=_MASK,
            validate_formats=False,
            # The engine without backtracking: linear in the text, whatever the pattern.
            pattern_options=jsonschema_rs.RegexOptions(size_limit=_REGEX_BYTES_MAX, dfa_size_limit=_REGEX_BYTES_MAX),
        )
    except jsonschema_rs.ValidationError as error:
        if "retriev" in error.message.lower():
            raise ValueError(f"a reference leads outside the schema: {_cut(error.message, 120)}") from None
        path = list(error.instance_path)
        at = "/".join(str(step) for step in path)
        problem = _beyond_regex(schema, path) or _no_type(schema, path) or _cut(error.message, _MESSAGE_CHARS_MAX)
        raise ValueError(f"not a JSON Schema that can be checked at /{_cut(at, _QUOTE_CHARS_MAX)}: {problem}") from None
    except Exception as error:  # noqa: BLE001  the library's other refusals (references, anchors) have no common class
        raise ValueError(f"not a JSON Schema that can be checked: {_cut(str(error), _MESSAGE_CHARS_MAX)}") from None


def _beyond_regex(schema: Any, path: list[Any]) -> str:
    """Return what a pattern that was refused has that no pattern may have; empty where it is something else."""
    if "pattern" not in path[-1:] and "patternProperties" not in path[-2:-1]:
        return ""
    pattern: Any = path[-1]
    if pattern == "pattern":
        pattern = schema
        for step in path:
            pattern = pattern[step] if isinstance(pattern, (dict, list)) else None
    if not isinstance(pattern, str):
        return ""
    has = next((what for mark, what in _BEYOND_REGEX.items() if mark in pattern), "")
    has = has or ("a back-reference" if _BACK_REFERENCE.search(pattern) else "")
    if not has:
        return f"the pattern {_cut(pattern, _QUOTE_CHARS_MAX)} is not a regular expression, or too large a one"
    return (
        f"the pattern {_cut(pattern, _QUOTE_CHARS_MAX)} has {has}; patterns are matched in linear time, which bears "
        "no look-around and no back-references: write it without"
    )


def _no_type(schema: Any, path: list[Any]) -> str:
    """Return what is wrong with a `type` that is none; empty where it is something else."""
    if path[-1:] != ["type"]:
        return ""
    value = schema
    for step in path:
        value = value[step] if isinstance(value, (dict, list)) else None
    return (
        f"{_cut(json.dumps(value, ensure_ascii=False), _QUOTE_CHARS_MAX)} is no type, or types; the types are {_TYPES}"
    )


def check(schemas: Schemas, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one request."""
    try:
        validator = schemas.compiled(request["spec"]["schema"])
    except ValueError as error:
        return {"problem": str(error)}
    if "artifact" not in request:
        validator.is_valid({})
        return {"errors": [], "left_out": 0}
    artifact, errors_max = request["artifact"], request["errors_max"]
    if validator.is_valid(artifact):
        return {"errors": [], "left_out": 0}
    errors: list[tuple[list[str | int], str]] = []
    left_out = 0
    seen: set[tuple[tuple[str | int, ...], str]] = set()
    for failure in validator.iter_errors(artifact):
        for found, message in _reasons(failure, 0):
            path = _path(artifact, found)
            if (tuple(path), message) in seen:
                continue
            if len(errors) < errors_max:
                seen.add((tuple(path), message))
                errors.append((path, message))
            else:
                left_out += 1
        if left_out >= _COUNTED_MAX:
            break
    return {"errors": errors, "left_out": left_out}


def _reasons(error: Any, depth: int) -> Iterator[tuple[Any, str]]:
    """Yield what is wrong where `error` says it: of alternatives that all fail, what is wrong with the one that fits
    best."""
    branches = [branch for branch in getattr(error.kind, "context", None) or () if branch]
    if not branches or depth == _BRANCH_DEPTH_MAX:
        yield error, _problem_of(error)
        return
    depth_of_value = len(error.instance_path)
    types = [_types_at(branch, depth_of_value) for branch in branches]
    if all(types):
        names = ", ".join(dict.fromkeys(name for each in types for name in each))
        yield error, _of_value(f"{_MASK} is of none of the types that are allowed: {names}", error)
        return
    near = [branch for branch, other in zip(branches, types, strict=True) if not other]
    missed = [_missed_constant(branch, depth_of_value) for branch in near]
    if len(near) > 1 and all(missed) and len({tuple(each.instance_path) for each in missed if each}) == 1:
        # No alternative is meant: what would say which is none of theirs.
        first = next(each for each in missed if each)
        yield first, _of_options(first, [option for each in missed if each for option in _options(each)])
        return
    # Another type is furthest off, then another constant (which most often says which alternative is meant).
    # One constant says it more surely than one of several; what is wrong in a value says less against it than what is
    # missing.
    best = min(
        near,
        key=lambda branch: (
            _constants(branch, 0, single=True),
            sum(error.kind.name == "required" for error in branch),
            _constants(branch, 0),
            len(branch),
        ),
    )
    for each in best:
        yield from _reasons(each, depth + 1)


def _types_at(branch: list[Any], depth_of_value: int, depth: int = 0) -> list[str]:
    """Return the types that a branch asks of the value itself, where it is of another."""
    for error in branch:
        if len(error.instance_path) != depth_of_value:
            continue
        if error.kind.name == "type":
            return [str(each) for each in error.kind.types]
        context = (getattr(error.kind, "context", None) or ()) if depth < _BRANCH_DEPTH_MAX else ()
        inner = [_types_at(each, depth_of_value, depth + 1) for each in context]
        if inner and all(inner):
            return [name for each in inner for name in each]
    return []


def _constants(branch: list[Any], depth: int, *, single: bool = False) -> int:
    """How many constants a branch misses; `single`: of those that leave no choice."""
    count = 0
    for missed in branch:
        count += missed.kind.name in ("const", "enum") and (not single or len(_options(missed)) == 1)
        inner = getattr(missed.kind, "context", None)
        if inner and depth < _BRANCH_DEPTH_MAX:
            count += min((_constants(each, depth + 1, single=single) for each in inner if each), default=0)
    return count


def _missed_constant(branch: list[Any], depth_of_value: int) -> Any:
    """Return the first error of `branch` about a constant of the value or of a property of its; None without one."""
    return next(
        (
            error
            for error in branch
            if error.kind.name in ("const", "enum") and len(error.instance_path) <= depth_of_value + 1
        ),
        None,
    )


def _options(error: Any) -> list[Any]:
    return [error.kind.expected_value] if error.kind.name == "const" else list(error.kind.options)


def _path(artifact: Any, error: Any) -> list[str | int]:
    """Where the value of `error` stands. The library leaves out steps into a property whose name is empty."""
    path = list(error.instance_path)
    tried = [_EMPTY_NAMES_TRIED_MAX]
    return _with_empty_names(artifact, path, error.instance, tried) or path


def _with_empty_names(value: Any, path: list[Any], wanted: Any, tried: list[int]) -> list[str | int] | None:
    tried[0] -= 1
    if tried[0] < 0:
        return None
    if not path and value == wanted and type(value) is type(wanted):
        return []
    if path:
        step = path[0]
        try:
            inner = value[step] if isinstance(value, (dict, list)) else None
        except (KeyError, IndexError, TypeError):
            inner = None
        if inner is not None or (isinstance(value, dict) and step in value):
            rest = _with_empty_names(inner, path[1:], wanted, tried)
            if rest is not None:
                return [step, *rest]
    if isinstance(value, dict) and "" in value:
        rest = _with_empty_names(value[""], path, wanted, tried)
        if rest is not None:
            return ["", *rest]
    return None


def _problem_of(error: Any) -> str:
    if error.kind.name == "enum":
        return _of_options(error, error.kind.options)
    if error.kind.name == "contains":
        return f"{_MASK} holds too few or too many items of the sort that contains asks for"
    return _of_value(_cut(error.message, _MESSAGE_CHARS_MAX), error)


def _of_options(error: Any, options: list[Any]) -> str:
    if len(options) > _OPTIONS_TOLD_MAX:
        return _of_value(_nearest(error.instance, options), error)
    texts = [_cut(json.dumps(option, ensure_ascii=False), _QUOTE_CHARS_MAX) for option in options]
    if not texts:
        return _of_value("the schema allows no value here", error)
    listed = " or ".join(filter(None, (", ".join(texts[:-1]), *texts[-1:])))
    return _of_value(f"{_MASK} is not {listed}", error)


def _nearest(value: Any, options: list[Any]) -> str:
    from rapidfuzz import fuzz, process  # noqa: PLC0415  most checks need none of it

    texts = [
        _cut(json.dumps(option, ensure_ascii=False), _QUOTE_CHARS_MAX) for option in options[:_OPTIONS_COMPARED_MAX]
    ]
    wanted = _cut(json.dumps(value, ensure_ascii=False), _QUOTE_CHARS_MAX)
    like = process.extract(wanted.lower(), [text.lower() for text in texts], scorer=fuzz.ratio, limit=3)
    near = ", ".join(texts[at] for _, _, at in like)
    return _cut(f"{_MASK} is none of the {len(options)} values that are allowed; the nearest are {near}", 400)


def _of_value(message: str, error: Any) -> str:
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
