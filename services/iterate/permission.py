"""What a caller's policy says of a request: asked for outright and not allowed, it is refused; left to the deployment's
default, it is bounded."""

from __future__ import annotations

from dataclasses import replace

from iterate.task import GROUNDINGS, Grounding, Task
from lakehouse.server.callers.policy import Caller, not_allowed


def permitted(
    task: Task, caller: Caller, *, grounding_asked: Grounding | None, max_iterations_asked: int | None
) -> Task:
    """Return the task as this caller may have it run; `…_asked` is None where the request leaves it to the default.

    All that the session may ask has to be allowed: the target, and each one that it may escalate to or fall back on.
    What a route of chatd reaches, chatd looks at. Raises Fault (CALLER_NOT_ALLOWED).
    """
    policy = caller.policy
    if not policy.may_ask_kind(task.kind):
        raise not_allowed("kind")
    if not policy.may_ask_model(task.target.provider, task.target.model):
        raise not_allowed("model")
    if not all(policy.may_ask_model(each.provider, each.model) for each in task.escalation):
        raise not_allowed("escalation")
    if grounding_asked is not None and not policy.may_ground(grounding_asked):
        raise not_allowed("grounding")
    if max_iterations_asked is not None and not policy.may_iterate(max_iterations_asked):
        raise not_allowed("max_iterations")
    return replace(
        task,
        caller=caller.name,
        grounding=min(task.grounding, policy.grounding_max or task.grounding, key=GROUNDINGS.index),
        max_iterations=min(task.max_iterations, policy.max_iterations or task.max_iterations),
    )
