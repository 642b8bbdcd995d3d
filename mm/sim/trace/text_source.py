"""Bytes of a text file, whatever it was compressed with.

Linux: none.  Modelled: plain, zstd (windows up to 2 GiB, any number of frames), gzip (any number of members), xz; told
apart by their first bytes, never by name.  Not modelled: seeking.  Invariants: a chunk is bounded however far the
input expands; input that ends inside a frame is an error, not the end.  Cost: that of the decompressor.
"""

from __future__ import annotations

import lzma
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import zstandard

from mm.sim.trace.format import TraceError

_READ_BYTES = 1 << 18       # of a file at once
_ZSTD_STEP = 1 << 11        # compressed bytes a step: zstd may expand them 32768 times
_MAX_OUT = 1 << 20          # bytes a step of the other decompressors may give

_MAGICS = (
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
)
# What is not text, and what to do about it.
_REFUSED = (
    (b"\x17\x08\x44tracing", "a trace.dat file: convert the text that `trace-cmd report` prints"),
    (b"PERFILE2", "a perf.data file: convert the text that `perf script` prints"),
    (b"ARROW1", "an Arrow file, and so perhaps a converted trace already: open it with mm.Trace.open"),
    (b"BZh", "bzip2: recompress it with zstd, gzip or xz"),
    (b"\x50\x2a\x4d\x18", None),    # a skippable zstd frame
)


class TextSource:
    """Chunks of the text of a file.

    Parameters
    ----------
    source : path or binary file
        A file object is read from where it stands and not closed.

    Attributes
    ----------
    name : str
        For messages.
    done, total : int, int or None
        Bytes of the file read so far, and its size if known.
    compression : str or None
        Known after the first chunk.
    """

    def __init__(self, source: str | os.PathLike | BinaryIO):
        self._close = not hasattr(source, "read")
        self._file: BinaryIO = open(source, "rb") if self._close else source
        self.name = os.fspath(source) if self._close else str(getattr(source, "name", "<stream>"))
        self.done = 0
        self.total = os.fstat(self._file.fileno()).st_size if self._close else None
        self.compression: str | None = None

    def chunks(self) -> Iterator[bytes]:
        """The text, piece by piece.

        Raises
        ------
        TraceError
            If the compressed data is damaged or ends early, or the file is a known binary format.
        """
        first = self._read()
        for magic, advice in _REFUSED:
            if first.startswith(magic) and advice:
                raise TraceError(f"{self.name}: this is {advice}")
        self.compression = next((name for magic, name in _MAGICS if first.startswith(magic)), None)
        if first[1:4] == b"\x2a\x4d\x18" and first[:1] and first[0] >> 4 == 5:
            self.compression = "zstd"
        if self.compression is None:
            while first:
                yield first
                first = self._read()
            return
        try:
            yield from self._zstd(first) if self.compression == "zstd" else self._stream(first)
        except (zstandard.ZstdError, zlib.error, lzma.LZMAError) as error:
            raise TraceError(f"{self.name}: damaged {self.compression} data before byte {self.done}: "
                             f"{error}") from None

    def _read(self) -> bytes:
        data = self._file.read(_READ_BYTES)
        self.done += len(data)
        return data

    def _ends_early(self) -> TraceError:
        return TraceError(f"{self.name}: the {self.compression} data ends early, at byte {self.done}: the file is cut "
                          "off")

    def _zstd(self, data: bytes) -> Iterator[bytes]:
        machine = zstandard.ZstdDecompressor(max_window_size=1 << 31)
        frame, begun = machine.decompressobj(), False
        while data:
            at, parts, size = 0, [], 0
            while at < len(data):
                step = data[at:at + _ZSTD_STEP]
                parts.append(frame.decompress(step))
                size += len(parts[-1])
                at += len(step)
                begun = not frame.eof
                if frame.eof:
                    at -= len(frame.unused_data)
                    frame = machine.decompressobj()
                if size >= _MAX_OUT or at == len(data):
                    yield b"".join(parts)
                    parts, size = [], 0
            data = self._read()
        if begun:
            raise self._ends_early()

    def _stream(self, data: bytes) -> Iterator[bytes]:
        """gzip and xz: both bound their output themselves and keep, or hand back, the input they did not get to."""
        stream, begun = self._decompressor(), False
        while True:
            begun = begun or bool(data)
            text = stream.decompress(data, _MAX_OUT)
            if text:
                yield text
            if stream.eof:
                data = stream.unused_data
                stream, begun = self._decompressor(), False
            elif len(text) == _MAX_OUT:
                data = getattr(stream, "unconsumed_tail", b"")
                continue
            else:
                data = b""
            while not data or (not begun and not data.lstrip(b"\0")):      # files may be padded with zeros
                data = self._read()
                if not data and begun:
                    raise self._ends_early()
                if not data:
                    return
            data = data if begun else data.lstrip(b"\0")

    def _decompressor(self):
        return zlib.decompressobj(31) if self.compression == "gzip" else lzma.LZMADecompressor()

    def close(self) -> None:
        if self._close:
            self._file.close()

    def __enter__(self) -> TextSource:
        return self

    def __exit__(self, *exc) -> None:
        self.close()
