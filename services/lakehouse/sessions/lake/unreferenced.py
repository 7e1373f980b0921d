"""The files of the table's folder that no snapshot names. PyIceberg leaves them, after an expiry as well."""

from __future__ import annotations

import math
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
    named which are gone), and those that are older than ``older_s``.

    ``table`` was loaded after the last commit that ``ours`` may have been meant for. Raises OSError.
    """
    named = {_path(location) for location in referenced(table)}
    gone = {_path(location) for location in were_named}
    oldest = time.time() - older_s
    done = Removal()
    for system, path, modified_unix_s in _listed(table):
        if path in named:
            continue
        if path in gone or modified_unix_s < oldest or any(write in path for write in ours):
            system.delete_file(path)
            done.removed.append(path)
        else:
            done.left.append(path)
    return done


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
