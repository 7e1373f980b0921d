"""Numbers in a message that may be somebody's: phone numbers above all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from functools import partial
from typing import Final

import phonenumbers
import regex

_DIGITS_MIN: Final = 7
_DIGITS_MAX: Final = 24
# So many runs of one text are held against the numbering plan; what is beyond them counts as foreign.
_PARSED_MAX: Final = 300
_LOCAL: Final = phonenumbers.ValidationResult.IS_POSSIBLE_LOCAL_ONLY
_INTERNATIONAL: Final = phonenumbers.PhoneNumberFormat.INTERNATIONAL
_DATE: Final = regex.compile(
    r"(?<!\d)(?:(\d{4})([-/. ])(\d{1,2})\2(\d{1,2})|(\d{1,2})([-/. ]|\. )(\d{1,2})\6(\d{4}|\d{2}))(?!\d)"
    r"(?:[T ]\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?(?:Z|[+-]\d{2}:?\d{2})?)?"
)
_STAMP: Final = regex.compile(r"(?<!\d)(?:19|20)\d\d[01]\d[0-3]\d(?:T[0-2]\d[0-5]\d(?:[0-5]\d)?Z?)(?!\d)")
# A day without anything between its parts, and a number that only counts or measures.
_PLAIN_DATE: Final = regex.compile(r"(?<![\d.-])(?:(20\d\d)(\d\d)(\d\d)|(\d\d)(\d\d)(20\d\d))(?!\d|[.-]\d{1,4}(?!\d))")
_ORDINAL: Final = regex.compile(r"(?<![\d.-])\d{1,3}(?:st|nd|rd|th)\b", regex.IGNORECASE)
_MEASURED: Final = regex.compile(r"(?<!\d)(?<!\d[ ./-])\d{4}\.\d{3}(?![\d]|[ ./-]{1,2}\d)")
_MINUTES: Final = regex.compile(
    r"\d{1,3}\s?[\u00b0\u00ba]\s?\d{1,2}\s?['\u2019\u2032]\s?\d{1,2}(?:[.,]\d{1,6})?\s?(?:[\"\u201d\u2033]|'')"
)
_TIME: Final = r"(?:[01]?\d|2[0-4])[:.h][0-5]\d(?:[:.][0-5]\d)?"
_CLOCK: Final = r"(?:[01]\d|2[0-4])[0-5]\d"
_BETWEEN: Final = r"\s{0,2}(?:[-\u2010-\u2015~/]|to|until)\s{0,2}"
_TIMES: Final = regex.compile(
    rf"(?<!\d)(?:{_TIME}{_BETWEEN}{_TIME}|(?:[01]?\d|2[0-4]):[0-5]\d(?::[0-5]\d)?)(?!\d)"
    rf"|(?<![\d.-]){_CLOCK}{_BETWEEN}{_CLOCK}(?![\d-])|(?<![\d.-]){_CLOCK}\s{{1,3}}{_CLOCK}(?![\d-])"
)
_YEARS: Final = regex.compile(r"(?<![\d.-])(?:19|20)\d\d\s?[-/\u2010-\u2015]\s?(?:19|20)\d\d(?![\d-])")
_VERSION: Final = regex.compile(r"\bv\d{1,4}(?:\.\d{1,4}){1,4}(?![\d.]|[- ]\d)", regex.IGNORECASE)
_ZIP: Final = regex.compile(r"(?<![\d-])(?<!\)\s?)\d{5}[-\u2010-\u2015]\d{4}(?![\d-])")
_DEGREES: Final = regex.compile(r"(?<![\d.])[-+\u2212]?(\d{1,3})\.\d{4,15}(?![\d.])")
# "05 DEC 2026 0700": a day in words, and the time of a clock without a colon.
_DAY_AND_CLOCK: Final = regex.compile(
    r"\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?,?\s{1,2}(?:\d{1,2}(?:st|nd|rd|th)?,?\s{1,2})?20\d\d"
    rf",?\s{{1,2}}(?:at\s)?{_CLOCK}(?!\d|[-./ ]\d)",
    regex.IGNORECASE,
)
# Two amounts to the cent; a standard with its year, such as Z87.1-2020; what only programs read.
_AMOUNTS: Final = regex.compile(
    r"(?<![\d.+-])(?<!\d[ /])\d{1,2}\.\d{2}(?:\s?[-\u2013/]\s?\d{1,3}\.\d{2}){1,5}(?!\d|[-./ ]{1,2}\d)"
)
# One amount, beside others or alone; a share of a hundred; a large round number, or one in groups of three.
_AMOUNT: Final = regex.compile(r"(?<=^|[\s=x*(|])\d{1,3}\.\d{2}(?=$|[\s=,;)|])", regex.MULTILINE)
_PERCENT: Final = regex.compile(r"(?<![\d.,-])\d{1,3}(?:\.\d{1,2})?\s?%")
_ROUND: Final = regex.compile(r"(?<![\d.,-])(?:[1-9]\d?0{6,9}|\d{1,3}(?: 000){2,3})(?!\d|[-./ ]\d)")
_IP: Final = regex.compile(
    r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.]|[- ]\d)"
)
_ISBN: Final = regex.compile(r"\bISBN(?:-1[03])?:?\s{0,2}(?:97[89][- ]?)?(?:\d[- ]?){9}[\dX](?!\d)")
# A day and a month, in the order of either; a state with its postal code; minutes of an arc.
_DAY: Final = regex.compile(
    r"(?<![\d/.-])(?:(?:0?[1-9]|[12]\d|3[01])/(?:0?[1-9]|[12]\d|3[01])(?![\d/]|[.-]\d{3})"
    r"|(?:0?[1-9]|[12]\d|3[01])\.(?:0?[1-9]|1[0-2])\.(?![\d])(?=[\s,;)-]|$))"
)
_STATE_ZIP: Final = regex.compile(r"\b[A-Z]{2}\.?\s{1,2}\d{5}(?:-\d{4})?(?![\d-]|[. ]\d{3}(?!\d))")
_ARC: Final = regex.compile(r"\b[NSEW]\s?\d{1,3}[\u00b0 ]\s?\d{1,2}\.\d{1,4}(?!\d)")
# Places, weeks and steps one after the other.
_LISTED: Final = regex.compile(
    r"\b(?:rooms?|doors?|docks?|weeks?|aisles?|bays?|lanes?|lines?|gates?|stations?|steps?|pages?|rotation|panama|racks?|bins?"
    r"|cells?|zones?|rows?|shelves|exits?|buses|routes?|lots?|stops?)\s{1,2}(?P<code>\d{1,4}[A-Z]?(?:\s?[-\u2013,/&.+]\s?|\s)"
    r"(?:\d{1,4}[A-Z]?(?:\s?[-\u2013,/&.+]\s?|\s)){0,20}\d{1,4}[A-Z]?)(?![^\p{L}\p{N}]{0,2}\d)",
    regex.IGNORECASE,
)
_STANDARD: Final = regex.compile(r"\b[A-Z]{1,4}[ ]?\d{1,3}\.\d{1,2}[-:](?:19|20)\d\d(?!\d|[-./ ]\d)")
_UUID: Final = regex.compile(
    r"(?<![\w-])(?=[\d-]{0,35}[a-f])[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}(?![\w-])", regex.IGNORECASE
)
# What papers, goods and shifts are numbered by, with or without a word before it; accounts, badges, licences and the
# like are people's.
_CODE: Final = r"(?P<code>[A-Z0-9]++(?:[-/_][A-Z0-9]++){0,5}+)(?![^\p{L}\p{N},;:|]{0,4}\d)"
_NUMBERED: Final = regex.compile(
    r"\b(?:(?:orders?|p\.?o\.?|invoices?|inv|jobs?|tickets?|refs?|references?|confirmations?|req|requisitions?|w\.?o\.?"
    r"|tracking|usdot|units?|trailers?|trucks?|bol|sku|parts?|items?|quotes?|rfq|shipments?|loads?|pallets?|batch|batches"
    r"|lots?|serial|models?|shifts?|assignments?|projects?|builds?|versions?|containers?|seals?|barcodes?"
    r"|upc|ean|gtin|assets?)(?!\p{L})\s{0,2}){1,3}"
    r"(?:(?:no|nr|nos|num|numbers?|ids?|codes?)\b\.?)?(?:\s{1,2}is\b)?\s{0,2}[:#=-]{0,2}\s{0,2}#?" + _CODE,
    regex.IGNORECASE,
)
_CODED: Final = regex.compile(rf"(?<![\w.-])(?=[A-Z]{{2,8}}[-_]?\d){_CODE}")
_STANDARD_AND_YEAR: Final = regex.compile(
    r"\b(?:(?:ANSI|ISEA|ASTM|NFPA|ASME|AWS|CSA|IEEE|NSF|SAE)[/ -]{0,2}[A-Z]?\d{1,5}(?:\.\d{1,3})?[-:]"
    r"|(?:ISO|IEC|EN|DIN|BS|UL|API)[/ -]{0,2}\d{1,5}(?:-\d{1,3})?:)(?:19|20)\d\d(?!\d|[-./ ]\d)"
)
_URL_PART: Final = regex.compile(
    r"(?<=[/=])(?P<code>\d{7,15})(?=[/?&#)>\"'\s]|$)(?<=(?:https?://|\w\.\p{L}{2,10}/)\S{1,200})"
)
_MONEY: Final = regex.compile(r"[$\u20ac\u00a3\u00a5]\s?\d{1,3}(?:[,. ]\d{3})*(?:[.,]\d{1,2})?(?!\d)")
# Digits, with what people put between those of one number.
_RUN: Final = regex.compile(r"[+(]{0,2}\d(?:[^\p{L}\p{N},;:|]{0,4}\d){6,}")
_GROUPED: Final = regex.compile(r"(?<!\d)\d{3}[^0-9A-Za-z]{1,4}\d{3}[^0-9A-Za-z]{1,4}\d{4}(?!\d)")
_GROUP: Final = regex.compile(r"\d+")

_LIKE_NUMBERS: Final = (_AMOUNTS, _DATE, _PLAIN_DATE, _MEASURED, _TIMES, _ZIP, _DEGREES, _YEARS, _IP, _ROUND)
_IN_NUMBERS: Final = (_DATE, _DAY, _PLAIN_DATE, _TIMES, _ZIP, _YEARS, _AMOUNTS, _AMOUNT, _MEASURED, _ROUND)

# Signs that are spelt out between digits.
_SPOKEN: Final = regex.compile(r"(?<=\d)\s{1,2}(?:dash|dot|hyphen|point)\s{1,2}(?=\d)", regex.IGNORECASE)
_ESCAPED: Final = regex.compile("%[0-9A-Fa-f]{2}")
# What is left and right of a part of a number.
_BEFORE: Final = regex.compile(r"\+?[\d(][\d ().-]*$")
_AFTER: Final = regex.compile(r"[ ().-]*\d[\d ().-]*")
_NUMBER_CHARS: Final = 20
_CODES: Final = (_NUMBERED, _CODED, _LISTED, _URL_PART)


class NumberSearch:
    """Tells the numbers that may stand in a message from those of others."""

    def __init__(self, own: Iterable[str], region: str) -> None:
        """`own` are phone numbers and ids, as they are spelt; `region` is where a number without a country code is
        from, two letters.
        """
        self._region = region
        self._parsed = 0
        self._own: set[str] = set()
        for number in own:
            digits = _digits(number)
            if digits:
                self._own.add(digits)
                self._own.update(self._international(number))
        self._ends = {digits[-_DIGITS_MIN:] for digits in self._own}

    def foreign(self, view: str) -> list[str]:
        """Return the numbers of `view` that are nobody's who may be named, as they stand; distinct."""
        found: dict[str, None] = {}
        # What is escaped stands in another view as it is shown.
        view = _SPOKEN.sub("-", _ESCAPED.sub(" ", view))
        if not _RUN.search(view) and not _GROUPED.search(view):
            return []
        masked = self._masked(view)
        for match in _RUN.finditer(masked):
            for text in self._strange(match[0]):
                found[text] = None
        for match in _GROUPED.finditer(masked):
            if not _RUN.search(match[0]) and not self._is_own(match[0], in_short=True):
                found[match[0]] = None
        return list(found)

    def _masked(self, view: str) -> str:
        """`view` with a bar in place of what is a date, a time, a point, an amount, a postal code, or a paper's
        number."""
        for pattern in (
            _UUID,
            _NUMBERED,
            _CODED,
            _URL_PART,
            _STANDARD_AND_YEAR,
            _ISBN,
            _VERSION,
            _IP,
            _ARC,
            _DAY_AND_CLOCK,
            _AMOUNTS,
            _AMOUNT,
            _PERCENT,
            _ROUND,
            _LISTED,
            _STANDARD,
            _STAMP,
            _MINUTES,
            _ORDINAL,
            _PLAIN_DATE,
            _MEASURED,
            _DEGREES,
            _DATE,
            _DAY,
            _YEARS,
            _TIMES,
            _STATE_ZIP,
            _ZIP,
            _MONEY,
        ):
            view = pattern.sub(partial(self._bar, pattern), view)
        return view

    def _bar(self, pattern: regex.Pattern[str], match: regex.Match[str]) -> str:
        text = match[0]
        good = True
        if pattern is _DATE:
            good = _is_date(match) and not _goes_on(match)
        elif pattern is _PLAIN_DATE:
            good = _is_plain_date(match)
        elif pattern is _DEGREES:
            good = int(match[1]) <= 180
        elif pattern in _CODES:
            # A short one may be the beginning of a number, however it goes on.
            good = len(_digits(match["code"])) >= _DIGITS_MIN and not self._may_hold_phone(match["code"])
        # Where the plan of the region has such a number, it is one.
        if good and len(_digits(text)) >= _DIGITS_MIN and pattern in _LIKE_NUMBERS:
            good = not self._is_valid(text)
        if good and pattern in _IN_NUMBERS:
            good = not self._is_in_number(match)
        return " | " if good else text

    def _is_in_number(self, match: regex.Match[str]) -> bool:
        """Whether what stands there is the middle of a phone number: in one with a country code, or in pairs."""
        before = _BEFORE.search(match.string, max(0, match.start() - _NUMBER_CHARS), match.start())
        after = _AFTER.match(match.string, match.end(), match.end() + _NUMBER_CHARS)
        left, right = before[0] if before else "", after[0] if after else ""
        if not _digits(left + right):
            return False
        if "+" in left and self._parsed_abroad(left[left.rindex("+") :] + match[0] + right):
            return True
        parts = ((left, right), (left, ""), ("", right))
        return any(_digits(a + b) and self._is_valid(a + match[0] + b) for a, b in parts)

    def _parsed_abroad(self, text: str) -> bool:
        """Whether `text`, which begins with a country code, begins with a number of that country."""
        groups = list(_GROUP.finditer(text))
        return any(self._is_valid("+" + _digits(text[: groups[end - 1].end()])) for end in _ends(groups, 0))

    def _strange(self, run: str) -> list[str]:
        """Return what is left of `run` without the numbers that may be named, where that is long enough to be a
        number."""
        groups = list(_GROUP.finditer(run))
        free: list[tuple[int, int]] = []
        at = begin = 0
        while at < len(groups):
            for end in _ends(groups, at):
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
        return [text for text in left if len(_digits(text)) >= _DIGITS_MIN]

    def _is_own(self, text: str, *, in_short: bool) -> bool:
        digits = _digits(text)
        # However a number is written, it ends alike.
        if not _DIGITS_MIN <= len(digits) <= _DIGITS_MAX or digits[-_DIGITS_MIN:] not in self._ends:
            return False
        if digits in self._own or (in_short and any(own.endswith(digits) for own in self._own)):
            return True
        return any(form in self._own for form in self._international(text))

    def _international(self, text: str) -> list[str]:
        number = self._parse(text)
        if number is None:
            return []
        return [f"{number.country_code}{number.national_number}"]

    def _is_valid(self, text: str) -> bool:
        """Whether the plan of the region has such a number; taken for granted past `_PARSED_MAX`."""
        if self._parsed >= _PARSED_MAX:
            return True
        number = self._parse(text)
        return number is not None and phonenumbers.is_valid_number(number)

    def _may_hold_phone(self, code: str) -> bool:
        """Whether a code, or some of its parts in a row, may be a phone number."""
        groups = list(_GROUP.finditer(code))
        return any(
            self._may_be_phone(code[groups[first].start() : groups[end - 1].end()])
            for first in range(len(groups))
            for end in _ends(groups, first)
        )

    def _may_be_phone(self, code: str) -> bool:
        """Whether the region has such a phone number, and `code` is parted as those are, if at all."""
        number = self._parse(code)
        if number is None:
            return self._parsed > _PARSED_MAX
        parted = _ends_from_right(code)
        if not phonenumbers.is_valid_number_for_region(number, self._region):
            # 555-0199 is one without its area, and parted as its end is.
            return phonenumbers.is_possible_number_with_reason(number) == _LOCAL and parted == {0, 4}
        return parted <= _ends_from_right(phonenumbers.format_number(number, _INTERNATIONAL))

    def _parse(self, text: str) -> phonenumbers.PhoneNumber | None:
        self._parsed += 1
        if self._parsed > _PARSED_MAX:
            return None
        plain = ("+" if text.lstrip(" (").startswith("+") else "") + _digits(text)
        try:
            return phonenumbers.parse(plain, self._region)
        except phonenumbers.NumberParseException:
            return None


