"""Zstandard files, read to their end or reported as cut: zstandard's reader, like DuckDB's, ends silently in the
middle of a frame."""

from __future__ import annotations

import io
import os
import struct
from typing import Final, cast

import zstandard

# One piece becomes at most 128 KiB for every four bytes of it, whatever a hostile file says.
_PIECE_BYTES: Final = 4096
_FRAME_HEADER_BYTES_MAX: Final = 18
_SKIPPABLE_MAGIC: Final = range(0x184D2A50, 0x184D2A60)
_RLE_BLOCK: Final = 1


class ZstdFrames(io.RawIOBase):
    """Frames one after the other, decompressed. A file that is cut, or empty, raises EOFError, as a gzip file does."""

    def __init__(self, raw: io.BufferedReader) -> None:
        self._raw = raw
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._compressed = self._pending = b""
        self._within_frame = True  # an empty file is one whose first frame has not come

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        while not self._pending:
            self._compressed = self._compressed or self._raw.read1(_PIECE_BYTES)
            if not self._compressed:
                if self._within_frame:
                    raise EOFError("the last zstd frame is not whole")
                return 0
            self._pending = self._frame.decompress(self._compressed)
            self._compressed = b""
            self._within_frame = not self._frame.eof
            if self._frame.eof:
                self._compressed = self._frame.unused_data
                self._frame = zstandard.ZstdDecompressor().decompressobj()
        count = min(len(view), len(self._pending))
        view[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count


def ends_whole(fd: int, size: int) -> bool:
    """Whether the file's frames end where the file does; some kilobytes are read for a gigabyte. Raises OSError.

    False for what is no zstd file, or an empty one. What stands within the blocks is not looked at.
    """
    position = 0
    while 0 <= position < size:
        position = frame_end(fd, position)
    return position == size > 0


def frame_end(fd: int, position: int) -> int:
    """Where the frame at `position` ends; -1 where none begins. Raises OSError."""
    head = os.pread(fd, _FRAME_HEADER_BYTES_MAX, position)
    if len(head) >= 8 and int.from_bytes(head[:4], "little") in _SKIPPABLE_MAGIC:
        return position + 8 + int(struct.unpack_from("<I", head, 4)[0])
    try:
        parameters = zstandard.get_frame_parameters(head)
        position += zstandard.frame_header_size(head)
    except zstandard.ZstdError:
        return -1
    last = False
    while not last:
        block = os.pread(fd, 3, position)
        if len(block) < 3:
            return -1
        header = int.from_bytes(block, "little")
        last, kind, length = bool(header & 1), header >> 1 & 3, header >> 3
        position += 3 + (1 if kind == _RLE_BLOCK else length)
    return position + (4 if parameters.has_checksum else 0)
