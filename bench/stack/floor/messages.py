"""The messages of the job, as large as the real ones, since the services' own code builds them."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from bench.stack import job

from iterate.conversation import Conversation, Turn
from iterate.feedback import Feedback
from lakehouse.chatd.v1 import chatd_pb2
from lakehouse.iterate.v1 import iterate_pb2
from lakehouse.validated.v1 import validated_pb2

_ROLES = {"system": chatd_pb2.ROLE_SYSTEM, "user": chatd_pb2.ROLE_USER, "assistant": chatd_pb2.ROLE_ASSISTANT}
_ROSTER = validated_pb2.RosterVersion(
    source="workers.csv", version="sha256:" + "0" * 16, row_count=3000, loaded_at="2026-01-01T00:00:00Z"
)
FINDING = validated_pb2.Finding(
    code="PHANTOM_WORKER",
    path="/workers/14/worker_id",
    message='"W-999999" is not in the roster: no such worker exists; workers who would qualify: '
    "W-000001 Some Person, W-000002 Some Person, W-000003 Some Person",
    unrestricted_message='"W-999999" is not in the roster: no such worker exists',
    suggestions=[validated_pb2.Suggestion(worker_id=f"W-00000{n}", name="Some Person") for n in range(3)],
)


@dataclass(frozen=True)
class Attempt:
    """Both hops of one attempt."""

    ask: dict[str, chatd_pb2.CompleteRequest]
    """By provider."""
    completion: chatd_pb2.CompleteResponse
    http_body: bytes
    judge: validated_pb2.ValidateRequest
    judgement: validated_pb2.ValidateResponse


def attempts() -> tuple[Attempt, Attempt]:
    """Return the rejected attempt and the accepted one."""
    fill = validated_pb2.FillSpec(role=job.ROLE, count=job.COUNT, city=job.CITY, state=job.STATE)
    text = orjson.dumps({"city": job.CITY, "count": job.COUNT, "role": job.ROLE, "state": job.STATE}).decode()
    conversation = Conversation(prompt=job.prompt(), spec=text, brief=None, context_bytes_max=1 << 20)
    first, second = job.answers()
    rejected = _attempt(conversation, first, fill, [FINDING])
    conversation.add(first, Feedback(None).rejected("{}", [FINDING]))
    return rejected, _attempt(conversation, second, fill, [])


def response() -> iterate_pb2.IterateResponse:
    """Return the session's end, with both attempts."""
    told = []
    for iteration, (answer, findings) in enumerate(zip(job.answers(), ([FINDING], []), strict=True), start=1):
        told.append(
            iterate_pb2.Attempt(
                iteration=iteration,
                provider="fake0",
                model=job.MODEL,
                verdict=iterate_pb2.VERDICT_REJECTED if findings else iterate_pb2.VERDICT_ACCEPTED,
                raw=answer,
                findings=findings,
                input_tokens=1143,
                output_tokens=612,
                chat_ms=1,
                validate_ms=1,
                roster=_ROSTER.version,
            )
        )
    return iterate_pb2.IterateResponse(
        session_id="019f0000-0000-7000-8000-000000000000",
        trace_id="0" * 31 + "1",
        accepted=iterate_pb2.Accepted(artifact_json=job.answers()[1]),
        attempts=told,
        input_tokens=2286,
        output_tokens=1224,
        duration_ms=3,
        grounded_in_roster=True,
    )


def _message(turn: Turn) -> chatd_pb2.Message:
    return chatd_pb2.Message(role=_ROLES[turn.role], content=turn.content, restricted_content=turn.restricted)


def _attempt(
    conversation: Conversation, answer: str, fill: validated_pb2.FillSpec, findings: list[validated_pb2.Finding]
) -> Attempt:
    turns = conversation.turns()
    form = chatd_pb2.ResponseFormat(type=chatd_pb2.ResponseFormat.TYPE_JSON_OBJECT)
    body = {
        "model": job.MODEL,
        "messages": [{"role": turn.role, "content": turn.restricted or turn.content} for turn in turns],
        "response_format": {"type": "json_object"},
    }
    return Attempt(
        ask={
            f"fake{latency_ms}": chatd_pb2.CompleteRequest(
                messages=[_message(turn) for turn in turns],
                target=chatd_pb2.Target(provider=f"fake{latency_ms}"),
                response_format=form,
                attempt=len(turns) // 2,
            )
            for latency_ms in job.LATENCIES_MS
        },
        completion=chatd_pb2.CompleteResponse(
            text=answer,
            provider="fake0",
            model=job.MODEL,
            usage=chatd_pb2.Usage(input_tokens=1143, output_tokens=612),
            finish_reason=chatd_pb2.FINISH_REASON_STOP,
            upstream_requests=1,
        ),
        http_body=orjson.dumps(body),
        judge=validated_pb2.ValidateRequest(kind="fill", fill=fill, artifact_json=answer),
        judgement=validated_pb2.ValidateResponse(
            passed=not findings,
            findings=findings,
            artifact_json=answer,
            roster=_ROSTER,
            grounded_in_roster=not findings,
        ),
    )
