"""Writes the reference of every key of a dataset and of a declared kind, from the types that read them.

python scripts/kinds_reference.py > docs/kinds-reference.md
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "services"))

from lakehouse.settings import Table  # noqa: E402  after the path
from validated.config import DatabaseTable, DatasetPostgresTable, DatasetTable, FilesTable  # noqa: E402
from validated.kinds.declared.declaration import (  # noqa: E402
    Agreement,
    BriefRule,
    Condition,
    Declaration,
    Reference,
    Rule,
)

SECTIONS: tuple[tuple[str, str, tuple[type[Table], ...]], ...] = (
    ("`[validated.datasets.<name>]`", "In the configuration.", (FilesTable, DatasetTable)),
    (
        "`[validated.datasets.<name>.postgres]`",
        'A table or view in place of files, with `backend = "postgres"`.',
        (DatabaseTable, DatasetPostgresTable),
    ),
    ("A kind: `<kind>.toml` in `validated.kinds_dir`", "The top of the file.", (Declaration,)),
    ("`[[references]]`", "At least one, at most 10.", (Reference,)),
    ("A value of `agree`", "Where more than a column is to be said.", (Agreement,)),
    ("An element of `require`", "", (Condition,)),
    ("`[[rules]]`", "At most 20.", (Rule,)),
    ("`[brief]`", "", (BriefRule,)),
)


def reference() -> str:
    """Return the page."""
    lines = [
        "# Datasets and declared kinds: every key",
        "",
        "Written by `scripts/kinds_reference.py`; do not edit.",
        "",
    ]
    for title, text, tables in SECTIONS:
        lines += [f"## {title}", ""] + ([text, ""] if text else [])
        lines += ["| key | type | default | what it is |", "|---|---|---|---|"]
        # What a later table says of a key of an earlier one counts.
        rows = {name: row for table in tables for name, row in _rows(table)}
        lines += [*rows.values(), ""]
    return "\n".join(lines)


def _fields(table: type[Table]) -> list[tuple[ast.AnnAssign, str]]:
    """Return the keys of a table in their order, each with the text that stands under it."""
    (tree,) = ast.parse(inspect.getsource(table)).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101  the source of a class
    found: list[tuple[ast.AnnAssign, str]] = []
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign):
            words = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                words = str(after.value.value)
            found.append((node, " ".join(words.split())))
    return found


def _rows(table: type[Table]) -> Iterator[tuple[str, str]]:
    for node, words in _fields(table):
        name = ast.unparse(node.target)
        field = table.model_fields[name]
        default = "required"
        if not field.is_required():
            value = field.get_default(call_default_factory=True)
            default = "none" if value == Path() else f"`{value!r}`"
        cells = (f"`{field.alias or name}`", f"`{ast.unparse(node.annotation)}`", default, words)
        yield name, "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(reference())
