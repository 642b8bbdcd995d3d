"""Framing of an Arrow IPC file: where its messages lie, and the footer that makes a stream of them a file.

Format: Apache Arrow columnar format 1.x, IPC file (format/File.fbs, Message.fbs).  Arrow's own writer fixes the
metadata before the first row and cannot append; so batches are written as a stream, and the footer is made here.
Modelled: walking the messages, the footer.  Not modelled: anything inside a message, which is pyarrow's.  Invariant:
no offset is followed before it was checked against the file.  Cost: one small read a message.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

MAGIC = b"ARROW1"
HEAD = b"ARROW1\0\0"
END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
CONTINUATION = 0xffffffff
SCHEMA, DICTIONARY_BATCH, RECORD_BATCH = 1, 2, 3    # MessageHeader
_METADATA_VERSION = 4                               # V5
_MAX_METADATA = 1 << 24                             # bytes of one message's metadata; ours are below 4 KiB
_MAX_ROWS = 1 << 40                                 # of one batch


class FramingError(ValueError):
    """The bytes are not Arrow messages; args are (byte offset, what was expected)."""


class Message(NamedTuple):
    """One message of the file."""

    kind: int
    offset: int
    metadata_bytes: int     # with the 8 bytes in front and the padding
    body_bytes: int
    rows: int               # of a record batch, else 0

    @property
    def end(self) -> int:
        return self.offset + self.metadata_bytes + self.body_bytes


def walk(read: Callable[[int, int], bytes], start: int, size: int) -> Iterator[Message]:
    """The whole messages between `start` and `size`, up to the end-of-stream mark or the first that is cut off.

    Parameters
    ----------
    read : callable
        ``read(offset, length)`` gives bytes, fewer at the end of the file.
    start, size : int
        Byte offsets.

    Raises
    ------
    FramingError
        If bytes that should be a message are none.
    """
    while start + 8 <= size:
        mark, length = struct.unpack("<II", read(start, 8))
        if mark != CONTINUATION:
            raise FramingError(start, "the start of a message (ff ff ff ff)")
        if length == 0:
            return
        if length > _MAX_METADATA or length % 8:
            raise FramingError(start + 4, f"a metadata length that is a multiple of 8 and at most {_MAX_METADATA}")
        if start + 8 + length > size:
            return
        message = _parse(read(start + 8, length), start)
        if message.end > size:
            return
        yield message
        start = message.end


def _parse(metadata: bytes, offset: int) -> Message:
    """The header of one message; `metadata` is its flatbuffer."""
    try:
        table = _Table(metadata, struct.unpack_from("<I", metadata)[0])
        kind = table.scalar(1, "<B", 0)
        body = table.scalar(3, "<q", 0)
        rows = table.child(2).scalar(0, "<q", 0) if kind == RECORD_BATCH else 0
    except (struct.error, IndexError):
        raise FramingError(offset + 8, "the metadata of an Arrow message") from None
    if kind not in (SCHEMA, DICTIONARY_BATCH, RECORD_BATCH) or body < 0 or body % 8 or not 0 <= rows <= _MAX_ROWS:
        raise FramingError(offset + 8, "a schema, dictionary or record batch with a padded body")
    return Message(kind, offset, 8 + len(metadata), body, rows)


class _Table:
    """A flatbuffer table: read-only, every access checked."""

    def __init__(self, data: bytes, at: int):
        self.data, self.at = data, at
        self.vtable = at - self._get("<i", at)
        self.size = self._get("<H", self.vtable)

    def _get(self, form: str, at: int) -> int:
        if at < 0:
            raise IndexError(at)
        return struct.unpack_from(form, self.data, at)[0]

    def _field(self, number: int) -> int:
        slot = 4 + 2 * number
        offset = self._get("<H", self.vtable + slot) if slot + 2 <= self.size else 0
        return self.at + offset if offset else 0

    def scalar(self, number: int, form: str, default: int) -> int:
        at = self._field(number)
        return self._get(form, at) if at else default

    def child(self, number: int) -> _Table:
        at = self._field(number)
        if not at:
            raise IndexError(number)
        return _Table(self.data, at + self._get("<I", at))


def footer(schema_message: bytes, messages: list[Message]) -> bytes:
    """What follows the last message: end of stream, footer, its length, magic.

    The footer's schema is a table inside another message; its bytes are taken over whole and pointed into, since
    offsets inside a flatbuffer are relative.

    Parameters
    ----------
    schema_message : bytes
        The encapsulated schema message, with the metadata to be found by readers.
    messages : list of Message
        All dictionary and record batches, in order.

    Raises
    ------
    FramingError
        If the schema message is damaged.
    """
    metadata_length = struct.unpack_from("<I", schema_message, 4)[0]
    embedded = schema_message[8:8 + metadata_length]
    try:
        schema_at = _Table(embedded, struct.unpack_from("<I", embedded)[0]).child(2).at
    except (struct.error, IndexError):
        raise FramingError(len(HEAD) + 8, "a schema") from None
    blocks = [b"".join(struct.pack("<qi4xq", m.offset, m.metadata_bytes, m.body_bytes) for m in messages
                       if m.kind == kind) for kind in (DICTIONARY_BATCH, RECORD_BATCH)]
    # root offset, vtable of 5 slots: version 4, schema 8, dictionaries 12, recordBatches 16, table at 20.
    table_at = 20
    dictionaries_at = 44                            # a vector's length is 4 bytes, its 8-byte aligned blocks follow
    batches_at = dictionaries_at + 4 + len(blocks[0]) + 4
    embedded_at = batches_at + 4 + len(blocks[1])
    head = struct.pack("<IHHHHHH", table_at, 12, 20, 4, 8, 12, 16)
    head += bytes(table_at - len(head))
    table = struct.pack("<iH2xIII", table_at - 4, _METADATA_VERSION, embedded_at + schema_at - (table_at + 8),
                        dictionaries_at - (table_at + 12), batches_at - (table_at + 16))
    data = head + table
    data += bytes(dictionaries_at - len(data)) + struct.pack("<I", len(blocks[0]) // 24) + blocks[0]
    data += bytes(batches_at - len(data)) + struct.pack("<I", len(blocks[1]) // 24) + blocks[1]
    data += embedded
    return END_OF_STREAM + data + struct.pack("<I", len(data)) + MAGIC
