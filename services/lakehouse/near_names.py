"""``did_you_mean``: what a person may have meant by a name that nobody knows. Imports the standard library alone."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

_NAME_CHARS_MAX: Final = 64
_KNOWN_MAX: Final = 1000
_LIKENESS_MIN: Final = 0.6
# So many characters are taken for the beginning of a name, where one alone begins so.
_BEGINNING_CHARS_MIN: Final = 3


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the name among the first 1,000 of `known` that is most like `name`, or that alone begins so; None where
    there is none.
    """
    if len(name) > _NAME_CHARS_MAX:
        return None
    # Case and dashes are what people mix up most; the first of two that differ by them alone counts.
    spellings: dict[str, str] = {}
    for each, _ in zip(known, range(_KNOWN_MAX), strict=False):
        spellings.setdefault(_plain(each), each)
    plain = _plain(name)
    found = difflib.get_close_matches(plain, spellings, n=1, cutoff=_LIKENESS_MIN)
    if not found and len(plain) >= _BEGINNING_CHARS_MIN:
        found = [each for each in spellings if each.startswith(plain)]
    return spellings[found[0]] if len(found) == 1 else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``; did you mean "count"?`` to go after a sentence; empty where no name is like `name`."""
    near = nearest(name, known)
    return f'; did you mean "{near}"?' if near is not None else ""


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace("_", "")
