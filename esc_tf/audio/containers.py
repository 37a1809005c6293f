"""What the headers of WAV, AIFF and Ogg files promise, compared with the bytes there are.

The decoder repairs a cut file silently: it clamps the length of WAV and AIFF data to what is
there, and ends an Ogg stream at its last whole page. A truncated recording would then pass for a
short one, so the promises are read here.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

# Written by programs that stream to a pipe and cannot go back to fill in the length: the 32-bit
# maximum (FFmpeg and others) and SoX's own value. The samples then reach to the end of the file.
_UNKNOWN_LENGTHS = frozenset({0x7FFFF000, 0xFFFFFFFF})

_OGG_HEADER = struct.Struct("<4sBBqIIIB")
_OGG_LAST_PAGE = 0x04


def find_truncation(file: BinaryIO, file_size: int) -> str | None:
    """Say how a WAV, AIFF or Ogg file is shorter than it claims to be.

    Args:
        file: the file, open for reading bytes; its position is moved.
        file_size: its length in bytes.

    Returns:
        The reason in words, or None if nothing is missing or the format is another one.
    """
    file.seek(0)
    magic = file.read(12)
    if magic[:4] in (b"RIFF", b"RF64", b"RIFX") and magic[8:12] == b"WAVE":
        return _chunk_truncation(file, file_size, "<" if magic[:4] != b"RIFX" else ">", b"data")
    if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        return _chunk_truncation(file, file_size, ">", b"SSND")
    if magic[:4] == b"OggS":
        return _ogg_truncation(file, file_size)
    return None


def _chunk_truncation(file: BinaryIO, file_size: int, order: str, samples_id: bytes) -> str | None:
    """Walk the chunks up to the samples and compare the promised size with the rest of the file."""
    position, size_of_64_bit_data = 12, None
    while position + 8 <= file_size:
        file.seek(position)
        chunk_id, promised = struct.unpack(order + "4sI", file.read(8))
        position += 8
        if chunk_id == b"ds64" and promised >= 16:
            _, size_of_64_bit_data = struct.unpack(order + "QQ", file.read(16).ljust(16, b"\0"))
        if chunk_id == samples_id:
            if promised == 0xFFFFFFFF and size_of_64_bit_data is not None:
                promised = size_of_64_bit_data
            there = file_size - position
            if promised in _UNKNOWN_LENGTHS or promised <= there:
                return None
            return f"the header promises {promised} bytes of samples and {there} are there"
        position += promised + promised % 2
    return "the file ends before its samples begin"


def _ogg_truncation(file: BinaryIO, file_size: int) -> str | None:
    """Walk the pages; the last one must be whole and marked as the last of its stream."""
    position, is_last = 0, False
    while position < file_size:
        file.seek(position)
        header = file.read(_OGG_HEADER.size)
        if not header.startswith(b"OggS"):
            # Something else may follow a finished stream, such as a tag.
            return None if is_last else f"no Ogg page where one must start, at byte {position}"
        if len(header) < _OGG_HEADER.size:
            return "it ends within a page"
        _, _, flags, _, _, _, _, num_segments = _OGG_HEADER.unpack(header)
        segments = file.read(num_segments)
        position += _OGG_HEADER.size + num_segments + sum(segments)
        if len(segments) < num_segments or position > file_size:
            return "it ends within a page"
        is_last = bool(flags & _OGG_LAST_PAGE)
    return None if is_last else "the page that ends the stream is missing"
