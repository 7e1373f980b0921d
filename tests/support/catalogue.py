"""The catalogue of examples/catalogue for tests: its configuration, its rows as the csv module reads them, and an
oracle for its quotes in words of its own, which shares nothing with the service.
"""

from __future__ import annotations

import csv
import random
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

from validated.config import DatasetTable

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "catalogue"
QUOTE = FOLDER / "kinds" / "quote.toml"


def catalogue_table(index_dir: Path, **changes: Any) -> DatasetTable:
    """Return the example's dataset, its indexes in `index_dir`."""
    configured = tomllib.loads((FOLDER / "lakehouse.toml").read_text())["validated"]["datasets"]["catalogue"]
    given = {**configured, "path": FOLDER / "products.csv", "index_dir": index_dir / "catalogue", **changes}
    return DatasetTable(**given)


def products() -> dict[str, dict[str, str]]:
    """Return the rows of the example by article number."""
    with (FOLDER / "products.csv").open(newline="") as file:
        return {row["sku"]: row for row in csv.DictReader(file)}


def is_right(quote: Any, spec: dict[str, Any], rows: dict[str, dict[str, str]]) -> bool:
    """Whether a quote is right, by hand."""
    if not isinstance(quote, dict) or list(quote) != ["lines"] or not isinstance(quote["lines"], list):
        return False
    lines = quote["lines"]
    if len(lines) != spec["count"] or len(lines) > 100:
        return False
    seen = []
    for line in lines:
        if not isinstance(line, dict) or set(line) != {"sku", "name", "unit_price", "quantity"}:
            return False
        sku, price, quantity = line["sku"], line["unit_price"], line["quantity"]
        if not isinstance(sku, str) or sku not in rows or sku in seen:
            return False
        seen.append(sku)
        row = rows[sku]
        if line["name"] != row["name"] or row["discontinued"] != "no":
            return False
        if isinstance(price, (bool, str)) or not isinstance(price, (int, float)):
            return False
        if abs(Decimal(str(price)) - Decimal(row["price"])) > Decimal("0.005"):
            return False
        if isinstance(quantity, bool) or not isinstance(quantity, (int, float)):
            return False
        if int(quantity) != quantity or not 1 <= quantity <= 1000:
            return False
        if "category" in spec and row["category"] != spec["category"]:
            return False
        if "budget" in spec and Decimal(row["price"]) > Decimal(str(spec["budget"])):
            return False
    return True


def a_spec(draws: random.Random) -> dict[str, Any]:
    """Draw some spec."""
    spec: dict[str, Any] = {"count": draws.randint(1, 6)}
    if draws.random() < 0.6:
        spec["category"] = draws.choice(("drills", "saws", "fasteners", "safety", "lighting"))
    if draws.random() < 0.6:
        spec["budget"] = draws.choice((50, 99.99, 300, 450.5, 10_000))
    return spec


def a_quote(draws: random.Random, spec: dict[str, Any], rows: dict[str, dict[str, str]], skus: list[str]) -> Any:
    """Return a quote that is right, or one or two slips away from it."""
    right = [sku for sku in draws.sample(skus, 60) if is_right(_quote([rows[sku]]), {**spec, "count": 1}, rows)]
    quote = _quote([rows[sku] for sku in right[: spec["count"]]])
    for _ in range(draws.choice((0, 0, 1, 1, 2))):
        if quote["lines"]:
            quote = _slip(draws, quote, rows, skus)
    return quote


def _quote(rows: list[dict[str, str]]) -> Any:
    return {
        "lines": [
            {"sku": row["sku"], "name": row["name"], "unit_price": float(row["price"]), "quantity": 1 + at}
            for at, row in enumerate(rows)
        ]
    }


def _slip(draws: random.Random, quote: Any, rows: dict[str, dict[str, str]], skus: list[str]) -> Any:
    lines = [dict(line) for line in quote["lines"] if isinstance(line, dict)]
    if not lines:
        return quote
    line = draws.choice(lines)
    other = rows[draws.choice(skus)]
    sku, name, price = str(line.get("sku", "")), str(line.get("name", "")), line.get("unit_price", 0)
    number = price if isinstance(price, (int, float)) else 0
    slips: list[tuple[str, Any]] = [
        ("sku", other["sku"]),
        ("sku", sku.lower()),
        ("sku", sku + " "),
        ("sku", sku + "\u200b"),
        ("sku", sku.replace("-", "\u2010")),
        ("sku", sku[:-1]),
        ("sku", sku + "\x1f"),
        ("sku", ""),
        ("sku", None),
        ("sku", [sku]),
        ("sku", "' OR 1=1 --"),
        ("sku", "A" * 5000),
        ("name", other["name"]),
        ("name", name.upper()),
        ("name", name + " "),
        ("unit_price", number + 0.01),
        ("unit_price", number + 0.004),
        ("unit_price", number - 0.005),
        ("unit_price", str(number)),
        ("unit_price", float(other["price"])),
        ("unit_price", -number),
        ("unit_price", 1e300),
        ("unit_price", True),
        ("quantity", 0),
        ("quantity", 2.5),
        ("quantity", 3.0),
        ("quantity", "1"),
        ("note", "cheap"),
    ]
    what = draws.randrange(len(slips) + 6)
    if what < len(slips):
        key, value = slips[what]
        line[key] = value
    elif what == len(slips):
        lines.append(dict(line))
    elif what == len(slips) + 1:
        lines.remove(line)
    elif what == len(slips) + 2:
        line.pop(draws.choice(list(line)))
    elif what == len(slips) + 3:
        lines.append(_quote([other])["lines"][0])
    elif what == len(slips) + 4:
        return {**quote, "more": lines}
    else:
        return {"lines": [*lines, draws.choice((None, "x", 3, []))]}
    return {"lines": lines}
