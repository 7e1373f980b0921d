"""The table itself: found or made in its catalog, with its columns, its partitions and its rules."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lakehouse.sessions.lake.columns import HOST, SEGMENT, arrow_schema
from lakehouse.sessions.lake.config import LakeConfig
from lakehouse.sessions.lake.errors import LakeUnavailableError

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

_T = TypeVar("_T")

DAY: Final = "timestamp_day"
"""The partition: the UTC day of ``timestamp``."""

# Bounds of a text column put texts of sessions into manifests, where nobody looks for them. Those of a segment's name
# and of a moment say nothing of anybody, and save looking into files.
_WITH_BOUNDS: Final = ("timestamp", SEGMENT, HOST)
_PROPERTIES: Final = {
    "format-version": "2",
    "write.metadata.metrics.default": "counts",
    **{f"write.metadata.metrics.column.{name}": "full" for name in _WITH_BOUNDS},
    "write.parquet.compression-codec": "zstd",
    "commit.manifest-merge.enabled": "true",
    # PyIceberg's own retry of a commit comes after our look at what stands in the table, and would commit what somebody
    # else has committed meanwhile.
    "commit.retry.num-retries": "0",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}
# Without these a publisher does not commit; the others are for whoever keeps the table.
_RULES: Final = ("commit.retry.num-retries", "write.metadata.metrics.default")

# Whose errors come from elsewhere: ours, the engine's that reads the log, and mistakes.
_NOT_OF_CATALOGS: Final = frozenset({"lakehouse", "duckdb", "_duckdb", "pyarrow", "builtins"})
TRIES_MAX: Final = 12
_WAIT_S: Final = 0.1
_WAIT_S_MAX: Final = 5.0


class LakeTable:
    """The configured table. Its catalog is asked anew by each ``load``."""

    def __init__(self, config: LakeConfig) -> None:
        """Raise LakeUnavailableError where the extra ``lake`` is missing or no table is configured."""
        require_packages()
        self.config = config
        is_named = config.has_own_catalog or "type" in config.properties or _known_to_pyiceberg(config.catalog)
        if not config.warehouse and not is_named:
            raise LakeUnavailableError(
                "no lake table is configured: set LAKE_WAREHOUSE, or `warehouse` in [lake] of the configuration file,"
                " to a folder (/srv/lake) or a bucket (s3://bucket/lake)"
            )
        if config.is_remote and not is_named:
            raise LakeUnavailableError(
                f"{config.warehouse} needs a catalog that every machine reaches: set LAKE_CATALOG_URI (or"
                " catalog_uri_file), such as postgresql+psycopg://user@host/catalog, or https://… of a REST catalog,"
                ' or properties.type in [lake] ("glue");'
                " for one machine alone sqlite:////var/lib/lakehouse/catalog.sqlite"
            )
        # It warns of each commit that is tried again, and of each file of an older try that is gone already.
        logging.getLogger("pyiceberg").setLevel(logging.ERROR)
        self._catalog: Catalog | None = None

    @property
    def name(self) -> str:
        return self.config.table

    def _connected(self) -> Catalog:
        if self._catalog is None:
            from pyiceberg.catalog import load_catalog  # noqa: PLC0415  a second, for who publishes or reads the table
            from pyiceberg.exceptions import NoSuchPropertyException  # noqa: PLC0415

            if self.config.folder is not None:
                self.config.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._catalog = load_catalog(self.config.catalog, **self.config.catalog_properties())
            except (ValueError, ImportError, NoSuchPropertyException) as error:
                raise LakeUnavailableError(f"the catalog {self.config.catalog} cannot be used: {error}") from None
        return self._catalog

    def load(self) -> Table:
        """Return the table as it is now. Raises LakeUnavailableError where there is none, and what PyIceberg raises."""
        from pyiceberg.exceptions import NoSuchTableError  # noqa: PLC0415

        try:
            return self._connected().load_table(self.name)
        except NoSuchTableError:
            raise LakeUnavailableError(
                f"there is no table {self.name} yet: `lakehouse sessions publish` makes it"
            ) from None

    def load_or_none(self) -> Table | None:
        """Return the table as it is now, or None where nothing was ever published."""
        from pyiceberg.exceptions import NoSuchTableError  # noqa: PLC0415

        try:
            return self._connected().load_table(self.name)
        except NoSuchTableError:
            return None

    def load_to_write(self) -> Table:
        """Return the table as it is now, made where there is none, and with all columns that we know and our rules."""
        table = self.load_or_none()
        if table is None:
            table = self._make()
        _check_partitions(table)
        wanted = {name: _PROPERTIES[name] for name in _RULES}
        if any(table.properties.get(name) != value for name, value in wanted.items()):
            with table.transaction() as change:
                change.set_properties(wanted)
            table = self.load()
        if _lacks_columns(table):
            with table.update_schema() as schema:
                schema.union_by_name(arrow_schema())
            table = self.load()
        return table

    def _make(self) -> Table:
        from pyiceberg.exceptions import NamespaceAlreadyExistsError, TableAlreadyExistsError  # noqa: PLC0415
        from pyiceberg.transforms import DayTransform  # noqa: PLC0415

        catalog = self._connected()
        namespace = self.name.rpartition(".")[0]
        with contextlib.suppress(NamespaceAlreadyExistsError):
            catalog.create_namespace(namespace)
        making = catalog.create_table_transaction(self.name, schema=arrow_schema(), properties=_PROPERTIES)
        with contextlib.suppress(TableAlreadyExistsError), making, making.update_spec() as spec:
            spec.add_field("timestamp", DayTransform(), DAY)
        return self.load()


def require_packages() -> None:
    """Raise LakeUnavailableError where the extra ``lake`` is not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415, F401
        import pyiceberg.catalog  # noqa: PLC0415, F401
    except ModuleNotFoundError as error:
        raise LakeUnavailableError(
            f"the lake table needs the extra `lake` ({error.name} is not installed): pip install"
            " 'lakehouse-iterate[server,lake]'"
        ) from None


