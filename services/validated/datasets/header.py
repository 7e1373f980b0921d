"""Which column of a file or a table is which of ours. Nothing is guessed: a column that looks like one of ours, and
that nobody has mapped or ignored, is refused, since reading the table without it would be a guess.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from rapidfuzz import fuzz

from validated.datasets.dataset import Column, Dataset, fold_header, header_words

# From here on a name is a slip of another: "actve", "certifcations".
_ALIKE: Final = 80.0
_SHOWN_MAX: Final = 20
# Columns that say nothing of whether somebody is active, by the words of their names: who knows none but these may
# leave them unread where there is no such column. Words that only join others decide nothing.
_ABOUT_ELSE: Final = frozenset(
    (  # noqa: SIM905  fifty lines otherwise
        "email mail note notes comment comments remark remarks description address addr street zip zipcode "
        "postcode postal country county birth birthday birthdate born dob gender sex surname forename "
        "nickname firstname lastname middlename givenname familyname preferredname department dept division "
        "manager supervisor team crew rate pay wage salary hourly currency language languages skill skills "
        "created updated modified imported photo picture image url website shirt shoe height weight emergency "
        "contact source company branch office site plant experience rating score tax ssn fax phone mobile "
        "hiredate dateofhire startdate other"
    ).split()
)
_JOINING: Final = frozenset(
    ("home", "work", "personal", "at", "on", "by", "date", "time", "name", "of", "number", "no", "code", "line")
)


class Matched(NamedTuple):
    """What is read of a table."""

    used: dict[str, str]
    """Our column to the table's, as it is spelt there."""
    ignored: tuple[str, ...]
    """The table's columns that nothing is read from."""
    defaulted: dict[str, str]
    """Our columns that the table lacks, each with what that means."""


class MatchedTable(Protocol):
    """A table that was read, from files or from a database."""

    dataset: Dataset
    matched: Matched | None

    def shown(self, part: int) -> str:
        """Return the name of a part for people."""


def match(  # noqa: PLR0912  a branch for each doubt
    dataset: Dataset, header: Sequence[str], mapping: Mapping[str, str], ignore: Collection[str]
) -> tuple[Matched, list[tuple[str, str]]]:
    """Match `header` with the columns of `dataset`; and the problems, each (our column, what is wrong and what to do),
    without which the match may be used.
    """
    problems: list[tuple[str, str]] = []
    for name, count in Counter(header).items():
        if count > 1:
            problems.append((_printed(name), f"the header has {count} columns of this name; rename all but one"))
    used: dict[str, str] = {}
    for column in dataset.columns:
        wanted = mapping.get(column.name, column.name)
        found = _find(wanted, header)
        if len(found) == 1:
            used[column.name] = found[0]
            if column.name in mapping and _is_opposite(found[0], column, is_mapped=True):
                problems.append((column.name, _opposite(dataset, column, found[0])))
        elif found:
            mend = f"map one in {_mapping_name(dataset)} and ignore the other"
            text = f"{_listed(found)} differ in case alone; {mend if dataset.can_be_mapped else 'rename one'}"
            problems.append((column.name, text))
        elif column.name in mapping:
            text = (
                f'there is no column "{wanted}" for {column.name} but {_listed(header)}; mend {_mapping_name(dataset)}'
            )
            problems.append((column.name, text))
    for name, count in Counter(used.values()).items():
        if count > 1:
            ours = ", ".join(each for each, theirs in used.items() if theirs == name)
            problems.append((_printed(name), f"stands for {ours}; map each of them to a column of its own"))
    left = [name for name in dict.fromkeys(header) if name not in used.values() and name not in ignore]
    taken = {column for column, _ in problems}
    for column in dataset.columns:
        if column.name in taken:
            continue
        alike = [name for name in left if _looks_like(name, column, has_it=column.name in used)]
        # No list of words for "has left" is whole, and whoever reads past one makes everybody active.
        is_open = column.is_favourable and column.name not in used and not alike
        if is_open and (doubtful := [name for name in left if not _is_about_else(name)]):
            problems.append((column.name, _doubt(dataset, column, doubtful)))
        if column.name not in used and column.required and not alike:
            mend = f" or map it in {_mapping_name(dataset)}" if dataset.can_be_mapped else f' to "{column.name}"'
            text = f'there is no column "{column.name}" but {_listed(header)}; rename it{mend}'
            problems.append((column.name, text))
        elif alike:
            problems.append((column.name, _refusal(dataset, column, alike, has_it=column.name in used)))
    defaulted = {column.name: column.absent for column in dataset.columns if column.name not in used}
    ignored = tuple(name for name in dict.fromkeys(header) if name not in used.values())
    return Matched(used, ignored, defaulted), problems


