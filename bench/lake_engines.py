"""One published table, read by engines that others wrote: do they answer what the JSONL says?

    make engines                                                the engines' environment, .tools/engines (1.6 GB)
    python -m bench.lake_engines                                a folder
    python -m bench.lake_engines --s3                           a bucket (moto, on loopback)
    python -m bench.lake_engines --engines sail,clickhouse      some of them

Three logs are published segment by segment, with rows of every sort, the first by a writer that knew fewer columns.
While a commit of a killed publisher lies in the table's folder, each engine answers the questions of
bench/engines/questions.py and gives all rows. Then the rest is published, `lakehouse sessions erase` erases one caller
from every log and from the table, and they are asked again. Every figure, and the digest of every row with all its
columns, is compared with what Python's JSON reader finds in the JSONL. Prints one JSON object; exit status 1 on any
difference, or where the erased name stands in a file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "services"), str(ROOT / "tests" / "support")]

from bench.engines import truth  # noqa: E402
from bench.engines.answer import Place, asked  # noqa: E402
from bench.engines.ground import Ground, make_ground, publish_all_but_one  # noqa: E402
from bench.engines.questions import Dialect  # noqa: E402
from bench.engines.recipes import run_recipes  # noqa: E402
from bench.engines.sessions import PLANTED  # noqa: E402
from s3_server import LossyS3, lossy_s3  # noqa: E402

from lakehouse.sessions.lake.reading import TableReader  # noqa: E402
from lakehouse.sessions.lake.table import LakeTable  # noqa: E402

PYTHON = ROOT / ".tools" / "engines" / "bin" / "python"
ENGINES = ("pyiceberg_duckdb", "duckdb_extension", "sail", "clickhouse", "daft_ray", "spark")
# Spark is given no file system of a bucket here.
OF_FOLDERS = frozenset({"spark"})
ANSWER_S = 300
OURS = "lakehouse sessions sql --table"
# Whose `timestamp` has no zone and is UTC.
OUR_DIALECT = Dialect(
    characters="length({})",
    utf8_bytes="strlen({})",
    unix_us="epoch_us({})",
    day="strftime({}, '%Y-%m-%d')",
    moment="TIMESTAMP '{} 00:00:00'",
    elements="SELECT {keep}, unnest({list}) AS {name} FROM {source}",
)
FILES = 4


def ask(engine: str, place: Place) -> dict[str, Any]:
    """Return an engine's answer."""
    ended = subprocess.run(
        [str(PYTHON), "-m", f"bench.engines.{engine}"],
        input=json.dumps(asdict(place)),
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
        cwd=ROOT,
        check=False,
    )
    if ended.returncode != 0:
        raise SystemExit(f"{engine} failed:\n{ended.stderr[-3000:]}")
    answered: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return answered


def ask_ourselves(lake: LakeTable) -> dict[str, Any]:
    """Return what `lakehouse sessions sql --table` answers."""
    with TableReader(lake) as reader:

        def query(sql: str) -> list[tuple[Any, ...]]:
            return list(reader.query(sql)[1])

        names, rows = reader.query("SELECT * REPLACE (epoch_us(timestamp) AS timestamp) FROM sessions")
        # The next query ends the one before it.
        found = [dict(zip(names, row, strict=True)) for row in rows]
        return asked(OURS, OUR_DIALECT, query, found)


def compare(answered: dict[str, Any], rows: list[truth.Row]) -> list[str]:
    """Return in what an answer differs from the JSONL."""
    differences = [
        f"{name}: {answered['figures'].get(name)} and not {expected}"
        for name, expected in truth.figures(rows).items()
        if answered["figures"].get(name) != expected
    ]
    expected = truth.digests(rows, null_lists=answered["null_lists"])
    found = {key: sorted(digests) for key, digests in answered["rows"].items()}
    differences += [
        f"row {key}: {len(found.get(key, []))} in the table, {len(expected.get(key, []))} written"
        for key in sorted(expected.keys() | found.keys())
        if found.get(key) != sorted(expected.get(key, []))
    ]
    return differences


def ask_all(engines: Sequence[str], ground: Ground, rows: list[truth.Row], found: dict[str, Any], stage: str) -> None:
    """Ask each engine and note what differs."""
    place = ground.place()
    for engine in (OURS, *engines):
        began = time.monotonic()
        answered = ask_ourselves(ground.lake()) if engine == OURS else ask(engine, place)
        differences = compare(answered, rows)
        noted = found.setdefault(engine, {"engine": answered["engine"], "null_lists": answered["null_lists"]})
        noted[stage] = {
            "rows": sum(map(len, answered["rows"].values())),
            "figures": len(answered["figures"]),
            "seconds": round(time.monotonic() - began, 1),
            "differences": differences[:10],
        }


def run(arguments: argparse.Namespace, folder: Path, server: LossyS3 | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with make_ground(folder, server, hosts=arguments.hosts) as ground:
        publish_all_but_one(ground, files=arguments.files, rows=arguments.rows)
        committed = [row for written in ground.written[:-1] for row in written.rows()]
        ask_all(arguments.engines, ground, committed, found, "published")
        # They are of a folder: a bucket wants keys.
        recipes = run_recipes(PYTHON, ground, committed) if server is None else {}
        ground.publish(arguments.hosts - 1)
        everything = [row for written in ground.written for row in written.rows()]
        planted = [row for row in everything if row.get("caller") == PLANTED]
        named_before = len(ground.files_that_name(PLANTED))
        ground.erase(PLANTED)
        kept = [row for row in everything if row.get("caller") != PLANTED]
        ask_all(arguments.engines, ground, kept, found, "erased")
        named = ground.files_that_name(PLANTED)
    differences = [
        each for engine in found.values() for stage in ("published", "erased") for each in engine[stage]["differences"]
    ]
    return {
        "storage": "S3 (moto)" if server is not None else "folder",
        "rows_written": len(everything),
        "rows_erased": len(planted),
        "files_that_named_them": named_before,
        "files_that_name_them": named,
        "engines": found,
        "recipes": recipes,
        "passed": set(recipes.values()) <= {"as written"}
        and not differences
        and not named
        and named_before > 0
        and len(planted) > 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--s3", action="store_true", help="the table in a bucket (moto)")
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--files", type=int, default=FILES, help="rotated files of each log")
    parser.add_argument("--rows", type=int, default=500, help="of a file")
    parser.add_argument(
        "--engines", type=lambda text: text.split(","), default=list(ENGINES), help=f"of {','.join(ENGINES)}"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.engines) - set(ENGINES):
        parser.error(f"no such engine: {', '.join(sorted(unknown))}")
    if arguments.s3:
        arguments.engines = [engine for engine in arguments.engines if engine not in OF_FOLDERS]
    if not PYTHON.exists():
        parser.error("the engines are not installed: make engines")
    with (
        tempfile.TemporaryDirectory() as folder,
        lossy_s3(lost_share=0) if arguments.s3 else nullcontext() as server,
    ):
        result = run(arguments, Path(folder), server)
    print(json.dumps(result, indent=2))
    sys.exit(0 if result["passed"] else 1)


if __name__ == "__main__":
    main()
