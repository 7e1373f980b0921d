"""Sessions as a logger sees them: begun, and handed over at once.

As a program, `logged_sessions.py LOG NOTES SPILL_FOLDER`: it has three of them at a time and notes each one's id and
outcome, until SIGTERM. It imports what it needs and no service, so that a test can afford several.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from iterate.session_log.logger import OpenSession, SessionLogConfig, SessionLogger
from lakehouse.sessions.record import PROCESS_DIED, SessionRecord, rfc3339


def begun(session_id: str) -> SessionRecord:
    return SessionRecord(
        session_id=session_id,
        timestamp=rfc3339(time.time_ns() // 1000),
        trace_id="1" * 32,
        kind="fill",
        provider="p",
        model="m",
        prompt="Fill 3 forklift operators",
        max_iterations=1,
        final_verdict="infra_error",
        error=PROCESS_DIED,
        duration_ms=0,
    )


def ended(session: OpenSession) -> SessionRecord:
    return replace(
        session._record, timestamp=rfc3339(time.time_ns() // 1000), final_verdict="max_iter_exhausted", error=None
    )


def configured(path: Path, **settings: Any) -> SessionLogConfig:
    given = {"session_log_path": str(path), "spill_dir": str(path.parent.parent / "spill"), **settings}
    return SessionLogConfig.model_validate(given)


async def answered(logger: SessionLogger, session_id: str) -> str:
    session = logger.begin(begun(session_id))
    await session.begun()
    return await session.hand_over(ended(session)).written()


async def main(path: str, notes_path: str, spill_folder: str) -> None:
    notes = os.open(notes_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    logger = SessionLogger(configured(Path(path), spill_dir=spill_folder, append_wait_ms=2000))
    await logger.start()

    async def sessions(name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            session_id = f"{os.getpid()}-{name}-{number}"
            outcome = await answered(logger, session_id)
            os.write(notes, f"{session_id} {outcome}\n".encode())

    await asyncio.gather(*(sessions(name) for name in "abc"))
    await logger.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
