"""Provider type `replay`: answers from the rows of a session log, so that a recorded session can be run again.

The model is the id of the recorded session; the request's `attempt` says which of its answers is wanted. An attempt
that ended by a fault of chatd fails with the same reason again. What the row does not hold fails as MODEL_NOT_FOUND:
a session or an attempt that was not recorded, and an answer that the row had to cut. Rows are looked for in the live
file and in the rotated ones beside it, compressed or not; not in Parquet.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from pathlib import Path
from typing import ClassVar, Final

import orjson

from chatd.completion import Completion, CompletionRequest, FinishReason, OnDelta, Usage
from chatd.config import ReplayTable
from chatd.providers.answer_parts import token_count
from chatd.upstream_fault import UpstreamFault
from lakehouse.errors import Reason
from lakehouse.sessions.record import ErrorRecord, SessionAttemptRecord
from lakehouse.sessions.row_reading import RowBreach, decode_row
from lakehouse.sessions.store.lines import SegmentDamagedError, read_lines
from lakehouse.sessions.store.segments import Segment, SessionLogUnavailableError, open_snapshot
from lakehouse.settings import ConfigError

_SESSIONS_KEPT: Final = 32
_MAYBE_BILLED: Final = frozenset({Reason.PROVIDER_FAILED, Reason.PROVIDER_BAD_ANSWER, Reason.PROVIDER_TIMEOUT})
# The faults of a provider; others (a deadline, a restart) belonged to that run and are not repeated by this name.
_REPEATED: Final = _MAYBE_BILLED | {
    Reason.PROVIDER_AUTH,
    Reason.PROVIDER_QUOTA,
    Reason.PROVIDER_RATE_LIMITED,
    Reason.PROVIDER_UNREACHABLE,
    Reason.MODEL_NOT_FOUND,
    Reason.CONTEXT_TOO_LONG,
    Reason.CONTENT_FILTERED,
}

Attempts = tuple[SessionAttemptRecord, ...]


class ReplayProvider:
    """The recorded answers of one log."""

    calls_upstream: ClassVar[bool] = False

    def __init__(self, table: ReplayTable) -> None:
        """Raise ConfigError where the log cannot be read. It may grow later: rows are looked up as they are asked."""
        self._log = table.session_log
        try:
            open_snapshot(self._log).close()
        except SessionLogUnavailableError as error:
            raise ConfigError([f"session_log: {error}"]) from None
        self._kept: OrderedDict[str, Attempts] = OrderedDict()

    async def complete(
        self, request: CompletionRequest, model: str, deadline_s: float, on_delta: OnDelta | None
    ) -> Completion:
        """See ``Provider.complete``. The answer's model is the one that was recorded."""
        sent = time.monotonic()
        attempts = await self._attempts(model)
        if request.attempt > len(attempts):
            raise _not_recorded("no such attempt in the row")
        attempt = attempts[request.attempt - 1]
        _raise_recorded_fault(attempt.error)
        if attempt.raw_truncated:
            raise _not_recorded("the row holds the answer cut short")
        completion = Completion(
            text=attempt.raw,
            model=attempt.model or model,
            usage=Usage(token_count(attempt.input_tokens), token_count(attempt.output_tokens)),
            finish_reason=FinishReason.UNSPECIFIED,
            sent=sent,
            first_token=time.monotonic(),
        )
        if on_delta is not None:
            await completion.hand_to(on_delta)
        return completion

    async def close(self) -> None:
        """See ``Provider.close``: nothing is held."""

    async def _attempts(self, session_id: str) -> Attempts:
        kept = self._kept.get(session_id)
        if kept is None:
            # The log may be large: it is read in a thread. A call that is cancelled leaves the thread to its end.
            kept = await asyncio.to_thread(find_attempts, self._log, session_id)
            self._kept[session_id] = kept
            if len(self._kept) > _SESSIONS_KEPT:
                self._kept.popitem(last=False)
        return kept


def find_attempts(log: Path, session_id: str) -> Attempts:
    """Return the attempts of the session's newest row in `log`. Raises UpstreamFault where there is none."""
    try:
        with open_snapshot(log) as snapshot:
            for segment in reversed(snapshot.segments):
                found = _last_in(segment, session_id)
                if found is not None:
                    return found
    except (SessionLogUnavailableError, OSError) as error:
        raise UpstreamFault(
            Reason.PROVIDER_UNREACHABLE, billed=False, detail=f"the session log: {type(error).__name__}"
        ) from error
    raise _not_recorded("no row of this session")


def _last_in(segment: Segment, session_id: str) -> Attempts | None:
    wanted = b'"session_id":' + orjson.dumps(session_id)
    found: Attempts | None = None
    try:
        for line in read_lines(segment):
            # Most lines are another session's: they are not parsed.
            if wanted not in line.data:
                continue
            try:
                row = decode_row(line.data)
            except RowBreach:
                continue
            if row.session_id == session_id:
                found = row.attempts
    except SegmentDamagedError:
        # What stands before the damage counts, as for every reader of the log.
        return found
    return found


def _raise_recorded_fault(error: ErrorRecord | None) -> None:
    if error is None or error.where != "chatd":
        return
    known = error.reason in _REPEATED
    reason = Reason(error.reason) if known else Reason.PROVIDER_FAILED
    raise UpstreamFault(reason, billed=reason in _MAYBE_BILLED, detail=f"recorded: {error.reason[:64]}")


def _not_recorded(detail: str) -> UpstreamFault:
    return UpstreamFault(Reason.MODEL_NOT_FOUND, billed=False, detail=detail)
