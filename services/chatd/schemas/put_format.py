"""``put_format``: which schema one target is sent, and in which words: the most that it may see, can bear and has not
refused, in the order restricted, plain, none."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, NamedTuple

from chatd.completion import ResponseFormat, SentFormat
from chatd.schemas.dialects import DIALECTS, DialectName
from chatd.schemas.translation import NotBorneError, TooLargeError, translate

JsonMode = Literal["none", "json_object", "json_schema"]
Rung = Literal["restricted", "plain", "json_object", "text"]
"""How much of a form is asked for, from the most to the least."""
_RUNGS: Final[tuple[Rung, ...]] = ("restricted", "plain", "json_object", "text")
_JSON_OBJECT: Final = ResponseFormat("json_object")


class FormAbilities(NamedTuple):
    """What a model bears of the form of an answer."""

    json_mode: JsonMode = "none"
    has_json_object: bool = True
    """Whether it can be asked for a JSON object without a schema."""
    dialect: DialectName = "plain"
    strict: bool = True
    """Whether it may be asked to hold the answer to a schema."""


class Put(NamedTuple):
    """A form as it is sent, None for none, and what is said of it."""

    wanted: ResponseFormat | None
    sent: SentFormat


def put_format(wanted: ResponseFormat, shown: SentFormat, abilities: FormAbilities, *, most: Rung) -> Put:
    """Return the form for one target. `shown` is what is said of the request so far, `most` what the endpoint has not
    refused."""
    if wanted.form == "json_schema":
        shown = shown._replace(schema="none")
        for schema in ("restricted", "plain"):
            put = _put_schema(wanted, shown, abilities, schema, most)
            if isinstance(put, Put):
                return put
            shown = shown._replace(degraded=put or shown.degraded)
    if most == "text":
        return Put(None, shown._replace(degraded="REFUSED"))
    if abilities.json_mode == "none" or not abilities.has_json_object:
        return Put(None, shown._replace(degraded=shown.degraded or "NOT_BORNE"))
    return Put(_JSON_OBJECT, shown._replace(form="json_object"))


def _put_schema(
    wanted: ResponseFormat,
    shown: SentFormat,
    abilities: FormAbilities,
    schema: Literal["restricted", "plain"],
    most: Rung,
) -> Put | Literal["", "REFUSED", "NOT_BORNE", "TOO_LARGE"]:
    """Return the form with that schema, or why it is not sent; "" where there is none."""
    restricted = schema == "restricted"
    text = wanted.restricted_schema_json if restricted else wanted.schema_json
    if not text:
        return ""
    if abilities.json_mode != "json_schema" or (restricted and not DIALECTS[abilities.dialect].restricted):
        return "NOT_BORNE"
    if _RUNGS.index(schema) < _RUNGS.index(most):
        return "REFUSED"
    try:
        translated = translate(text, abilities.dialect, restricted=restricted)
    except TooLargeError:
        return "TOO_LARGE"
    except NotBorneError:
        return "NOT_BORNE"
    put = replace(
        wanted,
        schema_json=translated.schema_json,
        restricted_schema_json="",
        strict=abilities.strict and translated.enforceable,
        dialect=abilities.dialect,
    )
    return Put(put, shown._replace(form="json_schema", schema=schema, dialect=abilities.dialect))
