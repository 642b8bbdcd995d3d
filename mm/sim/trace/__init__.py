"""The native trace: what a kernel's memory manager was asked to do, and what it answered, one row an event.

Linux: none.  A trace is an Arrow IPC file of record batches, uncompressed (memory-mapped, columns are views) or zstd.

| column | type | meaning |
| --- | --- | --- |
| `time_ns` | int64 | nanoseconds from the first event (the clock's own unit if metadata clock is "counter") |
| `cpu` | uint16 | where it ran, 65535 unknown |
| `op` | uint8 | `TraceOp`; unknown values are kept and counted |
| `order` | uint8 | block order |
| `migratetype` | uint8 | as recorded, 255 unknown |
| `gfp` | uint32 | mask with the bits of Linux 6.1 |
| `node` | int16 | preferred node, -1 the CPU's own |
| `handle` | uint32 | what is allocated, freed, moved; unique while live; 0xffffffff none |
| `pfn` | uint32 | recorded result; 0xffffffff unknown, 0xfffffffe failed |
| `cause` | uint8 | `TraceCause` of a free |
| `flags` | uint32 | `TraceFlag`; the meaning by operation is in `_fast/sim/trace_ops.pxd` |
| `pid`, `comm` | int32, dictionary | optional |
| `address` | uint64 | optional, access traces |

Modelled: reading, writing, appending, recovery of a file whose writer died.  Invariants: a file is readable up to its
last whole batch at any moment; no input crashes the reader.  Cost: opening reads one header a batch; memory is one
batch.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from mm._fast.sim.trace_ops import TRACE_HANDLE_NONE, TRACE_PFN_FAILED, TraceFlag, TraceLimit, TraceOp
from mm.sim.trace.format import (
    COLUMNS,
    COMM,
    METADATA_KEYS,
    OPTIONAL_COLUMNS,
    SCHEMA_NAME,
    VERSION,
    TraceError,
    check_columns,
    check_metadata,
    column_array,
    decode_metadata,
    encode_metadata,
    schema,
)
from mm.sim.trace.ipc import DICTIONARY_BATCH, HEAD, MAGIC, RECORD_BATCH, SCHEMA, FramingError, Message, footer, walk

BATCH_ROWS = 1 << 18
_ALLOC_OPS = (TraceOp.TRACE_ALLOC, TraceOp.TRACE_BULK_ALLOC)
_BLOCK_OPS = (*_ALLOC_OPS, TraceOp.TRACE_FREE, TraceOp.TRACE_SPLIT)
_DTYPES = {column.name: column.dtype for column in (*COLUMNS, *OPTIONAL_COLUMNS)}


class TraceBatch:
    """Rows of a trace that lie together: `batch["pfn"]` or `batch.pfn` is a read-only array, a view where possible."""

    __slots__ = ("first_row", "record_batch")

    def __init__(self, record_batch: pa.RecordBatch, first_row: int):
        self.record_batch = record_batch
        self.first_row = first_row

    def __len__(self) -> int:
        return self.record_batch.num_rows

    def __getitem__(self, name: str) -> np.ndarray:
        position = self.record_batch.schema.get_field_index(name)
        if position < 0:
            raise KeyError(f"column {name!r}: this trace has {', '.join(self.record_batch.schema.names)}")
        column = self.record_batch.column(position)
        if name in _DTYPES:
            return column.to_numpy(zero_copy_only=True)
        return column.to_numpy(zero_copy_only=False)

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(str(error)) from None


class Trace:
    """A trace in memory or in a file; `open`, `from_arrays` and `mm.convert` make them.

    Attributes
    ----------
    metadata : dict
        What is known of the recording (format.METADATA_KEYS).
    columns : tuple of str
    recovered : bool
        The file's writer died: these are its whole batches.
    """

    def __init__(self, batches: _Batches, metadata: dict[str, Any], recovered: bool = False):
        self._batches = batches
        self.metadata = metadata
        self.recovered = recovered
        self.columns: tuple[str, ...] = tuple(batches.schema.names)

    @classmethod
    def open(cls, path: str | os.PathLike) -> Trace:
        """Opens a trace file.

        Parameters
        ----------
        path : path
            Uncompressed files are memory-mapped; do not truncate one that is open.

        Raises
        ------
        OSError
        TraceError
            If the file is no trace of this version.  A file without footer, whose writer died, is opened as far as
            its batches are whole, with `recovered` set.
        """
        where = os.fspath(path)
        if os.path.getsize(path) == 0:
            raise TraceError(f"{where}: empty, expected an Arrow IPC file")
        source = pa.memory_map(where)
        try:
            batches, recovered = _open_file(source, where)
            check_columns(batches.schema, where)
            return cls(batches, decode_metadata(batches.schema, where), recovered)
        except UnicodeDecodeError as error:
            source.close()
            raise TraceError(f"{where}: a name in the schema is no UTF-8: {error.reason}") from None
        except BaseException:
            source.close()
            raise

    @classmethod
    def from_arrays(cls, op, order=0, gfp=0, handle=TRACE_HANDLE_NONE, *, metadata: Mapping[str, Any] | None = None,
                    batch_rows: int = BATCH_ROWS, **columns) -> Trace:
        """A trace in memory.

        Parameters
        ----------
        op : array_like of int, shape (rows,)
        order, gfp, handle, cpu, node, time_ns, pfn, migratetype, cause, flags, pid, address : array_like of int
            Shape (rows,) or a number for all rows; what is not given has its column's default.
        comm : sequence of str, optional
        metadata : dict, optional
            Keys of format.METADATA_KEYS.

        Raises
        ------
        TypeError, ValueError
            Naming column, row, value and legal range.
        """
        rows = np.asarray(op).size
        batch = _record_batch(dict(columns, op=op, order=order, gfp=gfp, handle=handle), rows)
        pieces = [batch.slice(at, batch_rows) for at in range(0, rows, batch_rows)] or [batch]
        return cls(_Batches(batch.schema, pieces, [piece.num_rows for piece in pieces]),
                   _full_metadata(check_metadata(metadata or {}), True, rows))

    def __len__(self) -> int:
        return self._batches.starts[-1]

    @property
    def nr_batches(self) -> int:
        return len(self._batches.starts) - 1

    def batch(self, index: int) -> TraceBatch:
        """One batch; read (and decompressed) now.

        Raises
        ------
        IndexError
        TraceError
            If the file is damaged there.
        """
        if not 0 <= index < self.nr_batches:
            raise IndexError(f"batch {index}: expected 0 to {self.nr_batches - 1}")
        return TraceBatch(self._batches.read(index), self._batches.starts[index])

    def batches(self) -> Iterator[TraceBatch]:
        """All batches in order; one at a time is held."""
        for index in range(self.nr_batches):
            yield self.batch(index)

    def __iter__(self) -> Iterator[TraceBatch]:
        return self.batches()

    def column(self, name: str) -> np.ndarray:
        """One column of all rows: a view if the trace is one batch, else a copy."""
        if name not in self.columns:
            raise KeyError(f"column {name!r}: this trace has {', '.join(self.columns)}")
        parts = [batch[name] for batch in self]
        if not parts:
            return np.empty(0, _DTYPES.get(name, object))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def op_counts(self) -> dict[str, int]:
        """Rows of each operation by name; unknown ones are called ``op N``."""
        counts = np.zeros(256, np.int64)
        for batch in self:
            counts += np.bincount(batch.op, minlength=256)
        names = {int(op): op.name for op in TraceOp}
        return {names.get(op, f"op {op}"): int(n) for op, n in enumerate(counts) if n}

    def to_table(self) -> pa.Table:
        """The whole trace as an Arrow table, in memory."""
        return pa.Table.from_batches([batch.record_batch for batch in self], self._batches.schema)

    def save(self, path: str | os.PathLike, compression: str | None = "zstd") -> None:
        """Writes the trace; the file is there in full or not at all.

        Parameters
        ----------
        path : path
        compression : {"zstd", None}
            None makes a file that is mapped and read without a copy.
        """
        with replacing(path) as temporary:
            with TraceWriter(temporary, metadata=_known_only(self.metadata), compression=compression,
                             arrow_schema=self._batches.schema) as writer:
                for batch in self:
                    writer.write_batch(batch.record_batch)

    def validate(self) -> None:
        """Checks every row: orders, and that each handle is allocated when it is freed or split, and only then.

        Raises
        ------
        TraceError
            Naming the first row that breaks a rule.
        """
        live = np.empty(0, np.uint32)
        for batch in self:
            blocks = np.isin(batch.op, _BLOCK_OPS)
            bad = np.flatnonzero(blocks & (batch.order > TraceLimit.TRACE_ORDER_LIMIT))
            if len(bad):
                raise TraceError(f"row {batch.first_row + bad[0]}: order {batch.order[bad[0]]}, expected 0 to "
                                 f"{int(TraceLimit.TRACE_ORDER_LIMIT)}")
            live = _check_handles(batch, live)

    def close(self) -> None:
        """Gives the file back; arrays that were handed out stay valid."""
        self._batches.close()

    def __enter__(self) -> Trace:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def __repr__(self) -> str:
        return (f"<mm.Trace {len(self)} rows, {self.nr_batches} batches, kernel "
                f"{self.metadata.get('kernel_release', 'unknown')}{', recovered' if self.recovered else ''}>")


class TraceWriter:
    """Writes a trace batch by batch; what is written can be read if the process dies.

    Parameters
    ----------
    path : path
    metadata : dict, optional
        Keys of format.METADATA_KEYS; `close` may add to it.
    columns : sequence of {"pid", "comm", "address"}
        Optional columns.
    compression : {"zstd", None}
    append : bool
        Continue the trace at `path`, also one whose writer died.  It must have the same columns, without comm.
    arrow_schema : pyarrow.Schema, optional
        In place of `columns`: also columns that this package does not know.

    Raises
    ------
    OSError, TypeError, ValueError
    """

    def __init__(self, path, *, metadata: Mapping[str, Any] | None = None, columns=(), compression: str | None = "zstd",
                 append: bool = False, arrow_schema: pa.Schema | None = None):
        if compression not in ("zstd", None):
            raise ValueError(f"compression {compression!r}: expected 'zstd' or None")
        self._metadata = check_metadata(metadata or {})
        self._schema = (arrow_schema.remove_metadata() if arrow_schema is not None else schema(tuple(columns)))
        self._comms: dict[str, int] = {}
        self._rows = 0
        self._messages: list[Message] = []
        self._file = None
        start = self._take_over(path) if append else 0
        self._file = open(path, "r+b" if append else "w+b")
        # The stream writer's own schema message is left out: ours has the metadata, and stands there when appending.
        self._sink = _Sink(self._file, start, len(self._schema.serialize()))
        if not append:
            message = self._schema.with_metadata(encode_metadata(_full_metadata(self._metadata, False, 0))).serialize()
            self._sink.write_own(HEAD + message.to_pybytes())
        self._start = self._sink.at
        options = pa.ipc.IpcWriteOptions(compression=compression, emit_dictionary_deltas=True)
        self._stream = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), self._schema, options=options)

    def _take_over(self, path) -> int:
        """Reads what is there; returns where the next message goes."""
        with Trace.open(path) as trace:
            if COMM in trace.columns:
                raise ValueError(f"{os.fspath(path)}: a trace with column comm cannot be appended to")
            if trace._batches.schema.remove_metadata() != self._schema:
                raise ValueError(f"{os.fspath(path)}: has columns {', '.join(trace.columns)}, expected "
                                 f"{', '.join(self._schema.names)}")
            self._metadata = check_metadata(_known_only(trace.metadata) | self._metadata)
            self._rows = len(trace)
            self._messages = list(trace._batches.messages)
            return trace._batches.end

    def write(self, op, **columns) -> None:
        """Appends rows as batches of at most BATCH_ROWS; arguments as for `Trace.from_arrays`."""
        rows = np.asarray(op).size
        batch = _record_batch(dict(columns, op=op), rows, self._schema, self._comms)
        for at in range(0, rows, BATCH_ROWS):
            self.write_batch(batch.slice(at, BATCH_ROWS))

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Appends one batch with this trace's schema and gives it to the operating system."""
        self._stream.write_batch(batch)
        self._file.flush()
        self._messages += walk(self._read, self._start, self._sink.at)
        self._start = self._sink.at
        self._rows += batch.num_rows

    def _read(self, offset: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, offset)

    def close(self, metadata: Mapping[str, Any] | None = None, complete: bool = True) -> None:
        """Writes the footer with the final metadata; a second call does nothing."""
        if self._file is None:
            return
        final = _full_metadata(check_metadata(self._metadata | dict(metadata or {})), complete, self._rows)
        message = self._schema.with_metadata(encode_metadata(final)).serialize().to_pybytes()
        self._file.write(footer(message, self._messages))
        self._abandon()

    def _abandon(self) -> None:
        """Closes the file as it is."""
        self._sink.muted = True         # the stream's own end mark, should it write one
        file, self._file = self._file, None
        file.close()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, kind, *exc) -> None:
        self.close(complete=kind is None)


