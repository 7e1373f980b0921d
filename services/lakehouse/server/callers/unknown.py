"""``UnknownCredential``: nobody is known by what was sent."""

from __future__ import annotations


class UnknownCredential(Exception):  # noqa: N818  an outcome, not an error of ours
    """Nobody is known by this; `problem` is for our own log, from a fixed set of words."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
