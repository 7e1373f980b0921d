"""What a command about the table may end with, for who imports nothing else of it."""

from __future__ import annotations


class LakeUnavailableError(Exception):
    """The table cannot be had as it is configured; the message says what to do."""


class PublishRefusedError(Exception):
    """Nothing was published or erased; the message says why and what to do."""
