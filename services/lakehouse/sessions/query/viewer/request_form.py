"""What the form of a page asks for, from its query string: nothing of it is trusted, and each wrong value is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, get_args
from urllib.parse import urlencode

from lakehouse.sessions.query.listing import Place, moment_of
from lakehouse.sessions.query.session_filter import SessionFilter, parse_moment, timestamp_text
from lakehouse.sessions.query.stats import Period
from lakehouse.sessions.record import FinalVerdict

VALUE_CHARS_MAX: Final = 400
ID_CHARS_MAX: Final = 2000
_FILTERS: Final = ("since", "until", "kind", "verdict", "model", "caller", "trace", "text")
_TIMES: Final = ("since", "until")


@dataclass(frozen=True, slots=True)
class RequestForm:
    """The values as they were given, what was wrong with them, and the filter that the right ones make."""

    values: Mapping[str, str]
    problems: Mapping[str, str]
    wanted: SessionFilter
    period: Period
    chars_max: int = VALUE_CHARS_MAX
    verdicts: tuple[str, ...] = field(default=get_args(FinalVerdict))

    def query(self, **others: str) -> str:
        """Return the query string of the filters that are set, and of ``others``."""
        given = {name: self.values[name] for name in _FILTERS if self.values[name]}
        return urlencode(given | others)


def read_form(parameters: Mapping[str, str], *, now: datetime) -> RequestForm:
    """Read the form. A value that is too long is left out of ``values``; ``now`` is aware."""
    values = {name: parameters.get(name, "").strip() for name in (*_FILTERS, "by")}
    problems: dict[str, str] = {}
    wanted: dict[str, object] = {}
    for name in _FILTERS:
        text = values[name]
        if len(text) > VALUE_CHARS_MAX:
            values[name] = ""
            problems[name] = f"At most {VALUE_CHARS_MAX} characters."
        elif not text:
            continue
        elif name in _TIMES:
            try:
                wanted[name] = parse_moment(text, now=now)
            except ValueError as error:
                problems[name] = str(error)
        elif name == "verdict" and text not in get_args(FinalVerdict):
            problems[name] = f"One of {', '.join(get_args(FinalVerdict))}."
        else:
            wanted[name] = text
    if values["by"] not in get_args(Period):
        values["by"] = "day"
    return RequestForm(values, problems, SessionFilter(**wanted), values["by"])  # type: ignore[arg-type]  # by name


def place_text(place: Place) -> str:
    """Return a place as it stands in an address."""
    return f"{place[0]}~{place[1]}"


def read_place(text: str) -> Place | None:
    """Return the place of an address; None where it is none."""
    timestamp, tilde, session_id = text.partition("~")
    if not tilde or len(text) > ID_CHARS_MAX:
        return None
    if not timestamp:
        return "", session_id
    moment = timestamp_text(moment_of(timestamp))
    return None if moment is None else (moment, session_id)
