"""What a declaration of a kind may say: one TOML file, read strictly. Whatever is wrong is named with its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, PlainValidator, Strict, ValidationError

from lakehouse.settings import Table
from validated.config import ColumnName

FILE_BYTES_MAX: Final = 256 * 1024
# The parser of TOML takes time by the square of the parts of a dotted key.
_KEY_PARTS_MAX: Final = 20
_KEY_PART: Final = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
# Where a key may begin: in a condition of a rule there may be as long a path.
_LONG_KEY: Final = re.compile(
    rf"(?:^|[\[{{,])[ \t]*+{_KEY_PART}(?:[ \t]*+\.[ \t]*+{_KEY_PART}){{{_KEY_PARTS_MAX}}}", re.MULTILINE
)
_LONG_NUMBER: Final = re.compile(r"[0-9_]{1000}")
KIND_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")

Pointer = Annotated[str, Field(max_length=200)]
MemberName = Annotated[str, Field(max_length=100)]
Compare = Literal["exact", "folded"]
SpecPath = Annotated[str, Field(pattern=r"^spec(\.[A-Za-z_][A-Za-z0-9_]{0,62}){1,5}$")]
Operator = Literal["equals", "not_equals", "at_least", "at_most", "one_of", "contains"]
Flag = Annotated[bool, Strict()]
"""TOML has types: neither 1 nor "yes" is meant for true, nor true for 1."""


def _literal(value: object) -> object:
    if isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, list) and (
        all(isinstance(each, str) for each in value)
        or all(isinstance(each, int) and not isinstance(each, bool) for each in value)
    ):
        return tuple(value)
    text = "must be a text, a whole number, true, false, or a list of texts or of whole numbers"
    raise ValueError(f"{text}; put a decimal, a date and an instant in quotes")


Literal_ = Annotated[bool | int | str | tuple[str, ...] | tuple[int, ...], PlainValidator(_literal)]


class Agreement(Table):
    """What a name of the artifact must equal, in a reference's `agree`."""

    column: ColumnName
    """The column whose value it must be."""
    tolerance: Annotated[str, Field(pattern=r"^[0-9]{1,18}(\.[0-9]{1,18})?$")] = "0"
    """Of an integer or a decimal: how far it may be off, a decimal number in quotes, "0.005"."""
    compare: Compare = "exact"
    """Of a text: `folded` compares without case, width and spacing."""


def _agreement(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


class Condition(Table):
    """One demand on the row found, in a reference's `require`. A row without a value in the column does not meet it."""

    column: ColumnName
    """The column that is looked at."""
    op: Operator = "equals"
    """`at_least` and `at_most` are for integer, decimal, date and instant; `contains` for labels; `one_of` takes a
    list."""
    value: Literal_ | None = None
    """What it is compared with; a decimal, a date and an instant stand in quotes. Either this or `spec`."""
    spec: SpecPath | None = None
    """Where in the spec stands what it is compared with: "spec.category". Where the spec leaves it out, nothing is
    demanded."""
    compare: Compare = "exact"
    """Of text and labels: `folded` compares without case, width and spacing."""


class Reference(Table):
    """What an artifact names of a dataset, `[[references]]`."""

    at: Pointer
    """Where the elements stand: a JSON pointer in which `*` is each element of an array: "/lines/*"."""
    dataset: str
    """The dataset in which each of them must stand."""
    key: Annotated[dict[MemberName, ColumnName], Field(min_length=1, max_length=4)]
    """The artifact's names, within the element, to all of the dataset's key columns: {sku = "sku"}. The name "" is the
    element itself, where that is a text."""
    compare: Compare = "exact"
    """How keys are compared: `folded` without case, width and spacing; where several rows are then alike, to the
    letter."""
    agree: Annotated[dict[MemberName, Annotated[Agreement, BeforeValidator(_agreement)]], Field(max_length=50)] = Field(
        default_factory=dict
    )
    """The artifact's names that must equal columns of the row found, where the artifact has them (`schema` says which
    it must have): {price = "price"}, or {price = {column = "price", tolerance = "0.005"}}. Numbers are compared as
    decimals. A column without a value agrees with null."""
    unique: Flag = False
    """Whether no two elements may name the same row."""
    count: Annotated[int, Strict(), Field(ge=0, le=1000)] | SpecPath | None = None
    """How many elements there must be, or where the spec says so: "spec.count", from 0 to 1000."""
    optional: Flag = False
    """Whether an artifact may lack what `at` names; otherwise that is a finding."""
    require: Annotated[tuple[Condition, ...], Field(max_length=20)] = ()
    """What the row found must meet."""


class Rule(Table):
    """What no reference says, `[[rules]]`: a condition in CEL. Each number is a double there: write 2.0 for 2 in a
    calculation. Where the condition has no value (a name that is not there, a text where a number belongs), that is a
    finding."""

    code: Annotated[str, Field(pattern="^[A-Z][A-Z0-9_]{1,39}$")]
    """The code of its finding, a name of your own: "OVER_BUDGET"."""
    check: Annotated[str, Field(min_length=1, max_length=1000)]
    """The condition, true where all is well, over `artifact` and `spec`, and with `reference` over `item` and `row`:
    "!has(spec.total) || sum(artifact.lines.map(line, line.price * line.quantity)) <= spec.total". It may call size,
    startsWith, endsWith, contains, double, timestamp, duration, sum and abs, and run over elements by all, exists,
    exists_one, filter and map, on one level. Sums of decimals are rounded: compare them by abs(a - b) < 0.005."""
    message: Annotated[str, Field(min_length=1, max_length=500)]
    """What the finding says, to people and models. `{spec.name}`, `{artifact.name}`, `{item.name}` and `{row.name}` are
    replaced by what stands there."""
    path: Pointer = ""
    """What the finding blames: a JSON pointer without `*` into the artifact, or with `reference` into the element."""
    reference: Annotated[int, Strict(), Field(ge=0, le=9)] | None = None
    """A rule of elements: it is held against each element of this reference that names a row (the position in the file,
    from 0), as `item`, with the row's columns as `row`: instants as texts, decimals as numbers. What it looks at of
    `artifact` and `spec` is read anew for each element: elements times values are at most 400,000 for all rules
    together, beyond which it is a finding."""


class BriefRule(Table):
    """What a model is shown before it answers, `[brief]`."""

    reference: Annotated[int, Strict(), Field(ge=0, le=9)] = 0
    """Whose rows are candidates: the position of the reference in the file, from 0. They meet its `require`."""
    columns: Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=50)]
    """The columns that a model may see, in candidates, findings and suggestions; the key's with them."""
    candidates_max: Annotated[int, Strict(), Field(ge=1, le=200)] = 50
    """The most candidates that are shown; a request may ask for fewer. Rows whose key the prompt names come first."""


