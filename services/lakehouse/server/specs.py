"""``read_spec``: what was asked for, checked once, by the same rules in ``iterate`` and ``validated``.

``iterate`` reads it before a model call is spent, ``validated`` before it judges, so that a spec which one takes the
other takes too. A rule needs no roster and no artifact; what needs those is a validator's business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from google.protobuf.json_format import MessageToDict

from lakehouse.errors import Fault, Reason, Violation, bad_request
from lakehouse.iterate.v1.iterate_pb2 import IterateRequest
from lakehouse.near_names import did_you_mean
from lakehouse.strict_json.parser import JsonBreach, JsonValue, parse_json, print_canonical
from lakehouse.validated.v1.validated_pb2 import EmailSpec, FillSpec, JsonSchemaSpec, ValidateRequest

KNOWN_KINDS: Final = ("fill", "email", "json_schema")
COUNT_MAX: Final = 1000
CERTIFICATIONS_MAX: Final = 50
LOCATIONS_MAX: Final = 200
SHIFT_MAX: Final = timedelta(days=7)
TEXT_CHARS_MAX: Final = 200
EMAIL_WORKERS_MAX: Final = 1000
EMAIL_ALLOWED_MAX: Final = 50
SUBJECT_CHARS: Final = 200
BODY_CHARS: Final = 5000
# Each run of words in a message is looked up: the longest message bounds that.
EMAIL_CHARS_MAX: Final = 20_000
_QUOTE_CHARS_MAX = 80
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:[Zz]|[+-]\d{2}:\d{2})", re.ASCII)

# What is taken for a schema, by its names and the one that holds the schema or something around it.
_WRAPPERS: Final[tuple[tuple[frozenset[str], str, str], ...]] = (
    (frozenset(("name", "description", "strict", "schema")), "schema", "the json_schema of an OpenAI response_format"),
    (frozenset(("type", "json_schema")), "json_schema", "an OpenAI response_format"),
    (frozenset(("type", "name", "description", "strict", "schema")), "schema", "the text format of OpenAI's responses"),
    (frozenset(("type", "function")), "function", "the definition of a tool"),
    (frozenset(("type", "name", "description", "strict", "parameters")), "parameters", "the definition of a function"),
    (frozenset(("type", "name", "description", "input_schema")), "input_schema", "the definition of a tool"),
)
_SCHEMA_KEYWORDS: Final = frozenset(
    (  # noqa: SIM905  sixty lines otherwise
        "$schema $id id $ref $anchor $dynamicRef $dynamicAnchor $recursiveRef $recursiveAnchor $vocabulary $comment "
        "$defs definitions allOf anyOf oneOf not if then else dependentSchemas dependencies dependentRequired "
        "properties patternProperties additionalProperties propertyNames unevaluatedProperties items prefixItems "
        "additionalItems contains minContains maxContains unevaluatedItems type enum const multipleOf maximum "
        "exclusiveMaximum minimum exclusiveMinimum maxLength minLength pattern maxItems minItems uniqueItems "
        "maxProperties minProperties required title description default examples deprecated readOnly writeOnly format "
        "contentEncoding contentMediaType contentSchema"
    ).split()
)

SpecMessage: TypeAlias = FillSpec | EmailSpec | JsonSchemaSpec


class Spec:
    """The spec of one request, known to be usable."""

    __slots__ = ("_text", "kind", "message")

    def __init__(self, kind: str, message: SpecMessage | None, text: str | None = None) -> None:
        """`message` is the message of a known kind; None where the kind is from outside the repository. `text` may be
        left out for one without a `…_json` field.
        """
        self.kind: Final = kind
        self.message: Final = message
        self._text = text

    @property
    def text(self) -> str | None:
        """Canonical JSON text of the set member as the session row holds it: proto field names, unset fields left out,
        a `…_json` field embedded as JSON without `_json` in its name. None where no member is set.
        """
        # Made on demand: of those who read a spec only iterate shows it to anybody.
        if self._text is None and self.message is not None:
            self._text = print_canonical(MessageToDict(self.message, preserving_proto_field_name=True))
        return self._text


def read_spec(request: ValidateRequest | IterateRequest, *, extra_kinds: Collection[str] = ()) -> Spec:
    """The spec that `request` holds. `extra_kinds` are the kinds that the deployment has added.

    Raises Fault: UNKNOWN_KIND (the violation on `kind` lists what is known), KIND_SPEC_MISMATCH, or BAD_REQUEST with a
    violation for every field that cannot be used.
    """
    kind = request.kind
    if kind not in KNOWN_KINDS and kind not in extra_kinds:
        kinds = (*KNOWN_KINDS, *sorted(set(extra_kinds) - set(KNOWN_KINDS)))
        what = f'"{quoted(kind)}" is not a kind' if kind else "a kind is required"
        known = f"the kinds are {', '.join(kinds)}{did_you_mean(kind, kinds)}"
        raise Fault(Reason.UNKNOWN_KIND, violations=(Violation("kind", f"{what}; {known}"),))
    member = request.WhichOneof("spec")
    if kind in KNOWN_KINDS and member != kind:
        found = f"{member} is set" if member else "no spec is set"
        raise Fault(
            Reason.KIND_SPEC_MISMATCH, violations=(Violation(kind, f"kind {kind} takes the spec {kind}; {found}"),)
        )
    if kind == "fill":
        return _checked(kind, request.fill, _fill_violations(request.fill))
    if kind == "email":
        return _checked(kind, request.email, _email_violations(request.email))
    if kind == "json_schema":
        return _json_schema(request.json_schema)
    if member is None:
        return Spec(kind, None)
    if member != "spec_json":
        raise Fault(
            Reason.KIND_SPEC_MISMATCH,
            violations=(Violation(member, f"kind {kind} takes spec_json or no spec; {member} is set"),),
        )
    value = _parsed("spec_json", request.spec_json)
    if not isinstance(value, dict):
        raise bad_request(Violation("spec_json", "must be one JSON object"))
    return Spec(kind, None, print_canonical(value))


def read_instant(text: str) -> datetime | None:
    """The instant that an RFC 3339 text with an offset names; None where the text is none."""
    # fromisoformat takes more than RFC 3339: week dates, no seconds, a space for the T.
    if not text or not _INSTANT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:
        return None


def quoted(text: str) -> str:
    """`text` for a message to a person: at most 80 characters, each that does not print shown as U+XXXX."""
    if len(text) <= _QUOTE_CHARS_MAX and text.isprintable():
        return text
    shown: list[str] = []
    length = 0
    for character in text[: _QUOTE_CHARS_MAX + 1]:
        # isprintable is false for control, format (zero-width, bidi), surrogate, private and unassigned characters and
        # for every separator but the space.
        piece = character if character.isprintable() else f"U+{ord(character):04X}"
        length += len(piece)
        if length > _QUOTE_CHARS_MAX:
            return "".join(shown) + "…"
        shown.append(piece)
    return "".join(shown)


def _checked(kind: str, message: FillSpec | EmailSpec, violations: list[Violation]) -> Spec:
    if violations:
        raise bad_request(*violations)
    return Spec(kind, message)


def _json_schema(message: JsonSchemaSpec) -> Spec:
    field = "json_schema.schema_json"
    if not message.schema_json:
        raise bad_request(Violation(field, "a JSON Schema is required"))
    schema = _parsed(field, message.schema_json)
    if not isinstance(schema, (dict, bool)):
        raise bad_request(Violation(field, "a JSON Schema is a JSON object, or true or false"))
    problem = _no_schema(schema) if isinstance(schema, dict) else ""
    if problem:
        raise bad_request(Violation(field, problem))
    return Spec("json_schema", message, print_canonical({"schema": schema}))


def _no_schema(value: dict[str, JsonValue]) -> str:
    """What `value` is, where it is something around a schema, or has no keyword and so would accept anything."""
    for names, inner, what in _WRAPPERS:
        if inner in value and value.keys() <= names and isinstance(value[inner], (dict, bool)):
            return f'this is {what}, not a JSON Schema; give what stands in its "{inner}"'
    if value and value.keys().isdisjoint(_SCHEMA_KEYWORDS):
        found = ", ".join(f'"{quoted(name)}"' for name in list(value)[:3])
        return f"no keyword of JSON Schema stands at its top, but {found}: it would accept anything; {{}} says so"
    return ""


def _parsed(field: str, text: str) -> JsonValue:
    try:
        # One level less than the limit: the row embeds the value in the spec object.
        return parse_json(text, depth_max=99)
    except JsonBreach as breach:
        raise bad_request(Violation(field, breach.problem)) from None


def _fill_violations(spec: FillSpec) -> list[Violation]:
    found: list[Violation] = []
    _check_text(found, "fill.role", spec.role, required=True)
    if not 1 <= spec.count <= COUNT_MAX:
        found.append(Violation("fill.count", f"must be from 1 to {COUNT_MAX}, is {spec.count}"))
    _check_text(found, "fill.city", spec.city)
    _check_state(found, "fill.state", spec.state)
    _check_shift(found, spec.shift_start, spec.shift_end)
    certifications = spec.required_certifications
    if len(certifications) > CERTIFICATIONS_MAX:
        found.append(Violation("fill.required_certifications", f"at most {CERTIFICATIONS_MAX}"))
    for index, certification in enumerate(certifications[:CERTIFICATIONS_MAX]):
        _check_text(found, f"fill.required_certifications[{index}]", certification, required=True)
    _check_text(found, "fill.client_id", spec.client_id)
    locations = spec.allowed_locations
    if len(locations) > LOCATIONS_MAX:
        found.append(Violation("fill.allowed_locations", f"at most {LOCATIONS_MAX}"))
    for index, location in enumerate(locations[:LOCATIONS_MAX]):
        _check_text(found, f"fill.allowed_locations[{index}].city", location.city)
        _check_state(found, f"fill.allowed_locations[{index}].state", location.state, required=True)
    _check_distance(found, spec)
    return found


def _check_shift(found: list[Violation], start_text: str, end_text: str) -> None:
    if not start_text and not end_text:
        return
    if not start_text or not end_text:
        missing = "fill.shift_start" if end_text else "fill.shift_end"
        found.append(Violation(missing, "set shift_start and shift_end together, or neither"))
    instants: list[datetime] = []
    for name, text in (("fill.shift_start", start_text), ("fill.shift_end", end_text)):
        instant = read_instant(text)
        if instant is not None:
            instants.append(instant)
        elif text:
            example = "2026-12-05T07:00:00-05:00"
            found.append(Violation(name, f'"{quoted(text)}" is not RFC 3339 with an offset, such as {example}'))
    if len(instants) == 2 and not timedelta(0) < instants[1] - instants[0] <= SHIFT_MAX:
        found.append(
            Violation("fill.shift_end", f"must be after shift_start and at most {SHIFT_MAX.days} days after it")
        )


def _check_distance(found: list[Violation], spec: FillSpec) -> None:
    has_site = spec.HasField("site")
    if has_site:
        # NaN fails both comparisons.
        if not -90 <= spec.site.latitude <= 90:
            found.append(Violation("fill.site.latitude", "must be from -90 to 90"))
        if not -180 <= spec.site.longitude <= 180:
            found.append(Violation("fill.site.longitude", "must be from -180 to 180"))
    if spec.HasField("max_distance_km"):
        if not (math.isfinite(spec.max_distance_km) and spec.max_distance_km > 0):
            found.append(Violation("fill.max_distance_km", "must be a number above 0"))
        if not has_site:
            found.append(Violation("fill.site", "max_distance_km needs the site to measure from"))


def _email_violations(spec: EmailSpec) -> list[Violation]:
    found: list[Violation] = []
    worker_ids = spec.worker_ids
    if not 1 <= len(worker_ids) <= EMAIL_WORKERS_MAX:
        text = f"1 to {EMAIL_WORKERS_MAX} worker ids, has {len(worker_ids)}"
        found.append(Violation("email.worker_ids", text))
    for index, worker_id in enumerate(worker_ids[:EMAIL_WORKERS_MAX]):
        _check_text(found, f"email.worker_ids[{index}]", worker_id, required=True)
    if spec.to_worker_id and spec.to_worker_id not in worker_ids:
        found.append(Violation("email.to_worker_id", "must be one of worker_ids"))
    for name in ("allowed_numbers", "allowed_names"):
        allowed = getattr(spec, name)
        if len(allowed) > EMAIL_ALLOWED_MAX:
            found.append(Violation(f"email.{name}", f"at most {EMAIL_ALLOWED_MAX}, has {len(allowed)}"))
        for index, text in enumerate(allowed[:EMAIL_ALLOWED_MAX]):
            field = f"email.{name}[{index}]"
            _check_text(found, field, text, required=True)
            if name == "allowed_numbers" and not 3 <= sum(map(str.isdecimal, text)) <= 20:
                found.append(Violation(field, f'must have 3 to 20 digits, is "{quoted(text)}"'))
    for name in ("subject_chars_max", "body_chars_max"):
        if not 0 <= getattr(spec, name) <= EMAIL_CHARS_MAX:
            text = f"must be from 1 to {EMAIL_CHARS_MAX}, or 0 for the default"
            found.append(Violation(f"email.{name}", text))
    return found


def _check_text(found: list[Violation], field: str, text: str, *, required: bool = False) -> None:
    if required and not text.strip():
        found.append(Violation(field, "is required"))
    elif len(text) > TEXT_CHARS_MAX:
        found.append(Violation(field, f"at most {TEXT_CHARS_MAX} characters, has {len(text)}"))
    elif not text.isprintable():
        found.append(Violation(field, f'"{quoted(text)}" holds characters that do not print'))


def _check_state(found: list[Violation], field: str, text: str, *, required: bool = False) -> None:
    if not text and not required:
        return
    if len(text) != 2 or not text.isascii() or not text.isalpha():
        found.append(Violation(field, f'two letters such as OH, is "{quoted(text)}"'))
