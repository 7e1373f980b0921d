from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BriefRequest(_message.Message):
    __slots__ = ("kind", "fill", "email", "json_schema", "spec_json", "prompt", "candidates_max", "seed")
    KIND_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_MAX_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    kind: str
    fill: FillSpec
    email: EmailSpec
    json_schema: JsonSchemaSpec
    spec_json: str
    prompt: str
    candidates_max: int
    seed: str
    def __init__(self, kind: _Optional[str] = ..., fill: _Optional[_Union[FillSpec, _Mapping]] = ..., email: _Optional[_Union[EmailSpec, _Mapping]] = ..., json_schema: _Optional[_Union[JsonSchemaSpec, _Mapping]] = ..., spec_json: _Optional[str] = ..., prompt: _Optional[str] = ..., candidates_max: _Optional[int] = ..., seed: _Optional[str] = ...) -> None: ...

class BriefResponse(_message.Message):
    __slots__ = ("instructions", "form_schema_json", "candidates_schema_json", "candidates_json", "candidates_total", "candidates_total_is_floor", "needed", "infeasible", "findings", "roster", "datasets")
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    FORM_SCHEMA_JSON_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_SCHEMA_JSON_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_JSON_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_TOTAL_IS_FLOOR_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    INFEASIBLE_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    instructions: str
    form_schema_json: str
    candidates_schema_json: str
    candidates_json: str
    candidates_total: int
    candidates_total_is_floor: bool
    needed: int
    infeasible: bool
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    roster: RosterVersion
    datasets: _containers.RepeatedCompositeFieldContainer[DatasetVersion]
    def __init__(self, instructions: _Optional[str] = ..., form_schema_json: _Optional[str] = ..., candidates_schema_json: _Optional[str] = ..., candidates_json: _Optional[str] = ..., candidates_total: _Optional[int] = ..., candidates_total_is_floor: bool = ..., needed: _Optional[int] = ..., infeasible: bool = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., roster: _Optional[_Union[RosterVersion, _Mapping]] = ..., datasets: _Optional[_Iterable[_Union[DatasetVersion, _Mapping]]] = ...) -> None: ...

class ListKindsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListKindsResponse(_message.Message):
    __slots__ = ("kinds",)
    KINDS_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedCompositeFieldContainer[Kind]
    def __init__(self, kinds: _Optional[_Iterable[_Union[Kind, _Mapping]]] = ...) -> None: ...

class Kind(_message.Message):
    __slots__ = ("name", "description", "spec_schema_json", "has_candidates")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    SPEC_SCHEMA_JSON_FIELD_NUMBER: _ClassVar[int]
    HAS_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    spec_schema_json: str
    has_candidates: bool
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., spec_schema_json: _Optional[str] = ..., has_candidates: bool = ...) -> None: ...

class ValidateRequest(_message.Message):
    __slots__ = ("kind", "fill", "email", "json_schema", "spec_json", "artifact_json")
    KIND_FIELD_NUMBER: _ClassVar[int]
    FILL_FIELD_NUMBER: _ClassVar[int]
    EMAIL_FIELD_NUMBER: _ClassVar[int]
    JSON_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_JSON_FIELD_NUMBER: _ClassVar[int]
    kind: str
    fill: FillSpec
    email: EmailSpec
    json_schema: JsonSchemaSpec
    spec_json: str
    artifact_json: str
    def __init__(self, kind: _Optional[str] = ..., fill: _Optional[_Union[FillSpec, _Mapping]] = ..., email: _Optional[_Union[EmailSpec, _Mapping]] = ..., json_schema: _Optional[_Union[JsonSchemaSpec, _Mapping]] = ..., spec_json: _Optional[str] = ..., artifact_json: _Optional[str] = ...) -> None: ...

class FillSpec(_message.Message):
    __slots__ = ("role", "count", "city", "state", "shift_start", "shift_end", "required_certifications", "client_id", "allowed_locations", "site", "max_distance_km")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    CITY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SHIFT_START_FIELD_NUMBER: _ClassVar[int]
    SHIFT_END_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_CERTIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ID_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_LOCATIONS_FIELD_NUMBER: _ClassVar[int]
    SITE_FIELD_NUMBER: _ClassVar[int]
    MAX_DISTANCE_KM_FIELD_NUMBER: _ClassVar[int]
    role: str
    count: int
    city: str
    state: str
    shift_start: str
    shift_end: str
    required_certifications: _containers.RepeatedScalarFieldContainer[str]
    client_id: str
    allowed_locations: _containers.RepeatedCompositeFieldContainer[Location]
    site: Coordinates
    max_distance_km: float
    def __init__(self, role: _Optional[str] = ..., count: _Optional[int] = ..., city: _Optional[str] = ..., state: _Optional[str] = ..., shift_start: _Optional[str] = ..., shift_end: _Optional[str] = ..., required_certifications: _Optional[_Iterable[str]] = ..., client_id: _Optional[str] = ..., allowed_locations: _Optional[_Iterable[_Union[Location, _Mapping]]] = ..., site: _Optional[_Union[Coordinates, _Mapping]] = ..., max_distance_km: _Optional[float] = ...) -> None: ...

