"""The short way through the strict parser and the canonical printer, for texts on which orjson agrees with both.

orjson keeps to the grammar and refuses lone surrogates. It differs in four things, each excluded here: of equal names
it takes the last, integers beyond 64 bits become doubles, doubles are printed in a way of its own, and names sort by
code points. Nothing is refused here: what may differ, or may be a breach, is left to the strict parser, which says what
is wrong with it.
"""

from __future__ import annotations

import orjson

from lakehouse.strict_json.printer import may_hold_double, order_differs
from lakehouse.strict_json.rules import JsonValue


def read_plain(text: str | bytes, bytes_max: int, depth_max: int) -> tuple[JsonValue, str] | None:
    """Return the value of ``text`` and its canonical text, or None where the strict parser has to read it.

    A ``str`` that is canonical comes back as it is; of any other text the value's members stand as written.
    """
    try:
        data = text if isinstance(text, bytes) else text.encode()
        # Brackets in strings are counted too: enough for all but odd texts. (One byte is found much faster than two.)
        if (
            len(data) > bytes_max
            or data.count(b"[") + data.count(b"{") > depth_max
            or (b"\\" in data and b"\\u003" in data)
        ):
            return None
        value = orjson.loads(data)
    except (UnicodeEncodeError, orjson.JSONDecodeError):
        return None
    printed = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    if printed == data and isinstance(text, str):
        canonical = text
    # Without `\u003a` each colon of a string stands as itself, so that a member lost to an equal name is at least one
    # colon less.
    elif printed.count(b":") == data.count(b":"):
        canonical = printed.decode()
    else:
        return None
    # A long integer is a double by now.
    return None if may_hold_double(printed) or order_differs(canonical) else (value, canonical)
