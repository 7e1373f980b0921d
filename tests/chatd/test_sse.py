from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatd.providers.sse import EVENT_BYTES_MAX, Event, EventReader, EventTooLargeError

STREAM = (
    '\ufeffdata: {"a": "naïve 😀"}\n\n'
    ": a comment\n"
    "event: delta\r\ndata: one\r\ndata:two\r\n\r\n"
    "id: 7\nretry: 100\n\n"
    "event: alone\n\n"
    "data\n\n"
    "data:  two spaces\r\r"
    "data: never finished"
).encode()
EVENTS = [
    Event("", '{"a": "naïve 😀"}'.encode()),
    Event("delta", b"one\ntwo"),
    Event("", b""),
    Event("", b" two spaces"),
]


@settings(derandomize=True, max_examples=200)
@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_the_events_are_the_same_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    reader = EventReader()
    events: list[Event] = []
    ends = sorted(cuts)
    for start, end in zip([0, *ends], [*ends, len(STREAM)], strict=True):
        events += reader.feed(STREAM[start:end])

    assert events == EVENTS


def test_one_byte_at_a_time_gives_the_same_events() -> None:
    reader = EventReader()

    assert [event for at in range(len(STREAM)) for event in reader.feed(STREAM[at : at + 1])] == EVENTS


@pytest.mark.parametrize("piece", [b"x" * 65536, b"data: " + b"x" * 65536 + b"\n"], ids=["one line", "many lines"])
def test_an_event_is_bounded(piece: bytes) -> None:
    reader = EventReader()
    reader.feed(b"data: ")

    def feed() -> None:
        for _ in range(EVENT_BYTES_MAX // len(piece) + 2):
            reader.feed(piece)

    with pytest.raises(EventTooLargeError):
        feed()
