"""What stands in place of an id or a name in a roster, and is none: what programs write for nothing, what a spreadsheet
made of it, the last line of a report.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from validated.datasets.dataset import Column, ColumnType
from validated.datasets.tables import literal

# What programs write where there is no value. Not "Null" or "Na", which are names.
_NOTHING: Final = (
    "NULL", "null", "(null)", "<null>", "None", "none", "NONE", "nil", "undefined", "NaN", "nan", "N/A", "n/a", "n.a.",
    "<NA>", "\\N", "#N/A", "#NA", "#REF!", "#VALUE!", "#NAME?", "#NULL!", "#DIV/0!", "#NUM!", "[object Object]",
)  # fmt: skip
_ANY_OF_ID: Final = r"[\pL\pN]"
_ANY_OF_NAME: Final = r"\pL"
# A spreadsheet's apostrophe stands before an id alone: there are people called 't Hooft.
_QUOTED: Final = """=.*|'.*'|".*"|`.*`"""
_QUOTED_ID: Final = f"{_QUOTED}|'[^']*"
_REWRITTEN: Final = r"[0-9]+\.0+|[0-9](\.[0-9]+)?[eE]\+[0-9]+"
# What most ids and names are like: none of the patterns fits it.
_PLAIN: Final = r"\pL[\pL\pN .-]*"
_FOOTERS: Final = ("total", "totals", "grand total", "subtotal", "sum", "count")
_NOBODY: Final = {"client_id": ("all", "any", "everybody", "everyone")}


def odd_sql(column: Column) -> str:
    """Return the SQL condition on the value `v` of an id or a name that is none; an empty one is not among them."""
    is_id = column.type is ColumnType.ID
    word = f"v IN ({', '.join(map(literal, _NOTHING))})"
    odd = [
        "contains(v, '\ufffd')",
        f"NOT regexp_matches(v, {literal(_ANY_OF_ID if is_id else _ANY_OF_NAME)})",
        f"regexp_full_match(v, {literal(_QUOTED_ID if is_id else _QUOTED)})",
    ]
    if is_id:
        word += f" OR lower(v) IN ({', '.join(map(literal, _NOBODY.get(column.name, _FOOTERS)))})"
        odd += [f"regexp_full_match(v, {literal(_REWRITTEN)})"]
    patterns = f"CASE WHEN regexp_full_match(v, {literal(_PLAIN)}) THEN false ELSE {' OR '.join(odd)} END"
    return f"trim(v) <> '' AND ({word} OR {patterns})"


def is_odd(value: str, *, is_id: bool) -> bool:
    """Return what `odd_sql` says of a worker's id or name, for rows that another database reads.

    The two know different versions of Unicode: a character that Python's does not have yet passes for a letter here.
    """
    kinds = {*map(unicodedata.category, value)}
    if kinds <= {"Zs"}:  # What SQL's trim() cuts. Other white space is no empty value, but one without a letter.
        return False
    if value in _NOTHING or "\ufffd" in value:
        return True
    letters = "LN" if is_id else "L"
    if not any(kind[0] in letters or kind == "Cn" for kind in kinds):
        return True
    if re.fullmatch(_QUOTED_ID if is_id else _QUOTED, value):
        return True
    return is_id and (bool(re.fullmatch(_REWRITTEN, value)) or value.lower() in _FOOTERS)


def why_odd(value: str, *, is_id: bool) -> str:
    """Return what is wrong with a value that `odd_sql` found, and what to do."""
    shown = f"{value[:80]!r}"
    if value in _NOTHING:
        return f"{shown} is what programs write for no value; give it one or remove the row"
    if "\ufffd" in value:
        return f"{value[:80]!a} has lost a letter (U+FFFD); write the file anew from where it is whole"
    if re.fullmatch(_QUOTED_ID if is_id else _QUOTED, value, re.DOTALL):
        return f"{shown} holds the marks of another program's quotes; write it without, or in double quotes"
    if is_id and re.fullmatch(_REWRITTEN, value):
        return f"{shown} was made a number by a spreadsheet or a float; write ids as text, with all their digits"
    if not any(map(str.isalpha, value)) and (not is_id or not any(map(str.isalnum, value))):
        return f"{shown} is no {'id' if is_id else 'name: it has no letter'}; give it one or remove the row"
    if value.lower() in _FOOTERS:
        return f"{shown} seems to be a footer; remove the row"
    return f"{shown} stands for every client, which nothing here does; write a row for each"
