"""Rosters of people as nobody would list them by hand: names, places and certifications in all spellings, drawn by a
number.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from rosters import write_csv

from validated.config import RosterTable

ROLES = ("welder", "Welder", "WELDER ", "forklift operator", "Forklift  Operator", "soldador \u00f1", "SOLDADOR \u00d1")
CITIES = (
    ("Toledo", "OH"),
    ("TOLEDO", "oh"),
    ("Toledo", "IL"),
    ("S\u00e3o Paulo", "TX"),
    ("Sa\u0303o Paulo", "TX"),
    ("", ""),
)
CERTIFICATIONS = ("OSHA-10", "osha-10", "forklift", "first aid", "call 419-555-0142", "TWIC")
CLIENTS = ("acme", "ACME", "globex")
_FIRST = ("Ana", "Jos\u00e9", "Jose\u0301", "Mei", "Omar", "\u0141ukasz", "O'Neil", '"Red"', "Ida", "Will")
_LAST = ("Silva", "N\u00fa\u00f1ez", "Khan", "\u017bak", "Ng", "Smith-Jones", "Toledo", "Fern\u00e1ndez", "Wong", "May")
PHONE = "+1-419-555-{:04d}"


def random_people(number: int, count: int) -> list[dict[str, str]]:
    """`count` people, the same for the same `number`."""
    random_ = random.Random(number)
    people = []
    for at in range(count):
        city, state = random_.choice(CITIES)
        has_home = random_.random() < 0.8
        people.append(
            {
                "worker_id": random_.choice(("W-{:04d}", "w-{:04d}", "E{:05d}x", "{:06d}")).format(at),
                "name": f"{random_.choice(_FIRST)} {random_.choice(_LAST)}",
                "role": random_.choice(ROLES).strip(),
                "city": city,
                "state": state,
                "active": random_.choice(("true", "true", "true", "false")),
                "certifications": ";".join(random_.sample(CERTIFICATIONS, random_.choice((0, 1, 2, 3)))),
                "latitude": f"{41 + random_.random():.4f}" if has_home else "",
                "longitude": f"{-83 - random_.random():.4f}" if has_home else "",
                "phone": PHONE.format(100 + at % 900),
            }
        )
    return people


def random_companions(number: int, people: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return assignments and do-not-send lines of a quarter of `people` each."""
    random_ = random.Random(-number)
    some = max(1, len(people) // 4)
    assignments = [
        {
            "worker_id": each["worker_id"],
            "shift_start": f"2026-12-05T{random_.randrange(8):02d}:00:00Z",
            "shift_end": f"2026-12-05T{random_.randrange(8, 20):02d}:00:00Z",
        }
        for each in random_.sample(people, some)
    ]
    refused = [
        {"client_id": random_.choice(CLIENTS), "worker_id": each["worker_id"]} for each in random_.sample(people, some)
    ]
    return assignments, refused


def random_table(folder: Path, number: int, count: int, **changes: Any) -> RosterTable:
    """Return the roster of `random_people` as files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    people = random_people(number, count)
    assignments, refused = random_companions(number, people)
    given = {
        "path": write_csv(folder / "workers.csv", people),
        "assignments_path": write_csv(folder / "assignments.csv", assignments),
        "do_not_send_path": write_csv(folder / "do_not_send.csv", refused),
        "index_dir": folder / "indexes",
        **changes,
    }
    return RosterTable.model_validate(given)


def random_spec(random_: random.Random) -> dict[str, Any]:
    """Return a FillSpec that asks for few or for many, with any of the demands."""
    spec: dict[str, Any] = {"role": random_.choice(ROLES), "count": random_.choice((1, 1, 2, 3, 5, 9, 40, 120))}
    chance = random_.random
    if chance() < 0.3:
        spec["city"] = random_.choice(CITIES)[0]
    if chance() < 0.3:
        spec["state"] = random_.choice(("OH", "oh", "TX", "IL", "CA"))
    if chance() < 0.2:
        spec["allowed_locations"] = [
            {"city": random_.choice(("", "toledo", "S\u00c3O PAULO")), "state": random_.choice(("TX", "OH"))}
        ]
    if chance() < 0.3:
        spec["required_certifications"] = random_.sample(CERTIFICATIONS[:4], random_.choice((1, 2)))
    if chance() < 0.3:
        spec |= {"shift_start": "2026-12-05T07:00:00Z", "shift_end": "2026-12-05T15:00:00Z"}
    if chance() < 0.3:
        spec["client_id"] = random_.choice(CLIENTS)
    if chance() < 0.2:
        spec |= {"site": {"latitude": 41.5, "longitude": -83.5}, "max_distance_km": random_.choice((5.0, 40.0, 400.0))}
    return spec
