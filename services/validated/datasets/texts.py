"""How texts of the roster are compared where they are not compared by code points."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from validated.datasets.names import name_key

# Roles, cities, states and names come again and again. What is longer than any of these is an artifact's, and not kept.
_KEPT_CHARS_MAX: Final = 64


# Letters and digits of ASCII that many typefaces draw alike.
_LOOKS: Final = str.maketrans("I1|0o", "lllOO")


def fold(text: str) -> str:
    """`text` for a comparison without case, width and spacing: NFKC, case-folded, runs of white space as one space.

    For roles, cities, states, certifications and for finding people by name; never for ids, and never for the name
    that stands beside an id.
    """
    return _kept(text) if len(text) <= _KEPT_CHARS_MAX else _fold(text)


def is_same_without_case(one: str, other: str) -> bool:
    """Whether two texts differ in case alone: width, spacing, composition and letters that only fold to the same count.

    For what an artifact states of a worker.
    """
    # Both ways: the Kelvin sign becomes a k in lower case, and the long s an S in upper case. A capital sharp s stays.
    return one == other or (one.lower() == other.lower() and _upper(one) == _upper(other))


def _upper(text: str) -> str:
    return text.upper().replace("\u1e9e", "SS")


def difference(written: str, right: str, *, any_case: bool = False, holder: str = "the roster") -> str:
    """Return the first code points in which `written` differs from `right`, where both may look the same, to be said
    after them; empty where they do not. `any_case`: case alone is no difference; `holder` has what is right.
    """
    if written == right:
        return ""
    differ = (lambda a, b: not is_same_without_case(a, b)) if any_case else str.__ne__
    at = next((at for at, (a, b) in enumerate(zip(written, right, strict=False)) if differ(a, b)), None)
    if at is None:
        at = min(len(written), len(right))
    # Letters that no table knows as alike may be: whatever is beyond ASCII, or does not print, on one side alone.
    odd = {each for each in written[at : at + 1] + right[at : at + 1] if not (each.isascii() and each.isprintable())}
    if name_key(written) != name_key(right) and not odd and written.translate(_LOOKS) != right.translate(_LOOKS):
        return ""
    here, there = (_code_points(text[at : at + 3]) for text in (written, right))
    return f" (they differ from character {at + 1} on: {here} where {holder} has {there})"


def _code_points(text: str) -> str:
    return " ".join([f"U+{ord(each):04X}" for each in text]) or "nothing"


def _fold(text: str) -> str:
    if text.isascii():
        return " ".join(text.lower().split())
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


_kept = lru_cache(maxsize=16_384)(_fold)


def fold_all(texts: Sequence[str]) -> list[str]:
    """`fold` of each of `texts`, which hold no line ends. Most are folded in one go."""
    joined = "\n".join(texts)
    joined = joined.lower() if joined.isascii() else unicodedata.normalize("NFKC", joined).casefold()
    folded = joined.split("\n")
    # Nothing to trim: then every text is what `fold` gives. (A line end composes with nothing.)
    if len(folded) == len(texts) and joined.split() == joined.replace("\n", " ").split(" "):
        return folded
    return [fold(each) for each in texts]
