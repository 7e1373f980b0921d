"""Mask patterns: a part of the `re` syntax that is matched in linear time.

The texts come from models and callers. A regular expression that backtracks on one of them would hold the
interpreter, and with it every request of the process.
"""

from __future__ import annotations

import re
import warnings
from typing import Final, NamedTuple

REPEAT_MAX: Final = 256
REPEAT_SUM_MAX: Final = 1_024

# Of a repetition, so many are enough to tell a secret from a word.
_SIGN_REPEAT_MAX: Final = 16
_ASCII: Final = tuple(map(chr, range(128)))

_ATOM = re.compile(r"(?P<literal>[^\\.^$*+?{}\[\]|()])|\\[sdw]|\\(?P<escaped>[^A-Za-z0-9])|\[\^?(?:\\.|[^\]\\])+\]")
_REPEAT = re.compile(r"[?*+]|\{(\d{1,4})(?:(,)(\d{1,4})?)?\}")


class MaskPattern(NamedTuple):
    """A mask pattern, compiled.

    Attributes:
        regex: Finds what is masked.
        sign: Stands wherever `regex` finds something, and rarely elsewhere: the pattern or its beginning, for
            Rust's regular expressions. It tells whether a text needs masking at all (see `Masker`).
    """

    regex: re.Pattern[str]
    sign: str


def compile_mask_pattern(pattern: str) -> MaskPattern:
    r"""Compile a mask pattern.

    A pattern is a sequence of literals, escapes (`\s`, `\d`, `\w`, or a backslash before punctuation) and
    classes (`[...]`), each of which may have a repetition. It starts with at least two plain literals, which
    let the search skip quickly to where a match can begin. Only its last element may be open-ended (`+`, `*`,
    `{m,}`). A repetition takes all that it can and gives nothing back. Groups, alternatives, anchors and `.`
    are not part of it: write two patterns instead.

    Raises:
        ValueError: The pattern is outside this syntax; the message says where and what to do.
    """
    prefix = ""
    prefix_ends = False
    elements: list[tuple[re.Match[str], re.Match[str] | None]] = []
    repeats = 0
    position = 0
    while position < len(pattern):
        atom = _ATOM.match(pattern, position)
        if atom is None:
            raise ValueError(
                f"mask pattern {pattern!r} is not understood from character {position + 1} on: use literals, "
                r"\s, \d, \w, classes such as [A-Za-z0-9_-] and repetitions; no groups, '|', '.', '^' or '$'"
            )
        position = atom.end()
        repeat = _REPEAT.match(pattern, position)
        elements.append((atom, repeat))
        literal = atom["literal"] or atom["escaped"]
        if repeat is None:
            if literal and not prefix_ends:
                prefix += literal
            else:
                prefix_ends = True
            continue
        prefix_ends = True
        position = repeat.end()
        open_ended, steps = _repeat_bounds(repeat)
        if open_ended and position < len(pattern):
            raise ValueError(
                f"mask pattern {pattern!r} repeats without an end before its last element: end that "
                f"repetition, for example with {{1,{REPEAT_MAX}}}"
            )
        repeats += steps
        if steps > REPEAT_MAX or repeats > REPEAT_SUM_MAX:
            raise ValueError(
                f"mask pattern {pattern!r} repeats too often: at most {REPEAT_MAX} times an element and "
                f"{REPEAT_SUM_MAX} times in all"
            )
    if len(prefix) < 2:
        raise ValueError(f"mask pattern {pattern!r} must start with at least two plain characters, as 'sk-'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # Possessive: a repetition never backtracks.
            regex = re.compile("".join(f"{atom[0]}{repeat[0]}+" if repeat else atom[0] for atom, repeat in elements))
    except (re.error, Warning) as error:
        raise ValueError(f"mask pattern {pattern!r} is not a regular expression: {error}") from None
    return MaskPattern(regex, _sign(elements))


def sign_of_text(text: str) -> str:
    """Return the sign of a text itself."""
    return "".join(rf"\x{{{ord(character):x}}}" for character in text)


def _sign(elements: list[tuple[re.Match[str], re.Match[str] | None]]) -> str:
    """Return the sign of a pattern.

    It may stand where the pattern finds nothing, never the other way round: its repetitions do give back, and
    beyond ASCII, where the two kinds of regular expressions need not know the same Unicode, its classes take
    everything.
    """
    sign = ""
    for atom, repeat in elements:
        sign += _sign_of_atom(atom)
        if repeat is None:
            continue
        least, most = _repeat_range(repeat)
        if most is None or most > _SIGN_REPEAT_MAX:
            return f"{sign}{{{min(least, _SIGN_REPEAT_MAX)}}}"
        sign += f"{{{least},{most}}}"
    return sign


def _sign_of_atom(atom: re.Match[str]) -> str:
    literal = atom["literal"] or atom["escaped"]
    if literal:
        return sign_of_text(literal)
    taken = sign_of_text("".join(filter(re.compile(atom[0]).fullmatch, _ASCII)))
    return rf"[{taken}\x80-\x{{10ffff}}]"


def _repeat_bounds(repeat: re.Match[str]) -> tuple[bool, int]:
    """Return whether a repetition is open-ended, and how many steps it may take before it can fail."""
    least, most = _repeat_range(repeat)
    return (True, max(least, 1)) if most is None else (False, most)


def _repeat_range(repeat: re.Match[str]) -> tuple[int, int | None]:
    """Return the fewest and the most times of a repetition; None where it is open-ended."""
    if repeat[0] in "?*+":
        return {"?": (0, 1), "*": (0, None), "+": (1, None)}[repeat[0]]
    least, comma, most = repeat.groups()
    return int(least), int(most) if most else None if comma else int(least)
