"""The settings of ``validated``: table [validated] of the configuration, or VALIDATED_… variables."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import phonenumbers
from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from lakehouse.server.config import ServerTable, configured_by_file
from lakehouse.settings import Milliseconds, Table
from validated.datasets.columns import WORKER_COLUMNS

Name = Annotated[str, Field(min_length=1, max_length=63)]
CandidateFact = Literal["worker_id", "name", "role", "city", "state", "certifications"]
CANDIDATE_FACTS: Final[tuple[CandidateFact, ...]] = get_args(CandidateFact)


# Python has them among its encodings; they write something else than texts of files.
_NO_FILES_ENCODING: Final = ("idna", "punycode", "unicode-escape", "raw-unicode-escape", "utf-7", "undefined")


class DatabaseTable(Table):
    """What the roster and a dataset in PostgreSQL have in common. Names are identifiers, quoted by the driver; a role
    that may only read them is enough."""

    conninfo: SecretStr = SecretStr("")
    """libpq connection string or URI. By environment or by `conninfo_file`: it may hold a password."""
    conninfo_file: Path | None = None
    """A file that holds it, read again at each connection."""
    schema_name: Name = "public"
    """The schema of the table."""
    table: Name
    """A table or a view."""
    connect_timeout_ms: Annotated[int, Field(ge=10, le=600_000)] = 2000
    """The longest wait for a connection."""
    replica_lag_max_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 60_000
    """How far a standby may be behind; past it nothing is read from it until it has caught up. A standby that has
    replayed all that it received, and that receives, is not behind; otherwise its age is that of the last transaction
    that it replayed. A primary is never behind. 0: any, and nothing is asked (for a server that lacks PostgreSQL's
    functions of replay).
    """

    def is_given_once(self) -> bool:
        """Whether there is a connection string, in one place."""
        return bool(self.conninfo.get_secret_value()) + (self.conninfo_file is not None) == 1


class PostgresTable(DatabaseTable):
    """Roster in PostgreSQL, asked at each look-up."""

    table: Name = "workers"
    """Its names are asked for by an expression: with more than some 50,000 rows it should have an index on it
    (`python -m validated.datasets.names` prints the statement).
    """
    assignments_table: Annotated[str, Field(max_length=63)] = ""
    """Table in the same schema with worker_id, shift_start, shift_end (timestamptz). Empty: no overlap is known."""
    do_not_send_table: Annotated[str, Field(max_length=63)] = ""
    """Table in the same schema with client_id, worker_id. Empty: no client refuses anybody."""
    version_query: str = ""
    """A query of one value that names the roster's version, run as a part of each look-up (an expression such as
    `SELECT max(version) FROM roster_version`). The operator's own SQL, never a caller's. Empty: the time of the query,
    and on a standby that of the last transaction that it replayed.
    """
    pool_max: Annotated[int, Field(ge=1, le=100)] = 8
    statement_timeout_ms: Annotated[int, Field(ge=10, le=600_000)] = 2000
    """The longest look-up; a nearer deadline of the caller counts instead."""
    audit_s: Annotated[int, Field(ge=1, le=86_400)] = 300
    """How often the tables are looked at beside the look-ups: columns, types, rights, spaces in companions."""
    row_security: Literal["refuse", "allow"] = "refuse"
    """`refuse`: a companion table whose rows row-level security may hide from this role is refused, since a line that
    cannot be seen would count as none. On the workers' table hidden people are phantoms, and that is reported."""
    similarity: Literal["auto", "off"] = "auto"
    """`auto`: suggestions use pg_trgm where it is installed; `off`: only workers who fit the spec are suggested."""


_ONE_CONNINFO: Final = "backend postgres needs postgres.conninfo or postgres.conninfo_file, one of them"


def _refuse_twice(setting: str, columns: Mapping[str, str]) -> None:
    twice = [theirs for theirs, count in Counter(columns.values()).items() if count > 1]
    if twice:
        raise ValueError(f'{setting}: "{twice[0]}" cannot stand for two columns')


