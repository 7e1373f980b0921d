"""What tells one file of the log from another, whatever it is called and however it is compressed: its text.

The first ``HEAD_BYTES`` of a file hold its first row's session id and timestamp, and no other file begins so. The last
bytes before a place tell whether the text up to there is still the one that was read: a power cut may shorten a file,
and others write on from there.
"""

from __future__ import annotations

import hashlib
import os
import struct
from contextlib import closing
from typing import Final

import zstandard

from lakehouse.sessions.store.lines import DAMAGES, SegmentDamagedError, open_text
from lakehouse.sessions.store.log_files import FoundFile
from lakehouse.sessions.store.segments import Segment
from lakehouse.sessions.store.zstd_frames import frame_end

HEAD_BYTES: Final = 512
# So many that the beginning of a row, with its id and time, is among them; or else so much of one that no other has it.
_TAIL_BYTES: Final = 32 * 1024
_HASH_BYTES: Final = 16
_GZIP_SIZE_MODULUS: Final = 2**32
_ZSTD_HEADER_BYTES: Final = 18


def version_of(file: FoundFile) -> str:
    """Return what differs when a file that is not appended to any more becomes another one."""
    status = file.status
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def head_hash(segment: Segment) -> bytes | None:
    """Return the hash of the first ``HEAD_BYTES``; None where it is shorter. Raises SegmentDamagedError, OSError."""
    if segment.compression == "none":
        head = os.pread(segment.fd, HEAD_BYTES, 0)
    else:
        try:
            with closing(open_text(segment)) as text:
                head = text.read(HEAD_BYTES)
        except DAMAGES as error:
            raise SegmentDamagedError(segment, 0, error) from error
    return _hash(head) if len(head) == HEAD_BYTES else None


def tail_hash(segment: Segment, end: int) -> bytes:
    """Return the hash of the bytes before `end` of a plain segment. Raises OSError."""
    start = max(0, end - _TAIL_BYTES)
    return _hash(os.pread(segment.fd, end - start, start))


def has_text_bytes(segment: Segment, text_bytes: int) -> bool:
    """Whether a compressed segment says of itself that its text is so long; False where it does not say. Raises
    OSError."""
    if segment.compression == "gzip":
        trailer = os.pread(segment.fd, 4, max(0, segment.size_bytes - 4))
        return len(trailer) == 4 and struct.unpack("<I", trailer)[0] == text_bytes % _GZIP_SIZE_MODULUS
    if segment.compression == "zstd":
        try:
            stated = zstandard.frame_content_size(os.pread(segment.fd, _ZSTD_HEADER_BYTES, 0))
        except zstandard.ZstdError:
            return False
        return stated == text_bytes and frame_end(segment.fd, 0) == segment.size_bytes
    return False


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_HASH_BYTES]
