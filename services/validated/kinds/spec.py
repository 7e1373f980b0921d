"""``read_spec``: what was asked for, checked once, by the rules of its kind, for ``Brief`` and ``Validate`` alike.

A rule of a spec needs no ground truth and no artifact; what needs those is the kind's judgement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from lakehouse.errors import Fault, Reason, Violation, bad_request
from lakehouse.near_names import did_you_mean
from lakehouse.spec_member import spec_member
from lakehouse.strict_json.parser import JsonBreach, JsonValue, parse_json, print_canonical
from lakehouse.validated.v1.validated_pb2 import BriefRequest, ValidateRequest
from validated.findings import quoted

TEXT_CHARS_MAX: Final = 200


class Spec:
    """The spec of one request, known to be usable."""

    __slots__ = ("_text", "kind", "message")

    def __init__(self, kind: str, message: Any, text: str | None = None) -> None:
        """`message` is the message of the kind's own member of ``oneof spec``; None where the kind takes ``spec_json``.
        `text` may be left out for a message without a `…_json` field.
        """
        self.kind: Final = kind
        self.message: Final = message
        self._text = text

    @property
    def text(self) -> str | None:
        """Canonical JSON text of the set member: proto field names, unset fields left out, a `…_json` field embedded as
        JSON without `_json` in its name. None where no member is set.
        """
        if self._text is None and self.message is not None:
            self._text = print_canonical(MessageToDict(self.message, preserving_proto_field_name=True))
        return self._text


def read_spec(request: BriefRequest | ValidateRequest, kinds: Mapping[str, Any]) -> Spec:
    """Return the spec that `request` holds. `kinds` are those of the deployment, by name: a kind whose name is a member
    of ``oneof spec`` has ``read_spec``, which takes the member's message.

    Raises Fault: UNKNOWN_KIND (the violation on `kind` lists what is known), KIND_SPEC_MISMATCH, or BAD_REQUEST with a
    violation for every field that cannot be used.
    """
    kind = request.kind
    if kind not in kinds:
        what = f'"{quoted(kind)}" is not a kind' if kind else "a kind is required"
        known = Violation("kind", f"{what}; the kinds are {', '.join(kinds)}{did_you_mean(kind, kinds)}")
        raise Fault(Reason.UNKNOWN_KIND, violations=(known,))
    taken, member = spec_member(request, kind), request.WhichOneof("spec")
    if taken.message_type is not None:
        if member != kind:
            found = f"{member} is set" if member else "no spec is set"
            raise _mismatch(kind, f"kind {kind} takes the spec {kind}; {found}")
        spec: Spec = kinds[kind].read_spec(getattr(request, kind))
        return spec
    if member is None:
        return Spec(kind, None)
    if member != taken.name:
        raise _mismatch(member, f"kind {kind} takes {taken.name} or no spec; {member} is set")
    value = parsed(taken.name, request.spec_json)
    if not isinstance(value, dict):
        raise bad_request(Violation(taken.name, "must be one JSON object"))
    return Spec(kind, None, print_canonical(value))


def usable(kind: str, message: Any, violations: Sequence[Violation]) -> Spec:
    """Return the spec of a kind's own member of ``oneof spec``. Raises Fault (BAD_REQUEST) with all that is wrong with
    it."""
    if violations:
        raise bad_request(*violations)
    return Spec(kind, message)


def parsed(field: str, text: str) -> JsonValue:
    """Return the JSON of a request's `field`. Raises Fault (BAD_REQUEST)."""
    try:
        # One level less than the limit: a session's row embeds the value in the spec object.
        return parse_json(text, depth_max=99)
    except JsonBreach as breach:
        raise bad_request(Violation(field, breach.problem)) from None


def check_text(found: list[Violation], field: str, text: str, *, required: bool = False) -> None:
    """Add to `found` what is wrong with a text that is to be compared with the ground truth's."""
    if required and not text.strip():
        found.append(Violation(field, "is required"))
    elif len(text) > TEXT_CHARS_MAX:
        found.append(Violation(field, f"at most {TEXT_CHARS_MAX} characters, has {len(text)}"))
    elif not text.isprintable():
        found.append(Violation(field, f'"{quoted(text)}" holds characters that do not print'))


def check_state(found: list[Violation], field: str, text: str, *, required: bool = False) -> None:
    """Add to `found` what is wrong with a state."""
    if not text and not required:
        return
    if len(text) != 2 or not text.isascii() or not text.isalpha():
        found.append(Violation(field, f'two letters such as OH, is "{quoted(text)}"'))


def _mismatch(field: str, text: str) -> Fault:
    return Fault(Reason.KIND_SPEC_MISMATCH, violations=(Violation(field, text),))
