"""Makes examples/roster: some 3,000 plausible workers, their assignments and three do-not-send lists.

    python examples/make_roster.py [--workers 3000] [--out examples/roster]

The same arguments give the same bytes. All people are invented; all phone numbers are from the range 555-0100 to
555-0199, which is kept for fiction.
"""

from __future__ import annotations

import argparse
import csv
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path

SEED = 20261205

FIRST_NAMES = """
Ana Luis María José Carmen Diego Lucía Ximena Andrés Sofía Mary James Linda Robert Patricia Michael
Jennifer William Elizabeth David Barbara Richard Susan Joseph Jessica Thomas Karen Charles Nancy Daniel
Latoya Darnell Keisha Tyrone Aaliyah Malik Imani Jamal Zoë Chloé Renée André Łukasz Małgorzata Paweł
Agnieszka Jürgen Jörg Søren Åsa Björn Nguyễn Linh Minh Thảo Đức Wei Mei Xiu Jing Hiroshi Yuki Priya Arjun
Deepa Sanjay Fatima Omar Layla Yusuf Aisha Ibrahim Olga Dmitri Natasha Ivan Chinwe Emeka Ngozi Kwame
Abena Siobhán Seán Niamh Eoin Kateřina Jiří Zoltán Ágnes Ömer Ayşe Mehmet Eşe Noah Emma Liam Olivia Mason
Ava Ethan Mia Logan Amelia Hector Rosa Miguel Elena Pablo Inés
""".split()  # noqa: SIM905  names in a block, not one a line
LAST_NAMES = """
Silva García Rodríguez Martínez Hernández López González Pérez Sánchez Ramírez Torres Núñez Muñoz Peña
Smith Johnson Williams Brown Jones Miller Davis Wilson Anderson Taylor Thomas Moore Jackson Martin Lee
Thompson White Harris Clark Lewis Robinson Walker Young Allen King Wright Scott Hill Green Adams Baker
Nelson Carter Mitchell Roberts Turner Phillips Campbell Parker Evans Edwards Collins Stewart Morris
Murphy Cook Rogers Morgan Cooper Peterson Reed Bailey Kowalski Nowak Wiśniewski Wójcik Kamiński Schröder
Müller Weiß Østergaard Lindström Nguyễn Trần Lê Phạm Huỳnh Chen Wang Zhang Liu Tanaka Suzuki Patel Sharma
Singh Gupta Khan Ahmed Hassan Ali Ivanov Petrov Okafor Adeyemi Mensah Boateng O'Brien O'Connor
Ó'Súilleabháin Novák Dvořák Kovács Szabó Yildirim Demir Fernández-Reyes Smith-Jones Delacroix
""".split()  # noqa: SIM905  names in a block, not one a line
ROLES = (
    ("forklift operator", 0.2, ("forklift", "OSHA-10", "reach truck")),
    ("picker packer", 0.25, ("RF scanner", "OSHA-10")),
    ("general laborer", 0.15, ("OSHA-10",)),
    ("welder", 0.08, ("AWS D1.1", "OSHA-30", "MIG", "TIG")),
    ("CDL driver", 0.1, ("CDL-A", "hazmat", "TWIC", "DOT medical card")),
    ("machine operator", 0.08, ("lockout/tagout", "OSHA-10")),
    ("maintenance technician", 0.05, ("lockout/tagout", "EPA 608", "OSHA-30")),
    ("quality inspector", 0.04, ("ISO 9001 auditor", "GD&T")),
    ("warehouse lead", 0.05, ("forklift", "OSHA-30", "first aid")),
)
CITIES = (
    ("Toledo", "OH", 41.6528, -83.5379, 22),
    ("Perrysburg", "OH", 41.5570, -83.6272, 5),
    ("Cleveland", "OH", 41.4993, -81.6944, 9),
    ("Columbus", "OH", 39.9612, -82.9988, 9),
    ("Dayton", "OH", 39.7589, -84.1916, 5),
    ("Findlay", "OH", 41.0442, -83.6499, 3),
    ("Detroit", "MI", 42.3314, -83.0458, 9),
    ("Ann Arbor", "MI", 42.2808, -83.7430, 4),
    ("Fort Wayne", "IN", 41.0793, -85.1394, 6),
    ("Indianapolis", "IN", 39.7684, -86.1581, 6),
    ("Chicago", "IL", 41.8781, -87.6298, 8),
    ("Pittsburgh", "PA", 40.4406, -79.9959, 5),
    ("Louisville", "KY", 38.2527, -85.7585, 4),
    ("Española", "NM", 35.9911, -106.0806, 1),
    ("St. Louis", "MO", 38.6270, -90.1994, 4),
)
CLIENTS = ("glass-city-logistics", "maumee-foods", "buckeye-auto-parts")
FIRST_DAY = datetime(2026, 12, 1, tzinfo=timezone(timedelta(hours=-5)))


def make(workers: int, out: Path) -> None:
    """Write workers.csv, assignments.csv and do_not_send.csv to `out`."""
    random_ = random.Random(SEED)
    out.mkdir(parents=True, exist_ok=True)
    ids = [f"W-{number:06d}" for number in sorted(random_.sample(range(100, 100 + workers * 3), workers))]
    header = [
        "worker_id",
        "name",
        "role",
        "city",
        "state",
        "active",
        "certifications",
        "latitude",
        "longitude",
        "phone",
    ]
    _write(out / "workers.csv", header, (_worker(random_, worker_id) for worker_id in ids))
    busy = sorted(random_.sample(ids, workers // 4))
    _write(
        out / "assignments.csv",
        ["worker_id", "shift_start", "shift_end"],
        (shift for worker_id in busy for shift in _shifts(random_, worker_id)),
    )
    lists = ((client, each) for client in CLIENTS for each in sorted(random_.sample(ids, max(1, workers // 60))))
    _write(out / "do_not_send.csv", ["client_id", "worker_id"], lists)


def _worker(random_: random.Random, worker_id: str) -> list[str]:
    role, _, certifications = random_.choices(ROLES, [share for _, share, _ in ROLES])[0]
    city, state, latitude, longitude, _ = random_.choices(CITIES, [share for *_, share in CITIES])[0]
    held = [each for each in certifications if random_.random() < 0.6]
    point = [f"{latitude + random_.gauss(0, 0.06):.4f}", f"{longitude + random_.gauss(0, 0.08):.4f}"]
    return [
        worker_id,
        f"{random_.choice(FIRST_NAMES)} {random_.choice(LAST_NAMES)}",
        role,
        city,
        state,
        "true" if random_.random() < 0.93 else "false",
        ";".join(held),
        *(point if random_.random() < 0.97 else ["", ""]),
        f"+1-{random_.choice(('419', '567', '216', '313', '260'))}-555-{random_.randrange(100, 200):04d}",
    ]


def _shifts(random_: random.Random, worker_id: str) -> list[list[str]]:
    days = sorted(random_.sample(range(14), random_.randrange(1, 4)))
    starts = [FIRST_DAY + timedelta(days=day, hours=random_.choice((6, 7, 14, 22))) for day in days]
    return [[worker_id, start.isoformat(), (start + timedelta(hours=8)).isoformat()] for start in starts]


def _write(path: Path, header: list[str], rows: object) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)  # type: ignore[arg-type]  # rows of texts, of three widths


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Makes the example roster.")
    parser.add_argument("--workers", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "roster")
    arguments = parser.parse_args()
    make(arguments.workers, arguments.out)
    print(f"{arguments.out}: {arguments.workers} workers")


if __name__ == "__main__":
    main()
