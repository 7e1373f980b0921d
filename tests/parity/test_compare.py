"""The guard of the comparison: equal outputs count only where each is a row by itself."""

from __future__ import annotations

import pytest
from parity.compare import UnsoundRowError, agreed, blanked, difference, problems

DAEMONS = {"python": "iterate-python", "go": "iterate-go", "rust": "iterate-rust"}
GOLDEN = b'{"schema":"session.iterate.v1","session_id":"s","timestamp":"","daemon":"","trace_id":"t"}'


def row(daemon: str, *, second: int = 7, trace: str = "t") -> bytes:
    return (
        b'{"schema":"session.iterate.v1","session_id":"s","timestamp":"2026-03-01T06:00:%02d.000001Z","daemon":"%s",'
        b'"trace_id":"%s"}' % (second, daemon.encode(), trace.encode())
    )


def by_all(output: bytes) -> dict[str, tuple[str, bytes]]:
    return {language: (daemon, output) for language, daemon in DAEMONS.items()}


def sound() -> dict[str, tuple[str, bytes]]:
    return {
        language: (daemon, row(daemon, second=second))
        for second, (language, daemon) in enumerate(DAEMONS.items(), start=10)
    }


def test_rows_that_differ_in_timestamp_and_daemon_alone_are_equal() -> None:
    assert problems(sound(), GOLDEN) == []
    assert agreed(sound()) == GOLDEN


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"panic: no such file", id="an-error"),
        pytest.param(b'{"refused":"artifact","kind":"syntax"}', id="a-refusal"),
        pytest.param(b"[]", id="no-object"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"schema":"session.iterate.v2","session_id":"s"}', id="another-schema"),
        pytest.param(b'{"schema":"session.iterate.v1"}', id="no-stamps"),
        pytest.param(row("iterate-python") + b"\n" + row("iterate-python"), id="two-rows"),
        pytest.param(row("iterate-python")[:-1], id="cut-short"),
    ],
)
def test_three_equal_outputs_that_are_no_rows_fail(output: bytes) -> None:
    outputs = by_all(output)
    assert len(problems(outputs, GOLDEN)) >= 3
    assert len(problems(outputs, None)) >= 3
    assert len(problems(outputs, output)) >= 3, "not even a golden of the same bytes makes them rows"
    assert agreed(outputs) is None


def test_a_single_differing_byte_fails_and_is_shown() -> None:
    rows = sound() | {"rust": ("iterate-rust", row("iterate-rust", trace="T"))}
    (problem,) = problems(rows, GOLDEN)
    assert problem.startswith("rust differs from golden at byte 87")
    assert agreed(rows) is None
    assert any(said.startswith("rust differs from python") for said in problems(rows, None))


@pytest.mark.parametrize("output", [b"[]", b"{}", row("iterate-go").replace(b".v1", b".v2")])
def test_what_is_no_object_of_the_schema_is_told_so(output: bytes) -> None:
    with pytest.raises(UnsoundRowError, match=r"not an object of schema session\.iterate\.v1"):
        blanked(output, "iterate-go")


def test_three_equal_rows_that_differ_from_the_golden_fail() -> None:
    rows = {language: (daemon, row(daemon, trace="other")) for language, daemon in DAEMONS.items()}
    assert len(problems(rows, GOLDEN)) == 3


def test_a_missing_golden_and_a_missing_writer_are_problems() -> None:
    assert problems(sound(), None) == ["no golden row is committed (--update-golden writes it)"]
    assert problems({}, GOLDEN) == ["no writer ran"]


def test_a_row_stamped_by_another_writer_is_unsound() -> None:
    with pytest.raises(UnsoundRowError, match="its daemon is"):
        blanked(row("iterate-go"), "iterate-rust")


@pytest.mark.parametrize("timestamp", [b"", b"2026-03-01T06:00:10Z", b"2026-03-01T06:00:10.000001+00:00"])
def test_a_timestamp_of_another_form_is_unsound(timestamp: bytes) -> None:
    broken = row("iterate-go", second=10).replace(b"2026-03-01T06:00:10.000001Z", timestamp)
    with pytest.raises(UnsoundRowError):
        blanked(broken, "iterate-go")


def test_only_the_stamps_of_the_row_are_blanked() -> None:
    inner = '","timestamp":"2026-03-01T06:00:10.000001Z","daemon":"x'.replace('"', '\\"')
    stamped = row("iterate-go", trace=inner)
    assert blanked(stamped, "iterate-go") == GOLDEN.replace(b'"t"}', f'"{inner}"}}'.encode())


def test_a_difference_at_the_end_of_the_shorter_output_is_found() -> None:
    assert difference(b"abc", b"abcd").startswith("at byte 3")
