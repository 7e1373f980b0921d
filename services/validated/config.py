"""What ``validated`` can be told: table [validated] of the configuration, or VALIDATED_… variables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import phonenumbers
from pydantic import Field, SecretStr, model_validator

from lakehouse.server.config import ServerTable
from lakehouse.settings import Milliseconds, Table
from validated.roster.columns import WORKER_COLUMNS

Name = Annotated[str, Field(min_length=1, max_length=63)]


class PostgresTable(Table):
    """Roster in PostgreSQL. Names are identifiers, quoted by the driver; a role that may only read them is enough."""

    conninfo: SecretStr = SecretStr("")
    """libpq connection string or URI. By environment or by `conninfo_file`: it may hold a password."""
    conninfo_file: Path | None = None
    schema_name: Name = "public"
    table: Name = "workers"
    """Its names are asked for by an expression: with more than some 50,000 rows it should have an index on it
    (`python -m validated.roster.names` prints the statement).
    """
    assignments_table: Annotated[str, Field(max_length=63)] = ""
    """Table in the same schema with worker_id, shift_start, shift_end (timestamptz). Empty: no overlap is known."""
    do_not_send_table: Annotated[str, Field(max_length=63)] = ""
    """Table in the same schema with client_id, worker_id. Empty: no client refuses anybody."""
    version_query: str = ""
    """A query of one value that names the roster's version, run as a part of each look-up (an expression such as
    `SELECT max(version) FROM roster_version`). The operator's own SQL, never a caller's. Empty: the time of the query.
    """
    pool_max: Annotated[int, Field(ge=1, le=100)] = 8
    statement_timeout_ms: Annotated[int, Field(ge=10, le=600_000)] = 2000
    """The longest look-up; a nearer deadline of the caller counts instead."""
    connect_timeout_ms: Annotated[int, Field(ge=10, le=600_000)] = 2000
    """The longest wait for a connection out of the pool."""
    similarity: Literal["auto", "off"] = "auto"
    """`auto`: suggestions use pg_trgm where it is installed; `off`: only workers who fit the spec are suggested."""


class RosterTable(Table):
    """The ground truth: files, or PostgreSQL."""

    backend: Literal["file", "postgres"] = "file"
    path: Path = Path("examples/roster/workers.csv")
    """The workers: .csv, .tsv, .jsonl, .ndjson or .parquet. Replace it by a rename; it is then loaded by itself."""
    assignments_path: Path | None = None
    """Existing assignments: worker_id, shift_start, shift_end."""
    do_not_send_path: Path | None = None
    """Whom clients refuse: client_id, worker_id."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our column name to the file's or the table's, where they differ: {worker_id = "emp_no"}."""
    poll_ms: Annotated[int, Field(ge=50, le=3_600_000)] = 2000
    """How often the files are looked at. A change is loaded once it has held still for one such time; SIGHUP loads at
    once."""
    rows_max: Annotated[int, Field(ge=1, le=50_000_000)] = 10_000_000
    load_ms: Annotated[int, Field(ge=1000, le=3_600_000)] = 600_000
    """The longest load; past it the old roster stays."""
    load_memory_mb: Annotated[int, Field(ge=64, le=65_536)] = 192
    """What the reader's engine may use before it spills to a temporary folder."""
    region: Annotated[str, Field(pattern="^[A-Z]{2}$")] = "US"
    """Where the phone numbers of the roster and of messages are from that have no country code: ISO 3166."""
    postgres: PostgresTable = PostgresTable()

    @model_validator(mode="after")
    def _usable(self) -> RosterTable:
        for name in self.columns:
            if name not in WORKER_COLUMNS:
                raise ValueError(f'columns: "{name}" is no column of ours; they are {", ".join(WORKER_COLUMNS)}')
        given = bool(self.postgres.conninfo.get_secret_value()) + (self.postgres.conninfo_file is not None)
        if self.region not in phonenumbers.SUPPORTED_REGIONS:
            raise ValueError(f'region: "{self.region}" is no region with phone numbers; two letters such as US, GB, DE')
        if self.backend == "postgres" and given != 1:
            raise ValueError("backend postgres needs postgres.conninfo or postgres.conninfo_file, one of them")
        return self


class LimitsTable(Table):
    """Bounds of one validation."""

    artifact_bytes_max: Annotated[int, Field(ge=1024, le=64 * 1024 * 1024)] = 256 * 1024
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
    roster: RosterTable = RosterTable()
    limits: LimitsTable = LimitsTable()
