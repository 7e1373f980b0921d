"""Many rosters with a known truth, as files and as tables: does anybody pass whom the truth keeps out?

    nice python bench/roster_truth.py [--files 10000] [--tables 10000] [--postgres DSN] [--processes 2] [--seed 0]

Each has one thing changed, or nothing (tests/support/roster_truth.py): a column renamed or retyped, a row cut, doubled
or put in, a companion broken. Exits with 1 where somebody may pass who must not, where a refusal does not name its
place, or where a good roster is refused. Tables need --postgres or LAKEHOUSE_TEST_POSTGRES.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services"), str(ROOT / "tests" / "support")]

import psycopg  # noqa: E402  after the path
import structlog  # noqa: E402
from psycopg import sql  # noqa: E402
from roster_truth import judge, make  # noqa: E402
from rosters import load_files  # noqa: E402

from validated.config import RosterTable  # noqa: E402
from validated.datasets.build import RosterFiles  # noqa: E402
from validated.datasets.postgres import PostgresRoster  # noqa: E402
from validated.datasets.worker import Question, RosterUnavailable, Shift  # noqa: E402

SHIFT = Shift(datetime(2026, 12, 5, 7, tzinfo=UTC), datetime(2026, 12, 5, 15, tzinfo=UTC))
CHANGES = (
    "nothing", "nothing", "nothing", "ALTER TABLE workers RENAME active TO is_active",
    'ALTER TABLE workers RENAME active TO "Active"', "ALTER TABLE workers RENAME active TO status",
    "ALTER TABLE workers ADD status text", "ALTER TABLE workers ALTER worker_id TYPE float8 USING worker_id::float8",
    "ALTER TABLE workers ALTER worker_id TYPE char(8)", "ALTER TABLE workers ALTER name TYPE bytea USING name::bytea",
    "UPDATE workers SET active = NULL WHERE NOT active",
    "INSERT INTO workers SELECT worker_id, 'Eve', NOT active FROM workers",
    "INSERT INTO workers SELECT worker_id, name, false FROM workers", "ALTER TABLE workers ALTER active TYPE text",
    "UPDATE do_not_send SET client_id = client_id || ' '", "UPDATE do_not_send SET worker_id = ' ' || worker_id",
    "UPDATE do_not_send SET worker_id = ltrim(worker_id, '0')", "UPDATE do_not_send SET client_id = upper(client_id)",
    "UPDATE assignments SET shift_end = NULL", "UPDATE assignments SET shift_start = NULL",
    "ALTER TABLE assignments ALTER shift_end TYPE timestamp", "UPDATE assignments SET shift_end = 'infinity'",
    "ALTER TABLE do_not_send RENAME worker_id TO person", "DROP TABLE do_not_send",
    "ALTER TABLE workers RENAME TO people",
)  # fmt: skip
LATER = (
    "nothing",
    "ALTER TABLE workers RENAME active TO gone",
    "ALTER TABLE workers DROP active",
    "UPDATE workers SET active = false",
)
HARMLESS = (
    "nothing",
    'RENAME active TO "Active"',
    "char(8)",
    "SET active = NULL",
    "active TYPE text",
    "upper(client_id)",
)


def files(seeds: Sequence[int]) -> tuple[Counter[str], list[str]]:
    """So many rosters as files: what came of them, and what is wrong."""
    outcomes, wrong = Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            case = make(seed, Path(folder))
            report, index = load_files(RosterFiles.read(case.files))
            outcomes["files loaded" if index is not None else "files refused"] += 1
            wrong += [f"file {seed}, {case.change}: {each}" for each in judge(case, report, index)]
    return outcomes, wrong


async def tables(seeds: Sequence[int], dsn: str) -> tuple[Counter[str], list[str]]:
    """So many rosters as tables."""
    outcomes, wrong = Counter[str](), list[str]()
    schema = f"truth_{os.getpid()}"
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for seed in seeds:
            found = await _table(seed, connection, schema, dsn, outcomes)
            wrong += [f"table {seed}: {each}" for each in found]
        await connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
    return outcomes, wrong


async def _table(  # noqa: PLR0912  a case of its own for each way to be wrong
    seed: int, connection: Any, schema: str, dsn: str, outcomes: Counter[str]
) -> list[str]:
    draw = random.Random(seed)
    people = {f"{number:04d}": (f"Name {number % 7}", draw.random() < 0.6) for number in range(draw.randrange(2, 30))}
    refused = {(draw.choice(("acme", "Big Box")), draw.choice(list(people))) for _ in range(draw.randrange(1, 6))}
    busy = set(draw.sample(list(people), draw.randrange(1, len(people))))
    change, later = draw.choice(CHANGES), draw.choice(LATER)
    await connection.execute("SET client_min_messages = warning")
    await connection.execute(
        f"DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}; SET search_path TO {schema}; "
        "CREATE TABLE workers (worker_id text, name text, active boolean); "
        "CREATE TABLE do_not_send (client_id text, worker_id text); "
        "CREATE TABLE assignments (worker_id text, shift_start timestamptz, shift_end timestamptz)"
    )
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO workers VALUES (%s, %s, %s)", [(key, *each) for key, each in people.items()]
        )
        await cursor.executemany("INSERT INTO do_not_send VALUES (%s, %s)", sorted(refused))
        spans = [(each, "2026-12-05T06:00Z", "2026-12-05T08:00Z") for each in sorted(busy)]
        await cursor.executemany("INSERT INTO assignments VALUES (%s, %s, %s)", spans)
    if change != "nothing":
        await connection.execute(change)
    given = {
        "conninfo": dsn,
        "schema_name": schema,
        "assignments_table": "assignments",
        "do_not_send_table": "do_not_send",
    }
    wrong: list[str] = []
    async with PostgresRoster(
        RosterTable.model_validate({"backend": "postgres", "postgres": given}), dsn, near_ms=0
    ).open() as roster:
        for altered in ("", later):
            if altered not in ("", "nothing"):
                try:
                    await connection.execute(altered)
                except psycopg.Error:
                    break
                if altered.startswith("UPDATE"):
                    people = {key: (name, False) for key, (name, _) in people.items()}
            for client in ("ACME", "big  box"):
                try:
                    answer = await roster.look_up(Question(list(people), None, SHIFT, client))
                except RosterUnavailable as error:
                    outcomes["tables refused"] += 1
                    if not altered and any(each in change for each in HARMLESS):
                        wrong.append(f"{change}: refused, and nothing is wrong: {error}")
                    if schema not in str(error):
                        wrong.append(f"{change}, {altered}: a refusal without its place: {error}")
                    continue
                outcomes["tables answered"] += 1
                for key, found in answer.found.items():
                    name, active = people[key]
                    spelt = {"ACME": "acme", "big  box": "Big Box"}[client]
                    if found.worker.active and (found.worker.name, True) != (name, active):
                        wrong.append(f"{change}, {altered}: {key} may pass")
                    if (spelt, key) in refused and not found.do_not_send:
                        wrong.append(f"{change}, {altered}: {client} would be sent {key}")
                    if key in busy and found.overlap is None:
                        wrong.append(f"{change}, {altered}: {key} is free")
    return wrong


def _share(job: tuple[str, range, str]) -> tuple[Counter[str], list[str]]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    sort, seeds, dsn = job
    return files(seeds) if sort == "files" else asyncio.run(tables(seeds, dsn))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Looks for a false PASS in many rosters with a known truth.")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--tables", type=int, default=10_000)
    parser.add_argument("--postgres", default=os.environ.get("LAKEHOUSE_TEST_POSTGRES", ""), metavar="DSN")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.monotonic()
    jobs: list[tuple[str, range, str]] = []
    for sort, count in (("files", arguments.files), ("tables", arguments.tables if arguments.postgres else 0)):
        end = arguments.seed + count
        firsts = range(arguments.seed, end, 200)
        jobs += [(sort, range(first, min(first + 200, end)), arguments.postgres) for first in firsts]
    outcomes, wrong = Counter[str](), list[str]()
    with multiprocessing.get_context("spawn").Pool(arguments.processes, maxtasksperchild=10) as pool:
        for counted, found in pool.imap_unordered(_share, jobs):
            outcomes += counted
            wrong += found
            for each in found:
                print(each)
    seconds = round(time.monotonic() - started, 1)
    print(
        json.dumps({**outcomes, "rosters": sum(len(job[1]) for job in jobs), "wrong": len(wrong), "seconds": seconds})
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
