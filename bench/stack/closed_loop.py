"""The closed loop: so many workers, each of which begins the next session when its last one has ended.

A process that runs sessions reads commands from its standard input, one JSON object a line, and answers each with one
line. Standard library alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

Session = Callable[[], Awaitable[None]]
MakeSession = Callable[[dict[str, Any]], Session]


async def closed_loop(session: Session, *, concurrency: int, seconds: float) -> dict[str, Any]:
    """Run sessions for `seconds`; those that run then are waited for and counted. Raises what a session raises."""
    latencies_us: list[int] = []
    started = time.perf_counter()
    ends = started + seconds

    async def worker() -> None:
        while (begun := time.perf_counter()) < ends:
            await session()
            latencies_us.append(int((time.perf_counter() - begun) * 1e6))

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return {"seconds": time.perf_counter() - started, "latencies_us": latencies_us}


async def obey(make_session: MakeSession) -> None:
    """Serve commands {"concurrency", "seconds", …} until the input ends. `make_session` gets the whole command."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    while line := await reader.readline():
        command = json.loads(line)
        result = await closed_loop(
            make_session(command), concurrency=command["concurrency"], seconds=command["seconds"]
        )
        print(json.dumps(result), flush=True)