class FilesTable(Table):
    """What the files of the roster and of a dataset have in common."""

    path: Path
    """The rows: .csv, .tsv, .jsonl, .ndjson (these also with .gz or .zst) or .parquet, in any case; or a folder of such
    files. Taken to the letter. Replace it by a rename; it is then loaded by itself."""
    ignore_columns: tuple[str, ...] = ()
    """Columns of the file or the table that look like ours and are not. Such a column is refused unless it stands in
    `columns` or here: a column `Active` that nobody reads would make everybody active."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """What parts the columns of .csv (.tsv has tabs)."""
    encoding: str = "utf-8"
    """How .csv, .tsv and .jsonl are encoded: a name that Python knows, such as "cp1252"."""
    shrink_max: Annotated[float, Field(ge=0, le=1)] = 0.5
    """A new load that has lost more than this share of its rows (of a roster: of its workers, of its active workers or
    of its do-not-send lines) is refused, and the old one stays. SIGHUP while it lies there loads it all the same, once;
    1: no limit."""
    allow_shrink: bool = False
    """Take files that have shrunk beyond `shrink_max`."""
    max_age_s: Annotated[int, Field(ge=0, le=315_360_000)] = 0
    """How old the file may be, by its time of modification, or of a dataset in PostgreSQL the time since it was last
    read or known to be unchanged; past it there is a warning each minute. 0: any."""
    max_age_action: Literal["warn", "close"] = "warn"
    """`close`: past `max_age_s` look-ups answer ROSTER_UNAVAILABLE."""
    index_dir: Path | None = None
    """Where built indexes are kept, so that a restart with unchanged files loads at once; made with mode 0700, some 200
    bytes a row. None: `lakehouse/datasets` (of a dataset: `lakehouse/dataset-<name>`) in $XDG_CACHE_HOME or ~/.cache;
    where that cannot be written, a temporary folder. Processes may share it."""
    poll_ms: Annotated[int, Field(ge=50, le=3_600_000)] = 2000
    """How often the files are looked at. A change is loaded once it has held still for one such time; SIGHUP loads at
    once; a load that failed for a reason that may pass (a permission, a killed reader) is tried again each time."""
    rows_max: Annotated[int, Field(ge=1, le=50_000_000)] = 10_000_000
    """The most rows; more are refused."""
    load_ms: Annotated[int, Field(ge=1000, le=3_600_000)] = 600_000
    """The longest load; past it the old rows stay."""
    load_memory_mb: Annotated[int, Field(ge=64, le=65_536)] = 512
    """What the reader's engine may use before it spills to a temporary folder."""

    @field_validator("delimiter")
    @classmethod
    def _parts_columns(cls, delimiter: str) -> str:
        if not delimiter.isascii() or delimiter in '"\r\n\x00\x1f' or delimiter.isalnum():
            raise ValueError("must be one character that stands in no value, such as ; or |")
        return delimiter

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str) -> str:
        try:
            "".encode("" if codecs.lookup(encoding).name in _NO_FILES_ENCODING else encoding)
        except LookupError:
            raise ValueError(f'"{encoding}" is no encoding of texts; use utf-8, cp1252, iso-8859-1, …') from None
        return encoding


