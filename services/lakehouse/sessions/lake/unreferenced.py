"""The files of the table's folder that no snapshot names. PyIceberg leaves them, after an expiry as well.

Among them are metadata files of commits that were not to be: of the loser of a conflict, of one who was killed before
the catalog knew. An engine that is given the table's folder takes the file with the highest number for the table.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem
    from pyiceberg.table import Table

# Longer than anybody works on one commit, a rewrite of the table by another engine among them: a file as old as that
# which nobody names will not be named.
IN_FLIGHT_S: Final = 24 * 3600.0

# As PyIceberg names them; each commit's number is one above that of the metadata on whose condition it is made.
_METADATA: Final = re.compile(r"(?:.*/)?([0-9]{5,18})-[0-9a-f-]{36}\.metadata\.json")


@dataclass(slots=True)
class Removal:
    """What became of the files that nobody names."""

    removed: list[str] = field(default_factory=list)
    """Their paths."""
    left: list[str] = field(default_factory=list)
    """Young ones of others, which may be about to be committed."""


def referenced(table: Table) -> set[str]:
    """Return the locations of all files that the table's metadata name, of every snapshot. Raises OSError."""
    found = {table.metadata_location, *(entry.metadata_file for entry in table.metadata.metadata_log)}
    found |= {each.statistics_path for each in table.metadata.statistics}
    found |= {each.statistics_path for each in table.metadata.partition_statistics}
    manifests = set()
    for snapshot in table.metadata.snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path in manifests:
                continue
            manifests.add(manifest.manifest_path)
            found.update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io))
    return found | manifests


def remove_unreferenced(
    table: Table, ours: AbstractSet[str], *, were_named: AbstractSet[str] = frozenset(), older_s: float = math.inf
) -> Removal:
    """Remove the files in the table's folders that no snapshot names and that are known to be nobody's: those whose
    names hold one of ``ours`` (names of writes that have ended), those of ``were_named`` (locations that snapshots
    named which are gone), those that are older than ``older_s``, and metadata whose number the table has passed: its
    commit, if it is still to come, will fail.

    ``table`` was loaded after the last commit that ``ours`` may have been meant for. Raises OSError.
    """
    named = {_path(location) for location in referenced(table)}
    gone = {_path(location) for location in were_named}
    oldest = time.time() - older_s
    newest = _metadata_number(table.metadata_location) if _writes_metadata(table) else None
    done = Removal()
    for system, path, modified_unix_s in _listed(table):
        if path in named:
            continue
        number = _metadata_number(path)
        is_passed = newest is not None and number is not None and number <= newest
        if is_passed or path in gone or modified_unix_s < oldest or any(write in path for write in ours):
            system.delete_file(path)
            done.removed.append(path)
        else:
            done.left.append(path)
    return done


def _writes_metadata(table: Table) -> bool:
    """Whether the metadata files are ours: a REST catalog's server writes them, may have branches, and keeps its own
    order."""
    from pyiceberg.catalog import MetastoreCatalog  # noqa: PLC0415  a second, for who publishes

    return isinstance(table.catalog, MetastoreCatalog)


def _metadata_number(path: str) -> int | None:
    match = _METADATA.fullmatch(path)
    return int(match[1]) if match else None


def _listed(table: Table) -> Iterator[tuple[FileSystem, str, float]]:
    """Yield each file below the table's folders: its file system, its path there, when it was written."""
    from pyarrow.fs import FileSelector  # noqa: PLC0415  half a second, for who publishes
    from pyiceberg.io.pyarrow import PyArrowFileIO  # noqa: PLC0415

    places = {table.location(), *(table.properties.get(f"write.{kind}.path", "") for kind in ("data", "metadata"))}
    seen = set()
    io = PyArrowFileIO(table.io.properties)
    for place in sorted(filter(None, places)):
        scheme, netloc, path = PyArrowFileIO.parse_location(place)
        system = io.fs_by_scheme(scheme, netloc)
        for found in system.get_file_info(FileSelector(path, recursive=True, allow_not_found=True)):
            if found.is_file and found.path not in seen:
                seen.add(found.path)
                yield system, found.path, found.mtime.timestamp() if found.mtime is not None else time.time()


def _path(location: str) -> str:
    from pyiceberg.io.pyarrow import PyArrowFileIO  # noqa: PLC0415

    return PyArrowFileIO.parse_location(location)[2]
