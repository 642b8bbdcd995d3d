"""One self-contained, interactive HTML file from one or more runs.

Shows the headline figures, physical memory over time (pageblocks by type and fill) with a picture of one moment beside
it, free blocks by order, type and zone, the indices, watermarks, huge blocks, counters, and what was run.
The page is report.html, report.css, report.js and report_charts.js in this folder with the data put in; it asks nothing
of the network.
Data that would make the page too large is thinned here: first in time, then by taking neighbouring pageblocks
together; the page says so.  The same runs give the same bytes.
Cost: the tables in memory once; the page holds at most 12 MB of data before compression a run.
"""

import base64
import html
import json
import os
import pathlib
import zlib

import numpy as np

from mm._fast.state import mm_limits
from mm.sim.proc import MIGRATETYPE_NAMES
from mm.sim.run import sampler as _sampler
from mm.sim.run.folder import FIGURES, Run

_HERE = pathlib.Path(__file__).parent
_NO_MEMORY = 7
_TYPE_SHIFT = 10

MAX_SAMPLES = 800
MIN_SAMPLES = 200
MAX_CELLS = 6_000_000

# Parts of run.json that the page shows.
_INFO = ("version", "semantics", "kernel", "as_kernel", "mode", "seed", "trace", "start_state", "policies", "settings",
         "knobs", "losses", "recorded", "inferred", "counts", "notes", "figures", "machine", "sampling",
         "vm_event_deltas", "unanswered_calls")


def write_report(runs, path, title=None):
    """Write the report of runs to one HTML file.

    Parameters
    ----------
    runs : sequence of mm.sim.run.Run or path-like
        At least one; the first is shown first.
    path : path-like
        The file; replaced if it is there.
    title : str, optional

    Raises
    ------
    RunError
        A run that cannot be opened.
    ValueError
        No run.
    """
    runs = [run if isinstance(run, Run) else Run.open(run) for run in runs]
    if not runs:
        raise ValueError("no run: a report needs at least one")
    path = pathlib.Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(render(runs, title), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def render(runs, title=None):
    """The HTML text of the report of opened runs."""
    data = {"types": list(MIGRATETYPE_NAMES), "typeKeys": _sampler.TYPES, "orders": _sampler.MAX_ORDER,
            "pageblockPages": int(mm_limits.pageblock_nr_pages), "counters": _sampler.counter_columns(),
            "figures": {name: figure._asdict() for name, figure in FIGURES.items()}, "progress": _sampler.PROGRESS,
            "typeShift": _TYPE_SHIFT, "noMemory": _NO_MEMORY, "runs": [_run_data(run) for run in runs]}
    title = title or ", ".join(run.name for run in runs)
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    parts = {"title": html.escape(title), "data": text, "css": _asset("report.css"), "js": _asset("report.js"),
             "charts": _asset("report_charts.js")}
    page = _asset("report.html").split("@@")
    return "".join(parts[piece] if i % 2 else piece for i, piece in enumerate(page))


def _asset(name):
    return (_HERE / name).read_text(encoding="utf-8")


def _run_data(run):
    """What the page needs of one run: plain values, and all long columns as one compressed block."""
    times, types, free = run.pageblocks()
    memory = run.to_table("memory")
    rows = _rows(len(times), types.shape[1])
    group = -(-types.shape[1] // max(1, MAX_CELLS // len(rows)))
    arrays = {"time": times[rows].astype(np.float64)}
    zones = _zone_arrays(run, rows, arrays)
    progress = run.to_table("progress")
    for name in _sampler.PROGRESS:
        if progress[name].null_count == 0:
            arrays[f"progress/{name}"] = progress[name].to_numpy()[rows]
    cells = _cells(types[rows], free[rows], group)
    layout, blob = _pack(arrays, cells)
    return {"name": run.name, "info": {name: run.info[name] for name in _INFO}, "zones": zones, "arrays": layout,
            "rows": cells.shape[1], "group": group, "samplesOfRun": len(times), "blob": blob,
            "nodeOfRow": _per_row(memory, "node", group), "zoneOfRow": _per_row(memory, "zone", group)}


def _rows(samples, blocks):
    """Indices of the samples shown: evenly spread, the last one included."""
    count = min(samples, MAX_SAMPLES, max(MIN_SAMPLES, MAX_CELLS // max(blocks, 1)))
    return np.unique(np.linspace(0, samples - 1, count).round().astype(np.int64))


def _per_row(memory, column, group):
    """A value of the first pageblock of each row of the picture, as [[value, how many rows], ...]."""
    runs = []
    for value in memory[column].to_pylist()[::group]:
        if runs and runs[-1][0] == value:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    return runs


def _zone_arrays(run, rows, arrays):
    """Put every column of the samples table into `arrays` as zone/column; returns the zones."""
    table = run.to_table("samples")
    zones = run.info["machine"]["zones"]
    for i in range(len(zones)):
        for name in table.column_names:
            if name in ("time_ns", "node", "zone"):
                continue
            values = table[name].to_numpy()[i::len(zones)][rows]
            if name.endswith("_ratio"):
                values = np.rint(values * 1000)
            arrays[f"{i}/{name}"] = values.astype(np.int64)
    return [{"label": f"Node {zone['node']}, zone {zone['zone']}", **zone} for zone in zones]


def _cells(types, free, group):
    """The picture: uint16 a cell, type << 10 | free pages; `group` pageblocks taken together show the most frequent
    type among those with memory and the mean of the free pages."""
    types = np.where(types == _sampler.NO_MEMORY, _NO_MEMORY, types).astype(np.uint16)
    free = free.astype(np.uint16)
    if group > 1:
        pad = -types.shape[1] % group
        types = np.pad(types, ((0, 0), (0, pad)), constant_values=_NO_MEMORY).reshape(len(types), -1, group)
        free = np.pad(free, ((0, 0), (0, pad))).reshape(types.shape)
        is_memory = types != _NO_MEMORY
        votes = np.stack([(types == mt).sum(axis=2) for mt in range(len(_sampler.TYPES))])
        mean = free.sum(axis=2, dtype=np.int64) // np.maximum(is_memory.sum(axis=2), 1)
        types = np.where(is_memory.any(axis=2), votes.argmax(axis=0), _NO_MEMORY).astype(np.uint16)
        free = mean.astype(np.uint16)
    return types << _TYPE_SHIFT | free


def _pack(arrays, cells):
    """(layout, base64 text): long columns one after another, compressed.

    Kinds: f float64; i int32 of differences; c uint16, each sample XORed with the one before.  Wider kinds come first,
    so each begins aligned.
    """
    pieces = {"f": [], "i": [], "c": []}
    for name, values in arrays.items():
        is_narrow = values.dtype.kind in "iu" and abs(np.diff(values, prepend=0)).max(initial=0) < 1 << 31
        pieces["i" if is_narrow else "f"].append((name, values))
    pieces["c"].append(("cells", cells))
    layout, data = [], []
    for kind, columns in pieces.items():
        for name, values in columns:
            layout.append([name, kind, int(values.size)])
            if kind == "i":
                values = np.diff(values, prepend=0).astype("<i4")
            elif kind == "c":
                values = np.vstack([values[:1], values[1:] ^ values[:-1]]).astype("<u2")
            else:
                values = values.astype("<f8")
            data.append(values.tobytes())
    return layout, base64.b64encode(zlib.compress(b"".join(data), 9)).decode()