def holds_commit(table: Table, commit_uuid: str) -> bool:
    """Whether a commit, of which nobody may have heard, has landed, as far as snapshots are there to say so."""
    return any(commit_uuid in snapshot.manifest_list for snapshot in table.metadata.snapshots)


def attempts(work: Callable[[], _T]) -> _T:
    """Do the work, which looks at the table first and then commits, until it goes well.

    After a conflict, and where nobody knows whether a commit has landed (an answer that was lost, a catalog that was
    locked), it is done again from its look on. Raises LakeUnavailableError after ``TRIES_MAX`` times, and at once where
    the catalog refuses who asks or what is asked.
    """
    from pyiceberg.exceptions import (  # noqa: PLC0415
        BadRequestError,
        ForbiddenError,
        NotInstalledError,
        OAuthError,
        UnauthorizedError,
    )

    refused = (BadRequestError, ForbiddenError, NotInstalledError, OAuthError, UnauthorizedError, NotImplementedError)
    for number in range(TRIES_MAX):
        try:
            return work()
        except refused as error:
            raise LakeUnavailableError(
                f"the catalog refuses, and no row is lost: {type(error).__name__}: {first_line(error)}"
            ) from error
        except Exception as error:
            if not _is_of_catalog_or_storage(error):
                raise
            if number + 1 == TRIES_MAX:
                raise LakeUnavailableError(
                    f"{TRIES_MAX} tries failed, and no row is lost: see to it and run again ({first_line(error)})"
                ) from error
            time.sleep(min(_WAIT_S_MAX, _WAIT_S * 2**number) * random.uniform(0.5, 1.0))  # noqa: S311  no secret
    raise AssertionError


def _is_of_catalog_or_storage(error: Exception) -> bool:
    """PyIceberg hands on what catalogs and storages raise, each of its own kind: of requests, SQLAlchemy, botocore."""
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or package not in _NOT_OF_CATALOGS


def first_line(error: Exception) -> str:
    """Return what an error of another package says, in one line, without a password of a URI."""
    import re  # noqa: PLC0415

    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"(://[^/\s:@]*):[^/\s@]*@", r"\1:…@", line)[:500]


def _known_to_pyiceberg(catalog: str) -> bool:
    from pyiceberg.utils.config import Config  # noqa: PLC0415

    return bool(Config().get_catalog_config(catalog))


def _check_partitions(table: Table) -> None:
    fields = table.spec().fields
    source = table.schema().find_field("timestamp").field_id
    if [(str(field.transform), field.source_id) for field in fields] != [("day", source)]:
        raise LakeUnavailableError(
            f"{'.'.join(table.name())} is not partitioned by the day of `timestamp` alone: publish to a table of its"
            " own ([lake] table)"
        )


def _lacks_columns(table: Table) -> bool:
    from pyiceberg.io.pyarrow import schema_to_pyarrow  # noqa: PLC0415

    have = set(_paths(schema_to_pyarrow(table.schema())))
    return not set(_paths(arrow_schema())) <= have


def _paths(schema: Any, before: str = "") -> list[str]:
    """Return the names of all columns and fields, a field behind its column's."""
    import pyarrow as pa  # noqa: PLC0415

    found = []
    for field in schema:
        path, kind = f"{before}{field.name}", field.type
        found.append(path)
        while pa.types.is_list(kind) or pa.types.is_large_list(kind):
            kind = kind.value_type
        if pa.types.is_struct(kind):
            found += _paths(kind, f"{path}.")
    return found
