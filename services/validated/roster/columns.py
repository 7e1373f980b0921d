"""The columns of a roster, as its files and tables are documented to have them."""

from __future__ import annotations

import json
from typing import Final

WORKER_COLUMNS: Final = (
    "worker_id",  # required: text, distinct
    "name",  # required: the full name
    "role",
    "city",
    "state",  # two letters
    "active",  # true/false, yes/no, 1/0, active/inactive; empty or absent: active
    "certifications",  # separated by ";", or a list in JSONL and Parquet
    "latitude",  # degrees north, WGS 84
    "longitude",  # degrees east
    "phone",
)
ASSIGNMENT_COLUMNS: Final = ("worker_id", "shift_start", "shift_end")
DO_NOT_SEND_COLUMNS: Final = ("client_id", "worker_id")
TEXT_CHARS_MAX: Final = 200
CERTIFICATIONS_MAX: Final = 200

_ACTIVE: Final = {
    **dict.fromkeys(("", "true", "t", "yes", "y", "1", "active"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "inactive"), False),
}


def read_active(text: str | None) -> bool | None:
    """Whether a worker is active, by the column's text (absent: yes); None where the text says neither."""
    return _ACTIVE.get((text or "").strip().lower())


def read_certifications(held: object) -> tuple[str, ...] | None:
    """The certifications in a column: a list, its JSON text, or a text separated by ";". None: it is none of them."""
    parts: object = held or ()
    if isinstance(parts, str):
        try:
            parts = json.loads(parts) if parts.startswith("[") else parts.split(";")
        except ValueError:
            return None
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        return None
    return tuple(part.strip() for part in parts if part.strip())
