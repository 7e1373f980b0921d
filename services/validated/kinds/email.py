"""Kind ``email``: the message that tells a worker of a shift. It must not tell him of anybody outside the fill."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from lakehouse.errors import Violation
from lakehouse.strict_json.parser import JsonValue, print_canonical
from lakehouse.validated.v1.validated_pb2 import EmailSpec
from validated.datasets.names import beginnings, full_name_key
from validated.datasets.worker import Answer, Question, Worker, place_in_draw
from validated.findings import Findings, pointer, quoted
from validated.kinds.candidates import exact_object, fitting
from validated.kinds.facts import Facts
from validated.kinds.mentions import search, those_who
from validated.kinds.message_ids import IdSearch
from validated.kinds.message_names import NameSearch
from validated.kinds.message_numbers import NumberSearch
from validated.kinds.message_text import unescaped, views
from validated.kinds.spec import Spec, check_text, usable
from validated.kinds.spec_schema import schema_of_message
from validated.kinds.validator import Brief, Ground, Task, Tools

WORKERS_MAX: Final = 1000
ALLOWED_MAX: Final = 50
SUBJECT_CHARS: Final = 200
BODY_CHARS: Final = 5000
# Each run of words in a message is looked up: the longest message bounds that.
CHARS_MAX: Final = 20_000
# A choice among more ids than these is no help to anybody.
_CHOICE_MAX: Final = 200
_NAMES: Final = ("to_worker_id", "subject", "body")
_TEXTS: Final = ("subject", "body")


class EmailValidator:
    """Names only workers of the fill, no phone or id numbers of others, within the lengths.

    A person is recognised by an id, by a full name of the roster, or by a number; a first name alone and people of no
    roster are not. "Mary B. Jones" names the roster's Mary Jones; "Mary Jones" is not the full name of its Mary B.
    Jones. What is searched is the text as it stands and as it is shown where it holds markup.
    """

    description = "The message that informs a worker about a shift: it names nobody and no number outside the fill."
    spec_schema_json = schema_of_message(EmailSpec, ("worker_ids",))
    has_candidates = True

    def __init__(self, tools: Tools) -> None:
        self._roster = tools.roster
        self._region = tools.region
        self._limits = tools.limits
        self._facts = Facts(tools.candidate_facts, tools.region)

    @staticmethod
    def read_spec(message: EmailSpec) -> Spec:
        """Return the spec, where it can be used. Raises Fault (BAD_REQUEST)."""
        return usable("email", message, _violations(message))

    async def brief(self, spec: Spec, task: Task) -> Brief:
        """See Validator. The candidates are those workers of the fill who stand in the roster: the recipient first,
        then whom the prompt names, then the others as the seed draws them.
        """
        terms: EmailSpec = spec.message
        recipients = [terms.to_worker_id] if terms.to_worker_id else list(dict.fromkeys(terms.worker_ids))
        form = Brief(instructions=_words(terms), form_schema_json=_form(terms, recipients))
        if not task.candidates_max:
            return form
        answer = await self._roster.look_up(Question(tuple(dict.fromkeys(terms.worker_ids))))
        async with search(task.prompt) as mentions:
            named, _ = those_who(mentions.among(list(answer.found.values())), lambda _: True)
        drawn = sorted(answer.found, key=lambda each: place_in_draw(task.seed, each))
        first = dict.fromkeys((*recipients[: bool(terms.to_worker_id)], *named, *drawn))
        shown = filter(None, (self._facts.of(answer.found[each].worker) for each in first if each in answer.found))
        candidates, text = fitting(islice(shown, task.candidates_max), self._limits.artifact_bytes_max)
        known = [each for each in recipients if each in answer.found]
        return form._replace(
            candidates_schema_json=_form(terms, known) if known and candidates else "",
            candidates=candidates,
            candidates_json=text,
            candidates_total=len(answer.found),
            roster=answer.version,
        )

    async def validate(self, artifact: JsonValue, spec: Spec, findings: Findings) -> Ground | None:
        """See Validator. Asks the roster once. What takes more than a moment runs in a thread."""
        terms: EmailSpec = spec.message
        texts = _texts(artifact, findings)
        to = texts.get("to_worker_id", "")
        limits = _limits(terms)
        # What is longer has failed already; the rest of it is not worth a search.
        cut = {name: texts.get(name, "")[: limits[name]] for name in _TEXTS}
        parts = await asyncio.to_thread(lambda: [_Part(name, cut[name], terms.worker_ids) for name in _TEXTS])
        asked = dict.fromkeys((*terms.worker_ids, *filter(None, (to,)), *(id_ for part in parts for id_ in part.ids())))
        answer = await self._roster.look_up(Question(tuple(asked), _Names(parts, terms.allowed_names)))
        _judge_recipient(to, terms, answer, findings)
        fill = _Fill(terms, answer, self._region)
        named = [to] if to else []
        for part in parts:
            length = len(texts.get(part.name, ""))
            if length > limits[part.name]:
                text = f"{length} characters; at most {limits[part.name]} are allowed"
                findings.add("TOO_LONG", part.path, text)
            named += await asyncio.to_thread(fill.judge, part, findings)
        return Ground(all(each in answer.found for each in named) if named else None, answer.version)


class _Part:
    """The subject or the body, with everything in it that may point to a person."""

    def __init__(self, name: str, text: str, own_ids: Iterable[str]) -> None:
        self.name = name
        self.path = pointer([name])
        self.views = views(text)
        self.names = [NameSearch(view) for view in self.views]
        # As written, too: there an id may have a hidden mark.
        self._searches = [IdSearch(view, list(own_ids)) for view in dict.fromkeys((*self.views, unescaped(text)))]

    def ids(self) -> Iterable[str]:
        """Every word that may be an id."""
        return (text for search in self._searches for text in search.candidates)

    def ids_of(self, answer: Answer, own_ids: frozenset[str]) -> tuple[dict[str, None], dict[str, None]]:
        """Return the ids of the roster that stand here, and what is written like one and is none."""
        known = dict.fromkeys(text for text in self.ids() if text in answer.found)
        made_up = dict.fromkeys(
            text for search in self._searches for text in search.phantoms(answer.found.keys(), own_ids)
        )
        return known, made_up


class _Names:
    """See Names. Those that are allowed are looked for as well: they need not stand in the roster."""

    def __init__(self, parts: Sequence[_Part], allowed: Iterable[str]) -> None:
        self._searches = [search for part in parts for search in part.names]
        self._allowed = beginnings(allowed)
        self.chars = sum(len(view) for part in parts for view in part.views)

    def keys(self, begins: Callable[[str], bool]) -> Sequence[str]:
        """See Names."""

        def begins_a_name(start: str) -> bool:
            return begins(start) or start in self._allowed

        return tuple(dict.fromkeys(key for search in self._searches for key in search.read(begins_a_name)))


class _Fill:
    """Who and what may be named."""

    def __init__(self, terms: EmailSpec, answer: Answer, region: str) -> None:
        self._ids = frozenset(terms.worker_ids)
        self._answer = answer
        own = [found.worker for worker_id, found in answer.found.items() if worker_id in self._ids]
        # A namesake of somebody in the fill cannot be distinguished from them.
        self._names = [*(worker.name for worker in own), *terms.allowed_names]
        self._numbers = NumberSearch(
            [*(worker.phone for worker in own), *terms.worker_ids, *terms.allowed_numbers], region
        )
        self._bearers: dict[str, list[Worker]] = {}
        for worker in answer.namesakes:
            self._bearers.setdefault(full_name_key(worker.name), []).append(worker)

    def judge(self, part: _Part, findings: Findings) -> list[str]:
        """Add what `part` says of others; the ids that it names."""
        known, made_up = part.ids_of(self._answer, self._ids)
        spans = " ".join(self._names)
        for worker_id in known:
            if worker_id not in self._ids and not (worker_id.isalpha() and worker_id in spans.split()):
                text = f'"{quoted(worker_id)}" is a worker outside this fill; name only the workers of the fill'
                findings.add("FOREIGN_WORKER", part.path, text)
        for worker_id in made_up:
            text = f'"{quoted(worker_id)}" is not in the roster; name only the workers of the fill'
            findings.add("PHANTOM_WORKER", part.path, text)
        strangers: dict[str, str] = {}
        numbers: dict[str, str] = {}
        for view, names in zip(part.views, part.names, strict=True):
            for key, written in names.strangers(self._bearers, self._names).items():
                strangers.setdefault(key, written)
            for number in self._numbers.foreign(view):
                numbers.setdefault("".join(filter(str.isdecimal, number)), number)
        for name in strangers.values():
            text = f'"{quoted(name)}" is a worker outside this fill; name only the workers of the fill'
            findings.add("FOREIGN_WORKER", part.path, text)
        for number in numbers.values():
            text = f'"{quoted(number)}" is no number of the fill\'s workers; leave out the numbers of anybody else'
            findings.add("FOREIGN_NUMBER", part.path, text)
        return [*known, *made_up]


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


def _limits(terms: EmailSpec) -> dict[str, int]:
    """Return the longest texts, in code points."""
    return {"subject": terms.subject_chars_max or SUBJECT_CHARS, "body": terms.body_chars_max or BODY_CHARS}


def _words(terms: EmailSpec) -> str:
    limits = _limits(terms)
    recipient = (
        f'"to_worker_id" is "{quoted(terms.to_worker_id)}"'
        if terms.to_worker_id
        else ('"to_worker_id" is one of the fill\'s workers')
    )
    return (
        'The object is {"to_worker_id": "…", "subject": "…", "body": "…"}. '
        f"{recipient}; the subject has at most {limits['subject']} characters, the body at most {limits['body']}. Name "
        "nobody but the fill's workers, and give no phone or id number of anybody else."
    )


def _form(terms: EmailSpec, recipients: Sequence[str]) -> str:
    recipient: dict[str, JsonValue] = {"type": "string", "minLength": 1}
    if len(recipients) <= _CHOICE_MAX:
        recipient = {"type": "string", "enum": list(recipients)}
    texts: dict[str, JsonValue] = {
        name: {"type": "string", "minLength": 1, "maxLength": chars} for name, chars in _limits(terms).items()
    }
    return print_canonical(exact_object({"to_worker_id": recipient, **texts}, _NAMES))


def _violations(spec: EmailSpec) -> list[Violation]:
    found: list[Violation] = []
    worker_ids = spec.worker_ids
    if not 1 <= len(worker_ids) <= WORKERS_MAX:
        text = f"1 to {WORKERS_MAX} worker ids, has {len(worker_ids)}"
        found.append(Violation("email.worker_ids", text))
    for index, worker_id in enumerate(worker_ids[:WORKERS_MAX]):
        check_text(found, f"email.worker_ids[{index}]", worker_id, required=True)
    if spec.to_worker_id and spec.to_worker_id not in worker_ids:
        found.append(Violation("email.to_worker_id", "must be one of worker_ids"))
    for name in ("allowed_numbers", "allowed_names"):
        allowed = getattr(spec, name)
        if len(allowed) > ALLOWED_MAX:
            found.append(Violation(f"email.{name}", f"at most {ALLOWED_MAX}, has {len(allowed)}"))
        for index, text in enumerate(allowed[:ALLOWED_MAX]):
            field = f"email.{name}[{index}]"
            check_text(found, field, text, required=True)
            if name == "allowed_numbers" and not 3 <= sum(map(str.isdecimal, text)) <= 20:
                found.append(Violation(field, f'must have 3 to 20 digits, is "{quoted(text)}"'))
    for name in ("subject_chars_max", "body_chars_max"):
        if not 0 <= getattr(spec, name) <= CHARS_MAX:
            text = f"must be from 1 to {CHARS_MAX}, or 0 for the default"
            found.append(Violation(f"email.{name}", text))
    return found
