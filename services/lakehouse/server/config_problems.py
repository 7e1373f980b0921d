"""What is wrong with a configuration, in words: the key as an operator writes it, what it must be, what was meant."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from lakehouse.near_names import did_you_mean, nearest

Sources = Mapping[tuple[str, ...], str]
"""Which environment variable set a key, by the key's path in the service's table."""

_DEPTH_MAX: Final = 4
_TAG_KEY: Final = "type"

# By pydantic's name of the problem; {…} is what pydantic says with it.
_SENTENCES: Final = {
    "missing": "is required",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "string_pattern_mismatch": "must match {pattern}",
    "finite_number": "must be a finite number",
    "bytes_type": "must be a text",
    "path_type": "must be a path",
}
# By the beginning of that name.
_FAMILIES: Final = {
    "int_": "must be a whole number",
    "float_": "must be a number",
    "decimal_": "must be a number",
    "bool_": "must be true or false",
    "string_": "must be a text",
    "dict_": "must be a table",
    "model_": "must be a table",
    "dataclass_": "must be a table",
    "tuple_": 'must be a list (in the environment as JSON: ["a", "b"])',
    "list_": 'must be a list (in the environment as JSON: ["a", "b"])',
    "set_": 'must be a list (in the environment as JSON: ["a", "b"])',
}


def problem_line(service: str, model: type[BaseModel], error: ErrorDetails, sources: Sources) -> str:
    """One line for `error`, which validating `model` has found: `chatd.providers.openai.base_url: is required`.

    A key that an environment variable set is followed by the variable.
    """
    path, table = _key(model, error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden" and path:
        sentence = "unknown key" + _meant(service, path, table)
    elif kind == "union_tag_not_found":
        sentence = f"is required: {_choice(_tags(_annotation(model, path)))}"
        path = (*path, _TAG_KEY)
    elif kind == "union_tag_invalid":
        tags, tag = _tags(_annotation(model, path)), str(context.get("tag", ""))[:64]
        sentence = f'"{tag}" is no {_TAG_KEY}: {_choice(tags)}{did_you_mean(tag, tags)}'
        path = (*path, _TAG_KEY)
    elif kind == "literal_error":
        names = _literals(_annotation(model, path))
        found = error.get("input")
        meant = did_you_mean(found, names) if isinstance(found, str) else ""
        sentence = f"must be {_choice(names)}{meant}"
    else:
        sentence = _sentence(kind, context, error["msg"])
    source = _source(path, sources)
    return f"{'.'.join((service, *path))}{f' ({source})' if source else ''}: {sentence}"


def unknown_variable(name: str, service: str, model: type[BaseModel]) -> str:
    """Return the line for an environment variable that looks like a setting of `service` and is none."""
    prefix = f"{service.upper()}_"
    key = name.removeprefix(prefix).lower().partition("__")[0]
    for field in model.model_fields:
        if key.startswith(f"{field}_") and (_tables(model.model_fields[field].annotation) or _is_open(model, field)):
            return f"{name}: unknown key; two underscores lead into a table: {prefix}{field.upper()}__…"
    near = nearest(key, model.model_fields)
    meant = (near,) if near else next((path for path in _paths_to(key, model, _DEPTH_MAX)), ())
    return f"{name}: unknown key" + (f"; did you mean {prefix}{'__'.join(meant).upper()}?" if meant else "")


def _sentence(kind: str, context: Mapping[str, Any], message: str) -> str:
    if kind in _SENTENCES:
        return _SENTENCES[kind].format_map(context)
    for beginning, sentence in _FAMILIES.items():
        if kind.startswith(beginning):
            return sentence
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


def _key(model: type[BaseModel], location: Sequence[str | int]) -> tuple[tuple[str, ...], type[BaseModel] | None]:
    """Return the path of a key as a person writes it, and the table in which its last part stands."""
    path: list[str] = []
    annotation: Any = model
    table: type[BaseModel] | None = None
    for part in location:
        tables = _tables(annotation)
        if len(tables) > 1 and (tagged := [each for each in tables if part in _tags(each)]):
            annotation = tagged[0]  # pydantic names the member of a union, which nobody wrote
            continue
        path.append(str(part))
        table = tables[0] if tables else None
        annotation = _below(annotation, part)
    return tuple(path), table


def _annotation(model: type[BaseModel], path: Sequence[str]) -> Any:
    annotation: Any = model
    for part in path:
        annotation = _below(annotation, part)
    return annotation


def _below(annotation: Any, part: str | int) -> Any:
    """Return the type of what `part` names in a value of this type; None where nothing is known of it."""
    for table in _tables(annotation):
        if part in table.model_fields:
            return _field(table, str(part))
    for each in _alternatives(annotation):
        origin, arguments = get_origin(each), get_args(each)
        if origin is dict:
            return arguments[1]
        if origin in (tuple, list) and arguments:
            return arguments[0]
    return None


def _field(table: type[BaseModel], name: str) -> Any:
    return table.model_fields[name].annotation


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _alternatives(each)
    else:
        yield annotation


def _tables(annotation: Any) -> list[type[BaseModel]]:
    found = _alternatives(annotation)
    return [each for each in found if isinstance(each, type) and issubclass(each, BaseModel)]


def _is_open(model: type[BaseModel], field: str) -> bool:
    return any(get_origin(each) is dict for each in _alternatives(_field(model, field)))


def _literals(annotation: Any) -> list[str]:
    return [str(value) for each in _alternatives(annotation) if get_origin(each) is Literal for value in get_args(each)]


def _tags(annotation: Any) -> list[str]:
    """Return the values of the key that says which table of a union is meant."""
    tables = _tables(annotation)
    return [tag for table in tables if _TAG_KEY in table.model_fields for tag in _literals(_field(table, _TAG_KEY))]


def _meant(service: str, path: Sequence[str], table: type[BaseModel] | None) -> str:
    if table is None:
        return ""
    *above, name = path
    if meant := did_you_mean(name, table.model_fields):
        return meant
    below = next(_paths_to(name, table, _DEPTH_MAX), None)
    return f"; did you mean {'.'.join((service, *above, *below))}?" if below else ""


def _paths_to(name: str, table: type[BaseModel], depth: int) -> Iterator[tuple[str, ...]]:
    """Where a key of this name stands in the tables below `table`."""
    for field in table.model_fields:
        for inner in _tables(_field(table, field)) if depth else ():
            if name in inner.model_fields:
                yield (field, name)
            for path in _paths_to(name, inner, depth - 1):
                yield (field, *path)


def _choice(names: Sequence[str]) -> str:
    *others, last = names or ["something else"]
    return f"{', '.join(others)} or {last}" if others else last


def _source(path: Sequence[str], sources: Sources) -> str:
    # A variable may have set a whole table: the longest path counts.
    for length in range(len(path), 0, -1):
        if name := sources.get(tuple(path[:length])):
            return name
    return ""
