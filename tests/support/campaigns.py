"""How long the campaigns of the tests are: short in the suite, and by hand as long as wanted. LAKEHOUSE_TEST_TIMES=20
makes them 20 times as long; `pytest --hypothesis-profile=random` has them draw anew."""

from __future__ import annotations

import os
from typing import Any, Final

from hypothesis import settings

TIMES: Final = int(os.environ.get("LAKEHOUSE_TEST_TIMES", "1"))


def campaign(examples: int, **rules: Any) -> settings:
    """Return what hypothesis takes for so many examples, or `TIMES` as many. `rules`: what else it is to keep to."""
    return settings(max_examples=examples * TIMES, deadline=None, **rules)
