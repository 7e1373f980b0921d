"""``python dying_iterate.py CONFIG_JSON STEP``: the real iterate, which is killed by SIGKILL right after a step.

Prints its address once it serves. Steps, in the order in which a session takes them: see ``STEPS``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

STEPS: Final = {
    "claimed": ("iterate.recall.recall", "Recall", "claim"),
    "briefed": ("iterate.hops", "GateHop", "brief"),
    "begun": ("iterate.session_log.in_flight", "InFlightFiles", "begin"),
    "ids sent": ("iterate.shared_session", "SharedSession", "on_begun"),
    "model answered": ("iterate.hops", "ChatHop", "complete"),
    "judged": ("iterate.hops", "GateHop", "validate"),
    "attempt noted": ("iterate.session_log.in_flight", "InFlightFiles", "attempt"),
    "end noted": ("iterate.session_log.in_flight", "InFlightFiles", "end"),
    "row appended": ("lakehouse.sessions.store.append", "LogFile", "append"),
    "row marked": ("iterate.session_log.in_flight", "InFlightFiles", "mark"),
    "answer made": ("iterate.shared_session", "SharedSession", "answer"),
}
"""What is to have been done: module, class and method."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(method: Callable[..., Any]) -> Callable[..., Any]:
    if asyncio.iscoroutinefunction(method):

        async def last(*arguments: Any, **keywords: Any) -> Any:
            await method(*arguments, **keywords)
            die()

        return last

    def last_of_a_thread(*arguments: Any, **keywords: Any) -> Any:
        method(*arguments, **keywords)
        die()

    return last_of_a_thread


async def serve(config: dict[str, Any]) -> None:
    from iterate.__main__ import compose
    from iterate.config import IterateConfig
    from lakehouse.server.bootstrap import running

    async with running("iterate", IterateConfig.model_validate(config), compose) as served:
        sys.stdout.write(served.address + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    module, class_name, method = STEPS[sys.argv[2]]
    owner = getattr(__import__(module, fromlist=[class_name]), class_name)
    setattr(owner, method, deadly(getattr(owner, method)))
    asyncio.run(serve(json.loads(sys.argv[1])))
