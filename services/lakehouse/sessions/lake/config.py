"""Where the table of all replicas is: ``[lake]`` of the configuration file, and ``LAKE_…`` of the environment."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, SecretStr, field_validator

from lakehouse.server.config import configuration_file, load
from lakehouse.settings import Table, read_secret

_CATALOG_FILE: Final = "catalog.sqlite"
# SQLite's own wait for another process's lock.
_SQLITE_WAIT_S: Final = 30
_URI: Final = re.compile(r"[a-z][a-z0-9+.\-]*://.+", re.IGNORECASE)
_SECRET_NAME: Final = re.compile(r"secret|token|password|credential|account-key|access-key-id", re.IGNORECASE)


class LakeConfig(Table):
    """The table of all replicas. Whoever names the same catalog, warehouse and table reads and publishes the same."""

    warehouse: Annotated[str, Field(max_length=1000)] = ""
    """Below it the table's files stand: an absolute path of a folder, or a URI that PyIceberg knows (``s3://bucket/lake``).
    Empty: what PyIceberg's own configuration says of the catalog."""
    table: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+$", max_length=200)] = "lakehouse.sessions"
    """Namespace and name."""
    catalog: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=100)] = "lakehouse"
    """The catalog's name. PyIceberg's own configuration of it counts as well, where this table is silent:
    ``PYICEBERG_CATALOG__LAKEHOUSE__…`` and ``.pyiceberg.yaml``."""
    catalog_uri: SecretStr = SecretStr("")
    """Where the catalog is (``postgresql+psycopg://…``, ``https://…`` for a REST catalog). It may hold a password and
    so comes by the environment or a file. Empty: SQLite in the warehouse, where that is a folder, for the machines that
    have it."""
    catalog_uri_file: Path | None = None
    """The file that holds it in its place."""
    properties: dict[str, str] = Field(default_factory=dict)
    """Handed to PyIceberg as they are: ``"s3.endpoint"``, ``"s3.region"``, ``type``. Keys of S3 come from where the AWS
    tools look for them."""
    host: Annotated[str, Field(max_length=255)] = ""
    """What stands in the column ``host`` of this log's rows. Empty: the machine's host name; in a container, whose name
    changes, set it."""

    @field_validator("warehouse")
    @classmethod
    def _is_absolute(cls, warehouse: str) -> str:
        if warehouse and not _URI.fullmatch(warehouse) and not Path(warehouse).is_absolute():
            raise ValueError("must be an absolute path, or a URI such as s3://bucket/lake")
        return warehouse

    @field_validator("properties")
    @classmethod
    def _hold_no_secret(cls, properties: dict[str, str]) -> dict[str, str]:
        for name in properties:
            if _SECRET_NAME.search(name):
                raise ValueError(
                    f'"{name}" looks like a secret: give it by PyIceberg\'s own environment'
                    f" (PYICEBERG_CATALOG__<CATALOG>__{name.upper().replace('.', '__').replace('-', '_')}), or as the"
                    " AWS tools take it"
                )
        return properties

    @property
    def is_remote(self) -> bool:
        """Whether the warehouse is no folder of this machine."""
        return bool(_URI.fullmatch(self.warehouse)) and not self.warehouse.startswith("file://")

    @property
    def has_own_catalog(self) -> bool:
        """Whether these settings name a catalog."""
        return bool(self.catalog_uri.get_secret_value() or self.catalog_uri_file)

    @property
    def folder(self) -> Path | None:
        """The warehouse as a folder of this machine; None where it is none."""
        if not self.warehouse or self.is_remote:
            return None
        return Path(self.warehouse.removeprefix("file://"))

    @property
    def host_name(self) -> str:
        """What stands in the column ``host``."""
        return self.host or socket.gethostname()

    def catalog_properties(self) -> dict[str, str]:
        """Return what PyIceberg's ``load_catalog`` is given. Raises ConfigError where a secret's file holds none."""
        properties = dict(self.properties)
        # Arrow's own file systems: those that list, and that need no package beside.
        properties.setdefault("py-io-impl", "lakehouse.sessions.lake.file_io.TableFileIO")
        folder = self.folder
        if self.warehouse:
            properties["warehouse"] = folder.as_uri() if folder is not None else self.warehouse
        if self.has_own_catalog:
            properties["uri"] = read_secret(self.catalog_uri, self.catalog_uri_file)
        elif folder is not None and "type" not in properties:
            properties["uri"] = f"sqlite:///{folder / _CATALOG_FILE}?timeout={_SQLITE_WAIT_S}"
        return properties


def load_lake_config(file: Path | None, environ: Mapping[str, str]) -> LakeConfig:
    """Return ``[lake]`` of the file (None: that of the environment, if any) under the environment's variables.

    Raises ConfigError with every problem found.
    """
    return load("lake", LakeConfig, file=configuration_file(file, environ), environ=environ)