def _ends(groups: Sequence[regex.Match[str]], first: int) -> list[int]:
    """Where a number that begins with group `first` may end, the longest first: no number has more digits than some
    twenty, however long the run is.
    """
    ends: list[int] = []
    digits = 0
    for end in range(first, len(groups)):
        digits += groups[end].end() - groups[end].start()
        if digits > _DIGITS_MAX:
            break
        if digits >= _DIGITS_MIN:
            ends.append(end + 1)
    return ends[::-1]


def _is_date(match: regex.Match[str]) -> bool:
    if match[1]:
        year, one, other = int(match[1]), int(match[3]), int(match[4])
    else:
        one, other, year = int(match[5]), int(match[7]), int(match[8])
    year += 2000 if year < 100 else 0
    return 1900 <= year <= 2100 and _is_day(year, one, other)


def _goes_on(match: regex.Match[str]) -> bool:
    """Whether what looks like a date stands among other digits that are parted alike: pairs of a number."""
    between, text = match[2] or match[6], match.string
    before, after = text[max(0, match.start() - 2) : match.start()], text[match.end() : match.end() + 2]
    return between in (" ", ".", "-") and (
        (before[:1].isdigit() and before[1:] == between) or (after[1:].isdigit() and after[:1] == between)
    )


def _is_plain_date(match: regex.Match[str]) -> bool:
    year, one, other = match.group(1, 2, 3) if match[1] else match.group(6, 4, 5)
    return _is_day(int(year), int(one), int(other))


def _is_day(year: int, one: int, other: int) -> bool:
    for month, day in ((one, other), (other, one)):
        try:
            date(year, month, day)
        except ValueError:
            continue
        return True
    return False


def _ends_from_right(text: str) -> set[int]:
    """How many digits are right of each group of digits."""
    return {len(_digits(text[match.end() :])) for match in _GROUP.finditer(text)}


def _digits(text: str) -> str:
    return "".join([str(int(each)) for each in text if each.isdecimal()])