class _Sink:
    """A file for pyarrow to write to that knows its position and can leave out the first bytes."""

    closed = False

    def __init__(self, file, start: int, skip: int):
        self.file, self.at, self.skip, self.muted = file, start, skip, False
        file.truncate(start)
        file.seek(start)

    def write_own(self, data: bytes) -> None:
        """What does not come from pyarrow."""
        self.file.write(data)
        self.at += len(data)

    def write(self, data) -> int:
        data = memoryview(data).cast("B")
        length = len(data)
        if self.muted:
            return length
        dropped = min(self.skip, length)
        self.skip -= dropped
        self.file.write(data[dropped:])
        self.at += length - dropped
        return length

    def flush(self) -> None:
        pass


class _Spliced:
    """The first `end` bytes of a file, and a footer that the file lacks, as one file."""

    closed = False

    def __init__(self, source: pa.NativeFile, end: int, tail: bytes):
        self.source, self.end, self.tail, self.at = source, end, tail, 0

    def read(self, length: int = -1) -> bytes:
        total = self.end + len(self.tail)
        length = total - self.at if length < 0 else min(length, total - self.at)
        from_file = min(length, max(self.end - self.at, 0))
        data = self.source.read_at(from_file, self.at) if from_file else b""
        if length > from_file:
            at = self.at + from_file - self.end
            data += self.tail[at:at + length - from_file]
        self.at += length
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.end + len(self.tail)}[whence]
        self.at = base + offset
        return self.at

    def tell(self) -> int:
        return self.at