class RosterTable(FilesTable):
    """The ground truth: files, or PostgreSQL."""

    backend: Literal["file", "postgres"] = "file"
    path: Path = Path("examples/roster/workers.csv")
    """The workers: .csv, .tsv, .jsonl, .ndjson (these also with .gz or .zst) or .parquet, in any case; or a folder of
    such files. Taken to the letter. Replace it by a rename; it is then loaded by itself."""
    assignments_path: Path | None = None
    """Existing assignments: worker_id, shift_start, shift_end."""
    do_not_send_path: Path | None = None
    """Whom clients refuse: client_id, worker_id."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our column name to the file's or the table's, where they differ: {worker_id = "emp_no"}."""
    companions_unknown_max: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The share of assignments or do-not-send lines that may name a worker who is not in the roster. Fewer are reported
    with a warning; more are refused: the ids are then written in another way, and nobody would be refused."""
    region: Annotated[str, Field(pattern="^[A-Z]{2}$")] = "US"
    """Where the phone numbers of the roster and of messages are from that have no country code: ISO 3166."""
    postgres: PostgresTable = PostgresTable()

    @model_validator(mode="after")
    def _usable(self) -> RosterTable:
        for name, theirs in self.columns.items():
            if name not in WORKER_COLUMNS:
                raise ValueError(f'columns: "{name}" is no column of ours; they are {", ".join(WORKER_COLUMNS)}')
            if theirs in self.ignore_columns:
                raise ValueError(f'columns: "{theirs}" stands in ignore_columns, too')
        _refuse_twice("columns", self.columns)
        if self.region not in phonenumbers.SUPPORTED_REGIONS:
            raise ValueError(f'region: "{self.region}" is no region with phone numbers; two letters such as US, GB, DE')
        if self.backend == "postgres" and not self.postgres.is_given_once():
            raise ValueError(_ONE_CONNINFO)
        return self


ColumnName = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,62}$")]
DatasetName = Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,62}$")]
ROSTER_DATASET: Final = "roster"
"""The name by which declared kinds know the workers of the roster."""
DatasetColumnType = Literal["text", "integer", "decimal", "boolean", "date", "instant", "labels"]
KEY_TYPES: Final = ("text", "integer", "date")
_KEY_COLUMNS_MAX: Final = 4
_COLUMNS_MAX: Final = 100
# The reader's own names, of the part of a folder and of the row.
_RESERVED_COLUMNS: Final = ("part", "row")


class DatasetPostgresTable(DatabaseTable):
    """A dataset in PostgreSQL: it is read as a whole, in one transaction, and no look-up asks the database."""

    refresh_s: Annotated[int, Field(ge=1, le=86_400)] = 60
    """How often the table is read again; SIGHUP reads it at once. Where its rows are the same, the version is."""
    version_query: Annotated[str, Field(max_length=2000)] = ""
    """A query of one value that names the version of the table, the operator's own SQL, such as `SELECT max(version)
    FROM releases`. It is asked every `poll_ms`, and the table is read when the value changes, not every `refresh_s`.
    Empty: the version is a hash of the rows."""


class DatasetTable(FilesTable):
    """One table of ground truth, `[validated.datasets.<name>]`: files or a table in PostgreSQL with a key, read as
    strictly as the roster."""

    backend: Literal["file", "postgres"] = "file"
    """Where the rows stand: in `path`, or in a table of a database."""
    path: Path = Path()
    """The rows: .csv, .tsv, .jsonl, .ndjson (these also with .gz or .zst) or .parquet, in any case; or a folder of such
    files. Taken to the letter. Replace it by a rename; it is then loaded by itself."""
    postgres: DatasetPostgresTable | None = None
    """Where the table stands, for backend "postgres"."""
    key: Annotated[tuple[ColumnName, ...], Field(min_length=1, max_length=_KEY_COLUMNS_MAX)]
    """The columns whose values together name a row: of type text, integer or date, never empty, no two rows alike."""
    columns: Annotated[dict[ColumnName, DatasetColumnType], Field(min_length=1, max_length=_COLUMNS_MAX)]
    """Each column that is read, with its type. A file or table that lacks one is refused; others are not read.
    text: at most 200 characters. integer: at most 18 digits. decimal: 19.90, never a float. boolean: true, yes, 1 and
    their opposites. date: 2026-12-05. instant: RFC 3339 with an offset. labels: a list of texts, or texts parted by
    ";"."""
    may_be_empty: tuple[ColumnName, ...] = ()
    """Columns in which a row may have no value. An empty value in any other column is refused."""
    source_columns: dict[ColumnName, str] = Field(default_factory=dict)
    """Our column name to the file's or the table's, where they differ: {sku = "Article No."}."""

    @model_validator(mode="after")
    def _stands_in_one_place(self) -> DatasetTable:
        is_file, has_path = self.backend == "file", "path" in self.model_fields_set
        if is_file and not has_path:
            raise ValueError('path is not configured: name the file, or set backend = "postgres"')
        if has_path and not is_file:
            raise ValueError('path is for backend = "file"; remove it, or the backend')
        if is_file != (self.postgres is None):
            raise ValueError('backend = "postgres" and the table [….postgres] go together; give both or neither')
        if self.postgres is not None and not self.postgres.is_given_once():
            raise ValueError(_ONE_CONNINFO)
        if self.postgres is not None and 0 < self.max_age_s <= self.postgres.refresh_s:
            raise ValueError("max_age_s must be more than postgres.refresh_s, after which the table is read again")
        return self

    @model_validator(mode="after")
    def _usable(self) -> DatasetTable:
        for setting in ("key", "may_be_empty", "source_columns"):
            for name in getattr(self, setting):
                if name not in self.columns:
                    raise ValueError(f'{setting}: "{name}" does not stand in columns; add it there with its type')
        for name in _RESERVED_COLUMNS:
            if name in self.columns:
                raise ValueError(
                    f'columns: "{name}" is taken; call it {name}_no, with source_columns = {{{name}_no = "{name}"}}'
                )
        if len(set(self.key)) < len(self.key):
            raise ValueError("key: a column stands twice")
        for name in self.key:
            if self.columns[name] not in KEY_TYPES:
                kinds = ", ".join(KEY_TYPES)
                raise ValueError(f'key: "{name}" is {self.columns[name]}; a key column must be one of {kinds}')
            if name in self.may_be_empty:
                raise ValueError(f'may_be_empty: "{name}" is of the key, which is never empty')
        _refuse_twice("source_columns", self.source_columns)
        return self


def database_of(table: DatasetTable | RosterTable) -> DatabaseTable | None:
    """Where the rows stand in PostgreSQL; None where they are in files."""
    return table.postgres if table.backend == "postgres" else None


class LimitsTable(Table):
    """Bounds of one validation, and of one brief."""

    artifact_bytes_max: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 256 * 1024
    prompt_bytes_max: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 1024 * 1024
    """The longest prompt that Brief takes, UTF-8."""
    findings_max: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Findings in an answer; more are counted."""
    suggestions_strangers_max: Annotated[int, Field(ge=0, le=1000)] = 20
    """How many phantoms and mismatches of one artifact get suggestions."""
    suggestions_ms: Milliseconds = 100
    """Time that the suggestions of one artifact may take."""
    schema_ms: Annotated[int, Field(ge=10, le=60_000)] = 2000
    """Time that one check against a JSON Schema may take."""
    schema_memory_mb: Annotated[int, Field(ge=64, le=65_536)] = 512
    """Memory of the process that checks JSON Schemas."""
    schema_processes: Annotated[int, Field(ge=1, le=64)] = 2
    """How many such processes there may be; they start on first use."""
    schemas_kept: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Compiled schemas that each process keeps."""


class ValidatedTable(ServerTable):
    """Table [validated]."""

    bind: str = "127.0.0.1:50053"
    candidate_facts: tuple[CandidateFact, ...] = CANDIDATE_FACTS
    """What Brief and suggestions may say of a worker, to models that may see it; worker_id and name in any case. It is
    never a phone number."""
    roster: RosterTable = RosterTable()
    datasets: dict[DatasetName, DatasetTable] = Field(default_factory=dict)
    """Tables of ground truth beside the roster, by name, for the kinds of `kinds_dir`. The roster's workers are the
    dataset "roster", which needs no table: key worker_id."""
    kinds_dir: Path | None = None
    """The folder of declared kinds, one file `<kind>.toml` each. Read at the start and at SIGHUP: a file that is broken
    then is reported, and its old declaration stays. None: no kind is declared."""
    limits: LimitsTable = LimitsTable()

    @field_validator("datasets")
    @classmethod
    def _leaves_the_roster(cls, datasets: dict[str, DatasetTable]) -> dict[str, DatasetTable]:
        if ROSTER_DATASET in datasets:
            raise ValueError(
                f'"{ROSTER_DATASET}" is the dataset of [validated.roster], there in any case; call this another name'
            )
        return datasets

    @field_validator("roster")
    @classmethod
    def _names_the_ground_truth(cls, roster: RosterTable, info: ValidationInfo) -> RosterTable:
        if configured_by_file(info) and roster.backend == "file" and "path" not in roster.model_fields_set:
            raise ValueError(
                "path is not configured: name the workers' file, or set backend to postgres; the example roster is for "
                "a start without a configuration file"
            )
        return roster
