"""Candidates as a table: who each is, and what is known of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def show_facts(candidates: Sequence[Mapping[str, Any]], console: Console, *, rows_max: int) -> None:
    """Print the facts of the first `rows_max` candidates, and how many more there are."""
    if not candidates:
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = list(dict.fromkeys(name for facts in candidates for name in facts))
    # Who it is, before what is known of him; what is long, last.
    long = {name for facts in candidates for name, value in facts.items() if not isinstance(value, str)}
    columns.sort(key=lambda name: (name in long, name not in ("worker_id", "name"), name != "worker_id"))
    for name in columns:
        table.add_column(name)
    for facts in candidates[:rows_max]:
        table.add_row(*(escape(_cell(facts.get(name, ""))) for name in columns))
    console.print(table)
    if len(candidates) > rows_max:
        console.print(f"… and {len(candidates) - rows_max} more")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