class _Batches:
    """Record batches of a trace by number, from a list or a file."""

    def __init__(self, arrow_schema: pa.Schema, source, rows: list[int], messages=(), end: int = 0, where: str = ""):
        self.schema = arrow_schema
        self.source = source                # list of RecordBatch, or a RecordBatchFileReader
        self.starts = [0, *np.cumsum(rows, dtype=object)] if rows else [0]
        self.messages = messages
        self.end = end                      # of the last message
        self.where = where
        self.file: pa.NativeFile | None = None

    def read(self, index: int) -> pa.RecordBatch:
        if isinstance(self.source, list):
            return self.source[index]
        rows = self.starts[index + 1] - self.starts[index]
        what = f"{self.where}: batch {index} (rows {self.starts[index]} to {self.starts[index + 1]})"
        try:
            batch = self.source.get_batch(index)
            batch.validate(full=COMM in self.schema.names)
        except (pa.ArrowException, OSError, ValueError, OverflowError) as error:    # ValueError: also no UTF-8
            raise TraceError(f"{what} is damaged: {str(error)[:200]}") from None
        if batch.num_rows != rows:
            raise TraceError(f"{what} is damaged: it has {batch.num_rows} rows")
        for name, column in zip(self.schema.names, batch.columns, strict=True):
            if column.null_count and name in _DTYPES:
                raise TraceError(f"{what}: column {name!r} has nulls")
        return batch

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def _open_file(source: pa.NativeFile, where: str) -> tuple[_Batches, bool]:
    """Batches of a file, and whether a footer had to be made."""
    size = source.size()
    if source.read_at(len(HEAD), 0)[:len(MAGIC)] != MAGIC:
        raise TraceError(f"{where}: byte 0: expected an Arrow IPC file (ARROW1), found {source.read_at(8, 0)!r}; "
                         "kernel text traces are converted first (mm convert)")
    whole = size > 2 * len(HEAD) and source.read_at(len(MAGIC), size - len(MAGIC)) == MAGIC
    messages: list[Message] = []
    try:
        for message in walk(lambda at, length: source.read_at(length, at), len(HEAD), size):
            messages.append(message)
    except FramingError as error:
        if whole:
            raise TraceError(f"{where}: byte {error.args[0]}: expected {error.args[1]}") from None
    if not messages or messages[0].kind != SCHEMA:
        raise TraceError(f"{where}: byte {len(HEAD)}: expected a whole schema message")
    blocks = [m for m in messages[1:] if m.kind in (DICTIONARY_BATCH, RECORD_BATCH)]
    rows = [m.rows for m in blocks if m.kind == RECORD_BATCH]
    end = messages[-1].end
    try:
        file = source
        if not whole:
            head = source.read_at(messages[0].metadata_bytes, messages[0].offset)
            file = pa.PythonFile(_Spliced(source, end, footer(head, blocks)), mode="r")
        reader = pa.ipc.open_file(file)
        count = reader.num_record_batches
    except FramingError as error:
        raise TraceError(f"{where}: byte {error.args[0]}: expected {error.args[1]}") from None
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise TraceError(f"{where}: not readable as an Arrow IPC file: {str(error)[:200]}") from None
    if count != len(rows):
        raise TraceError(f"{where}: the footer names {count} batches, the file holds {len(rows)}")
    batches = _Batches(reader.schema, reader, rows, blocks, end, where)
    batches.file = source
    return batches, not whole


