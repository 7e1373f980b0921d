"""What stands in place of an id or a name in a roster, and is none: what programs write for nothing, what a spreadsheet
made of it, letters that were lost on the way, what is said of somebody beside the name, the last line of a report.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final, LiteralString, NamedTuple

from validated.datasets.dataset import Column, ColumnType
from validated.datasets.tables import literal

# What programs write where there is no value. Not "Null" or "Na", which are names.
_NOTHING: Final = (
    "NULL", "null", "(null)", "<null>", "None", "none", "NONE", "nil", "undefined", "NaN", "nan", "N/A", "n/a", "n.a.",
    "<NA>", "\\N", "#N/A", "#NA", "#NV", "#N/D", "#N/B", "[object Object]", "NaT", "[NULL]", "[null]", "(blank)",
    "(empty)", "(none)", "<none>", "<empty>", "Loading...",
)  # fmt: skip
_NO_ID: Final = tuple(dict.fromkeys(each.lower() for each in _NOTHING))
# What a name has one of at least, and an id; what most of both are like: none of the patterns below fits it but those
# that say so. Those of ASCII alone are among them, and need no table of all letters.
_EXACTLY: Final = (r"\pL", r"[\pL\pN]", r"\pL[\pL\pN .-]*")
_ROUGHLY: Final = ("[A-Za-z]", "[A-Za-z0-9]", "[A-Za-z][A-Za-z0-9 .-]*")
SOUND_ID: Final = "[A-Za-z]{0,5}[-_.]?[0-9]{3,15}"
"""What most ids are like, letters, a mark and digits: nothing that is wrong with an id is so."""
# A spreadsheet's apostrophe stands before an id alone: there are people called 't Hooft.
_QUOTED: Final = """=.*|'.*'|".*"|`.*`"""
_QUOTED_ID: Final = f"{_QUOTED}|'[^']*"
_FOOTERS: Final = (
    "(grand |sub-?)?totals?( (number|of|all|active|inactive|workers?|employees?|staff|people|associates|members|rows"
    "|records|headcount|count|hours)){0,4}:?|sum:?|(head)?count:?"
)
_BRACKETS: Final[LiteralString] = "[][ ()<>*_.-]*"
EVERY_CLIENT: Final[LiteralString] = (
    f"{_BRACKETS}(all|any|every|everybody|everyone|anybody|anyone|alle)"
    f"([ _-]+(of )?(the |our )?(client|customer|account|company|companie|kunden)s?)?{_BRACKETS}"
)
"""What stands for all clients, in lower case and as PostgreSQL has patterns: nobody asks for such a client."""
_MONTHS: Final = "(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"


class _Mark(NamedTuple):
    """What is no id or no name. The pattern is of the engine and of Python alike: no word ends, no kinds of letters."""

    of: str
    """"id", "name" or "both"."""
    pattern: str
    says: str
    """What is wrong with it, and what to do."""
    is_whole: bool = False
    """Whether the pattern is of the whole value."""
    is_plain: bool = False
    """Whether a value of letters, digits, spaces, points and hyphens alone may have it."""


_NUMBER: Final = "was made a number by a spreadsheet or a float; write ids as text, with all their digits"
_DATE: Final = "was made a date by a spreadsheet; write ids as text"
_NULLS: Final = "(NULL|null|None|NaN|nan|undefined|N/A)"
# What a schedule has where nobody is known yet: some words are in no name, others stand alone or with a number.
_NOBODY_YET: Final = (
    "(?i:^[^a-z]*(unknown|not assigned|not available|to be (determined|announced|assigned|hired|confirmed|named)"
    "|no name|no one|nobody|unnamed|placeholder|new hire|open (shift|position|slot))( worker| employee)?[^a-z]*$"
    "|(^|[^a-z])(tbd|tba|tbc|vacant|vacancy|unassigned)([^a-z]|$))"
)
_PUT_TOGETHER: Final = "is a name put together of no values; give it one or remove the row"
_MARKS: Final = (
    _Mark("name", f"{_NULLS}([ ,]+{_NULLS})+", _PUT_TOGETHER, is_whole=True, is_plain=True),
    _Mark(
        "name",
        _NOBODY_YET,
        "stands for somebody who is not known yet; remove the row until it is a person's",
        is_plain=True,
    ),
    _Mark("both", "#.*[!?]", "is a spreadsheet's error; give it a value or remove the row", is_whole=True),
    _Mark("id", r"[0-9]+[.,]0+|[0-9]([.,][0-9]+)?[eE]\+[0-9]+", _NUMBER, is_whole=True),
    _Mark("id", r"[0-9]{1,3}(,[0-9]{3})+(\.0+)?", _NUMBER, is_whole=True),
    _Mark("id", f"[0-9]{{1,2}}-{_MONTHS}(-[0-9]{{2,4}})?", _DATE, is_whole=True),
    _Mark("id", f"{_MONTHS}-[0-9]{{2}}", _DATE, is_whole=True, is_plain=True),
    _Mark("id", r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T]00:00:00(\.0+)?)?", _DATE, is_whole=True),
    _Mark("id", "[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}", _DATE, is_whole=True),
    _Mark("id", "[;|]", "holds a semicolon or a bar: several ids, or another delimiter; write one id in a row"),
    # A letter beyond ASCII whose bytes in UTF-8 were read as one letter each.
    _Mark(
        "both",
        "[\u00c2-\u00df][\u20ac\u201a\u0192\u201e-\u2022\u02c6\u2030\u2039\u02dc\u2122\u203a\u0178\u00a1-\u00bf]"
        "|\u00e2\u20ac|\u00ef\u00bf\u00bd",
        "is UTF-8 that was read in another encoding and written again; write the file anew from where it is whole",
        is_plain=True,  # Some of those are letters and digits: \u00ba, \u00bc.
    ),
    _Mark(
        "both",
        "&(#[0-9]+|#[xX][0-9A-Fa-f]+|[A-Za-z]+);|_x[0-9A-Fa-f]{4}_",
        "holds a character in the escape of another format; write the character itself",
    ),
    _Mark("both", r"\{\{|\}\}|\$\{|<%|%>", "is a template's placeholder; fill it in or remove the row"),
    _Mark("name", "[?]", "has lost a letter (?); write the file anew from where it is whole"),
    _Mark("name", "@", "holds an address; write the name alone"),
    _Mark("name", r"[(\[][^)\]]*[0-9][^)\]]*[)\]]$", "ends with a number in brackets; write the name alone"),
    _Mark(
        "name",
        "(?i:(^|[^a-z])(terminated|inactive|suspended|deceased|resigned|dismissed|blacklisted|deleted|on leave"
        "|no longer|do not (use|send|hire|rehire|call|contact)|dnu|dnr|dnh|former|retired|fired|banned|laid off"
        "|left (the )?company|ex-employee|no-show)([^a-z]|$)|[(-] *(left|ex|loa|quit)[)]?$)",
        "says more than a name; write the name alone, and in the column active whether they may be sent",
        is_plain=True,
    ),
)


def odd_sql(column: Column, *, roughly: bool = False) -> str:
    """Return the SQL condition on the value `v` of an id or a name that is none; an empty one is not among them.
    `roughly`: also of some that are sound, letters beyond ASCII alone; it takes a third of the time.
    """
    is_id = column.type is ColumnType.ID
    letter, letter_or_digit, plain = _ROUGHLY if roughly else _EXACTLY
    nothing = f"{'lower(v)' if is_id else 'v'} IN ({', '.join(map(literal, _NO_ID if is_id else _NOTHING))})"
    plain_marks, other_marks = (
        [mark for mark in _marks(is_id=is_id) if mark.is_plain is each] for each in (True, False)
    )
    if is_id:
        # There is a client called Total.
        of_all = EVERY_CLIENT.replace("[][", r"[\]\[") if column.name == "client_id" else _FOOTERS
        plain_marks.append(_Mark("id", f"(?i:{of_all})", "", is_whole=True))
    odd = (
        "contains(v, '\ufffd')",
        f"NOT regexp_matches(v, {literal(letter_or_digit if is_id else letter)})",
        f"regexp_full_match(v, {literal(_QUOTED_ID if is_id else _QUOTED)})",
        _have_sql(other_marks),
    )
    patterns = f"CASE WHEN regexp_full_match(v, {literal(plain)}) THEN false ELSE {' OR '.join(odd)} END"
    return f"trim(v) <> '' AND ({nothing} OR {_have_sql(plain_marks)} OR {patterns})"


def _have_sql(marks: Iterable[_Mark]) -> str:
    """Return SQL for whether `v` has one of `marks`: all of them are looked for at once."""
    each = (f"^(?:{mark.pattern})$" if mark.is_whole else f"(?:{mark.pattern})" for mark in marks)
    return f"regexp_matches(v, {literal('|'.join(each))})"


def is_odd(value: str, *, is_id: bool) -> bool:
    """Return what `odd_sql` says of a worker's id or name, for rows that another database reads.

    The two know different versions of Unicode: a character that Python's does not have yet passes for a letter here.
    """
    kinds = {*map(unicodedata.category, value)}
    if kinds <= {"Zs"}:  # What SQL's trim() cuts. Other white space is no empty value, but one without a letter.
        return False
    if _is_nothing(value, is_id=is_id) or "\ufffd" in value:
        return True
    letters = "LN" if is_id else "L"
    if not any(kind[0] in letters or kind == "Cn" for kind in kinds):
        return True
    if re.fullmatch(_QUOTED_ID if is_id else _QUOTED, value):
        return True
    return _mark_of(value, is_id=is_id) is not None or (is_id and _is_footer(value))


def why_odd(value: str, *, is_id: bool) -> str:
    """Return what is wrong with a value that `odd_sql` found, and what to do."""
    shown = f"{value[:80]!r}"
    if _is_nothing(value, is_id=is_id):
        return f"{shown} is what programs write for no value; give it one or remove the row"
    if "\ufffd" in value:
        return f"{value[:80]!a} has lost a letter (U+FFFD); write the file anew from where it is whole"
    if re.fullmatch(_QUOTED_ID if is_id else _QUOTED, value, re.DOTALL):
        return f"{shown} holds the marks of another program's quotes; write it without, or in double quotes"
    if (mark := _mark_of(value, is_id=is_id)) is not None:
        return f"{shown} {mark.says}"
    if not any(map(str.isalpha, value)) and (not is_id or not any(map(str.isalnum, value))):
        return f"{shown} is no {'id' if is_id else 'name: it has no letter'}; give it one or remove the row"
    if _is_footer(value):
        return f"{shown} seems to be a footer; remove the row"
    return f"{shown} stands for every client, which nothing here does; write a row for each"


def _marks(*, is_id: bool) -> tuple[_Mark, ...]:
    return tuple(mark for mark in _MARKS if mark.of in ("both", "id" if is_id else "name"))


def _mark_of(value: str, *, is_id: bool) -> _Mark | None:
    matches = ((mark, re.fullmatch if mark.is_whole else re.search) for mark in _marks(is_id=is_id))
    return next((mark for mark, match in matches if match(mark.pattern, value) is not None), None)


def _is_nothing(value: str, *, is_id: bool) -> bool:
    return value.lower() in _NO_ID if is_id else value in _NOTHING


def _is_footer(value: str) -> bool:
    return re.fullmatch(_FOOTERS, value, re.IGNORECASE) is not None
