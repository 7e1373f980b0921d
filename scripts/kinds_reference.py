"""Writes the reference of every key of a dataset and of a declared kind, from the types that read them.

python scripts/kinds_reference.py > docs/kinds-reference.md
"""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "services"))

from lakehouse.settings import Table  # noqa: E402  after the path
from validated.config import DatasetTable, FilesTable  # noqa: E402
from validated.kinds.declared.declaration import Agreement, BriefRule, Condition, Declaration, Reference  # noqa: E402

SECTIONS: tuple[tuple[str, str, tuple[type[Table], ...]], ...] = (
    ("`[validated.datasets.<name>]`", "In the configuration.", (FilesTable, DatasetTable)),
    ("A kind: `<kind>.toml` in `validated.kinds_dir`", "The top of the file.", (Declaration,)),
    ("`[[references]]`", "At least one, at most 10.", (Reference,)),
    ("A value of `agree`", "Where more than a column is to be said.", (Agreement,)),
    ("An element of `require`", "", (Condition,)),
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
        for table in tables:
            lines += [_row(table, node, words) for node, words in _fields(table)]
        lines.append("")
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


def _row(table: type[Table], node: ast.AnnAssign, words: str) -> str:
    name = ast.unparse(node.target)
    field = table.model_fields[name]
    default = "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)!r}`"
    cells = (f"`{field.alias or name}`", f"`{ast.unparse(node.annotation)}`", default, words)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(reference())