def _record_batch(values: dict[str, Any], rows: int, arrow_schema: pa.Schema | None = None,
                  comms: dict[str, int] | None = None) -> pa.RecordBatch:
    """A batch of callers' columns; missing ones get their default."""
    if arrow_schema is None:
        arrow_schema = schema(tuple(name for name in ("pid", COMM, "address") if values.get(name) is not None))
    unknown = set(values) - set(arrow_schema.names)
    if unknown:
        raise ValueError(f"columns {sorted(unknown)}: expected some of {', '.join(arrow_schema.names)}")
    arrays = []
    for column in (*COLUMNS, *OPTIONAL_COLUMNS):
        if column.name in arrow_schema.names:
            given = values.get(column.name)
            given = column.default if given is None else given
            arrays.append(pa.array(column_array(column.name, given, column.dtype, rows)))
    if COMM in arrow_schema.names:
        comms = {} if comms is None else comms
        given = values.get(COMM) if values.get(COMM) is not None else [""] * rows
        indices = [comms.setdefault(str(name), len(comms)) for name in given]
        if len(indices) != rows:
            raise ValueError(f"column 'comm': {len(indices)} names, expected {rows}")
        arrays.append(pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(list(comms), pa.string())))
    return pa.record_batch(arrays, schema=arrow_schema.remove_metadata())


