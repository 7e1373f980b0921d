"""How the maps of an index are written: keys, separators and sizes that writers and readers have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from validated.datasets.texts import fold

FIELD: Final = "\x1f"
ITEM: Final = "\x1e"
NAME_KEY_CHARS: Final = 100
BEARERS_MAX: Final = 64
"""Of one name key so many spellings are looked at, and of a spelling so many who bear it."""
IDS_BYTES_MAX: Final = 4096
"""The ids of one spelling stand in no order; where they are longer than this, only the first BEARERS_MAX are kept."""
BATCH_ROWS: Final = 2048
"""Rows that a map is written by: a batch stays in the processor's caches."""
CHUNK_WORKERS: Final = 256
FOLDED_BYTES: Final = 16
LIKE_CHARS: Final = NAME_KEY_CHARS


def place_key(*texts: str) -> bytes:
    """16 bytes for each text, folded; of role, state and city in this order a shorter key begins the longer ones."""
    return b"".join(hashlib.blake2b(fold(text).encode(), digest_size=16).digest() for text in texts)


def folded_key(texts: Sequence[str]) -> bytes:
    """Return what the keys have in common that differ in case, width and spacing alone."""
    return hashlib.blake2b(FIELD.join(map(fold, texts)).encode(), digest_size=FOLDED_BYTES).digest()
