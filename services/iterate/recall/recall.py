"""``Recall``: what became of the id that a caller gave, known before a model is asked.

``claim`` locks the id and looks for the row of its last session; whoever has the claim is the only one who may begin
another. The lock is kept until that session's row stands in the log (``Claim.keep_until_written``), so that from the
look-up to the row there is no moment in which the id could be begun twice. All disk work is done by threads of its own,
bounded in number and queue; whatever is not known within ``recall_wait_ms`` is RECALL_NOT_READY.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from iterate.recall.id_locks import IdLocks
from iterate.recall.indexer import Indexer
from iterate.recall.look import InFlight, Look
from iterate.session_log.config import SessionLogConfig
from iterate.session_log.exchange import Handover, HandoverOutcome
from iterate.session_log.logger import SessionLogger
from lakehouse.errors import Fault, Reason
from lakehouse.sessions.index.search import SEARCHED_BYTES_MAX, NotSearchedError
from lakehouse.sessions.record import SessionRecord

_THREADS: Final = 2
_QUEUED_MAX: Final = 1024
# How long the event loop waits for a thread that a disk holds, beyond what the thread itself waits.
_HUNG_S: Final = 0.25
_WARN_EVERY_S: Final = 60.0
# Rows that wait for the log, kept to answer from: as many as the writer's queue, at most so many bytes of prompts.
_WAITING_MAX: Final = 10_000
# The index is wanted long before what it lacks is too long to be searched.
_INDEX_FROM_BYTES: Final = SEARCHED_BYTES_MAX // 2
_LOOK_AT_LOG_S: Final = 60.0

Answer = SessionRecord | InFlight | None

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Claim:
    """An id that is locked for one session."""

    session_id: str
    last: SessionRecord | None
    """What the id was used for last; None where it was not."""
    _recall: Recall

    def keep_until_written(self, record: SessionRecord, handover: Handover) -> None:
        """Keep the id, beyond ``release``, until the session's row stands in the log, or is given up."""
        self._recall._keep(record, handover)  # noqa: SLF001  two halves of one object

    def release(self) -> None:
        """To be called once, when the session is over or was not begun."""
        self._recall._locks.unlock(self.session_id)  # noqa: SLF001  as above


@dataclass(slots=True, eq=False)
class _Job:
    session_id: str
    locks: bool
    give_up_at: float
    answer: asyncio.Future[Answer]
    given_up: threading.Event = field(default_factory=threading.Event)


