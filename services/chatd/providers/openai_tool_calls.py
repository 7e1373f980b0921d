"""``ToolCalls``: the tool calls of an answer in OpenAI's form, whole or in pieces, as endpoints really number them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from chatd.completion import ToolCall
from chatd.providers.answer_parts import UnreadableAnswerError
from chatd.providers.json_text import mend_surrogates, print_json
from chatd.providers.thinking import is_json

_TOOL_CALLS_MAX: Final = 128


class ToolCalls:
    """Puts tool calls together.

    A piece belongs to the call that has its index, unless it names a function under another id: then a new call begins,
    since some endpoints number every call 0. An id alone begins none: others make one up for each piece. A piece
    without an index belongs to the call that has its id, or to the last one.
    """

    def __init__(self) -> None:
        self._calls: list[_Parts] = []
        self._by_index: dict[int, _Parts] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add_whole(self, call: object) -> None:
        """Take a call of a whole answer in. Raises UnreadableAnswerError."""
        self._begin().grow(*_read(call))

    def add_piece(self, piece: object) -> int:
        """Take a piece of a stream in; how many characters of arguments it had. Raises UnreadableAnswerError."""
        id_, name, arguments = _read(piece)
        index = piece.get("index") if isinstance(piece, dict) else None
        if isinstance(index, str) and index.isdecimal():
            index = int(index[:9])
        if isinstance(index, int):
            known = self._by_index.get(index)
            if id_ and known is not None and known.id != id_:
                # Calls that share an index may come by turns: the id then says whose piece it is.
                known = next((each for each in self._calls if each.id == id_), known)
        else:
            known = next((each for each in self._calls if id_ and each.id == id_), None)
            known = known or (self._calls[-1] if self._calls and not (id_ or name) else None)
        if known is None or (name and known.is_other(id_)):
            known = self._begin()
        if isinstance(index, int):
            self._by_index[index] = known
        known.grow(id_, name, arguments)
        return len(arguments)

    def done(self) -> tuple[ToolCall, ...]:
        """All calls, in the order in which they began. Raises UnreadableAnswerError."""
        return tuple(each.done() for each in self._calls)

    def _begin(self) -> _Parts:
        if len(self._calls) >= _TOOL_CALLS_MAX:
            raise UnreadableAnswerError("too many tool calls")
        self._calls.append(_Parts())
        return self._calls[-1]


@dataclass(slots=True)
class _Parts:
    id: str = ""
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def is_other(self, id_: str) -> bool:
        """Whether a named piece with this id belongs to another call than this."""
        if id_ and self.id:
            return id_ != self.id
        # Without ids only a call that is whole can be distinguished from one that grows.
        return bool(self.name) and is_json("".join(self.arguments))

    def grow(self, id_: str, name: str, arguments: str) -> None:
        self.id = self.id or id_
        if not self.name or (name and name != self.name and not id_ and not any(self.arguments)):
            # A name in pieces: before any arguments, and without an id that would begin another call.
            self.name += name
        self.arguments.append(arguments)

    def done(self) -> ToolCall:
        if not self.name:
            raise UnreadableAnswerError("a tool call has no name")
        return ToolCall(mend_surrogates(self.id), mend_surrogates(self.name), mend_surrogates("".join(self.arguments)))


def _read(call: object) -> tuple[str, str, str]:
    """Id, name and arguments."""
    if not isinstance(call, dict):
        raise UnreadableAnswerError("a tool call is no object")
    function = call.get("function")
    if not isinstance(function, dict):
        function = call if "arguments" in call else {}
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        # Ollama once sent the arguments as an object.
        arguments = "" if arguments is None else print_json(arguments)
    id_ = call.get("id")
    return str(id_) if isinstance(id_, int) else _text(id_), _text(function.get("name")), arguments


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
