"""The kinds of a deployment: those with code, and those declared in ``kinds_dir``, which a reload reads again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import structlog

from validated.config import LimitsTable
from validated.datasets.dataset_files import Datasets
from validated.kinds import KINDS
from validated.kinds.declared.declaration import KIND_NAME, DeclarationError
from validated.kinds.declared.kind import DeclaredKind
from validated.kinds.validator import SPEC_MEMBERS, Validator

_log = structlog.get_logger()
_FILES_MAX = 200


def declared_names(folder: Path) -> Sequence[Path]:
    """Return the files of `folder` that declare kinds. Raises DeclarationError."""
    try:
        paths = sorted(each for each in folder.iterdir() if each.suffix == ".toml" and not each.name.startswith("."))
    except OSError as error:
        raise DeclarationError(f"{folder}: {error.strerror or error}; check kinds_dir and the permissions") from None
    if len(paths) > _FILES_MAX:
        raise DeclarationError(f"{folder}: more than {_FILES_MAX} kinds; keep fewer")
    return paths


def check_name(path: Path, taken: Mapping[str, object]) -> None:
    """Raise DeclarationError where the file's name is no name of a kind."""
    name = path.stem
    if not KIND_NAME.fullmatch(name):
        text = "a kind is called by its file: lower-case letters, digits, _ and -, a letter first; rename the file"
        raise DeclarationError(f"{path}:1: {text}")
    if name in SPEC_MEMBERS or name in taken:
        raise DeclarationError(f'{path}:1: the name "{name}" is taken; rename the file')


class Kinds:
    """All kinds. What `reload` changes is changed at once; a call that has its kind keeps it."""

    def __init__(
        self, fixed: Mapping[str, Validator], folder: Path | None, datasets: Datasets, limits: LimitsTable
    ) -> None:
        """Raise DeclarationError where a declaration cannot be used."""
        self._fixed = fixed
        self._folder = folder
        self._datasets = datasets
        self._limits = limits
        self._declared: Mapping[str, Validator] = {}
        if folder is not None:
            self._declared = {path.stem: self._read(path) for path in declared_names(folder)}
        self.current: Mapping[str, Validator] = {**fixed, **self._declared}
        """The kinds by name, as of the last load."""

    def reload(self) -> None:
        """Read the declarations again. One that cannot be used is reported, and the old one stays; one whose file is
        gone is gone.
        """
        if self._folder is None:
            return
        try:
            paths = declared_names(self._folder)
        except DeclarationError as error:
            _log.warning("kinds not loaded", problem=str(error), serving=sorted(self._declared))
            return
        declared: dict[str, Validator] = {}
        for path in paths:
            try:
                declared[path.stem] = self._read(path)
            except DeclarationError as error:
                if path.stem in self._declared:
                    declared[path.stem] = self._declared[path.stem]
                _log.warning("kind not loaded", problem=str(error), serves_old=path.stem in self._declared)
        self._declared = declared
        self.current = {**self._fixed, **declared}
        _log.info("kinds loaded", kinds=sorted(declared))

    def _read(self, path: Path) -> Validator:
        check_name(path, self._fixed)
        return DeclaredKind(path, self._datasets, self._limits)


def check_kinds(folder: Path, datasets: Datasets, limits: LimitsTable) -> Iterator[str]:
    """Yield what is wrong with the declarations of a folder. Reads no dataset. Raises DeclarationError."""
    for path in declared_names(folder):
        try:
            check_name(path, KINDS)
            DeclaredKind(path, datasets, limits)
        except DeclarationError as error:
            yield str(error)
