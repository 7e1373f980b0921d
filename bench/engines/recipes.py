"""The recipes of docs/engines.md, run word for word."""

from __future__ import annotations

import ast
import subprocess
from collections import Counter
from pathlib import Path

from bench.engines import truth
from bench.engines.ground import ROOT, Ground
from markdown_blocks import blocks_of

DOCS = ROOT / "docs" / "engines.md"
RECIPE_S = 300
SINCE_US = 1_767_225_600_000_000
"""2026-01-01, since when they count."""


def run_recipes(python: Path, ground: Ground, rows: list[truth.Row]) -> dict[str, str]:
    """Return what became of each recipe of the docs, run by the engines' Python."""
    expected: dict[str, int] = Counter(
        row["final_verdict"] for row in rows if row["timestamp"] is not None and row["timestamp"] >= SINCE_US
    )
    place = ground.place()
    values = {
        "LOCATION": place.location,
        "METADATA": place.metadata,
        "SNAPSHOT_ID": place.snapshot_id,
        "CATALOG_URI": ground.settings["catalog_uri"],
    }
    found = {}
    for block in blocks_of(DOCS, DOCS.name):
        if block.language != "python":
            continue
        # Extensions are not downloaded here: the package index has them.
        loaded = "; ".join(f"LOAD '{_extension(python, name)}'" for name in ("avro", "iceberg"))
        text = block.text.replace("INSTALL iceberg; LOAD iceberg", loaded)
        set_before = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        program = ground.folder / "recipe.py"
        program.write_text(set_before + text, encoding="utf-8")
        ended = subprocess.run(
            [str(python), str(program)], capture_output=True, text=True, timeout=RECIPE_S, check=False
        )
        printed = ended.stdout.splitlines()[-1] if ended.returncode == 0 and ended.stdout else ended.stderr[-500:]
        found[str(block)] = "as written" if _equal(printed, expected) else printed
    return found


def _equal(printed: str, expected: dict[str, int]) -> bool:
    try:
        return bool(ast.literal_eval(printed) == expected)
    except (SyntaxError, ValueError):
        return False


def _extension(python: Path, name: str) -> Path:
    """Return DuckDB's extension out of its package in the engines' environment."""
    packages = python.parent.parent / "lib"
    (file,) = packages.glob(f"python*/site-packages/duckdb_extension_{name}/extensions/v*/*.duckdb_extension")
    return file
