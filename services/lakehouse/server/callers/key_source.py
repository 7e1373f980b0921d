"""Where an issuer's keys come from, a file or a URL, read in a thread of its own: no call waits for a disk or a socket,
unless it names a key that is not known yet, and then for seconds at most."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from lakehouse.server.callers.file import IssuerTable
from lakehouse.server.callers.key_fetch import bounded, fetch
from lakehouse.server.callers.key_set import KEY_SET_BYTES_MAX, KeySet, read_key_set

FILE_POLL_S: Final = 2.0
# How soon a look that was asked for may follow the look before it.
_ASKED_FILE_S: Final = 0.25
_ASKED_URL_S: Final = 5.0
_WAIT_S: Final = 10.0
# More than there are calls by default (`max_concurrent_rpcs`): when an issuer replaces its key, all of them may wait.
_WAITERS_MAX: Final = 1024

_log = structlog.get_logger()

Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class KeySource:
    """The keys of one issuer, kept up to date from `start` to `close`."""

    def __init__(self, name: str, table: IssuerTable, *, before: Iterable[KeySource] = ()) -> None:
        """`before`: sources of an earlier version of the callers' file. Keys that one of them has read, of the same
        issuer at the same URL, stay: the issuer need not answer just when the file is replaced."""
        self.name = name
        self.table = table
        self._keys: KeySet | None = None
        self._read_s = 0.0
        self._data = b""
        self._signature: tuple[int, int, int] | None = None
        self._problem = ""
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._waiters: list[Waiter] = []
        self._closed = False
        for other in before:
            if table.jwks_url is not None and _read_alike(other.table, table):
                self._keys, self._data, self._read_s = other.read_last

    @property
    def keys(self) -> KeySet | None:
        """The keys as they were read last, another object for other keys. None: none were ever read, or the URL has not
        answered for too long."""
        if self.table.jwks_url is not None and time.monotonic() - self._read_s > self.table.jwks_keep_s:
            return None
        return self._keys

    @property
    def read_last(self) -> tuple[KeySet | None, bytes, float]:
        """Keys, their text, and when the issuer gave it last (time.monotonic)."""
        return self._keys, self._data, self._read_s

    def read(self) -> None:
        """Read the keys now; blocks. Raises ValueError where they cannot be used."""
        self._look()
        if self._problem:
            which = "jwks_file" if self.table.jwks_file is not None else "jwks_url"
            raise ValueError(f"issuers.{self.name}.{which}: {self._problem}")

    def start(self) -> None:
        """Read a file at once, a URL in the thread. Raises ValueError where the file cannot be used."""
        if self.table.jwks_file is not None:
            self.read()
        threading.Thread(target=self._run, name=f"keys-{self.name}", daemon=True).start()

    def look(self) -> None:
        """Look now (SIGHUP), or soon; returns at once."""
        self._wake.set()

    def close(self) -> None:
        self._closed = True
        self._wake.set()

    async def looked_at(self) -> None:
        """Wait until the keys were looked at once more; at most for seconds, and not where too many wait."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        waiter = (loop, future)
        with self._lock:
            if self._closed or len(self._waiters) >= _WAITERS_MAX:
                return
            self._waiters.append(waiter)
        self._wake.set()
        try:
            async with asyncio.timeout(_WAIT_S):
                await future
        except TimeoutError:
            pass
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    def _run(self) -> None:
        is_file = self.table.jwks_file is not None
        every_s = FILE_POLL_S if is_file else float(self.table.jwks_refresh_s)
        least_s = _ASKED_FILE_S if is_file else _ASKED_URL_S
        wait_s = every_s if is_file else 0.0
        looked_s = time.monotonic() - least_s
        while True:
            asked = self._wake.wait(wait_s)
            if self._is_closed():
                break
            if asked and (early_s := looked_s + least_s - time.monotonic()) > 0:
                threading.Event().wait(early_s)
            self._wake.clear()
            with self._lock:
                # Who comes during the look may name a key that it does not bring any more: it waits for the next one.
                waiters, self._waiters = self._waiters, []
            before, problem_before = self._keys, self._problem
            self._look()
            self._report(before, problem_before)
            looked_s = time.monotonic()
            wait_s = min(every_s, 10.0) if self._problem else every_s
            _release(waiters)
        with self._lock:
            waiters, self._waiters = self._waiters, []
        _release(waiters)

    def _is_closed(self) -> bool:
        return self._closed

    def _look(self) -> None:
        table = self.table
        try:
            if table.jwks_file is not None:
                found = table.jwks_file.stat()
                signature = (found.st_mtime_ns, found.st_size, found.st_ino)
                if signature == self._signature:
                    return
                data = _read_file(table.jwks_file)
                self._signature = signature
            else:
                data = fetch(table.jwks_url or "", table.jwks_ca_file)
            if data != self._data or self._keys is None:
                self._keys = read_key_set(data, table.algorithms)
                self._data = data
            self._read_s = time.monotonic()
            self._problem = ""
        except Exception as error:  # noqa: BLE001  a stranger's answer must not end the thread that reads the next one
            self._problem = _words(error)

    def _report(self, before: KeySet | None, problem_before: str) -> None:
        if self._problem and self._problem != problem_before:
            _log.error("issuer's keys cannot be read, those read before stay", issuer=self.name, problem=self._problem)
        elif self._keys is not before or problem_before:
            _log.info("issuer's keys read", issuer=self.name)


def _read_alike(one: IssuerTable, other: IssuerTable) -> bool:
    """Return True where what was read for the one is what would be read for the other."""
    return all(getattr(one, key) == getattr(other, key) for key in ("issuer", "jwks_url", "jwks_ca_file", "algorithms"))


def _release(waiters: list[Waiter]) -> None:
    for loop, future in waiters:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_set, future)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return str(error.strerror or getattr(error, "reason", "") or type(error).__name__)[:200]
    return str(error)[:200] if type(error) is ValueError else type(error).__name__


def _read_file(file: Path) -> bytes:
    with file.open("rb") as opened:
        return bounded(opened.read(KEY_SET_BYTES_MAX + 1))
