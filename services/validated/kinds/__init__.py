"""The kinds. Adding one is one file beside these and one line in ``KINDS``; or, from outside the repository, an entry
point of the group ``lakehouse.kinds`` whose name is the kind and whose value is a class like those below.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import entry_points
from typing import Final

from validated.kinds.email import EmailValidator
from validated.kinds.fill import FillValidator
from validated.kinds.json_schema import JsonSchemaValidator
from validated.kinds.validator import SPEC_MEMBERS, MakeValidator, Tools, Validator

ENTRY_POINT_GROUP: Final = "lakehouse.kinds"

KINDS: Final[dict[str, MakeValidator]] = {
    "fill": FillValidator,
    "email": EmailValidator,
    "json_schema": JsonSchemaValidator,
}


class KindError(Exception):
    """A kind from outside the repository cannot be used; the text says which and why."""


def find_kinds() -> dict[str, MakeValidator]:
    """Every kind's maker, those from outside loaded.

    Raises KindError where one from outside cannot be loaded or takes a known name: a gate that lacks a rule in
    silence is none.
    """
    makers = dict(KINDS)
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda each: each.name):
        if point.name in makers or point.name in SPEC_MEMBERS:
            raise KindError(f'kind "{point.name}" of {point.value}: the name is taken')
        try:
            makers[point.name] = point.load()
        except Exception as error:
            raise KindError(f'kind "{point.name}" of {point.value}: {type(error).__name__}: {error}') from error
    return makers


@contextlib.asynccontextmanager
async def make_validators(tools: Tools) -> AsyncIterator[dict[str, Validator]]:
    """Every kind with its validator, for the time of the block. One that holds something (processes, connections) has
    an ``aclose``, which is awaited at its end.

    Raises KindError; see `find_kinds`.
    """
    validators = {name: make(tools) for name, make in find_kinds().items()}
    try:
        yield validators
    finally:
        for validator in validators.values():
            close = getattr(validator, "aclose", None)
            if close is not None:
                await close()
