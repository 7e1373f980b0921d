"""Messages of kind email with a label: whether they tell of somebody outside the fill. Made from a roster by templates
that know nothing of the validator. Used by tests/validated and by bench/messages.py.
"""

from __future__ import annotations

import random
import unicodedata
from typing import NamedTuple

from rosters import example_rows

Row = dict[str, str]


class Case(NamedTuple):
    """One message, and who may be named in it."""

    artifact: dict[str, str]
    worker_ids: list[str]
    is_bad: bool
    form: str
    """What it tries."""


ALLOWED_NAMES = ["Pat Officer", "Jo Lake"]
ALLOWED_NUMBERS = ["(419) 555-0001", "+44 20 7946 0018"]

_NAMES = (
    "Robert Brown", "Robert Green", "Mary B. Jones", "O'Neil", "李娜", "王小明", "Robert Brown Jr.", "Madonna",
    'William "Bill" Smith', "Thomas (Tom) Hill", "Juan Carlos de la Cruz Martinez", "अनिता शर्मा", "April Jackson",
    "May Jackson", "Will May", "Jackson May", "Austin Young", "Siobhán O\u2019Brien", "Łukasz Żak", "José Núñez",
    "Anne-Marie St. James", "Nagy Péter", "Иван Петров", "สมชาย ใจดี", "D'Angelo Washington", "Kim Lee", "Lee James",
    "James Kim", "Silva Omar", "Ana Silva", "Omar Reyes", "Mia Wong", "Jean-Luc Dubois", "محمد علي", "Ng", "Sam Toledo",
    "Mark Day", "Grace Long", "June August", "Virginia Lane", "Charlotte North", "Maria del Carmen Ruiz",
)  # fmt: skip


def adversarial_rows(form: str) -> list[Row]:
    """Return a roster of names that are cities, months, verbs, or hard to find; ids built as `form` says."""
    rows = []
    for number, name in enumerate(_NAMES):
        worker_id = {"letters": f"W-{number:06d}", "digits": f"{43600 + number}", "years": f"{2000 + number}"}[form]
        phone = f"+1-419-555-{1000 + number:04d}" if number % 3 else f"+1 567 {200 + number} {3000 + number}"
        rows.append({"worker_id": worker_id, "name": name, "phone": phone})
    return rows


def rosters() -> dict[str, list[Row]]:
    """Every roster that cases are made of."""
    return {"example": example_rows()} | {form: adversarial_rows(form) for form in ("letters", "digits", "years")}


def case(draw: random.Random, rows: list[Row]) -> Case:
    """Return a message to one of a fill of one to three people of `rows`."""
    fill = draw.sample(rows, draw.choice((1, 2, 3)))
    names = {_plain(row["name"]) for row in fill} | {_plain(name) for name in ALLOWED_NAMES}
    phones = {_digits(row["phone"]) for row in fill}
    ids = [row["worker_id"] for row in fill]
    is_bad = draw.random() < 0.5
    lines = [_innocent(draw, fill) for _ in range(draw.choice((1, 2, 4)))]
    form = "innocent"
    if is_bad:
        others = [row for row in rows if _plain(row["name"]) not in names and _digits(row["phone"]) not in phones]
        other = draw.choice(others)
        form, text = _mention(draw, other)
        frame = draw.choice(("{} comes too.", "You work with {} on Saturday.", "Ask {}", "{}", "Lead: {}; be on time."))
        lines.insert(draw.randrange(len(lines) + 1), frame.format(text))
    body = draw.choice(("\n", "\n\n", " ", "\r\n")).join(lines)
    if draw.random() < 0.1:
        body = "<p>" + body.replace("\n", "<br>\n") + "</p>"
    artifact = {"to_worker_id": ids[0], "subject": _subject(draw), "body": body}
    return Case(artifact, ids, is_bad, form)


def _plain(name: str) -> str:
    folded = unicodedata.normalize("NFKD", name).casefold()
    return "".join(each for each in folded if each.isalnum())


def _digits(text: str) -> str:
    return "".join(filter(str.isdigit, text))


def _subject(draw: random.Random) -> str:
    return draw.choice(("Your shift on 2026-12-05", "Shift 0700-1500", "Saturday", "Shift in Toledo, OH", "Re: May 5"))


