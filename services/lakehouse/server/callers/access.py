"""``Callers``: what the interceptor asks before each call, and what keeps the callers' file and keys up to date."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import structlog

from lakehouse.errors import Fault, Reason
from lakehouse.server.call import Call
from lakehouse.server.callers.authentication import Directory
from lakehouse.server.callers.budgets import Budgets, Reservation
from lakehouse.server.callers.closed_services import Refuse, known_alone
from lakehouse.server.callers.counts import CallerCounts
from lakehouse.server.callers.file import CallersFile, is_caller_name, read_callers_file
from lakehouse.server.callers.json_web_token import UnknownKey
from lakehouse.server.callers.key_source import KeySource
from lakehouse.server.callers.policy import Caller, not_allowed
from lakehouse.server.callers.unknown import UnknownCredential
from lakehouse.server.config import CallersTable
from lakehouse.server.watched_files import WatchedFiles
from lakehouse.trace_context import CALLER_HEADER

_AUTHORIZATION: Final = "authorization"

_log = structlog.get_logger()


class Callers:
    """The callers of one process. Any thread may reload; calls see a directory whole, the old one or the new one."""

    def __init__(
        self,
        service: str,
        table: CallersTable,
        *,
        now_s: Callable[[], float] = time.time,
        budgets: Budgets | None = None,
    ) -> None:
        """Raise OSError or ValueError where the file, or a file that it names, cannot be used."""
        self._service = service
        self._table = table
        self._now_s = now_s
        self._lock = threading.Lock()
        self._sources: dict[str, KeySource] = {}
        self._problem = ""
        self.budgets = budgets or Budgets()
        self.counts = CallerCounts(self.budgets)
        file = read_callers_file(table.file)
        self._take(file)
        self._files = WatchedFiles([table.file], self._read)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Keep file and keys up to date for the time of the block."""
        try:
            with self._files.watched():
                yield
        finally:
            for source in self._sources.values():
                source.close()

    def reload(self) -> None:
        """Look at the file and the keys now; from any thread, and it returns at once."""
        self._files.look()
        for source in tuple(self._sources.values()):
            source.look()

    def names(self) -> frozenset[str]:
        return frozenset(self._directory.callers)

    def guard(self, method: str, handler: Any, refuse: Refuse) -> Any:
        """Return the handler of a method of health or reflection, for those who may ask it."""
        is_open = self._table.health if method.startswith("/grpc.health.") else self._table.reflection
        if is_open == "open":
            return handler

        async def check(context: Any) -> None:
            try:
                await self._known(context)
            except UnknownCredential:
                self.counts.unknown += 1
                await refuse(context, Fault(Reason.CALLER_UNKNOWN))

        return known_alone(handler, check)

    async def admit(self, call: Call, rpc: str, context: Any) -> None:
        """Find out who calls and whether this RPC is allowed to it; `call` then says who. Raises Fault."""
        try:
            caller = await self._known(context)
        except UnknownCredential as unknown:
            call.facts["caller_problem"] = unknown.problem
            self.counts.unknown += 1
            raise Fault(Reason.CALLER_UNKNOWN) from None
        call.caller = caller
        call.facts["caller"] = caller.name
        authenticated = caller.via or caller
        if caller.via is not None:
            call.facts["via"] = authenticated.name
        self.counts.called(caller.name)
        if not authenticated.policy.may_call(rpc):
            self.counts.refused(caller.name, Reason.CALLER_NOT_ALLOWED)
            raise not_allowed("rpc")

    def reserve(self, caller: Caller) -> Reservation:
        """Begin a session on the caller's budget; whoever gets it ends it. Raises Fault (CALLER_QUOTA)."""
        try:
            return self.budgets.reserve(caller.name, caller.policy)
        except Fault:
            self.counts.refused(caller.name, Reason.CALLER_QUOTA)
            raise

    async def _known(self, context: Any) -> Caller:
        try:
            return self._recognise(context)
        except UnknownKey as unknown:
            await unknown.source.looked_at()
        return self._recognise(context)

    def _recognise(self, context: Any) -> Caller:
        directory = self._directory
        authorization: str | bytes | None = None
        on_behalf: str | bytes | None = None
        for key, value in context.invocation_metadata() or ():
            if key == _AUTHORIZATION:
                if authorization is not None:
                    raise UnknownCredential("several tokens")
                authorization = value
            elif key == CALLER_HEADER and on_behalf is None:
                on_behalf = value
        if authorization is None:
            caller = directory.by_certificate(context.auth_context())
        elif isinstance(authorization, str):
            caller = directory.by_authorization(authorization)
        else:
            raise UnknownCredential("unreadable token")
        # iterate believes nobody: a session is its caller's own.
        if on_behalf is None or self._service == "iterate" or caller.name not in directory.believed:
            return caller
        if not isinstance(on_behalf, str) or not is_caller_name(on_behalf):
            raise UnknownCredential("unreadable caller named by a service")
        named = directory.callers.get(on_behalf)
        # One that this service has no entry for is known to iterate: what iterate may is what it may here.
        return Caller(on_behalf, caller.policy if named is None else named.policy, caller)

    def _read(self) -> None:
        """In the thread that watches the file. Raises OSError or ValueError, and nothing has changed then."""
        try:
            self._take(read_callers_file(self._table.file))
        except Exception as error:
            self.counts.file_is_broken = True
            problem = str(error) if isinstance(error, (OSError, ValueError)) else type(error).__name__
            if problem != self._problem:
                _log.error(
                    "callers file cannot be used, the callers read before stay",
                    file=str(self._table.file),
                    problem=problem,
                )
            self._problem = problem
            raise
        self.counts.file_is_broken, self._problem = False, ""

    def _take(self, file: CallersFile) -> None:
        with self._lock:
            before = self._sources
            sources: dict[str, KeySource] = {}
            fresh: list[KeySource] = []
            try:
                for name, table in file.issuers.items():
                    kept = before.get(name)
                    if kept is None or kept.table != table:
                        kept = KeySource(name, table, before=before.values())
                        kept.start()
                        fresh.append(kept)
                    sources[name] = kept
                directory = Directory(file, sources.values(), now_s=self._now_s)
            except BaseException:
                for source in fresh:
                    source.close()
                raise
            self._sources, self._directory = sources, directory
            for name, source in before.items():
                if sources.get(name) is not source:
                    source.close()
        self.counts.keep(file.callers)
