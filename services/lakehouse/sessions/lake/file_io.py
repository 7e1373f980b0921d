"""The table's files by Arrow, as PyIceberg has them, but that nothing of a commit is deleted before it is known whether
the commit has landed.

After a conflict PyIceberg deletes the manifests that it wrote for the commit. A conflict may be one with oneself: a
client or a proxy that asks again by itself after a lost answer meets the commit that had landed, and the table would
then name manifests that are gone. What belongs to nobody is removed by ``unreferenced``, which asks the table.
"""

from __future__ import annotations

from typing import Final

from pyiceberg.io import InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFileIO

_MANIFEST: Final = ".avro"


class TableFileIO(PyArrowFileIO):
    """Named to PyIceberg by the property ``py-io-impl``."""

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete a file, unless it is a manifest or a list of some. Raises OSError."""
        path = location if isinstance(location, str) else location.location
        if not path.endswith(_MANIFEST):
            super().delete(path)