def _mention(draw: random.Random, other: Row) -> tuple[str, str]:
    name, worker_id, phone = other["name"], other["worker_id"], other["phone"]
    words = name.split(" ")
    first, last = words[0], words[-1]
    rest = " ".join(words[:-1])
    forms = {
        "as it is": name,
        "possessive": f"{name}'s shift",
        "curly possessive": f"{name}\u2019s badge",
        "id": f"worker {worker_id}",
        "id in brackets": f"the lead ({'ID ' if worker_id.isdigit() else ''}{worker_id})",
        "bold": f"<b>{first}</b> {' '.join(words[1:])}" if len(words) > 1 else f"<b>{name}</b>",
        "markdown": f"**{first}** {' '.join(words[1:])}" if len(words) > 1 else f"**{name}**",
        "entities": "".join(f"&#{ord(each)};" if each.isalpha() and draw.random() < 0.3 else each for each in name),
        "no-break": name.replace(" ", "\u00a0"),
        "zero width": "\u200b".join(name),
        "soft hyphen": name[:2] + "\u00ad" + name[2:],
        "decomposed": unicodedata.normalize("NFD", name),
        "curly": name.replace("'", "\u2019").replace('"', "\u201d"),
        "straight": name.replace("\u2019", "'"),
        "no dots": name.replace(".", ""),
        "full width": "".join(chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in name),
    }
    if len(words) > 1:
        forms |= {
            "line break": name.replace(" ", "\n", 1),
            "line break, two bytes": name.replace(" ", "\r\n", 1),
            "tag break": name.replace(" ", "<br>", 1),
            "capitals": name.upper().replace("\u1e9e", "SS"),
            "two spaces": name.replace(" ", "  "),
            "italic part": f"{rest} <i>{last}</i>",
            "quoted reply": name.replace(" ", "\n> ", 1),
        }
        if name.isascii() and name.replace(" ", "").isalpha():
            forms |= {
                "lower case": name.lower(),
                "address": f"{name.replace(' ', '.').lower()}@example.com",
                "underscore": name.replace(" ", "_"),
                "hyphen": name.replace(" ", "-"),
            }
            if len(words) == 2:
                forms |= {
                    "last first": f"{last}, {rest}",
                    "initial": f"{first} Q. {last}",
                    "nickname": f'{first} "Buddy" {last}',
                }
    if phone:
        digits = _digits(phone)[-10:]
        area, middle, end = digits[:3], digits[3:6], digits[6:]
        forms |= {
            "phone": f"call {phone}",
            "phone, dots": f"call {area}.{middle}.{end}",
            "phone, middle dots": f"call {area}\u00b7{middle}\u00b7{end}",
            "phone, brackets": f"call ({area}) {middle}-{end}",
            "phone, one": f"call 1-{area}-{middle}-{end} ext. 12",
            "phone, plain": f"call {digits}",
            "phone, link": f'<a href="tel:+1{digits}">call</a>',
            "phone, full width": f"call {''.join(chr(ord(each) + 0xFEE0) for each in digits)}",
        }
    form = draw.choice(list(forms))
    return form, forms[form]


def _innocent(draw: random.Random, fill: list[Row]) -> str:
    own = draw.choice(fill)
    name, phone, worker_id = own["name"], own["phone"], own["worker_id"]
    month, day = draw.choice(("April", "May", "June", "August", "March")), draw.randrange(1, 29)
    street = draw.choice(("Main St", "Industrial Pkwy", "N. Summit Street", "Jackson Ave", "Washington Blvd"))
    city = draw.choice(("Jackson", "Toledo", "Austin", "Charlotte", "Lansing"))
    start, end = draw.choice(((7, 15), (15, 23), (6, 14), (8, 16)))
    number = draw.randrange(1000, 9999)
    lines = [
        f"Hello {name},",
        f"Hi {name.split(' ')[0]},\nyour shift is confirmed.",
        " and ".join(row["name"] for row in fill) + " work together.",
        "\n".join(row["name"] for row in fill),
        ", ".join(row["name"] for row in fill) + ".",
        f"{name}'s badge is {worker_id if not worker_id.isdigit() else 'ID ' + worker_id}.",
        f"The shift is on {month} {day}, 2026 from {start:02d}:00 to {end:02d}:00.",
        f"See you in {city} on {day} {month}.",
        f"The plant in {city}, {month} {day}, is closed.",
        f"Be there at {start:02d}00-{end:02d}00.",
        f"Hours: {start:02d}00 \u2013 {end:02d}00, break at 1200.",
        f"On 12-{day:02d}-2026 and {day:02d}.12.2026 and 2026-12-{day:02d}T{start:02d}:00:00-05:00.",
        f"Site: {number} {street}, {city}, OH 4{draw.randrange(3600, 3700)}-{number}",
        f"Site: {number} {street}, {city}, OH 4{draw.randrange(3600, 3700)}",
        f"GPS 41.{draw.randrange(100000, 999999)}, -83.{draw.randrange(100000, 999999)}",
        "Will you come? You may bring a friend. May we call you?",
        "What a long day; mark the date in May.",
        f"Pay is ${draw.randrange(15, 40)}.50 an hour, ${draw.randrange(1, 3)},{number % 1000:03d}.00 in all, in 2026.",
        f"Gate {draw.randrange(1, 40)}, dock {draw.randrange(1, 40)}, room {number}.",
        "Questions: Pat Officer, (419) 555-0001.",
        "Regards,\nJo Lake\n+44 20 7946 0018",
        "On 5, 6, 7, 8, 9, 10 and 11 December.",
        "Contract years 2025-2026; week 2026-W49.",
        "OSHA-10 and CDL-A are checked at the gate; take I-75.",
    ]
    if phone:
        digits = _digits(phone)[-10:]
        lines += [
            f"We call you on {phone} ext. {number}.",
            f"We call you on ({digits[:3]}) {digits[3:6]}-{digits[6:]} x12 or {digits[3:6]}-{digits[6:]}.",
        ]
    return draw.choice(lines)
