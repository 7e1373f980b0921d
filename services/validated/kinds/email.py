"""Kind ``email``: the message that tells a worker of a shift. It must not tell him of anybody outside the fill."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from lakehouse.server.specs import BODY_CHARS, SUBJECT_CHARS, Spec, quoted
from lakehouse.strict_json.parser import JsonValue
from lakehouse.validated.v1.validated_pb2 import EmailSpec
from validated.datasets.texts import fold
from validated.datasets.worker import Answer, Question
from validated.findings import Findings, pointer
from validated.kinds.validator import Ground, Tools

_NAMES: Final = ("to_worker_id", "subject", "body")
_TEXTS: Final = ("subject", "body")
# A full name is looked for in runs of so many words. One word alone is no full name: "May" and "Will" are words.
_NAME_WORDS: Final = range(2, 6)
_WORD: Final = re.compile(r"[^\W\d_]+(?:['\u2019.\-][^\W\d_]+)*", re.UNICODE)
_ID_LIKE: Final = re.compile(r"(?<!\w)[^\W_]+(?:[-_./#][^\W_]+)*(?!\w)", re.UNICODE)
# Dates and times are numbers that a message about a shift has to hold.
_DATE_OR_TIME: Final = re.compile(
    r"\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2})?)?\b"
    r"|\b\d{1,2}[/.]\d{1,2}[/.](?:\d{4}|\d{2})\b"
    r"|\b\d{1,2}:\d{2}(?::\d{2})?\b",
    re.ASCII,
)
# Digits, with what people put between those of one number.
_NUMBER: Final = re.compile(r"[+(]{0,2}\d(?:[\s().\-/\u2010-\u2015]{0,3}\d){6,}")
_PHONE_DIGITS: Final = 10


class EmailValidator:
    """Names only workers of the fill, no phone or id numbers of others, within the lengths.

    A person is recognised by an id, by a full name of the roster (compared without case and spacing), or by a number; a
    first name alone and people of no roster are not.
    """

    def __init__(self, tools: Tools) -> None:
        self._roster = tools.roster

    async def validate(self, artifact: JsonValue, spec: Spec, findings: Findings) -> Ground | None:
        """See Validator. Asks the roster once."""
        assert isinstance(spec.message, EmailSpec)  # noqa: S101  read_spec gives kind "email" its message
        terms = spec.message
        texts = _texts(artifact, findings)
        to = texts.get("to_worker_id", "")
        shapes = {_shape(worker_id) for worker_id in terms.worker_ids}
        limits = {"subject": terms.subject_chars_max or SUBJECT_CHARS, "body": terms.body_chars_max or BODY_CHARS}
        # What is longer has failed already; the rest of it is not worth a search.
        parts = [_Part(name, texts.get(name, "")[: limits[name]], shapes) for name in _TEXTS]
        asked = dict.fromkeys((*terms.worker_ids, *filter(None, (to,)), *(id_ for part in parts for id_ in part.ids)))
        names = dict.fromkeys(form for part in parts for forms in part.names.items() for form in forms)
        answer = await self._roster.look_up(Question(worker_ids=tuple(asked), names=tuple(names)))
        _judge_recipient(to, terms, answer, findings)
        fill = _Fill(frozenset(terms.worker_ids), answer)
        for part in parts:
            length = len(texts.get(part.name, ""))
            if length > limits[part.name]:
                text = f"{length} characters; at most {limits[part.name]} are allowed"
                findings.add("TOO_LONG", part.path, text)
            fill.judge(part, findings)
        named = [each for each in (to, *(id_ for part in parts for id_ in part.ids)) if each]
        return Ground(all(each in answer.found for each in named) if named else None, answer.version)


class _Part:
    """The subject or the body, with everything in it that may point to a person."""

    def __init__(self, name: str, text: str, shapes: set[str]) -> None:
        self.name = name
        self.path = pointer([name])
        # Marks that do not print may stand between the letters of a name or the digits of a number, and hide it.
        plain = unicodedata.normalize("NFKC", text)
        plain = "".join(" " if each.isspace() else each for each in plain if each.isprintable() or each.isspace())
        # The words that are built like the ids of the fill. As written, too: there an id may have a hidden mark.
        found = (*_ID_LIKE.findall(plain), *_ID_LIKE.findall(text))
        self.ids = list(dict.fromkeys(word for word in found if _shape(word) in shapes))
        self.names = _names(plain)
        self.numbers = [match[0].strip() for match in _NUMBER.finditer(_DATE_OR_TIME.sub(" | ", plain))]


class _Fill:
    """Who and what may be named."""

    def __init__(self, ids: frozenset[str], answer: Answer) -> None:
        self._ids = ids
        self._answer = answer
        own = [found.worker for worker_id, found in answer.found.items() if worker_id in ids]
        self._names = {fold(worker.name) for worker in own}
        self._numbers = [*(_digits(worker.phone) for worker in own), *(_digits(worker_id) for worker_id in ids)]
        # A namesake of somebody in the fill cannot be told from him.
        self._strangers = {fold(each.name) for each in answer.namesakes} - self._names

    def judge(self, part: _Part, findings: Findings) -> None:
        """Add what `part` says of others."""
        for worker_id in part.ids:
            if worker_id not in self._ids:
                known = worker_id in self._answer.found
                code = "FOREIGN_WORKER" if known else "PHANTOM_WORKER"
                what = "a worker outside this fill" if known else "not in the roster"
                text = f'"{quoted(worker_id)}" is {what}; name only the workers of the fill'
                findings.add(code, part.path, text)
        for name in part.names:
            if name in self._strangers:
                text = f'"{quoted(name)}" is a worker outside this fill; name only the workers of the fill'
                findings.add("FOREIGN_WORKER", part.path, text)
        for number in part.numbers:
            digits = _digits(number)[-_PHONE_DIGITS:]
            if not any(own.endswith(digits) for own in self._numbers):
                text = f'"{quoted(number)}" is no number of the fill\'s workers; leave out the numbers of anybody else'
                findings.add("FOREIGN_NUMBER", part.path, text)


def _texts(artifact: JsonValue, findings: Findings) -> dict[str, str]:
    if not isinstance(artifact, dict):
        findings.add("SHAPE", "", 'must be an object {"to_worker_id", "subject", "body"}')
        return {}
    for name in artifact:
        if name not in _NAMES:
            findings.add("SHAPE", pointer([name]), f'unknown name "{quoted(name)}"; the names are {", ".join(_NAMES)}')
    texts: dict[str, str] = {}
    for name in _NAMES:
        value = artifact.get(name)
        if isinstance(value, str) and value.strip():
            texts[name] = value
        else:
            problem = "must be a string that is not empty" if name in artifact else "is missing"
            findings.add("SHAPE", pointer([name]), f'"{name}" {problem}')
    return texts


def _judge_recipient(to: str, terms: EmailSpec, answer: Answer, findings: Findings) -> None:
    if not to:
        return
    if to not in answer.found:
        findings.add("PHANTOM_WORKER", "/to_worker_id", f'"{quoted(to)}" is not in the roster: no such worker exists')
    if terms.to_worker_id and to != terms.to_worker_id:
        text = f'the message is for {quoted(terms.to_worker_id)}, not for "{quoted(to)}"'
        findings.add("WRONG_RECIPIENT", "/to_worker_id", text)
    elif to not in terms.worker_ids:
        findings.add("WRONG_RECIPIENT", "/to_worker_id", f'"{quoted(to)}" is not one of the fill\'s workers')


def _shape(text: str) -> str:
    """The text with each letter as A and each digit as 9: what the ids of one roster have in common."""
    return "".join("9" if each.isdigit() else "A" if each.isalpha() else each for each in text)


def _names(text: str) -> dict[str, str]:
    """The distinct runs of words that could be a full name: folded, each with its form in lower case."""
    words = _WORD.findall(text)
    runs: dict[str, str] = {}
    for at in range(len(words)):
        for count in _NAME_WORDS:
            if at + count <= len(words):
                run = " ".join(words[at : at + count])
                runs.setdefault(fold(run), run.lower())
    return runs


def _digits(text: str) -> str:
    return "".join(str(int(each)) for each in text if each.isdecimal())
