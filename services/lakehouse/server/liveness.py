"""The name under which health says that the process lives. Imports nothing: a probe starts every few seconds."""

from __future__ import annotations

from typing import Final

LIVENESS: Final = "liveness"