def _find(wanted: str, header: Sequence[str]) -> list[str]:
    """Return the column called so to the letter, else those called so without case."""
    if wanted in header:
        return [wanted]
    return [name for name in dict.fromkeys(header) if name.casefold() == wanted.casefold()]


def _looks_like(name: str, column: Column, *, has_it: bool) -> bool:
    folded = fold_header(name)
    ours = fold_header(column.name)
    if folded == ours:
        return True
    if column.is_favourable or not has_it:
        if folded in column.synonyms:
            return True
        if column.is_favourable and any(word in folded for word in ("active", "status", "terminat")):
            return True
        if _is_opposite(name, column, is_mapped=False):
            return True
    return not has_it and any(_is_slip(folded, each) for each in (ours, *column.synonyms))


def _is_opposite(name: str, column: Column, *, is_mapped: bool) -> bool:
    return column.opposites is not None and column.opposites.has(name, is_mapped=is_mapped)


def _opposite(dataset: Dataset, column: Column, name: str) -> str:
    what = f'"{_printed(name)}" says the opposite of {column.name}: who has a yes there would count as {column.name}'
    return f"{what}; {_made_of(column)} and take it out of {_mapping_name(dataset)}"


def _made_of(column: Column) -> str:
    """Return what to do with a column that says the opposite."""
    return f"make a column {column.name} of it, in a database by a view, that says yes for a no there"


def _is_about_else(name: str) -> bool:
    """Whether a column is plainly about something else than whether somebody is active."""
    words = header_words(name)
    known = {fold_header(name), *words} & _ABOUT_ELSE
    if words[:1] == ["no"]:  # no_contact, where phone_no is a number
        return False
    return bool(known) and (fold_header(name) in known or all(word in known or word in _JOINING for word in words))


def _doubt(dataset: Dataset, column: Column, doubtful: Sequence[str]) -> str:
    one = doubtful[0] if len(doubtful) == 1 else "…"
    if len(doubtful) == 1 and _is_opposite(one, column, is_mapped=True):
        mend = f"if it says the opposite, {_made_of(column)}"
    else:
        mend = f'map the one that does: {_mapping_name(dataset)} = {{{column.name} = "{_printed(one)}"}}'
    return (
        f'there is no column "{column.name}", and {_listed(doubtful)} may say it; {mend}, or '
        f"add what does not to {dataset.setting}.ignore_columns (then {column.absent})"
    )


def _is_slip(folded: str, other: str) -> bool:
    return min(len(folded), len(other)) >= 4 and fuzz.ratio(folded, other) >= _ALIKE


def _refusal(dataset: Dataset, column: Column, alike: Sequence[str], *, has_it: bool) -> str:
    name = _printed(alike[0])
    ignored = f"{dataset.setting}.ignore_columns"
    looks = f"{_listed(alike)} look{'s' * (len(alike) == 1)} like it"
    if has_it:
        return f'{looks} beside the column that is read; if it is not meant, add "{name}" to {ignored}'
    if _is_opposite(alike[0], column, is_mapped=True):
        looks = f"{looks}, as the opposite; {_made_of(column)}"
        return f'there is no column "{column.name}", and {looks}, or add "{name}" to {ignored} (then {column.absent})'
    if not dataset.can_be_mapped:
        return f'there is no column "{column.name}", and {looks}; rename it to "{column.name}"'
    meaning = f" (then {column.absent})" if column.absent else ""
    mapped = f'{_mapping_name(dataset)} = {{{column.name} = "{name}"}}'
    text = f'there is no column "{column.name}", and {looks}; map it: {mapped}'
    return text if column.required else f'{text}, or add "{name}" to {ignored}{meaning}'


def _mapping_name(dataset: Dataset) -> str:
    """Return the setting that maps our columns to the table's."""
    return f"{dataset.setting}.{'columns' if dataset.setting == 'roster' else 'source_columns'}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(_shown(names))


def _shown(names: Sequence[str]) -> Iterator[str]:
    yield from (f'"{_printed(name)}"' for name in names[:_SHOWN_MAX])
    if len(names) > _SHOWN_MAX:
        yield f"{len(names) - _SHOWN_MAX} more"


def _printed(name: str) -> str:
    """`name` as a person can see it: what does not print is escaped."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in name[:80])
