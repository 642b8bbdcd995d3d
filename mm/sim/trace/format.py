"""Columns, metadata and error of the native trace, version 1.

Linux: none.  Modelled: which columns there are, their types and defaults, which metadata may be stored.  Invariant:
what passes `check_metadata` holds no host name, command line or file path.  Columns are explained in trace.py, values
in `_fast/sim/trace_ops.pxd`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mm._fast.sim import trace_ops as _ops

SCHEMA_NAME = "linux-mm trace"
VERSION = 1
METADATA_KEY = b"mm"


class TraceError(ValueError):
    """A trace, or a file said to be one, is not what it should be; the message says where and what was expected."""


class Column(NamedTuple):
    """A column of the trace."""

    name: str
    dtype: np.dtype
    default: int


COLUMNS = tuple(Column(name, np.dtype(kind), int(default)) for name, kind, default in (
    ("time_ns", "int64", 0),
    ("cpu", "uint16", 0),
    ("op", "uint8", 0),
    ("order", "uint8", 0),
    ("migratetype", "uint8", _ops.TraceLimit.TRACE_MIGRATETYPE_UNKNOWN),
    ("gfp", "uint32", 0),
    ("node", "int16", _ops.TraceLimit.TRACE_NODE_LOCAL),
    ("handle", "uint32", _ops.TRACE_HANDLE_NONE),
    ("pfn", "uint32", _ops.TRACE_PFN_UNKNOWN),
    ("cause", "uint8", _ops.TraceCause.CAUSE_UNKNOWN),
    ("flags", "uint32", 0),
))
OPTIONAL_COLUMNS = (Column("pid", np.dtype("int32"), -1), Column("address", np.dtype("uint64"), 0))
COMM = "comm"
COMM_TYPE = pa.dictionary(pa.int32(), pa.string())

# Metadata keys that a caller may give, and the type of each; the writer adds "schema", "version", "complete", "rows".
METADATA_KEYS: dict[str, Any] = {
    "recorder": dict, "converter": dict, "kernel_release": str, "page_shift": int, "clock": str, "cpus": dict,
    "knobs": dict, "gfp_table": str, "gfp_untranslated": dict, "start_state": dict, "lines": dict, "events": dict,
    "pages": dict, "losses": dict, "handles": int, "first_time": int, "anonymized": bool, "notes": list,
}
_WRITER_KEYS = {"schema": str, "version": int, "complete": bool, "rows": int}


def schema(columns: tuple[str, ...] | list[str] = (), metadata: Mapping[str, Any] | None = None) -> pa.Schema:
    """The Arrow schema: the columns every trace has, then the optional ones of that name."""
    fields = [pa.field(c.name, pa.from_numpy_dtype(c.dtype), nullable=False) for c in COLUMNS]
    fields += [pa.field(c.name, pa.from_numpy_dtype(c.dtype), nullable=False) for c in OPTIONAL_COLUMNS
               if c.name in columns]
    if COMM in columns:
        fields.append(pa.field(COMM, COMM_TYPE, nullable=False))
    unknown = set(columns) - {c.name for c in OPTIONAL_COLUMNS} - {COMM}
    if unknown:
        raise ValueError(f"columns {sorted(unknown)}: expected some of pid, comm, address")
    return pa.schema(fields, metadata=None if metadata is None else encode_metadata(metadata))


def encode_metadata(metadata: Mapping[str, Any]) -> dict[bytes, bytes]:
    """The schema metadata of a trace file."""
    return {METADATA_KEY: json.dumps(metadata, sort_keys=True, allow_nan=False).encode()}


def decode_metadata(found: pa.Schema, where: str) -> dict[str, Any]:
    """The trace metadata of an Arrow schema.

    Raises
    ------
    TraceError
        If there is none, or it is not of this version.
    """
    raw = (found.metadata or {}).get(METADATA_KEY)
    if raw is None:
        raise TraceError(f"{where}: an Arrow file, but no trace: schema metadata 'mm' is missing")
    try:
        metadata = json.loads(raw)
    except (ValueError, RecursionError):
        raise TraceError(f"{where}: schema metadata 'mm' is not JSON") from None
    if not isinstance(metadata, dict) or metadata.get("schema") != SCHEMA_NAME:
        raise TraceError(f"{where}: schema metadata 'mm' is not that of a trace: expected schema {SCHEMA_NAME!r}")
    if metadata.get("version") != VERSION or isinstance(metadata["version"], bool):
        raise TraceError(f"{where}: trace version {str(metadata.get('version'))[:40]!r}: this package reads version "
                         f"{VERSION}")
    return metadata


def check_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A caller's metadata, refused if it has unknown keys, wrong types or a path.

    Raises
    ------
    ValueError, TypeError
    """
    known = METADATA_KEYS | _WRITER_KEYS
    for key, value in metadata.items():
        if key not in known:
            raise ValueError(f"metadata key {key!r}: expected one of {', '.join(METADATA_KEYS)}")
        if not isinstance(value, known[key]) or isinstance(value, bool) != (known[key] is bool):
            raise TypeError(f"metadata {key!r}: expected {known[key].__name__}, got {type(value).__name__}")
    start = metadata.get("start_state", {})
    for key, value in start.items():
        if key not in ("name", "sha256") or not isinstance(value, str):
            raise ValueError(f"metadata start_state {key!r}: expected strings name and sha256")
    if os.path.basename(start.get("name", "")) != start.get("name", ""):
        raise ValueError("metadata start_state name: a file name without its path is stored, nothing else")
    return {key: value for key, value in metadata.items() if key not in _WRITER_KEYS}


def check_columns(found: pa.Schema, where: str) -> None:
    """Every column a trace must have is there and has its type; more columns are allowed.

    Raises
    ------
    TraceError
    """
    for column in (*COLUMNS, *OPTIONAL_COLUMNS):
        positions = found.get_all_field_indices(column.name)
        if not positions and column in OPTIONAL_COLUMNS:
            continue
        if len(positions) != 1:
            raise TraceError(f"{where}: column {column.name!r} stands {len(positions)} times, expected once")
        kind = found.field(positions[0]).type
        if kind != pa.from_numpy_dtype(column.dtype):
            raise TraceError(f"{where}: column {column.name!r} has type {kind}, expected {column.dtype}")
    positions = found.get_all_field_indices(COMM)
    if positions and (len(positions) > 1 or not pa.types.is_dictionary(found.field(positions[0]).type)
                      or found.field(positions[0]).type.value_type != pa.string()):
        raise TraceError(f"{where}: column 'comm' has type {found.field(positions[0]).type}, expected a dictionary of "
                         "strings")


def column_array(name: str, values: Any, dtype: np.dtype, rows: int) -> np.ndarray:
    """A caller's values as an array of the column's type.

    Raises
    ------
    TypeError
        If they are no integers.
    ValueError
        If there are not as many as rows, or one does not fit the type; the message names its row.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "iub":
        raise TypeError(f"column {name!r}: expected integers, got {array.dtype}")
    if array.ndim == 0:
        array = np.broadcast_to(array, rows)
    if array.shape != (rows,):
        raise ValueError(f"column {name!r}: shape {array.shape}, expected ({rows},) as column 'op' has")
    if array.dtype != dtype and rows:
        limits = np.iinfo(dtype)
        low, high = int(array.min()), int(array.max())
        if low < limits.min or high > limits.max:
            row = int(array.argmin() if low < limits.min else array.argmax())
            raise ValueError(f"column {name!r}, row {row}: {int(array[row])}, expected {limits.min} to {limits.max}")
    return np.ascontiguousarray(array, dtype=dtype)