class Location(_message.Message):
    __slots__ = ("city", "state")
    CITY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    city: str
    state: str
    def __init__(self, city: _Optional[str] = ..., state: _Optional[str] = ...) -> None: ...

class Coordinates(_message.Message):
    __slots__ = ("latitude", "longitude")
    LATITUDE_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_FIELD_NUMBER: _ClassVar[int]
    latitude: float
    longitude: float
    def __init__(self, latitude: _Optional[float] = ..., longitude: _Optional[float] = ...) -> None: ...

class EmailSpec(_message.Message):
    __slots__ = ("worker_ids", "to_worker_id", "subject_chars_max", "body_chars_max", "allowed_numbers", "allowed_names")
    WORKER_IDS_FIELD_NUMBER: _ClassVar[int]
    TO_WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_CHARS_MAX_FIELD_NUMBER: _ClassVar[int]
    BODY_CHARS_MAX_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_NUMBERS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_NAMES_FIELD_NUMBER: _ClassVar[int]
    worker_ids: _containers.RepeatedScalarFieldContainer[str]
    to_worker_id: str
    subject_chars_max: int
    body_chars_max: int
    allowed_numbers: _containers.RepeatedScalarFieldContainer[str]
    allowed_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, worker_ids: _Optional[_Iterable[str]] = ..., to_worker_id: _Optional[str] = ..., subject_chars_max: _Optional[int] = ..., body_chars_max: _Optional[int] = ..., allowed_numbers: _Optional[_Iterable[str]] = ..., allowed_names: _Optional[_Iterable[str]] = ...) -> None: ...

class JsonSchemaSpec(_message.Message):
    __slots__ = ("schema_json",)
    SCHEMA_JSON_FIELD_NUMBER: _ClassVar[int]
    schema_json: str
    def __init__(self, schema_json: _Optional[str] = ...) -> None: ...

class ValidateResponse(_message.Message):
    __slots__ = ("passed", "findings", "findings_left_out", "grounded_in_roster", "roster", "artifact_json", "datasets")
    PASSED_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_LEFT_OUT_FIELD_NUMBER: _ClassVar[int]
    GROUNDED_IN_ROSTER_FIELD_NUMBER: _ClassVar[int]
    ROSTER_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_JSON_FIELD_NUMBER: _ClassVar[int]
    DATASETS_FIELD_NUMBER: _ClassVar[int]
    passed: bool
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    findings_left_out: int
    grounded_in_roster: bool
    roster: RosterVersion
    artifact_json: str
    datasets: _containers.RepeatedCompositeFieldContainer[DatasetVersion]
    def __init__(self, passed: bool = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., findings_left_out: _Optional[int] = ..., grounded_in_roster: bool = ..., roster: _Optional[_Union[RosterVersion, _Mapping]] = ..., artifact_json: _Optional[str] = ..., datasets: _Optional[_Iterable[_Union[DatasetVersion, _Mapping]]] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("code", "path", "message", "suggestions", "unrestricted_message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SUGGESTIONS_FIELD_NUMBER: _ClassVar[int]
    UNRESTRICTED_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: str
    path: str
    message: str
    suggestions: _containers.RepeatedCompositeFieldContainer[Suggestion]
    unrestricted_message: str
    def __init__(self, code: _Optional[str] = ..., path: _Optional[str] = ..., message: _Optional[str] = ..., suggestions: _Optional[_Iterable[_Union[Suggestion, _Mapping]]] = ..., unrestricted_message: _Optional[str] = ...) -> None: ...

class Suggestion(_message.Message):
    __slots__ = ("worker_id", "name", "facts_json")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FACTS_JSON_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    name: str
    facts_json: str
    def __init__(self, worker_id: _Optional[str] = ..., name: _Optional[str] = ..., facts_json: _Optional[str] = ...) -> None: ...

class DatasetVersion(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class RosterVersion(_message.Message):
    __slots__ = ("source", "version", "row_count", "loaded_at")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_FIELD_NUMBER: _ClassVar[int]
    source: str
    version: str
    row_count: int
    loaded_at: str
    def __init__(self, source: _Optional[str] = ..., version: _Optional[str] = ..., row_count: _Optional[int] = ..., loaded_at: _Optional[str] = ...) -> None: ...
