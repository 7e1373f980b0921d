"""Mask patterns: a part of the `re` syntax that is matched in linear time.

The texts come from models and callers. A regular expression that backtracks on one of them would hold the
interpreter, and with it every request of the process.
"""

from __future__ import annotations

import re
import warnings
from typing import Final

REPEAT_MAX: Final = 256
REPEAT_SUM_MAX: Final = 1_024

_ATOM = re.compile(r"(?P<literal>[^\\.^$*+?{}\[\]|()])|\\[sdw]|\\(?P<escaped>[^A-Za-z0-9])|\[\^?(?:\\.|[^\]\\])+\]")
_REPEAT = re.compile(r"[?*+]|\{(\d{1,4})(?:(,)(\d{1,4})?)?\}")


def compile_mask_pattern(pattern: str) -> re.Pattern[str]:
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
    parts: list[str] = []
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
        literal = atom["literal"] or atom["escaped"]
        if repeat is None:
            if literal and not prefix_ends:
                prefix += literal
            else:
                prefix_ends = True
            parts.append(atom[0])
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
        parts.append(f"{atom[0]}{repeat[0]}+")  # possessive: it never backtracks
    if len(prefix) < 2:
        raise ValueError(f"mask pattern {pattern!r} must start with at least two plain characters, as 'sk-'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return re.compile("".join(parts))
    except (re.error, Warning) as error:
        raise ValueError(f"mask pattern {pattern!r} is not a regular expression: {error}") from None


def _repeat_bounds(repeat: re.Match[str]) -> tuple[bool, int]:
    """Return whether a repetition is open-ended, and how many steps it may take before it can fail."""
    if repeat[0] == "?":
        return False, 1
    if repeat[0] in "*+":
        return True, 1
    least, comma, most = repeat.groups()
    if comma and most is None:
        return True, int(least)
    return False, int(most or least)
