"""Whether a zstd file ends where its last frame does, seen without decompressing it."""

from __future__ import annotations

import os
import struct
import tempfile

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.sessions.store.zstd_frames import ends_whole

TEXTS = st.sampled_from([b"", b"x", b"row\n" * 500, b"\0" * 300_000, bytes(range(256)) * 1_000, os.urandom(140_000)])
FRAMES = st.builds(
    lambda data, checksum, size, level: zstandard.ZstdCompressor(
        level=level, write_checksum=checksum, write_content_size=size
    ).compress(data),
    TEXTS,
    st.booleans(),
    st.booleans(),
    st.sampled_from([1, 3]),
)
# What pzstd writes before each frame.
SKIPPABLE = st.builds(lambda data: struct.pack("<II", 0x184D2A50, len(data)) + data, st.binary(max_size=9))


def whole(data: bytes) -> bool:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return ends_whole(file.fileno(), len(data))


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(FRAMES | SKIPPABLE, min_size=1, max_size=4), share=st.floats(0, 1))
def test_frames_are_whole_and_a_cut_within_one_is_seen(parts: list[bytes], share: float) -> None:
    data = b"".join(parts)
    ends = {sum(map(len, parts[:count])) for count in range(1, len(parts) + 1)}
    cut = int(share * len(data))

    assert whole(data)
    assert whole(data[:cut]) == (cut in ends)


@pytest.mark.parametrize(
    "data", [b"", b"plain text that is no archive", b"(\xb5/\xfd", b"P*M\x18\xff\xff\xff\xff", b"\x1f\x8b"]
)
def test_what_is_no_zstd_file_is_not_whole(data: bytes) -> None:
    assert not whole(data)
    assert not whole(zstandard.compress(b"x") + (data or b"\0"))
