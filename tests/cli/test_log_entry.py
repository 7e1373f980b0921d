"""Goal: who asked for no log reads sentences: what a service warns of, and why one did not start."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lakehouse.cli.log_entry import sentence
from lakehouse.cli.stack import StackError, free_port_binds, running_stack

FRAME = {"timestamp": "2026-11-27T03:41:07.160561Z", "service": "chatd"}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("chatd.bnid: unknown key", "chatd: chatd.bnid: unknown key"),
        (
            {"event": "not ready", "causes": ["chatd cannot be reached", "a b"], "level": "warning"},
            "chatd warns: not ready: chatd cannot be reached, a b",
        ),
        (
            {"event": "no folder", "problem": "/x: Not a directory", "advice": "set it", "level": "warning"},
            "chatd warns: no folder: /x: Not a directory: set it",
        ),
        (
            {"event": "session_log_rows_lost", "rows": 3, "path": "/a/s.jsonl", "trace_id": "", "level": "error"},
            "chatd reports an error: session log rows lost (rows 3, path /a/s.jsonl)",
        ),
        (
            {"event": "bug", "exception": "Traceback (most recent…):\n  File …\nValueError: no", "level": "error"},
            "chatd reports an error: bug (exception ValueError: no)",
        ),
        (
            {"event": "cannot start", "problem": "one\n  two\n", "level": "critical"},
            "chatd reports an error: cannot start: one; two",
        ),
        ({"event": "listening", "more": {"a": [1, True]}, "level": "info"}, "chatd: listening (more a 1, true)"),
        ({"level": "warning"}, "chatd warns: "),
    ],
)
def test_a_line_is_one_sentence(entry: dict[str, Any] | str, words: str) -> None:
    assert sentence("chatd", entry if isinstance(entry, str) else {**entry, **FRAME}) == words


def test_a_long_value_is_cut_and_what_is_wrong_is_not() -> None:
    said = sentence("chatd", {"event": "x", "problem": "p" * 1000, "raw": "r" * 1000})

    assert "p" * 1000 in said
    assert "r" * 201 not in said
    assert "\n" not in said


def test_the_demo_says_what_a_service_warned_of_in_a_sentence(grounded_demo: str) -> None:
    # As one wide line: the console folds at its width.
    said = " ".join(grounded_demo.rpartition("validated warns: ")[2].split())
    assert said.startswith("no folder for indexes: ")
    assert "index_dir" in said
    assert "{" not in said


async def test_a_service_that_cannot_start_gives_its_reason_in_words() -> None:
    environ = {**free_port_binds(), "CHATD_METRICS_PORT": "1", "CHATD_METRICS_HOST": "192.0.2.1"}
    with pytest.raises(StackError, match="cannot start") as raised:
        async with running_stack(on_log=lambda *_: None, environ=environ, alone=True):
            pass

    assert "192.0.2.1" in str(raised.value)
    assert "{" not in str(raised.value)
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(str(raised.value))
