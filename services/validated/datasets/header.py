"""Which column of a file or a table is which of ours. Nothing is guessed: a column that looks like one of ours, and
that nobody has mapped or ignored, is refused, since reading the table without it would be a guess.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from rapidfuzz import fuzz

from validated.datasets.dataset import Column, Dataset, fold_header

# From here on a name is a slip of another: "actve", "certifcations".
_ALIKE: Final = 80.0
_SHOWN_MAX: Final = 20


class Matched(NamedTuple):
    """What is read of a table."""

    used: dict[str, str]
    """Our column to the table's, as it is spelt there."""
    ignored: tuple[str, ...]
    """The table's columns that nothing is read from."""
    defaulted: dict[str, str]
    """Our columns that the table lacks, each with what that means."""


def match(
    dataset: Dataset, header: Sequence[str], mapping: Mapping[str, str], ignore: Collection[str]
) -> tuple[Matched, list[tuple[str, str]]]:
    """Match `header` with the columns of `dataset`; and the problems, each (our column, what is wrong and what to do),
    without which the match may be used.
    """
    problems: list[tuple[str, str]] = []
    mapping_name = _mapping_name(dataset)
    for name, count in Counter(header).items():
        if count > 1:
            problems.append((name[:80], f"the header has {count} columns of this name; rename all but one"))
    used: dict[str, str] = {}
    for column in dataset.columns:
        wanted = mapping.get(column.name, column.name)
        found = _find(wanted, header)
        if len(found) == 1:
            used[column.name] = found[0]
        elif found:
            text = f"{_listed(found)} differ in case alone; map one in {mapping_name} and ignore the other"
            problems.append((column.name, text))
        elif column.name in mapping:
            text = f'there is no column "{wanted}" for {column.name} but {_listed(header)}; mend {mapping_name}'
            problems.append((column.name, text))
    for name, count in Counter(used.values()).items():
        if count > 1:
            ours = ", ".join(each for each, theirs in used.items() if theirs == name)
            problems.append((name[:80], f"stands for {ours}; map each of them to a column of its own"))
    left = [name for name in dict.fromkeys(header) if name not in used.values() and name not in ignore]
    taken = {column for column, _ in problems}
    for column in dataset.columns:
        if column.name in taken:
            continue
        alike = [name for name in left if _looks_like(name, column, has_it=column.name in used)]
        if column.name not in used and column.required and not alike:
            text = f'there is no column "{column.name}" but {_listed(header)}; rename it or map it in {mapping_name}'
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
    return not has_it and any(_is_slip(folded, each) for each in (ours, *column.synonyms))


def _is_slip(folded: str, other: str) -> bool:
    return min(len(folded), len(other)) >= 4 and fuzz.ratio(folded, other) >= _ALIKE


def _refusal(dataset: Dataset, column: Column, alike: Sequence[str], *, has_it: bool) -> str:
    name = alike[0]
    ignored = f"{dataset.setting}.ignore_columns"
    looks = f"{_listed(alike)} look{'s' * (len(alike) == 1)} like it"
    if has_it:
        return f'{looks} beside the column that is read; if it is not meant, add "{name}" to {ignored}'
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
    yield from (f'"{name[:80]}"' for name in names[:_SHOWN_MAX])
    if len(names) > _SHOWN_MAX:
        yield f"{len(names) - _SHOWN_MAX} more"
