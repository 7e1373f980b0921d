"""How a name of the roster is recognised in a text: by its key, in which only letters, marks and digits count.

Lists of personnel have the family's name first, "Garcia, Maria Elena", and nobody writes so to people:
``full_name_key`` is of the name as it is said, ``name_key`` of words.

Both are for an index of our own. PostgreSQL cannot compute them, so a table is asked by ``table_key``, which
``table_key_sql`` computes there as well: full names of one key have one table key, and what else has it is sorted out
here.

    python -m validated.datasets.names [TABLE [COLUMN]]

prints the statement that makes the index of a large table.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, Final

import regex

# Code points that print nothing: they hide in a name and are no part of it.
INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
# Letters that are drawn alike, or written for one another where a keyboard lacks them; all in lower case.
_DRAWN_ALIKE: Final = dict(
    zip(
        "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0455\u0456\u0458\u051b\u051d"
        "\u03b1\u03b2\u03b5\u03b6\u03b7\u03b9\u03ba\u03bc\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7"
        "\u0131\u0142\u00f8\u0111\u00f0\u0127",
        "abekmhopctyxsijqwabezhikmnoptyxiloddh",
        strict=True,
    )
)
_TWO_LETTERS: Final = {"\u00df": "ss", "\u00e6": "ae", "\u0153": "oe", "\u00fe": "th"}
_LATIN: Final = str.maketrans(_DRAWN_ALIKE | _TWO_LETTERS)
# Accents, Hebrew points and Arabic vowel signs are left out by many who write a name. The marks of other scripts are
# letters in all but name.
_NO_PART: Final = regex.compile(
    rf"[^\p{{L}}\p{{M}}\p{{N}}]|[\u0300-\u036f\u02b9-\u02bf\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06ed{INVISIBLE}]"
)
_NO_ASCII_PART: Final = dict.fromkeys(code for code in range(128) if not chr(code).isalnum())
_NO_TABLE_PART: Final = regex.compile("[^a-z0-9]+")
# Between the words of names that hold no ASCII letter, as far as a table is asked.
_PUNCTUATION: Final = (
    "\u00a0\u00b7\u2000-\u200f\u2010-\u2027\u202f\u2060\u2022\u3000-\u3002\u30fb\ufeff\uff08\uff09\uff0c\uff0e\uff65"
)

SUFFIXES: Final = frozenset(("jr", "sr", "ii", "iii", "iv", "v", "md", "phd", "esq", "dds", "rn", "cpa"))
"""What stands behind a name, with or without a comma."""
# For Python and PostgreSQL alike, without case: the family's name, a comma, what is no suffix alone, perhaps a suffix.
_SUFFIX: Final = f"(?:{'|'.join(sorted(SUFFIXES))}|m[.]d|ph[.]d)[.]? *"
_FAMILY_FIRST: Final = f"^([^,]*[^ ,][^,]*),(?! *{_SUFFIX}(?:,|$)) *([^ ,][^,]*)((?:, *{_SUFFIX})?)$"
_FAMILY_AND_SUFFIX_FIRST: Final = f"^([^,]*[^ ,][^,]*)(, *{_SUFFIX}), *([^ ,][^,]*)$"
_ORDERS: Final = ((_FAMILY_FIRST, r"\2 \1\3"), (_FAMILY_AND_SUFFIX_FIRST, r"\3 \1\2"))
_READ_ORDERS: Final = [(re.compile(pattern, re.IGNORECASE), order) for pattern, order in _ORDERS]


def said(name: str) -> str:
    """Return a full name as it is said: "Garcia, Maria" is Maria Garcia, and "Robert Brown, Jr." stays as it is."""
    if "," not in name:
        return name
    for pattern, order in _READ_ORDERS:
        turned = pattern.sub(order, name)
        if turned != name:
            return turned
    return name


def full_name_key(name: str) -> str:
    """Return the ``name_key`` of a full name as it is said."""
    return name_key(said(name))


def name_key(text: str) -> str:
    """Return what is left of a name without case, accents, look-alike letters, spaces and punctuation; empty where
    nothing is.

    "O'Neil", "O\u2019Neil" and "ONEIL" have one key, and so have "Jos\u00e9 N\u00fa\u00f1ez" and "jose-nunez".
    """
    if text.isascii():
        return text.lower().translate(_NO_ASCII_PART)
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()).translate(_LATIN)
    return _NO_PART.sub("", folded)


def beginnings(names: Iterable[str]) -> set[str]:
    """Return all that the keys of the full names `names` begin with."""
    return {key[:length] for key in map(full_name_key, names) for length in range(len(key) + 1)}


def name_keys(texts: Sequence[str]) -> list[str]:
    """`name_key` of each of `texts`, which hold no line ends: all are folded in one go."""
    if not texts:
        return []
    joined = "\n".join(texts)
    if joined.isascii():
        kept: dict[int, Any] = _NO_ASCII_PART | {ord("\n"): "\n"}
        return joined.lower().translate(kept).split("\n")
    # A line end composes with nothing.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", joined).casefold())
    kept = {ord(each): _NO_PART.sub("", each.translate(_LATIN)) for each in set(folded) - {"\n"}}
    return folded.translate(kept).split("\n")


def full_name_keys(names: Sequence[str]) -> list[str]:
    """`full_name_key` of each of `names`, which hold no line ends."""
    return name_keys([said(name) for name in names])


def table_key(key: str) -> str:
    """Return what a table is asked for in place of the name key `key`: its ASCII letters and digits; it, where it has
    none."""
    return _NO_TABLE_PART.sub("", key) or key


def table_key_sql(name: str) -> str:
    """Return the SQL expression of ``table_key`` for the full name that the SQL expression `name` gives, immutable: a
    table of more than some 50,000 rows should have an index on it. It needs a database in UTF-8.
    """
    turned = name
    for pattern, order in _ORDERS:
        turned = f"regexp_replace({turned}, '{pattern}', '{order}', 'i')"
    return f"CASE WHEN strpos({name}, ',') = 0 THEN {_table_key_sql(name)} ELSE {_table_key_sql(turned)} END"


def _table_key_sql(name: str) -> str:
    plain = f"lower(normalize({name}, NFKD))"
    folded = plain
    for letter, two in (_TWO_LETTERS | {"\u1e9e": "ss", "\u00c6": "ae", "\u0152": "oe", "\u00de": "th"}).items():
        folded = f"replace({folded}, '{letter}', '{two}')"
    # Both cases: lower() of a database in the C locale knows no letters but ASCII's.
    upper = {letter.upper(): to for letter, to in _DRAWN_ALIKE.items() if not letter.upper().isascii()}
    pairs = _DRAWN_ALIKE | upper
    folded = f"translate({folded}, '{''.join(pairs)}', '{''.join(pairs.values())}')"
    kept = "'[^a-z0-9]+', '', 'g'"
    # The last form takes three times as long as the one before, which is for ASCII letters with accents.
    return (
        f"CASE WHEN octet_length({name}) = char_length({name}) THEN regexp_replace(lower({name}), {kept}) "
        f"WHEN {plain} !~ '[^\\u0001-\\u007f\\u0300-\\u036f]' THEN regexp_replace({plain}, {kept}) "
        f"ELSE coalesce(nullif(regexp_replace({folded}, {kept}), ''), "
        f"regexp_replace({folded}, '[\\u0001-\\u007f{_PUNCTUATION}]+', '', 'g')) END"
    )


def main() -> None:
    """See the module's docstring."""
    table, column = (*sys.argv[1:], *("workers", "name")[len(sys.argv) - 1 :])[:2]
    sys.stdout.write(f"CREATE INDEX ON {table} (({table_key_sql(f'{column}::text')}));\n")


if __name__ == "__main__":
    main()