class Declaration(Table):
    """One kind."""

    description: Annotated[str, Field(min_length=1, max_length=500)]
    """What the kind is for, one sentence: ListKinds says it."""
    instructions: Annotated[str, Field(max_length=20_000)] = ""
    """Words for the model. `{spec.name}` is replaced by what the spec says there."""
    artifact_schema: str | dict[str, Any] = Field(alias="schema")
    """The JSON Schema (2020-12) of an artifact, as JSON text or as a table. Its references stay inside and do not
    recur."""
    spec_schema: str | dict[str, Any] | None = None
    """The JSON Schema of `spec_json`. None: any object, or none."""
    references: Annotated[tuple[Reference, ...], Field(min_length=1, max_length=10)]
    """What must stand in datasets, and agree with them."""
    rules: Annotated[tuple[Rule, ...], Field(max_length=20)] = ()
    """Conditions on the whole. They are looked at where the artifact fits the schema."""
    brief: BriefRule | None = None
    """None: no candidates, and a model may see the key's columns and those of `agree`."""


class DeclarationError(Exception):
    """A declaration cannot be used; the text names file and line and says what to do."""


def read_declaration(path: Path) -> tuple[Declaration, str]:
    """Return the declaration in the file, and its text. Raises DeclarationError."""
    try:
        if not path.is_file():
            raise DeclarationError(f"{path}: is no file; remove it, or move it out of kinds_dir")
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise DeclarationError(f"{path}: {error.strerror or error}; check the path and the permissions") from None
    if len(data) > FILE_BYTES_MAX:
        raise DeclarationError(f"{path}: larger than {FILE_BYTES_MAX} bytes; make it smaller")
    try:
        text = data.decode("utf-8-sig")
        long = _LONG_KEY.search(text)
        if long is not None:
            line = text.count("\n", 0, long.end()) + 1
            raise DeclarationError(f"{path}:{line}: a name of more than {_KEY_PARTS_MAX} parts; make it shorter")
        values = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DeclarationError(f"{path}:{line}: is not UTF-8; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at (?:line (\d+), column \d+|end of document)\)", str(error))
        line = int(found[1]) if found and found[1] else data.count(b"\n") + 1
        raise DeclarationError(f"{path}:{line}: is no TOML: {error}; mend this line") from None
    except RecursionError:
        raise DeclarationError(f"{path}:1: is nested too deep; make it flatter") from None
    except ValueError:
        # The parser lets out what int() and date() say of a number of thousands of digits, without a place.
        found = _LONG_NUMBER.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found else 1
        raise DeclarationError(f"{path}:{line}: holds a number or a time that cannot be; mend it") from None
    try:
        return Declaration.model_validate(values), text
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = tuple(step for step in first["loc"] if step in _steps(values, first["loc"]))
        name = ".".join(str(step) for step in first["loc"])[:200]
        message = str(first["msg"]).removeprefix("Value error, ")[:300]
        advice = "remove it; see the reference of keys" if first["type"] == "extra_forbidden" else "mend it"
        raise DeclarationError(f"{path}:{line_of(text, where)}: {name}: {message}; {advice}") from None


def _steps(values: Any, where: Sequence[Any]) -> list[Any]:
    """Return the steps of `where` that lead into `values`: pydantic names the alternatives of a union as well."""
    steps: list[Any] = []
    for step in where:
        if isinstance(values, Mapping) and step in values:
            values = values[step]
            steps.append(step)
        elif isinstance(values, Sequence) and not isinstance(values, str) and isinstance(step, int):
            if step >= len(values):
                break
            values = values[step]
            steps.append(step)
    return steps


def line_of(text: str, where: Sequence[Any]) -> int:
    """Return the line of a key in the text of a file, as near as can be said; 1 where it stands nowhere."""
    lines = text.splitlines()
    start = 0
    rest = list(where)
    if len(rest) >= 2 and isinstance(rest[1], int):
        headers = [at for at, line in enumerate(lines) if line.strip().replace(" ", "").startswith(f"[[{rest[0]}]]")]
        if rest[1] < len(headers):
            start, rest = headers[rest[1]], rest[2:]
    elif rest and any(line.strip().startswith(f"[{rest[0]}]") for line in lines):
        start = next(at for at, line in enumerate(lines) if line.strip().startswith(f"[{rest[0]}]"))
        rest = rest[1:]
    best = start
    for step in rest:
        pattern = re.compile(rf'(^\s*|[{{,\[.]\s*)"?{re.escape(str(step))}"?\s*[=.\]]')
        for at in range(best, len(lines)):
            if at > start and lines[at].startswith("[") and not lines[at].startswith(f"[{step}"):
                break
            if pattern.search(lines[at]):
                best = at
                break
    return best + 1
