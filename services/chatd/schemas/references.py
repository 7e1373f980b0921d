"""The definitions of a schema, and who refers to whom."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

TABLES: Final = ("$defs", "definitions")
WHOLE: Final = "#"
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,200}")


class References:
    """Definitions by name. One whose name needs escapes, or stands in both tables, is none: nothing leads there."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        tables = [schema[key] for key in TABLES if isinstance(schema.get(key), dict)]
        twice = tables[0].keys() & tables[1].keys() if len(tables) == 2 else set()
        self.definitions: dict[str, Any] = {
            name: each
            for table in tables
            for name, each in table.items()
            if _NAME.fullmatch(name) and name not in twice
        }
        self._made_in: dict[str, dict[str, None]] = {}

    def name_of(self, ref: Any) -> str:
        """Return the definition that `ref` names, WHOLE for the whole schema; "" where it names neither."""
        if ref == WHOLE:
            return WHOLE
        if not isinstance(ref, str):
            return ""
        name = next((ref[len(each) + 3 :] for each in TABLES if ref.startswith(f"#/{each}/")), "")
        return name if name in self.definitions else ""

    def note(self, name: str, *, within: str) -> None:
        """`name` is referred to from `within`."""
        self._made_in.setdefault(within, {})[name] = None

    @property
    def noted(self) -> list[str]:
        """The definitions that are referred to, in order."""
        return [*dict.fromkeys(name for names in self._made_in.values() for name in names if name != WHOLE)]

    @property
    def are_recursive(self) -> bool:
        """Whether a definition, or the whole, is within itself."""
        for start in self._made_in:
            waiting, seen = [*self._made_in[start]], set[str]()
            while waiting:
                name = waiting.pop()
                if name == start:
                    return True
                if name not in seen:
                    seen.add(name)
                    waiting += self._made_in.get(name, ())
        return False
