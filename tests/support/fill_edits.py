"""Artifacts of kind fill made from a roster by random edits, and an oracle that knows nothing of the validator.

Used by tests/validated and by bench/validated.py.
"""

from __future__ import annotations

import json
import random
from typing import Any

Row = dict[str, str]

_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\u202e\u00ad"
_REQUIRED = {"worker_id", "name"}
_STATED = ("role", "city", "state")
_LOWER = {upper: upper + 32 for upper in (*range(ord("A"), ord("Z") + 1), ord("\u00d1"))}
_LOOK_ALIKE = {"W": "\u051c", "O": "\u041e", "0": "O", "1": "l", "-": "\u2010", "a": "\u0430", "e": "\u0435"}


def edited(random_: random.Random, rows: list[Row]) -> str:
    """JSON text of an artifact: people of `rows`, of whom most have been tampered with in some way."""
    count = random_.choice((1, 1, 2, 2, 3, 5))
    workers: list[Any] = [_person(random_, rows) for _ in range(count)]
    for _ in range(random_.choice((0, 0, 1, 1, 1, 2, 3))):
        position = random_.randrange(len(workers))
        workers[position] = random_.choice(_EDITS)(random_, workers[position], rows)
    artifact: Any = {"workers": workers}
    if random_.random() < 0.05:
        artifact = random_.choice(_WRAPPERS)(random_, artifact, rows)
    return json.dumps(artifact, ensure_ascii=random_.random() < 0.3)


def is_right(text: str, people: dict[str, Row], count: int, role: str) -> bool:
    """Return the oracle: `text` names exactly `count` distinct people, each active, of `role`, by an id and name of
    `people`; what else it states of them is theirs, in whatever case; and it says no more.
    """
    artifact = json.loads(text)
    if not isinstance(artifact, dict) or list(artifact) != ["workers"] or not isinstance(artifact["workers"], list):
        return False
    seen = set()
    for element in artifact["workers"]:
        if not isinstance(element, dict) or not _REQUIRED <= set(element) <= {*_REQUIRED, *_STATED}:
            return False
        worker_id = element["worker_id"]
        row = people.get(worker_id) if isinstance(worker_id, str) else None
        if row is None or row["name"] != element["name"] or row["active"] != "true" or row["role"] != role:
            return False
        for name in _STATED:
            # The example spells these in ASCII, where case is a matter of 26 letters, but for Espa\u00f1ola.
            if name in element and _lower(element[name]) != _lower(row[name]):
                return False
        seen.add(worker_id)
    return len(seen) == len(artifact["workers"]) == count


def _lower(value: Any) -> Any:
    return value.translate(_LOWER) if isinstance(value, str) else None


def _person(random_: random.Random, rows: list[Row]) -> dict[str, Any]:
    row = random_.choice(rows)
    person = {"worker_id": row["worker_id"], "name": row["name"]}
    for name in ("role", "city", "state"):
        if random_.random() < 0.15:
            person[name] = row[name]
    return person


def _mutate_text(random_: random.Random, text: str) -> str:
    at = random_.randrange(len(text) + 1) if text else 0
    pick = random_.randrange(9)
    if pick == 0:
        return text[:at] + random_.choice(_ZERO_WIDTH) + text[at:]
    if pick == 1:
        return random_.choice((" " + text, text + " ", text + "\n", text + "\x00", "\t" + text))
    if pick == 2:
        return text.swapcase()
    if pick == 3:
        letters = [index for index, letter in enumerate(text) if letter in _LOOK_ALIKE]
        if letters:
            index = random_.choice(letters)
            return text[:index] + _LOOK_ALIKE[text[index]] + text[index + 1 :]
        return text
    if pick == 4:
        return text[:at] + text[at + 1 :]
    if pick == 5:
        return text[:at] + random_.choice("0123456789WX-'%_\\\"; ") + text[at + 1 :]
    if pick == 6 and len(text) > 1:
        at = random_.randrange(len(text) - 1)
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if pick == 7:
        return text + random_.choice(("' OR '1'='1", "%", "--", "'; DROP TABLE workers; --", "*", "\u0301"))
    return "".join(chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text)


def _edit_id(random_: random.Random, person: Any, _: list[Row]) -> Any:
    return {**_of(person), "worker_id": _mutate_text(random_, str(_of(person).get("worker_id", "")))}


def _edit_name(random_: random.Random, person: Any, _: list[Row]) -> Any:
    return {**_of(person), "name": _mutate_text(random_, str(_of(person).get("name", "")))}


def _swap_name(random_: random.Random, person: Any, rows: list[Row]) -> Any:
    return {**_of(person), "name": random_.choice(rows)["name"]}


def _restate(random_: random.Random, person: Any, rows: list[Row]) -> Any:
    known = {row["worker_id"]: row for row in rows}.get(str(_of(person).get("worker_id")), rows[0])
    name = random_.choice(_STATED)
    text = known[name]
    bold = "".join(chr(0x1D41A + ord(each) - ord("a")) if "a" <= each <= "z" else each for each in text)
    wide = "".join(chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in text)
    forms = (text.upper(), text.lower(), text.swapcase(), text + "\n", text + "\x1c", " " + text, bold, wide,
             text.replace(" ", "  "), text.replace("K", "\u212a").replace("s", "\u017f"), "")  # fmt: skip
    return {**_of(person), name: random_.choice(forms)}


def _invent(random_: random.Random, person: Any, rows: list[Row]) -> Any:
    return {**_of(person), "worker_id": f"W-{random_.randrange(1_000_000):06d}", "name": random_.choice(rows)["name"]}


def _retype(random_: random.Random, person: Any, _: list[Row]) -> Any:
    value: Any = random_.choice((None, 17, 1.5, True, [], {}, [_of(person).get("worker_id")], ""))
    return {**_of(person), random_.choice(("worker_id", "name", "role")): value}


def _drop(random_: random.Random, person: Any, _: list[Row]) -> Any:
    kept = dict(_of(person))
    kept.pop(random_.choice(("worker_id", "name")), None)
    return kept


def _smuggle(random_: random.Random, person: Any, rows: list[Row]) -> Any:
    name = random_.choice(("backup", "Worker_id", "worker_id ", "id", "workers", "note"))
    return {**_of(person), name: random_.choice((_person(random_, rows), "W-999999", [_person(random_, rows)]))}


def _replace(random_: random.Random, person: Any, rows: list[Row]) -> Any:
    return random_.choice((None, "W-000104", [person], {}, {"worker_id": {"worker_id": "W-1"}}, _person(random_, rows)))


def _of(person: Any) -> dict[str, Any]:
    return person if isinstance(person, dict) else {}


_EDITS = (_restate, _restate, _edit_id, _edit_id, _edit_id, _edit_name, _swap_name, _invent, _invent,
          _retype, _drop, _smuggle, _replace)  # fmt: skip
_WRAPPERS: tuple[Any, ...] = (
    lambda random_, artifact, rows: {**artifact, "standby": [_person(random_, rows)]},
    lambda _, artifact, __: [artifact],
    lambda _, artifact, __: {"workers": artifact},
    lambda _, artifact, __: {"Workers": artifact["workers"]},
    lambda _, __, ___: {"workers": []},
    lambda _, __, ___: {},
    lambda _, artifact, __: {"workers": artifact["workers"] * 2},
)
