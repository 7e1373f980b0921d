"""The end of a task that runs beside the calls."""

from __future__ import annotations

import asyncio
from typing import Final

_AGAIN_S: Final = 0.2


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended. Raises what it raised before.

    It is cancelled again where it goes on: up to Python 3.11 ``asyncio.wait_for``, by which psycopg waits for its
    server, loses a cancellation that comes in the moment in which its wait ends (bpo-42130).
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN_S)
    if not task.cancelled():
        task.result()
