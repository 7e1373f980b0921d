"""Numbers in a message that may be somebody's: phone numbers above all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import regex

from validated.kinds.numbering_plan import DIGITS_MAX, DIGITS_MIN, GROUP, NumberingPlan, digits_of, ends
from validated.kinds.other_numbers import masked

# Digits, with what people put between those of one number.
_RUN: Final = regex.compile(r"[+(]{0,2}\d(?:[^\p{L}\p{N},;:|]{0,4}\d){6,}")
_GROUPED: Final = regex.compile(r"(?<!\d)\d{3}[^0-9A-Za-z]{1,4}\d{3}[^0-9A-Za-z]{1,4}\d{4}(?!\d)")
# Signs that are spelt out between digits.
_SPOKEN: Final = regex.compile(r"(?<=\d)\s{1,2}(?:dash|dot|hyphen|point)\s{1,2}(?=\d)", regex.IGNORECASE)
_ESCAPED: Final = regex.compile("%[0-9A-Fa-f]{2}")


class NumberSearch:
    """Tells the numbers that may stand in a message from those of others."""

    def __init__(self, own: Iterable[str], region: str) -> None:
        """`own` are phone numbers and ids, as they are spelt; `region` is where a number without a country code is
        from, two letters.
        """
        self._plan = NumberingPlan(region)
        self._own: set[str] = set()
        for number in own:
            digits = digits_of(number)
            if digits:
                self._own.add(digits)
                self._own.update(self._plan.international(number))
        self._ends = {digits[-DIGITS_MIN:] for digits in self._own}

    def foreign(self, view: str) -> list[str]:
        """Return the numbers of `view` that are nobody's who may be named, as they stand; distinct."""
        found: dict[str, None] = {}
        # What is escaped stands in another view as it is shown.
        view = _SPOKEN.sub("-", _ESCAPED.sub(" ", view))
        if not _RUN.search(view) and not _GROUPED.search(view):
            return []
        left = masked(view, self._plan)
        for match in _RUN.finditer(left):
            for text in self._strange(match[0]):
                found[text] = None
        for match in _GROUPED.finditer(left):
            if not _RUN.search(match[0]) and not self._is_own(match[0], in_short=True):
                found[match[0]] = None
        return list(found)

    def _strange(self, run: str) -> list[str]:
        """Return what is left of `run` without the numbers that may be named, where that is long enough to be a
        number."""
        groups = list(GROUP.finditer(run))
        free: list[tuple[int, int]] = []
        at = begin = 0
        while at < len(groups):
            for end in ends(groups, at):
                start = groups[at].start()
                if start and run[start - 1] == "+":
                    start -= 1
                # The end of a number stands for it where nothing is before it: 555-0107 is not 567-555-0107.
                if self._is_own(run[start : groups[end - 1].end()], in_short=at == 0):
                    free.append((begin, at))
                    at = begin = end
                    break
            else:
                at += 1
        free.append((begin, len(groups)))
        left = [run[groups[a].start() : groups[b - 1].end()] for a, b in free if a < b]
        if len(left) == 1 and free == [(0, len(groups))]:
            left = [run.strip()]
        return [text for text in left if len(digits_of(text)) >= DIGITS_MIN]

    def _is_own(self, text: str, *, in_short: bool) -> bool:
        digits = digits_of(text)
        # However a number is written, it ends alike.
        if not DIGITS_MIN <= len(digits) <= DIGITS_MAX or digits[-DIGITS_MIN:] not in self._ends:
            return False
        if digits in self._own or (in_short and any(own.endswith(digits) for own in self._own)):
            return True
        return any(form in self._own for form in self._plan.international(text))
