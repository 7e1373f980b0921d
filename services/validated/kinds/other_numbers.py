"""What is written in digits and is no phone number: dates, times, amounts, places, the numbers of papers and goods."""

from __future__ import annotations

from datetime import date
from functools import partial
from typing import Final

import regex

from validated.kinds.numbering_plan import DIGITS_MIN, NumberingPlan, digits_of

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
_STATE_ZIP: Final = regex.compile(r"\b[A-Z]{2}\.?\s{1,2}\d{5}(?:-\d{4})?(?![\d-]|[. ](?:\d{3}|\d{5})(?!\d))")
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
# Which of these are phone numbers where the plan has them so, and which may be a part of one.
_LIKE_NUMBERS: Final = (
    _AMOUNTS,
    _DATE,
    _PLAIN_DATE,
    _MEASURED,
    _TIMES,
    _ZIP,
    _DEGREES,
    _YEARS,
    _IP,
    _ROUND,
    _VERSION,
    _ARC,
)
_IN_NUMBERS: Final = (_DATE, _DAY, _PLAIN_DATE, _TIMES, _ZIP, _YEARS, _AMOUNTS, _AMOUNT, _MEASURED, _ROUND)
# What is left and right of a part of a number.
_BEFORE: Final = regex.compile(r"\+?[\d(][\d ().-]*$")
_AFTER: Final = regex.compile(r"[ ().-]*\d[\d ().-]*")
_NUMBER_CHARS: Final = 20
_CODES: Final = (_NUMBERED, _CODED, _LISTED, _URL_PART)
# In this order: what is longer and says more comes first.
_ALL: Final = (
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
)


def masked(view: str, plan: NumberingPlan) -> str:
    """Return `view` with a bar in place of what is a date, a time, a point, an amount, a postal code or a paper's
    number, unless it may be a phone number by `plan`.
    """
    for pattern in _ALL:
        view = pattern.sub(partial(_bar, plan, pattern), view)
    return view


def _bar(plan: NumberingPlan, pattern: regex.Pattern[str], match: regex.Match[str]) -> str:
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
        good = len(digits_of(match["code"])) >= DIGITS_MIN and not plan.may_hold_phone(match["code"])
    # Where the plan of the region has such a number, it is one.
    if good and len(digits_of(text)) >= DIGITS_MIN and pattern in _LIKE_NUMBERS:
        good = not plan.has(text)
    if good and pattern in _IN_NUMBERS:
        good = not _is_in_number(plan, match)
    return " | " if good else text


def _is_in_number(plan: NumberingPlan, match: regex.Match[str]) -> bool:
    """Whether what stands there is the middle of a phone number: in one with a country code, or in pairs."""
    before = _BEFORE.search(match.string, max(0, match.start() - _NUMBER_CHARS), match.start())
    after = _AFTER.match(match.string, match.end(), match.end() + _NUMBER_CHARS)
    left, right = before[0] if before else "", after[0] if after else ""
    if not digits_of(left + right):
        return False
    if "+" in left and plan.has_abroad(left[left.rindex("+") :] + match[0] + right):
        return True
    parts = ((left, right), (left, ""), ("", right))
    return any(digits_of(a + b) and plan.has(a + match[0] + b) for a, b in parts)


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
