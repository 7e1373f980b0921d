"""A service's log line in words, for a person who asked for no log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

# Of every line, and nothing that says what happened.
_FRAME: Final = ("event", "level", "timestamp", "service")
# What a line says for people, in the order in which it is read.
_SAYS: Final = ("problem", "problems", "cause", "causes", "advice")
_VERBS: Final = {"warning": "warns", "error": "reports an error", "critical": "reports an error"}
_SAID_CHARS_MAX: Final = 2000
_FACT_CHARS_MAX: Final = 200

Entry = Mapping[str, Any] | str


def sentence(service: str, entry: Entry) -> str:
    """Return what `service` says by `entry`: the decoded line, or its text where it is no JSON."""
    verb = None if isinstance(entry, str) else _VERBS.get(str(entry.get("level")))
    return f"{service} {verb}: {in_words(entry)}" if verb else f"{service}: {in_words(entry)}"


def in_words(entry: Entry) -> str:
    """Return what `entry` says, without who says it and how loud; one line."""
    if isinstance(entry, str):
        return entry
    said = [_words(entry[key], _SAID_CHARS_MAX) for key in _SAYS if entry.get(key)]
    facts = [f"{key} {_words(value, _FACT_CHARS_MAX)}" for key, value in entry.items() if _is_fact(key, value)]
    words = ": ".join([str(entry.get("event", "")).replace("_", " "), *said])
    return f"{words} ({', '.join(facts)})" if facts else words


def _is_fact(key: str, value: object) -> bool:
    return key not in _FRAME and key not in _SAYS and value not in ("", None, [], {})


def _words(value: object, chars_max: int) -> str:
    """Return a value as a person would write it, cut where it is long."""
    if isinstance(value, list):
        text = ", ".join(_words(each, chars_max) for each in value)
    elif isinstance(value, dict):
        text = ", ".join(f"{key} {_words(each, chars_max)}" for key, each in value.items())
    elif isinstance(value, str):
        lines = [line.strip() for line in value.splitlines() if line.strip()]
        # Of a traceback the last line says what happened.
        text = lines[-1] if lines and lines[0].startswith("Traceback") else "; ".join(lines)
    else:
        text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= chars_max else f"{text[:chars_max]}…"
