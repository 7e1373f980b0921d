"""The private names of other packages that are used here, all of them, each with its reason and a way round.

A release of the package may take such a name away at any time. So each is looked for where it is used; where it is
missing, the code does what the package's documentation says, and loses only what the name was used for. And each has a
test in `tests/test_private_names.py` that fails once the package no longer needs it: then it leaves this file.
`tests/test_boundaries.py` keeps such names out of all other files.
"""

from __future__ import annotations

import asyncio
from typing import Any


async def answer_of(call: Any) -> Any:
    """Await a unary call of grpc.aio. A cancellation ends the call in gRPC's core, and there alone.

    The names are grpc.aio's `_invocation_task` and `_cython_call`, the reason is grpc/grpc#43360: `call.cancel()`, as
    the cancellation of a task that awaits the call, also cancels the task in which aio waits for the core, and what the
    core was given is then never freed: 0.9 KB a call and 0.17 KB for each entry of metadata
    (`python -m bench.cancelled_calls`). Left alone, that task ends in the next moment and frees it.

    Where a name is missing (an aio that is made otherwise, a call behind somebody's interceptor), the call is simply
    awaited: its cancellation reaches the other side as well, and may leave that memory behind.
    """
    waiting, core_call = getattr(call, "_invocation_task", None), getattr(call, "_cython_call", None)
    if waiting is None or core_call is None:
        return await call
    ended = asyncio.get_running_loop().create_future()

    def end(_: object) -> None:
        if not ended.done():
            ended.set_result(None)

    # Not `call.code()`: a batch that the core refuses to begin, for its metadata, never gets a code.
    waiting.add_done_callback(end)
    try:
        await ended
    except asyncio.CancelledError:
        if not call.done():
            core_call.cancel("The caller has gone.")
        raise
    return await call
