"""``ChatServicer``: the two RPCs, which are one: ``Complete`` is ``StreamComplete`` with no listener."""

from __future__ import annotations

import time
from typing import Any

from chatd.completion import Delta, OnDelta
from chatd.config import ChatdConfig
from chatd.endpoint import Tally
from chatd.generation import end_generation, fail_generation, start_generation
from chatd.permission import allowed_choices
from chatd.routes import Answer, Router
from chatd.wire import delta_event, read_request, to_response
from lakehouse.chatd.v1 import chatd_pb2, chatd_pb2_grpc
from lakehouse.errors import Fault, Reason, Violation, bad_request
from lakehouse.server.call import Call, current_call
from lakehouse.server.metrics import Metrics
from lakehouse.tracing import Tracing


class ChatServicer(chatd_pb2_grpc.ChatServiceServicer):
    """See the proto."""

    def __init__(self, router: Router, tracing: Tracing, config: ChatdConfig, metrics: Metrics) -> None:
        self._router = router
        self._tokens = metrics.series("lakehouse_model_tokens", "provider", "model", "direction")
        self._cost_usd = metrics.series("lakehouse_model_cost_usd", "provider", "model")
        self._tracing = tracing
        self._call_timeout_s = config.call_timeout_ms / 1000

    async def Complete(  # noqa: N802  gRPC's name
        self, request: chatd_pb2.CompleteRequest, context: Any
    ) -> chatd_pb2.CompleteResponse:
        return await self._answer(request, None)

    async def StreamComplete(  # type: ignore[override]  # noqa: N802  writes instead of yielding; gRPC's name
        self, request: chatd_pb2.StreamCompleteRequest, context: Any
    ) -> None:
        if not request.HasField("request"):
            raise bad_request(Violation("request", "must be set"))

        async def write(delta: Delta) -> None:
            for event in delta_event(delta.text, delta.reasoning):
                await context.write(event)

        response = await self._answer(request.request, write)
        await context.write(chatd_pb2.StreamCompleteResponse(response=response))

    async def _answer(self, message: chatd_pb2.CompleteRequest, on_delta: OnDelta | None) -> chatd_pb2.CompleteResponse:
        call = current_call()
        request, target, fallbacks = read_request(message)
        choices = self._router.choose(target, fallbacks)
        if call.caller is not None:
            choices = allowed_choices(self._router, call.caller, choices, (target, *fallbacks))
        deadline_s = self._deadline_s(call)
        tally = Tally()
        span = start_generation(self._tracing, call.trace, call.session_id or None, request, choices[0].model)
        try:
            answer = await self._router.complete(
                request, choices, deadline_s=deadline_s, on_delta=on_delta, tally=tally
            )
        except BaseException as error:
            fail_generation(span, call.fault_of(error), tally)
            raise
        finally:
            _note(call, tally)
        _note_answer(call, answer)
        self._count(answer)
        end_generation(span, answer, tally)
        return to_response(answer, tally)

    def _count(self, answer: Answer) -> None:
        # A model's name is the endpoint's word for it.
        provider, model, usage = answer.provider, answer.completion.model[:128], answer.completion.usage
        self._tokens.add((provider, model, "input"), usage.input_tokens)
        self._tokens.add((provider, model, "output"), usage.output_tokens)
        if answer.cost is not None:
            self._cost_usd.add((provider, model), answer.cost.nano_usd / 1e9)

    def _deadline_s(self, call: Call) -> float:
        """When the answer must be there (time.monotonic). Raises Fault (DEADLINE) where no time is left for a call."""
        left_s = call.seconds_left()
        if left_s == 0:
            raise Fault(Reason.DEADLINE, where="chatd")
        return time.monotonic() + (self._call_timeout_s if left_s is None else min(left_s, self._call_timeout_s))


def _note(call: Call, tally: Tally) -> None:
    facts = call.facts
    facts["provider"] = tally.provider
    facts["model"] = tally.model
    facts["upstream_requests"] = tally.upstream_requests
    facts["retries"] = tally.retries
    facts["fallbacks"] = tally.fallbacks
    if tally.adapted:
        facts["adapted"] = list(tally.adapted)
    if tally.details:
        facts["upstream"] = list(tally.details)


def _note_answer(call: Call, answer: Answer) -> None:
    completion = answer.completion
    facts = call.facts
    facts["provider"] = answer.provider
    facts["model"] = completion.model
    facts["input_tokens"] = completion.usage.input_tokens
    facts["output_tokens"] = completion.usage.output_tokens
    if answer.cost is not None:
        facts["cost_nano_usd"] = answer.cost.nano_usd
    facts["finish_reason"] = str(completion.finish_reason)
    sent = answer.sent.sent_format
    if sent is not None:
        facts["sent_form"] = sent.form
        if sent.schema:
            facts["sent_schema"] = sent.schema
        if sent.degraded:
            facts["degraded"] = sent.degraded
