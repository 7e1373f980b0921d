"""Lines of a segment with their places, from plain, gzip and zstd files alike, in bounded memory."""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final, cast

import zstandard

from lakehouse.sessions.record import ROW_BYTES_MAX
from lakehouse.sessions.store.segments import Segment
from lakehouse.sessions.store.zstd_frames import ZstdFrames, ends_whole

_BUFFER_BYTES: Final = 1 << 20
_TAIL_BYTES: Final = 1 << 16

DAMAGES: Final = (EOFError, zlib.error, zstandard.ZstdError, gzip.BadGzipFile)

Progress = Callable[[int], None]
"""Called now and then with the bytes read since the last call, compressed ones as they are."""


class SegmentDamagedError(Exception):
    """A compressed file ends early or is corrupt; what was before that was given."""

    def __init__(self, segment: Segment, offset: int, cause: Exception) -> None:
        super().__init__(
            f"{segment.path} is damaged behind byte {offset} of its decompressed text ({cause}): it may still be in"
            " the making; else restore it from a backup or move it out of the folder"
        )
        self.segment = segment
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Line:
    number: int
    """From 1."""
    offset: int
    """Of its first byte, decompressed."""
    data: bytes
    """Without LF; empty where the line is ``too_long``."""
    ended: bool
    """False for a last line without LF."""
    too_long: bool = False
    """Longer than ``ROW_BYTES_MAX``: no row is."""


class _Window(io.RawIOBase):
    """The bytes of a descriptor from ``start`` to ``size``, read by position: its owner's offset stays where it is."""

    def __init__(self, fd: int, start: int, size: int, progress: Progress | None) -> None:
        self._fd = fd
        self._size = size
        self._position = start
        self._progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")[: max(0, self._size - self._position)]
        count = os.preadv(self._fd, [view], self._position) if view else 0
        self._position += count
        if self._progress is not None and count:
            self._progress(count)
        return count


def open_text(segment: Segment, start: int = 0, progress: Progress | None = None) -> io.BufferedReader:
    """Return the segment's text from byte `start` on, which is 0 for a compressed one. What is read raises EOFError,
    zlib.error, zstandard.ZstdError, gzip.BadGzipFile (`DAMAGES`) or OSError."""
    raw: io.BufferedReader = io.BufferedReader(_Window(segment.fd, start, segment.size_bytes, progress), _BUFFER_BYTES)
    if segment.compression == "gzip":
        if not segment.size_bytes:
            raise EOFError("an empty file is no gzip file")
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=raw)), _BUFFER_BYTES)
    if segment.compression == "zstd":
        return io.BufferedReader(ZstdFrames(raw), _BUFFER_BYTES)
    return raw


def read_lines(segment: Segment, progress: Progress | None = None, *, start: int = 0) -> Iterator[Line]:
    """Every line up to the size that the segment had when it was opened, blank ones included.

    ``start``: the byte to start at, of a plain segment alone; lines are counted from there. Raises SegmentDamagedError
    after the lines before the damage, OSError.
    """
    number, offset = 0, start
    try:
        with closing(open_text(segment, start, progress)) as stream:
            while True:
                data = stream.readline(ROW_BYTES_MAX + 1)
                size, too_long = len(data), False
                while len(data) > ROW_BYTES_MAX and not data.endswith(b"\n"):
                    too_long = True
                    data = stream.readline(ROW_BYTES_MAX + 1)
                    size += len(data)
                if not size:
                    return
                number += 1
                ended = data.endswith(b"\n")
                yield Line(number, offset, b"" if too_long else data.removesuffix(b"\n"), ended, too_long)
                offset += size
    except DAMAGES as error:
        raise SegmentDamagedError(segment, offset, error) from error


def read_blocks(segment: Segment, progress: Progress | None = None) -> Iterator[bytes]:
    """Yield the text in pieces of whole lines of about a megabyte, for a search of bytes; a line that is longer than
    any row is left out. Raises SegmentDamagedError after the lines before the damage, OSError."""
    rest: list[bytes] = []
    rest_bytes, skipping = 0, False
    try:
        with closing(open_text(segment, 0, progress)) as stream:
            while piece := stream.read1(_BUFFER_BYTES):
                head, line_end, tail = piece.rpartition(b"\n")
                if line_end:
                    if skipping:
                        _, _, head = head.partition(b"\n")
                    yield b"".join((*rest, head))
                    rest, rest_bytes, skipping = [], 0, False
                if not skipping:
                    rest.append(tail)
                    rest_bytes += len(tail)
                    if rest_bytes > ROW_BYTES_MAX:
                        rest, rest_bytes, skipping = [], 0, True
    except DAMAGES as error:
        yield b"".join(rest)
        raise SegmentDamagedError(segment, 0, error) from error
    yield b"".join(rest)


def read_backwards(segment: Segment) -> Iterator[bytes]:
    """Yield the lines of a plain segment that are not blank, without LF, the last one first; one that is longer than
    any row is left out. Raises OSError."""
    position, rest = segment.size_bytes, b""
    size = _TAIL_BYTES
    while position > 0:
        size = min(size, position)
        position -= size
        first, *lines = (os.pread(segment.fd, size, position) + rest).split(b"\n")
        # The first one begins before what was read, unless that is the file's beginning.
        rest = first
        size = min(2 * size, _BUFFER_BYTES) if lines else max(len(rest), _TAIL_BYTES)
        yield from (line for line in reversed(lines) if line.strip() and len(line) <= ROW_BYTES_MAX)
    if rest.strip() and len(rest) <= ROW_BYTES_MAX:
        yield rest


def check_whole(segment: Segment) -> None:
    """Read a compressed segment to its end. Raises SegmentDamagedError, OSError."""
    if segment.compression != "none":
        for _ in read_lines(segment):
            pass


def is_cut(segment: Segment) -> bool:
    """Whether a zstd segment ends in the middle of a frame, which DuckDB's reader passes over in silence. Reads some
    kilobytes for a gigabyte; False for other segments. Raises OSError."""
    return segment.compression == "zstd" and not ends_whole(segment.fd, segment.size_bytes)


def last_lines(segments: tuple[Segment, ...], count: int) -> list[bytes]:
    """Return the last ``count`` lines of all segments that are not blank, in order. Plain files are read from their
    ends."""
    found: deque[bytes] = deque()
    for segment in reversed(segments):
        wanted = count - len(found)
        if wanted <= 0:
            break
        if segment.compression == "none":
            found.extendleft(reversed(_plain_tail(segment, wanted)))
        else:
            kept: deque[bytes] = deque(maxlen=wanted)
            kept.extend(line.data for line in read_lines(segment) if line.data.strip())
            found.extendleft(reversed(kept))
    return list(found)


def _plain_tail(segment: Segment, count: int) -> list[bytes]:
    position, wanted = segment.size_bytes, count + 1
    blocks: deque[bytes] = deque()
    lines: list[bytes] = []
    while position > 0 and len(lines) < count:
        line_ends = sum(block.count(b"\n") for block in blocks)
        while position > 0 and line_ends < wanted:
            size = min(_BUFFER_BYTES, position)
            position -= size
            blocks.appendleft(os.pread(segment.fd, size, position))
            line_ends += blocks[0].count(b"\n")
        lines = b"".join(blocks).split(b"\n")
        # The first one begins before what was read.
        lines = [line for line in lines[1 if position else 0 :] if line.strip()]
        wanted *= 2  # some were blank
    return lines[-count:]
