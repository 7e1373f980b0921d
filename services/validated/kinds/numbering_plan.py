"""The numbering plan of a region: what may be a phone number there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import phonenumbers
import regex

DIGITS_MIN: Final = 7
DIGITS_MAX: Final = 24
GROUP: Final = regex.compile(r"\d+")
# So many distinct numbers of one text are held against the plan; what is beyond them counts as one of it.
_PARSED_MAX: Final = 1000
_LOCAL: Final = phonenumbers.ValidationResult.IS_POSSIBLE_LOCAL_ONLY
_INTERNATIONAL: Final = phonenumbers.PhoneNumberFormat.INTERNATIONAL


class NumberingPlan:
    """The plan, for the numbers of one text."""

    def __init__(self, region: str) -> None:
        """`region` is where a number without a country code is from, two letters."""
        self._region = region
        self._parsed: dict[str, phonenumbers.PhoneNumber | None] = {}

    def international(self, text: str) -> list[str]:
        """Return the digits of a number with its country code; nothing where it is none."""
        number = self._parse(text)
        if number is None:
            return []
        return [f"{number.country_code}{number.national_number}"]

    def has(self, text: str) -> bool:
        """Whether there is such a number; taken for granted past `_PARSED_MAX`."""
        number = self._parse(text)
        return self._is_full(text) if number is None else phonenumbers.is_valid_number(number)

    def has_abroad(self, text: str) -> bool:
        """Whether `text`, which begins with a country code, begins with a number of that country."""
        groups = list(GROUP.finditer(text))
        return any(self.has("+" + digits_of(text[: groups[end - 1].end()])) for end in ends(groups, 0))

    def may_hold_phone(self, code: str) -> bool:
        """Whether a code, or some of its parts in a row, may be a phone number."""
        groups = list(GROUP.finditer(code))
        return any(
            self._may_be_phone(code[groups[first].start() : groups[end - 1].end()])
            for first in range(len(groups))
            for end in ends(groups, first)
        )

    def _may_be_phone(self, code: str) -> bool:
        """Whether the region has such a phone number, and `code` is parted as those are, if at all."""
        number = self._parse(code)
        if number is None:
            return self._is_full(code)
        parted = _ends_from_right(code)
        if not phonenumbers.is_valid_number_for_region(number, self._region):
            # 555-0199 is one without its area, and parted as its end is.
            return phonenumbers.is_possible_number_with_reason(number) == _LOCAL and parted == {0, 4}
        return parted <= _ends_from_right(phonenumbers.format_number(number, _INTERNATIONAL))

    def _parse(self, text: str) -> phonenumbers.PhoneNumber | None:
        plain = _plain(text)
        if plain not in self._parsed and len(self._parsed) < _PARSED_MAX:
            try:
                self._parsed[plain] = phonenumbers.parse(plain, self._region)
            except phonenumbers.NumberParseException:
                self._parsed[plain] = None
        return self._parsed.get(plain)

    def _is_full(self, text: str) -> bool:
        """Whether `text` was not looked at, for there were too many."""
        return _plain(text) not in self._parsed


def ends(groups: Sequence[regex.Match[str]], first: int) -> list[int]:
    """Return where a number that begins with group `first` may end, the longest first: no number has more digits than
    some twenty, however long the run is.
    """
    ends: list[int] = []
    digits = 0
    for end in range(first, len(groups)):
        digits += groups[end].end() - groups[end].start()
        if digits > DIGITS_MAX:
            break
        if digits >= DIGITS_MIN:
            ends.append(end + 1)
    return ends[::-1]


def digits_of(text: str) -> str:
    """Return the decimal digits of `text`, those of all scripts as ASCII's."""
    return "".join([str(int(each)) for each in text if each.isdecimal()])


def _plain(text: str) -> str:
    return ("+" if text.lstrip(" (").startswith("+") else "") + digits_of(text)


def _ends_from_right(text: str) -> set[int]:
    """How many digits are right of each group of digits."""
    return {len(digits_of(text[match.end() :])) for match in GROUP.finditer(text)}
