"""Keys in quoted words of an endpoint: none of them reaches a log, be it our own, a piece of it, or somebody else's."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"
# So many characters of our key in a row are no chance.
_WINDOW: Final = 8
# Words that keys start with, and that say so by themselves.
_KNOWN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:(?i:sk|pk|rk|gsk)|xai|hf|pplx|nvapi|fw|tgp|csk|r8|key|glpat|ghp|gho|github_pat|AIza|AKIA|ASIA|ya29|"
    r"eyJ|Bearer|Basic)[-_.]?[A-Za-z0-9*•…][A-Za-z0-9_\-.*•…+/=]{5,4000}"
)
_SURE: Final = re.compile(r"(?i:sk|pk|rk|gsk|csk|pplx|nvapi|glpat)[-_]")
_AFTER_NAME: Final = re.compile(
    r"(?i)((?:api[-_ ]?key|access[-_ ]?key|\bkey|token|secret|password|authorization)s?(?: provided| id)?"
    r"[\"']?\s{0,2}[:=]\s{0,2}[\"']?(?:bearer |basic )?)([^\s\"',;{}]{6,4000})"
)
# "token 'q7f9w2k1' not found", "api key <q7f9w2k1>": what stands in marks behind such a name, and a word with a digit.
_QUOTED: Final = re.compile(
    r"(?i)((?:\bkey|api[-_ ]?key|token|secret|password|credential|authorization)s?"
    r"(?: header| value| provided| is| of| id)?"
    r"(?:%3D|\s{0,2}[\"'`\u2018\u201c\[<(]{1,2}|\s))([A-Za-z0-9_\-.~+/=*•…]{6,4000})"
)
# A user and a password in a URL.
_USER_INFO: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)[^\s/@\"'<>]{1,1000}@")
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic) [A-Za-z0-9_\-.~+/=]{6,4000}")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
# A run without a break that is too long and too mixed to be a word, a number or a model's name.
_RUN: Final = re.compile(r"[A-Za-z0-9+/=*•…]{16,4000}")


def masked(text: str, *keys: str) -> str:
    """`text` with every key-like word, and every piece of `keys`, as `***`."""
    for key in keys:
        text = _without(text, key)
    text = _BEARER.sub(rf"\1 {MASK}", text)
    text = _USER_INFO.sub(rf"\1{MASK}@", text)
    text = _AFTER_NAME.sub(_mask_after_name, text)
    text = _QUOTED.sub(_mask_quoted, text)
    text = _KNOWN.sub(_mask_known, text)
    text = _UUID.sub(MASK, text)
    return _RUN.sub(_mask_run, text)


def _without(text: str, key: str) -> str:
    if not key:
        return text
    if len(key) < _WINDOW:
        return text.replace(key, MASK)
    key = key.lower()
    pieces = {key[at : at + _WINDOW] for at in range(len(key) - _WINDOW + 1)}
    lower = "".join(each.lower() if each.isascii() else each for each in text)
    kept: list[str] = []
    at = covered = 0
    while at < len(text):
        if lower[at : at + _WINDOW] in pieces:
            if at > covered or not kept or kept[-1] != MASK:
                kept.append(MASK)
            covered = at + _WINDOW
        elif at >= covered:
            kept.append(text[at])
        at += 1
    return "".join(kept)


def _mask_after_name(match: re.Match[str]) -> str:
    value = match[2]
    # "invalid token: unexpected end of input" names no token.
    if value.isalpha() and value.islower():
        return match[0]
    return match[1] + MASK


def _mask_quoted(match: re.Match[str]) -> str:
    value = match[2]
    # Words of the sentence, such as "token limit", and counts, such as "tokens (131072)".
    mixed = any(each.isdigit() for each in value) and any(each.isalpha() for each in value)
    # Words of a sentence are not joined by that many hyphens.
    joined = value.count("-") + value.count("_") >= 2 and len(value) >= 12
    is_key = mixed or joined or (len(value) >= 16 and not value.strip(".").islower())
    return match[1] + MASK if is_key else match[0]


def _mask_known(match: re.Match[str]) -> str:
    word = match[0]
    # What is parted by a hyphen from such a beginning is a key, of whatever letters.
    if _SURE.match(word):
        return MASK
    return MASK if any(each.isdigit() or each in "*•…" for each in word) or len(word) >= 24 else word


def _mask_run(match: re.Match[str]) -> str:
    run = match[0]
    mixed = any(each.isdigit() for each in run) and any(each.isalpha() for each in run)
    # A path or a model's name is words between slashes.
    longest = max(len(piece) for piece in run.split("/"))
    return MASK if (mixed and longest >= 16) or (longest >= 32 and not run.isdecimal()) else run
