"""``EndpointSecrets``: the key and the secret headers of one endpoint, read again when their files change.

A file is looked at before each call, by a thread of its own: a disk that hangs holds up no call longer than `_WAIT_S`,
and never the event loop. A file that is gone, empty or unusable changes nothing: a key is replaced by a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple

import structlog

from chatd.config import HttpProviderTable
from lakehouse.settings import ConfigError, read_secret

# A look costs some 50 us. What takes longer is a disk that hangs: the call goes on with what is known.
_WAIT_S: Final = 0.05

_log = structlog.get_logger()


class Secrets(NamedTuple):
    """What is sent, and what must not be logged."""

    headers: Mapping[str, str]
    hidden: tuple[str, ...]


class EndpointSecrets:
    """See the module. To be used on one event loop."""

    def __init__(self, table: HttpProviderTable, *, key_header: str) -> None:
        """`key_header` is a header with `{key}` in its value. Raises ConfigError where a file cannot be read or
        used."""
        name, _, form = key_header.partition(": ")
        # Header by header: its form, its value where that is fixed, its file where it has one.
        self._forms = {name: form} | dict.fromkeys((*table.secret_headers, *table.secret_headers_file), "{key}")
        self._files: dict[str, Path] = dict(table.secret_headers_file)
        if table.api_key_file is not None:
            self._files[name] = table.api_key_file
        self._values = {name: read_secret(table.api_key, table.api_key_file)}
        self._values |= {header: value.get_secret_value() for header, value in table.secret_headers.items()}
        self._values |= {header: read_secret(table.api_key, file) for header, file in table.secret_headers_file.items()}
        for header, value in self._values.items():
            if not _usable(value):
                raise ConfigError(
                    [f"the secret for {header} holds what no HTTP header can: one line of ASCII is needed"]
                )
        self._seen = {header: _signature(file) for header, file in self._files.items()}
        self.current = self._made()
        self._jobs: SimpleQueue[tuple[asyncio.Future[None], bool] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._looking: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None

    @property
    def watched(self) -> bool:
        """Whether any of them can change."""
        return bool(self._files)

    async def fresh(self, *, read: bool = False) -> Secrets:
        """Return what to send now. With `read` the files are read even where they look unchanged."""
        if not self._files:
            return self.current
        loop = asyncio.get_running_loop()
        if self._looking is None:
            look = self._looking = loop.create_future()
            self._start(look, loop, read=read)
        else:
            # A look that is under way may have come too early for this call; the next one serves all who wait.
            look = self._next = self._next or loop.create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_S):
                await asyncio.shield(look)
        return self.current

    def close(self) -> None:
        """End the thread; a disk that hangs does not hold up the process."""
        if self._thread is not None:
            self._jobs.put(None)

    def _start(self, look: asyncio.Future[None], loop: asyncio.AbstractEventLoop, *, read: bool) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(loop,), name="chatd-secrets", daemon=True)
            self._thread.start()
        self._jobs.put((look, read))

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while (job := self._jobs.get()) is not None:
            look, read = job
            changed = self._look(read=read)
            # The loop is gone where the process ends.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._done, look, loop, changed)

    def _done(self, look: asyncio.Future[None], loop: asyncio.AbstractEventLoop, changed: dict[str, str]) -> None:
        if changed:
            self._values |= changed
            self.current = self._made()
            _log.info("secrets replaced", headers=sorted(changed))
        if not look.done():
            look.set_result(None)
        self._looking, self._next = self._next, None
        if self._looking is not None:
            self._start(self._looking, loop, read=False)

    def _look(self, *, read: bool) -> dict[str, str]:
        """In the thread: the values that have changed."""
        changed: dict[str, str] = {}
        for header, file in self._files.items():
            signature = _signature(file)
            if signature is None or (signature == self._seen[header] and not read):
                continue
            self._seen[header] = signature
            try:
                value = file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                value = ""
            if not value or not _usable(value):
                _log.warning("secret file cannot be used, the old secret stays", file=str(file))
            elif value != self._values[header]:
                changed[header] = value
        return changed

    def _made(self) -> Secrets:
        sent = {header: self._forms[header].format(key=value) for header, value in self._values.items() if value}
        return Secrets(sent, tuple(value for value in self._values.values() if value))


def _signature(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    # A pipe gives its text once: at the start.
    return (found.st_mtime_ns, found.st_size, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _usable(value: str) -> bool:
    return value.isascii() and value.isprintable()
