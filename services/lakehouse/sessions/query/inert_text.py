"""Text of a model, a caller or a foreign row, shown so that it does nothing: neither to a terminal nor to a reader.

What steers (control characters, marks that turn the direction of text) or hides (characters without a picture: zero
width ones, tags, fillers, variation selectors) is shown by its number. Tab and line feed alone stay what they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

# Control characters but tab and line feed; format characters but the Arabic and Kaithi signs that have a picture;
# line and paragraph separators; fillers and joiners without a picture; surrogates; private use.
_STEERS: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)


def parts(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the text in pieces, each with whether it is one character to be shown by its number."""
    place = 0
    for match in _STEERS.finditer(text):
        if match.start() > place:
            yield text[place : match.start()], False
        yield match[0], True
        place = match.end()
    if place < len(text):
        yield text[place:], False


def escaped(text: str) -> str:
    r"""Return the text with each such character as an escape: ``\u202e``, ``\U000e0041``."""
    return _STEERS.sub(lambda match: _escape(ord(match[0])), text)


def one_line(text: str, chars_max: int) -> str:
    """As ``escaped``, in one line of at most ``chars_max`` characters; a cut one ends in ``…``."""
    # An escape has at most ten characters for one: what is behind so many is cut anyhow.
    line = escaped(text[: chars_max + 1]).replace("\n", "\\n").replace("\t", "\\t")
    return line if len(line) <= chars_max and len(text) <= chars_max else line[: chars_max - 1] + "…"


def name_of(character: str) -> str:
    """Return what a character is called: ``U+202E RIGHT-TO-LEFT OVERRIDE``."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".strip()


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