def _check_handles(batch: TraceBatch, live: np.ndarray) -> np.ndarray:
    """Live handles after the batch; each goes up with ALLOC or SPLIT's upper half and down with FREE."""
    op, handle, flags = batch.op, batch.handle, batch.flags
    begins = np.flatnonzero(np.isin(op, _ALLOC_OPS) & (batch.pfn != TRACE_PFN_FAILED))
    splits = np.flatnonzero(op == TraceOp.TRACE_SPLIT)
    ends = np.flatnonzero((op == TraceOp.TRACE_FREE) & (flags & TraceFlag.FREE_UNKNOWN_PAGE == 0))
    rows = np.concatenate((np.full(len(live), -1), begins, splits, ends))
    handles = np.concatenate((live, handle[begins], flags[splits], handle[ends]))
    steps = np.concatenate((np.ones(len(live) + len(begins) + len(splits), np.int8), np.full(len(ends), -1, np.int8)))
    order = np.lexsort((rows, handles))
    rows, handles, steps = rows[order], handles[order], steps[order]
    first = np.flatnonzero(np.concatenate(([True], handles[1:] != handles[:-1]))) if len(handles) else handles
    total = np.cumsum(steps, dtype=np.int64)
    level = total - np.repeat((total - steps)[first], np.diff(np.append(first, len(handles))))
    bad = np.flatnonzero((level < 0) | (level > 1))
    if len(bad):
        at = bad[np.argmin(rows[bad])]
        what = "is freed but not live" if level[at] < 0 else "is allocated twice"
        raise TraceError(f"row {batch.first_row + rows[at]}: handle {handles[at]} {what}")
    last = np.append(first[1:], len(handles)) - 1 if len(handles) else first
    return handles[last][level[last] == 1].astype(np.uint32)


def _full_metadata(metadata: dict[str, Any], complete: bool, rows: int) -> dict[str, Any]:
    return {"schema": SCHEMA_NAME, "version": VERSION, "complete": complete, "rows": rows, **metadata}


def _known_only(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a file without keys that this version does not know."""
    return {key: value for key, value in metadata.items() if key in METADATA_KEYS}


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """A temporary file beside `path` that takes its place at the end, or is removed on an error."""
    folder, name = os.path.split(os.fspath(path))
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(6)}.part")
    open(temporary, "xb").close()
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
