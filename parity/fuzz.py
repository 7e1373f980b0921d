"""Random JSON texts, whole and damaged, for the comparison of three strict readers. Deterministic by its seed."""

from __future__ import annotations

import json
import math
import random
import struct

DEPTH = 4
_CHARACTERS = (
    "a",
    "Z",
    "0",
    " ",
    "/",
    '"',
    "\\",
    "\n",
    "\x00",
    "\x1f",
    "\x7f",
    "é",
    "\u2028",
    "\ue000",
    "\uffff",
    "😀",
    "𐀀",
)
_ESCAPES = ("\\n", "\\/", "\\u0041", "\\u00E9", "\\ud83d\\ude00", "\\ud800", "\\uDFFF", "\\u0000", "\\\\u")
_DAMAGE = (*'"\\{}[],:0.e-+ \n\x00\ud800\ufeff', "", "NaN", "null", "\\u", "1e999", "00")


def texts(count: int, seed: int) -> list[str]:
    """``count`` JSON texts; about half of them are damaged in one to three places."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    return [_damaged(rng, _value(rng, DEPTH)) if rng.random() < 0.5 else _value(rng, DEPTH) for _ in range(count)]


def _value(rng: random.Random, depth: int) -> str:
    choice = rng.randrange(8 if depth else 5)
    if choice < 2:
        return _number(rng)
    if choice < 4:
        return _string(rng)
    if choice == 4:
        return rng.choice(("null", "true", "false", "[]", "{}"))
    space = rng.choice(("", "", " ", "\r\n\t"))
    count = rng.randrange(5)
    if choice == 5:
        return f"[{space}{f'{space},'.join(_value(rng, depth - 1) for _ in range(count))}]"
    members = (f"{_string(rng)}{space}:{_value(rng, depth - 1)}" for _ in range(count))
    return "{" + f",{space}".join(members) + space + "}"


def _string(rng: random.Random) -> str:
    pieces = []
    for _ in range(rng.randrange(4)):
        if rng.random() < 0.3:
            pieces.append(rng.choice(_ESCAPES))
        else:
            character = rng.choice(_CHARACTERS)
            pieces.append(json.dumps(character, ensure_ascii=rng.random() < 0.3)[1:-1])
    return f'"{"".join(pieces)}"'


def _number(rng: random.Random) -> str:
    choice = rng.randrange(5)
    if choice == 0:
        return str(rng.randrange(-100, 100))
    if choice == 1:
        return str(rng.choice((-1, 1)) * rng.getrandbits(rng.choice((8, 53, 54, 63, 64, 65, 200))))
    if choice == 2:
        # Any bit pattern of a double, in one of four notations.
        (double,) = struct.unpack(">d", rng.randbytes(8))
        if not math.isfinite(double):
            return "-0"
        return rng.choice((repr(double), f"{double:.17e}", f"{double:.3E}", f"{double:.25g}"))
    if choice == 3:
        # Close to a power of two or ten: where the shortest digits and the ties are.
        edge = rng.choice((2.0 ** rng.randrange(-1074, 1024), float(f"1e{rng.randrange(-320, 308)}")))
        return repr(math.nextafter(edge, rng.choice((-math.inf, edge, math.inf))))
    digits = "".join(rng.choice("0123456789") for _ in range(rng.randrange(1, 30)))
    return (
        f"{rng.choice(('', '-'))}{digits[0]}.{digits}{rng.choice('eE')}{rng.choice(('', '+', '-'))}{rng.randrange(330)}"
    )


def _damaged(rng: random.Random, text: str) -> str:
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(_DAMAGE) + text[at + rng.randrange(3) :]
    return text
