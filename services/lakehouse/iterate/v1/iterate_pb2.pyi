from lakehouse.chatd.v1 import chatd_pb2 as _chatd_pb2
from lakehouse.validated.v1 import validated_pb2 as _validated_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Grounding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GROUNDING_UNSPECIFIED: _ClassVar[Grounding]
    GROUNDING_NONE: _ClassVar[Grounding]
    GROUNDING_FORM: _ClassVar[Grounding]
    GROUNDING_CANDIDATES: _ClassVar[Grounding]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_ACCEPTED: _ClassVar[Verdict]
    VERDICT_REJECTED: _ClassVar[Verdict]
    VERDICT_UNPARSABLE: _ClassVar[Verdict]
    VERDICT_INFRA_ERROR: _ClassVar[Verdict]
GROUNDING_UNSPECIFIED: Grounding
GROUNDING_NONE: Grounding
GROUNDING_FORM: Grounding
GROUNDING_CANDIDATES: Grounding
VERDICT_UNSPECIFIED: Verdict
VERDICT_ACCEPTED: Verdict
VERDICT_REJECTED: Verdict
VERDICT_UNPARSABLE: Verdict
VERDICT_INFRA_ERROR: Verdict

class IterateRequest(_message.Message):
    __slots__ = ("kind", "fill", "email", "json_schema", "spec_json", "prompt", "provider", "model", "max_iterations", "session_id", "temperature", "max_tokens", "escalation", "grounding")
    KIND_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MAX_ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ESCALATION_FIELD_NUMBER: _ClassVar[int]
    GROUNDING_FIELD_NUMBER: _ClassVar[int]
    kind: str
    fill: _validated_pb2.FillSpec
    email: _validated_pb2.EmailSpec
    json_schema: _validated_pb2.JsonSchemaSpec
    spec_json: str
    prompt: str
    provider: str
    model: str
    max_iterations: int
    session_id: str
    temperature: float
    max_tokens: int
    escalation: _containers.RepeatedCompositeFieldContainer[_chatd_pb2.Target]
    grounding: Grounding
    def __init__(self, kind: _Optional[str] = ..., fill: _Optional[_Union[_validated_pb2.FillSpec, _Mapping]] = ..., email: _Optional[_Union[_validated_pb2.EmailSpec, _Mapping]] = ..., json_schema: _Optional[_Union[_validated_pb2.JsonSchemaSpec, _Mapping]] = ..., spec_json: _Optional[str] = ..., prompt: _Optional[str] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., max_iterations: _Optional[int] = ..., session_id: _Optional[str] = ..., temperature: _Optional[float] = ..., max_tokens: _Optional[int] = ..., escalation: _Optional[_Iterable[_Union[_chatd_pb2.Target, _Mapping]]] = ..., grounding: _Optional[_Union[Grounding, str]] = ...) -> None: ...

class Brief(_message.Message):
    __slots__ = ("grounding", "candidates", "candidates_total", "candidates_total_is_floor", "infeasible", "degraded", "findings", "roster", "brief_ms")
    GROUNDING_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_TOTAL_IS_FLOOR_FIELD_NUMBER: _ClassVar[int]
    INFEASIBLE_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    BRIEF_MS_FIELD_NUMBER: _ClassVar[int]
    grounding: Grounding
    candidates: int
    candidates_total: int
    candidates_total_is_floor: bool
    infeasible: bool
    degraded: bool
    findings: _containers.RepeatedCompositeFieldContainer[_validated_pb2.Finding]
    roster: str
    brief_ms: int
    def __init__(self, grounding: _Optional[_Union[Grounding, str]] = ..., candidates: _Optional[int] = ..., candidates_total: _Optional[int] = ..., candidates_total_is_floor: bool = ..., infeasible: bool = ..., degraded: bool = ..., findings: _Optional[_Iterable[_Union[_validated_pb2.Finding, _Mapping]]] = ..., roster: _Optional[str] = ..., brief_ms: _Optional[int] = ...) -> None: ...

class StreamIterateRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: IterateRequest
    def __init__(self, request: _Optional[_Union[IterateRequest, _Mapping]] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("iteration", "provider", "model", "verdict", "raw", "raw_truncated", "findings", "parse_problem", "input_tokens", "output_tokens", "chat_ms", "validate_ms", "roster", "span_id", "cost_nano_usd", "datasets")
    ITERATION_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    RAW_TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    PARSE_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CHAT_MS_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_MS_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    COST_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    iteration: int
    provider: str
    model: str
    verdict: Verdict
    raw: str
    raw_truncated: bool
    findings: _containers.RepeatedCompositeFieldContainer[_validated_pb2.Finding]
    parse_problem: str
    input_tokens: int
    output_tokens: int
    chat_ms: int
    validate_ms: int
    roster: str
    span_id: str
    cost_nano_usd: int
    datasets: _containers.RepeatedCompositeFieldContainer[_validated_pb2.DatasetVersion]
    def __init__(self, iteration: _Optional[int] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., raw: _Optional[str] = ..., raw_truncated: bool = ..., findings: _Optional[_Iterable[_Union[_validated_pb2.Finding, _Mapping]]] = ..., parse_problem: _Optional[str] = ..., input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., chat_ms: _Optional[int] = ..., validate_ms: _Optional[int] = ..., roster: _Optional[str] = ..., span_id: _Optional[str] = ..., cost_nano_usd: _Optional[int] = ..., datasets: _Optional[_Iterable[_Union[_validated_pb2.DatasetVersion, _Mapping]]] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("artifact_json",)
    ARTIFACT_JSON_FIELD_NUMBER: _ClassVar[int]
    artifact_json: str
    def __init__(self, artifact_json: _Optional[str] = ...) -> None: ...

class MaxIterExhausted(_message.Message):
    __slots__ = ("artifact_json", "token_budget_spent", "no_progress", "infeasible")
    ARTIFACT_JSON_FIELD_NUMBER: _ClassVar[int]
    TOKEN_BUDGET_SPENT_FIELD_NUMBER: _ClassVar[int]
    NO_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    INFEASIBLE_FIELD_NUMBER: _ClassVar[int]
    artifact_json: str
    token_budget_spent: bool
    no_progress: bool
    infeasible: bool
    def __init__(self, artifact_json: _Optional[str] = ..., token_budget_spent: bool = ..., no_progress: bool = ..., infeasible: bool = ...) -> None: ...

class IterateResponse(_message.Message):
    __slots__ = ("session_id", "trace_id", "accepted", "max_iter_exhausted", "attempts", "grounded_in_roster", "input_tokens", "output_tokens", "duration_ms", "cost_nano_usd", "brief", "recalled")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    MAX_ITER_EXHAUSTED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    GROUNDED_IN_ROSTER_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    COST_NANO_USD_FIELD_NUMBER: _ClassVar[int]
    BRIEF_FIELD_NUMBER: _ClassVar[int]
    RECALLED_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    trace_id: str
    accepted: Accepted
    max_iter_exhausted: MaxIterExhausted
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    grounded_in_roster: bool
    input_tokens: int
    output_tokens: int
    duration_ms: int
    cost_nano_usd: int
    brief: Brief
    recalled: bool
    def __init__(self, session_id: _Optional[str] = ..., trace_id: _Optional[str] = ..., accepted: _Optional[_Union[Accepted, _Mapping]] = ..., max_iter_exhausted: _Optional[_Union[MaxIterExhausted, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., grounded_in_roster: bool = ..., input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., duration_ms: _Optional[int] = ..., cost_nano_usd: _Optional[int] = ..., brief: _Optional[_Union[Brief, _Mapping]] = ..., recalled: bool = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("response",)
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    response: IterateResponse
    def __init__(self, response: _Optional[_Union[IterateResponse, _Mapping]] = ...) -> None: ...

class AttemptStarted(_message.Message):
    __slots__ = ("iteration", "max_iterations", "provider", "model")
    ITERATION_FIELD_NUMBER: _ClassVar[int]
    MAX_ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    iteration: int
    max_iterations: int
    provider: str
    model: str
    def __init__(self, iteration: _Optional[int] = ..., max_iterations: _Optional[int] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class ModelAnswered(_message.Message):
    __slots__ = ("iteration", "provider", "model", "raw", "chat_ms")
    ITERATION_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    CHAT_MS_FIELD_NUMBER: _ClassVar[int]
    iteration: int
    provider: str
    model: str
    raw: str
    chat_ms: int
    def __init__(self, iteration: _Optional[int] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., raw: _Optional[str] = ..., chat_ms: _Optional[int] = ...) -> None: ...

class StreamIterateResponse(_message.Message):
    __slots__ = ("attempt_started", "model_answered", "attempt_finished", "response", "brief", "candidates_json")
    ATTEMPT_STARTED_FIELD_NUMBER: _ClassVar[int]
    MODEL_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FINISHED_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    BRIEF_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_JSON_FIELD_NUMBER: _ClassVar[int]
    attempt_started: AttemptStarted
    model_answered: ModelAnswered
    attempt_finished: Attempt
    response: IterateResponse
    brief: Brief
    candidates_json: str
    def __init__(self, attempt_started: _Optional[_Union[AttemptStarted, _Mapping]] = ..., model_answered: _Optional[_Union[ModelAnswered, _Mapping]] = ..., attempt_finished: _Optional[_Union[Attempt, _Mapping]] = ..., response: _Optional[_Union[IterateResponse, _Mapping]] = ..., brief: _Optional[_Union[Brief, _Mapping]] = ..., candidates_json: _Optional[str] = ...) -> None: ...
