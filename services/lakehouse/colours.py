"""Whether colours are wanted, for the command and for the services' readable logs alike."""

from __future__ import annotations

import os


def has_colours() -> bool:
    """Return False where NO_COLOR, or a terminal that has none, says so. Whether a stream is a terminal is not asked
    here."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "unknown")
