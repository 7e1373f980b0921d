"""How long the campaigns of the tests are: short in the suite, where each run draws the same, and as long as wanted by
hand. LAKEHOUSE_TEST_TIMES=20 makes them 20 times as long, by other draws each time."""

from __future__ import annotations

import os
from typing import Any, Final

from hypothesis import settings

TIMES: Final = int(os.environ.get("LAKEHOUSE_TEST_TIMES", "1"))


def campaign(examples: int, **rules: Any) -> settings:
    """Return what hypothesis takes for so many examples, or `TIMES` as many. `rules`: what else it is to keep to."""
    return settings(max_examples=examples * TIMES, derandomize=TIMES == 1, deadline=None, **rules)
