"""Reading a streamed answer: events off the wire, one object after the other into an ``AnswerStream``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

import aiohttp

from chatd.completion import Completion, Delta, OnDelta
from chatd.providers.answer_parts import ErrorInAnswerError, UnreadableAnswerError, says_something
from chatd.providers.http_faults import HTTP_ERRORS, bad_answer, broke_off
from chatd.providers.json_text import NotJsonError, read_object, read_piece
from chatd.providers.sse import Event, EventReader, EventTooLargeError
from chatd.providers.thinking import is_json
from chatd.upstream_fault import UpstreamFault

# A stream wraps each token into some hundred bytes: 1 MiB of text may come as this much.
STREAM_BYTES_MAX: Final = 128 * 1024 * 1024
_ERROR_BYTES_MAX: Final = 64 * 1024
# How long an answer that is whole is waited on for what may follow it: its usage, its [DONE].
_TAIL_S: Final = 10.0
# Kept of the caller's time for handing the answer on.
_ANSWER_S: Final = 0.1
# Names of events that say no more than that the endpoint lives.
_HEARTBEATS: Final = frozenset({"ping", "heartbeat", "keepalive", "keep-alive"})
# What is sent to keep a connection open where an event without data would do.
_NOTHING: Final = (b"", b"null", b"[]")
# How names of events end that are an error: `error`, Bedrock's `modelStreamErrorException`.
_ERROR_NAMES: Final = ("error", "exception")
_ERROR_KEYS: Final = ("message", "Message", "detail", "msg", "errors", "error_msg", "error_message")
_DONE: Final = b"[DONE]"
_DONE_BEHIND: Final = b"\n[DONE]"


class AnswerStream(Protocol):
    """Puts the pieces of one streamed answer together."""

    done: bool
    """Whether nothing follows any more."""

    @property
    def finished(self) -> bool:
        """Whether the endpoint has said why the answer ended: it stands, whatever becomes of the connection."""
        ...

    @property
    def begun(self) -> bool:
        """Whether any of the answer has come."""
        ...

    def add(self, piece: Mapping[str, Any], /) -> None:
        """Take the object of one event in. Raises UnreadableAnswerError, ErrorInAnswerError."""
        ...

    def take_deltas(self) -> list[Delta]:
        """Return the pieces since the last time."""
        ...

    def finish(self) -> Completion:
        """Return the whole answer; `take_deltas` then gives what the end has made clear. Raises
        UnreadableAnswerError."""
        ...


class FaultOf(Protocol):
    """Makes the fault of an error that came with status 200; `begun`: a part of an answer was made before it."""

    def __call__(self, answer: Mapping[str, Any], /, *, begun: bool) -> UpstreamFault: ...


async def read_stream(
    response: aiohttp.ClientResponse,
    first: bytes,
    answer: AnswerStream,
    deadline_s: float,
    on_delta: OnDelta | None,
    fault_of: FaultOf,
) -> Completion:
    """Read a stream to its end; each piece is handed over before the next is read.

    An answer stands once the endpoint has said why it ended: what breaks or hangs after that takes nothing from it.
    `deadline_s` is loop time. Raises UpstreamFault, and HTTP_ERRORS before that point.
    """
    events = EventStream(response, first)
    cut = False
    while not answer.done:
        stands = answer.finished
        try:
            if stands:
                left_s = min(_TAIL_S, deadline_s - asyncio.get_running_loop().time() - _ANSWER_S)
                async with asyncio.timeout(left_s):
                    read = await events.read()
            else:
                read = await events.read()
        except (TimeoutError, *HTTP_ERRORS):
            # The answer is whole: a connection that breaks or hangs after it takes nothing from it.
            if not stands:
                raise
            cut = True
            break
        if read is None:
            break
        for event in read:
            if _take(event, answer, fault_of):
                break
        # What came in one network read goes out as one piece.
        await _hand_over(answer, on_delta)
    # Some endpoints end without [DONE]; one that gave no finish reason either was cut off.
    if not (answer.done or answer.finished):
        raise broke_off("the stream ended before the answer did")
    try:
        completion = answer.finish()
    except UnreadableAnswerError as error:
        raise bad_answer(str(error)) from None
    await _hand_over(answer, on_delta)
    if cut:
        response.close()
    else:
        response.release()
    return completion


def _take(event: Event, answer: AnswerStream, fault_of: FaultOf) -> bool:
    """Take one event in; whether it was the last. What follows a whole answer, an error too, takes nothing from it."""
    data = event.data.strip()
    if data[:1] == b"[" and data[:7].upper() == _DONE:
        answer.done = True
        return True
    if event.name in _HEARTBEATS:
        return False
    if event.name and event.name.lower().endswith(_ERROR_NAMES):
        if answer.finished:
            return False
        raise fault_of(_error_object(data), begun=answer.begun)
    if data in _NOTHING:
        return False
    try:
        for piece in _read_pieces(data):
            if is_error(piece):
                if answer.finished:
                    continue
                raise fault_of(piece, begun=answer.begun)
            answer.add(piece)
    except ErrorInAnswerError as error:
        if not answer.finished:
            raise fault_of(error.words, begun=error.begun) from None
    except (UnreadableAnswerError, NotJsonError) as error:
        if not answer.finished:
            raise bad_answer(str(error)) from None
    answer.done = answer.done or data.endswith(_DONE_BEHIND)
    return answer.done


class EventStream:
    """The events of a response, those of one network read together."""

    def __init__(self, response: aiohttp.ClientResponse, first: bytes) -> None:
        self._content = response.content
        self._chunk = first
        self._reader = EventReader()
        self._size = 0
        self._ended = False

    async def read(self) -> list[Event] | None:
        """Return the next ones; None at the end. Raises UpstreamFault where bounds are broken."""
        while not self._ended:
            chunk, self._chunk = self._chunk or await self._content.readany(), b""
            self._size += len(chunk)
            if self._size > STREAM_BYTES_MAX:
                raise bad_answer("the stream is too large")
            try:
                if chunk:
                    events = self._reader.feed(chunk)
                else:
                    self._ended = True
                    # What was cut off is no JSON any more, and no part of the answer.
                    events = [event for event in self._reader.end() if _is_whole(event.data)]
            except EventTooLargeError:
                raise bad_answer("an event is too large") from None
            if events:
                return events
        return None


async def _hand_over(answer: AnswerStream, on_delta: OnDelta | None) -> None:
    deltas = answer.take_deltas()
    if on_delta is not None:
        for delta in deltas:
            await on_delta(delta)


def _is_whole(data: bytes) -> bool:
    """Whether an event that ended without its blank line is whole, or each of those that were never parted by one."""
    return is_json(data) or all(line == _DONE or is_json(line) for line in data.split(b"\n") if line)


def _read_pieces(data: bytes) -> list[dict[str, Any]]:
    """Return the objects of one event: one, or one a line where an endpoint forgot the blank line between events.

    Raises NotJsonError.
    """
    try:
        return [read_piece(data)]
    except NotJsonError:
        lines = [line for line in data.split(b"\n") if line and line != _DONE]
        if lines == [data]:
            raise
        return [read_piece(line) for line in lines]


def is_error(answer: Mapping[str, Any]) -> bool:
    """Whether an object in place of an answer says by its form that it is an error."""
    error = answer.get("error")
    if (error and says_something(error)) or answer.get("object") == "error" or answer.get("type") == "error":
        return True
    if answer.get("choices") and "base_resp" not in answer:
        return False
    # {"message": "…", "code": …}, {"detail": […]}: words for a person, and nothing of an answer.
    # {"choices": null, "base_resp": {"status_msg": …}}: MiniMax.
    base = answer.get("base_resp")
    if isinstance(base, dict) and base.get("status_code") and answer.get("choices") is None:
        return True
    if "choices" in answer or "content" in answer:
        return False
    return any(isinstance(answer.get(key), str | list) and answer[key] for key in _ERROR_KEYS)


def _error_object(data: bytes) -> Mapping[str, Any]:
    try:
        return read_object(data)
    except NotJsonError:
        return {"message": data[:_ERROR_BYTES_MAX].decode("utf-8", "replace")}
