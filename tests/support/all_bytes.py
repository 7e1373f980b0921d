"""All bytes that stand below folders, as a person would find them who looks for a name: files as they are, and what is
packed in them unpacked."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import zstandard

_AVRO = b"Obj\x01"
_SYNC_BYTES = 16


def files_with(name: str, *folders: Path) -> list[str]:
    """Return the files below the folders, hidden ones too, that hold a text in their bytes or in what is packed in
    them."""
    found = []
    for folder in folders:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        found += [path.name for path in files if any(name.encode() in piece for piece in _pieces(path))]
    return found


def _pieces(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    yield path.name.encode()
    yield data
    if data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    elif data[:4] == b"\x28\xb5\x2f\xfd":
        yield zstandard.ZstdDecompressor().decompressobj().decompress(data)
    elif data[:4] == b"PAR1":
        file = pq.ParquetFile(path)
        yield repr(file.metadata).encode()
        for column in file.read().to_pylist():
            yield "\n".join(map(_text, column.values())).encode()
    elif data[:4] == _AVRO:
        yield from _avro_blocks(data)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _avro_blocks(data: bytes) -> Iterator[bytes]:
    """Yield what the blocks of a container file hold, whatever they are packed by."""
    # Its header names the codec, and ends with the marker that ends each block.
    sync = data[-_SYNC_BYTES:]
    place = data.index(sync) + _SYNC_BYTES
    codec = data[: place - _SYNC_BYTES]
    while place < len(data):
        _, place = _number(data, place)
        size, place = _number(data, place)
        block, place = data[place : place + size], place + size + _SYNC_BYTES
        yield zlib.decompress(block, -15) if b"deflate" in codec else block


def _number(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return (value >> 1) ^ -(value & 1), place
