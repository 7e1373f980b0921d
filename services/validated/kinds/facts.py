"""What a model may know of a worker: chosen columns of the roster, and never a phone number, wherever it stands."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from typing import Final, NamedTuple

from lakehouse.strict_json.parser import JsonValue, print_canonical
from validated.datasets.worker import Worker
from validated.kinds.message_numbers import NumberSearch

_TEXTS: Final = ("role", "city", "state")
# What the gate takes for a phone number has so many digits at least.
_DIGITS_MIN: Final = 7
_NO_ASCII_DIGITS: Final = bytes(code for code in range(128) if not chr(code).isdecimal())
_DIGIT: Final = re.compile(r"\d")
_PAIR_CHARS_MAX: Final = 200
_KEPT_MAX: Final = 4096


class _Kept(NamedTuple):
    worker: Worker
    facts: dict[str, JsonValue] | None
    text: str | None


class Facts:
    """The facts of one deployment."""

    def __init__(self, names: Collection[str], region: str) -> None:
        """`names` are the columns that may be shown beside id and name; `region` is where numbers are from that have no
        country code.
        """
        self._texts = [name for name in _TEXTS if name in names]
        self._certifications = "certifications" in names
        self._region = region
        self._kept: dict[str, _Kept] = {}

    def of(self, worker: Worker) -> dict[str, JsonValue] | None:
        """Return the facts of `worker`; a fact that holds a phone number is left out. None where the name holds one, or
        the id is one: then nothing can be said of him. None also where no artifact can name him, since id or name is
        empty or longer than any file of a roster may have it.
        """
        return self._of(worker).facts

    def _read(self, worker: Worker) -> dict[str, JsonValue] | None:
        if not (0 < len(worker.worker_id) <= _PAIR_CHARS_MAX and 0 < len(worker.name) <= _PAIR_CHARS_MAX):
            return None
        private = self.private(worker)
        if worker.name in private or _holds(_own(worker), worker.worker_id):
            return None
        facts: dict[str, JsonValue] = {"worker_id": worker.worker_id, "name": worker.name}
        said = worker.texts
        for name in self._texts:
            text = said[name]
            if text and text not in private:
                facts[name] = text
        if self._certifications and worker.certifications:
            held: list[JsonValue] = [each for each in worker.certifications if each not in private]
            if held:
                facts["certifications"] = held
        return facts

    def private(self, worker: Worker) -> Collection[str]:
        """Those of the texts of `worker` that hold a phone number: no model may read them, whatever they are for."""
        texts = (worker.name, worker.role, worker.city, worker.state, *worker.certifications)
        # Most hold too few digits, all together.
        if len(_digits("".join(texts))) < _DIGITS_MIN:
            return ()
        own = _own(worker)
        return [text for text in texts if self._is_private(own, text)]

    def holds_number(self, text: str) -> bool:
        """Whether `text` holds a phone number, whosesoever."""
        return self._is_private("", text)

    def text_of(self, worker: Worker) -> str | None:
        """Return the facts as canonical JSON; None as in `of`."""
        return self._of(worker).text

    def _of(self, worker: Worker) -> _Kept:
        # Who was shown lately is likely to be again.
        kept = self._kept.get(worker.worker_id)
        if kept is None or kept.worker is not worker:
            facts = self._read(worker)
            if len(self._kept) >= _KEPT_MAX:
                self._kept.clear()
            kept = _Kept(worker, facts, None if facts is None else print_canonical(facts))
            self._kept[worker.worker_id] = kept
        return kept

    def _is_private(self, own: str, text: str) -> bool:
        return _holds_number(text, self._region) or _holds(own, text)


def _own(worker: Worker) -> str:
    """Return the last digits of the worker's own number."""
    return _digits(worker.phone)[-_DIGITS_MIN:]


def _holds(own: str, text: str) -> bool:
    """Whether `text` holds the last digits of the worker's own number, however it is written."""
    return len(own) == _DIGITS_MIN and own in _digits(text)


@lru_cache(maxsize=4096)
def _holds_number(text: str, region: str) -> bool:
    # The same search as in messages; ids are not asked, since many are written like numbers.
    if len(_digits(text)) < _DIGITS_MIN:
        return False
    return bool(NumberSearch((), region).foreign(unicodedata.normalize("NFKC", text)))


def _digits(text: str) -> str:
    """Return the digits of `text`, those of other scripts, and those that are raised or circled, as ASCII has them."""
    if text.isascii():
        return text.encode().translate(None, _NO_ASCII_DIGITS).decode()
    return "".join([str(int(each)) for each in _DIGIT.findall(unicodedata.normalize("NFKC", text))])
