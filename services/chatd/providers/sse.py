"""Server-sent events (WHATWG HTML, section 9.2) out of a stream of bytes, cut anywhere."""

from __future__ import annotations

from typing import Final, NamedTuple

# One event of a model endpoint is some hundred bytes; the last one may hold a whole answer.
EVENT_BYTES_MAX: Final = 4 * 1024 * 1024


class Event(NamedTuple):
    """One event."""

    name: str
    """The `event` field; empty where there was none."""
    data: bytes
    """The `data` lines, joined by LF; not decoded."""


class EventTooLargeError(ValueError):
    """An event is longer than EVENT_BYTES_MAX."""


class EventReader:
    """Feed it chunks as they come; it works on bytes, so a chunk may end inside a character or a line end.

    An event that the stream's end cuts off is dropped, as the standard says, unless `end` is asked for it. Beyond the
    standard, which would drop them unseen, a field `error` (llama.cpp), an event `error` without data, the line of
    a page, and a line that is an object without the name of any field are events of their own.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._name = ""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._skip_lf = False
        self._at_start = True

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes. Raises EventTooLargeError."""
        if self._skip_lf and chunk:
            self._skip_lf = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            # A CR at the chunk's end is a line end already; a LF that follows in the next chunk belongs to it.
            self._skip_lf = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        events: list[Event] = []
        lines = chunk.split(b"\n")
        for part in lines[:-1]:
            if self._line:
                self._line += part
                line = bytes(self._line)
                self._line.clear()
            else:
                line = part
            self._take(line, events)
        self._line += lines[-1]
        if len(self._line) + self._data_bytes > EVENT_BYTES_MAX:
            raise EventTooLargeError
        return events

    def end(self) -> list[Event]:
        """Return the event that the stream's end has left without its blank line, which some endpoints forget; maybe
        cut."""
        return self.feed(b"\n\n")

    def _take(self, line: bytes, events: list[Event]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if line[:5] == b"data:" or line == b"data":
            # Nearly every line with anything on it.
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._data_bytes += len(value) + 1
            if self._data_bytes > EVENT_BYTES_MAX:
                raise EventTooLargeError
            return
        if not line:
            self._close(events)
            return
        if line[:1] == b"{" and line.endswith(b"}"):
            name = self._name
            self._close(events)
            events.append(Event(name, line))
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value.decode("utf-8", "replace")
        elif line[:1] == b"<":
            # A page in the middle of a stream: whoever stands between has given up.
            self._close(events)
            events.append(Event("error", line))
        elif field == b"error":
            self._close(events)
            events.append(Event("error", value))

    def _close(self, events: list[Event]) -> None:
        """End an event at a blank line: what was gathered is one, if there is any data."""
        if self._data or self._name == "error":
            events.append(Event(self._name, b"\n".join(self._data)))
        self._data = []
        self._data_bytes = 0
        self._name = ""
