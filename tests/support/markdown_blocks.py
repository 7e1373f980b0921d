"""The code blocks of Markdown files, and the commands of a shell block."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Block:
    file: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.language or 'text'}"


def blocks_of(file: Path, name: str) -> Iterator[Block]:
    """Yield the blocks of `file`, in order; `name` is what each calls it."""
    opened: tuple[int, str, list[str]] | None = None
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.match(r"\s*```\s*(\w*)", line)
        if opened is None and fence:
            opened = (number, fence[1], [])
        elif opened is not None and fence:
            yield Block(name, opened[0], opened[1], "\n".join(opened[2]) + "\n")
            opened = None
        elif opened is not None:
            opened[2].append(line)
    assert opened is None, f"{file}: a block is not closed"


def commands(block: Block) -> list[str]:
    """Return the commands of a shell block: comments are gone, lines that go on are joined."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    found: list[str] = []
    for written in joined.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", written).rstrip()
        if found and _is_open(found[-1]):
            found[-1] += "\n" + line
        elif line.strip():
            found.append(line)
    return found


def _is_open(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return True
    return False
