"""Apache Spark (bench/spark, in Java), connected to the SQL catalog as a JDBC one."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from bench.engines.answer import Place, answer, read_place
from bench.engines.questions import questions
from bench.engines.sail import DIALECT
from bench.java import ROOT, java_command

ANSWER_S = 280
# What Spark's own launcher opens of Java 17.
_OPENED = (
    *("java.io", "java.lang", "java.lang.invoke", "java.net", "java.nio", "java.util", "java.util.concurrent"),
    *("java.util.concurrent.atomic", "sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar"),
)


def ask(place: Place) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each question by its name, and those of the table by an empty one."""
    path = place.catalog_uri.removeprefix("sqlite:///").partition("?")[0]
    options = ["-Xmx1g", *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED)]
    command = java_command(ROOT / "bench" / "spark" / "SparkTable.java", *options)
    ended = subprocess.run(
        [*command, f"jdbc:sqlite:{path}", place.location],
        input="".join(f"{name}\t{sql}\n" for name, sql in questions(DIALECT).items()),
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
        check=False,
    )
    if ended.returncode != 0:
        raise SystemExit(ended.stderr[-3000:])
    found: dict[str, list[dict[str, Any]]] = {}
    for line in ended.stdout.rstrip("\n").split("\n"):
        name, _, row = line.partition("\t")
        found.setdefault(name, []).append(json.loads(row))
    return found


def main() -> None:
    found = ask(read_place())
    names = {sql: name for name, sql in questions(DIALECT).items()}
    pom = Path(ROOT / "bench" / "spark" / "pom.xml").read_text(encoding="utf-8")
    spark, iceberg = re.findall(r"<version>(\d+\.\d+\.\d+)</version>", pom)[:2]
    answer(
        f"Apache Spark {spark}, Iceberg {iceberg}",
        DIALECT,
        lambda sql: [tuple(row.values()) for row in found.get(names[sql], [])],
        found.get("", []),
    )


if __name__ == "__main__":
    main()