class Recall:
    """See the module. One per process; it belongs to the event loop of ``start``."""

    def __init__(
        self, config: SessionLogConfig, log: SessionLogger, *, unix_s: Callable[[], float] = time.time
    ) -> None:
        """``config`` has a log and ``recall_hours``."""
        self._config = config
        self._log = log
        self._unix_s = unix_s
        self._wait_s = config.recall_wait_ms / 1000
        self._locks = IdLocks(config.session_log_path)
        self._indexer = Indexer(config.session_log_path, config.recall_hours)
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_QUEUED_MAX)
        self._waiting: dict[str, tuple[SessionRecord, Handover]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = threading.Event()
        self._warned_at = float("-inf")

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for number in range(_THREADS):
            threading.Thread(target=self._serve, name=f"session-recall-{number}", daemon=True).start()
        threading.Thread(target=self._watch_log, name="session-recall-index", daemon=True).start()

    async def close(self) -> None:
        """Give all ids back. What still runs is to have ended before."""
        self._stopping.set()
        for _ in range(_THREADS):
            try:
                self._jobs.put_nowait(None)
            except queue.Full:
                break
        await asyncio.to_thread(self._indexer.close)
        self._locks.close()

    async def claim(self, session_id: str, deadline_s: float) -> Claim:
        """Lock the id and say what it was used for. `deadline_s` is time.monotonic's. Raises Fault."""
        waiting = await self._written_or_kept(session_id)
        if waiting is not None and self._locks.try_lock(session_id):
            return Claim(session_id, waiting, self)
        answer = await self._ask(session_id, deadline_s, locks=True)
        if isinstance(answer, InFlight):
            self._locks.unlock(session_id)
            raise Fault(Reason.SESSION_ID_IN_FLIGHT, where="iterate")
        return Claim(session_id, answer, self)

    async def find(self, session_id: str, deadline_s: float) -> Answer:
        """Return what the id was used for last, for a reader. Raises Fault."""
        waiting = await self._written_or_kept(session_id)
        return waiting if waiting is not None else await self._ask(session_id, deadline_s, locks=False)

    async def _written_or_kept(self, session_id: str) -> SessionRecord | None:
        """Return the row that is still on its way to the log, if there is one. Under ``strict`` it is waited for."""
        entry = self._waiting.get(session_id)
        if entry is None:
            return None
        record, _ = entry
        if self._log.strict:
            until = time.monotonic() + self._wait_s
            while self._waiting.get(session_id) is entry:
                if time.monotonic() >= until:
                    raise Fault(Reason.RECALL_NOT_READY, where="iterate")
                await asyncio.sleep(0.01)
        return record

    async def _ask(self, session_id: str, deadline_s: float, *, locks: bool) -> Answer:
        now = time.monotonic()
        give_up_at = min(now + self._wait_s, deadline_s)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        job = _Job(session_id, locks, give_up_at, answer)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise Fault(Reason.RECALL_NOT_READY, where="iterate") from None
        try:
            return await asyncio.wait_for(answer, max(give_up_at - now, 0.0) + _HUNG_S)
        except TimeoutError:
            raise Fault(Reason.RECALL_NOT_READY, where="iterate") from None
        finally:
            job.given_up.set()

    def _keep(self, record: SessionRecord, handover: Handover) -> None:
        session_id = record.session_id
        if not self._locks.try_lock(session_id):  # held by its claim
            raise RuntimeError("an id without its claim")
        entry = (record, handover)
        if len(self._waiting) < _WAITING_MAX:
            self._waiting[session_id] = entry
        kept = True

        def settled(outcome: HandoverOutcome) -> None:
            nonlocal kept
            if outcome != "spilled" and kept:
                kept = False
                if self._waiting.get(session_id) is entry:
                    del self._waiting[session_id]
                self._locks.unlock(session_id)

        handover.on_settled(settled)

    # In threads.

    def _serve(self) -> None:
        look = self._new_look()
        try:
            while (job := self._jobs.get()) is not None and not self._stopping.is_set():
                self._deliver(job, *self._answer(look, job))
        finally:
            look.close()

    def _new_look(self) -> Look:
        return Look(self._config.session_log_path, str(self._config.spill_dir or ""), self._log.sweep)

    def _answer(self, look: Look, job: _Job) -> tuple[Answer, Fault | None]:
        """Return what the id was used for; or why it is not known, and then it is not locked."""
        if job.given_up.is_set():
            return None, Fault(Reason.RECALL_NOT_READY, where="iterate")
        locked = False
        try:
            if job.locks and not self._locks.try_lock(job.session_id):
                return None, Fault(Reason.SESSION_ID_IN_FLIGHT, where="iterate")
            locked = job.locks
            since_us = self._since_unix_us()
            row = look.last_row(job.session_id, since_us, job.give_up_at, job.given_up.is_set, claimed=job.locks)
        except (NotSearchedError, OSError) as error:
            self._warn(error)
        except Exception:  # noqa: BLE001  a bug must not end the thread, nor begin a session twice
            _log.exception("session_recall_bug")
        else:
            return row, None
        finally:
            if look.uncovered_bytes > _INDEX_FROM_BYTES:
                self._indexer.ensure()
        if locked:
            self._locks.unlock(job.session_id)
        return None, Fault(Reason.RECALL_NOT_READY, where="iterate")

    def _deliver(self, job: _Job, row: Answer, fault: Fault | None) -> None:
        def give() -> None:
            if not job.answer.done():
                if fault is None:
                    job.answer.set_result(row)
                else:
                    job.answer.set_exception(fault)
            elif fault is None and job.locks:
                self._locks.unlock(job.session_id)  # nobody waits any more

        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(give)
        except RuntimeError:
            return  # the event loop is closed: the process ends

    def _watch_log(self) -> None:
        """Start the index before it is needed."""
        look = self._new_look()
        try:
            while True:
                try:
                    if look.measured_bytes(self._since_unix_us()) > _INDEX_FROM_BYTES:
                        self._indexer.ensure()
                except Exception as error:  # noqa: BLE001  as in `_answer`
                    _log.info("session_log_not_measured", problem=str(error)[:300])
                if self._stopping.wait(_LOOK_AT_LOG_S):
                    return
        finally:
            look.close()

    def _since_unix_us(self) -> int:
        return int((self._unix_s() - self._config.recall_hours * 3600) * 1e6)

    def _warn(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._warned_at > _WARN_EVERY_S:
            self._warned_at = now
            _log.warning("session_recall_not_ready", problem=str(error)[:500])
