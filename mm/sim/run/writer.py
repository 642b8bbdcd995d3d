"""RunWriter: writes a run while a replay goes on.

Linux has nothing alike.  The machine is described at the start, its counters are read at start and end, a sampler
writes the tables in between.
Invariants: what a failed replay wrote is dropped; a run that is replaced stays until the new one is whole.
Cost: that of the sampler; at the end one read of the tables to digest them.
"""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import mm
from mm._fast.state import mm_limits, mm_op
from mm.physical.mm_init import ZONE_NAMES
from mm.sim import proc
from mm.sim.run import folder
from mm.sim.run import sampler as _sampler
from mm.sim.run.folder import COLUMNS, DETAILS, EXTFRAG_EVENTS, FIGURES, MODES, Run

# Settings of the machine that steer the allocator: fields of MMGlobals.
KNOBS = ("min_free_kbytes", "user_min_free_kbytes", "watermark_boost_factor", "watermark_scale_factor",
         "percpu_pagelist_high_fraction", "lowmem_reserve_ratio", "node_reclaim_mode", "is_pcp_disabled",
         "page_group_by_mobility_disabled")


def describe_machine(machine):
    """The shape of a machine and its knobs, as plain data."""
    g = {name: machine.g[name][0].tolist() for name in (*KNOBS, "nr_nodes", "nr_cpus", "nr_pages")}
    zones = [{"node": int(z["nid"]), "zone": ZONE_NAMES[int(z["zid"])], "start_pfn": int(z["zone_start_pfn"]),
              **{name: int(z[name]) for name in ("spanned_pages", "present_pages", "managed_pages")},
              **{f"watermark_{name}_pages": int(z["watermark"][i]) for i, name in enumerate(_sampler.WATERMARKS)},
              "pcp_high_pages": int(z["pageset_high"]), "pcp_batch_pages": int(z["pageset_batch"])}
             for z in machine.zones[machine.zones["present_pages"] > 0]]
    return {"nodes": g["nr_nodes"], "cpus": g["nr_cpus"], "pages": g["nr_pages"],
            "pageblock_pages": int(mm_limits.pageblock_nr_pages), "zones": zones}, {name: g[name] for name in KNOBS}


def _op_calls(machine):
    return {item.name.lower(): int(machine.g["nr_op_calls"][0, int(item)]) for item in sorted(mm_op, key=int)[:-1]}


def _deltas(old, new):
    return {name: new[name] - old[name] for name in old if new[name] != old[name]}


class RunWriter:
    """Writes a run; a context manager that leaves nothing behind if the block fails.

    Parameters
    ----------
    path : path-like or None
        Folder of the run; its parent exists.  None: a temporary folder that goes with the Run; `Run.save` keeps it.
    machine : mm.Machine
        In its start state.
    overwrite : bool
        Replace a run that is there.
    interval_ns, max_samples : int
        See `mm.sim.run.sampler.Sampler`.

    Attributes
    ----------
    sampler : Sampler
        The driver calls `sampler.sample(machine, time_ns, **progress)`.

    Raises
    ------
    FileExistsError
        The folder exists, and `overwrite` is not given or it is no run.
    """

    def __init__(self, path, machine, overwrite=False, interval_ns=_sampler.DEFAULT_INTERVAL_NS,
                 max_samples=_sampler.DEFAULT_MAX_SAMPLES):
        self._machine, self._extfrag, self._temporary = machine, None, None
        if path is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="mm-run-")
            self.path = pathlib.Path(self._temporary.name) / "run"
        else:
            self.path = pathlib.Path(path)
        self._part = folder.make_part(self.path, overwrite)
        try:
            self.sampler = _sampler.Sampler(machine, self._part, interval_ns, max_samples)
            self._shape, self._knobs = describe_machine(machine)
            self._vm_events, self._ops = proc.vm_events(machine), _op_calls(machine)
        except BaseException:
            self.abort()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.abort()

    def abort(self):
        """Drop what was written, if the run was not finished."""
        if hasattr(self, "sampler"):
            self.sampler.abort()
        if self._extfrag:
            self._extfrag.close()
        shutil.rmtree(self._part, ignore_errors=True)

    def write_extfrag(self, columns):
        """Append extfrag events.

        Parameters
        ----------
        columns : dict of str to array_like
            The columns of `EXTFRAG_EVENTS`, all of one length.
        """
        names = [name for name, _, _ in EXTFRAG_EVENTS]
        if set(columns) != set(names):
            raise ValueError(f"extfrag events need the columns {', '.join(names)}, not {', '.join(columns)}")
        schema = pa.schema([pa.field(name, kind) for name, kind, _ in EXTFRAG_EVENTS])
        table = pa.table([pa.array(columns[name], kind) for name, kind, _ in EXTFRAG_EVENTS], schema=schema)
        if self._extfrag is None:
            self._extfrag = pq.ParquetWriter(self._part / "extfrag.parquet", schema, compression="zstd")
        if len(table):
            self._extfrag.write_table(table)

    def add_extfrag(self, events):
        """Append thefts as a replay hands them over (Replayer.take_extfrag)."""
        columns = {name: events[name] for name in events.dtype.names if name != "pad_"}
        columns["fragmenting"] = events["fallback_order"] < int(mm_limits.pageblock_order)
        self.write_extfrag(columns | {"change_ownership": events["change_ownership"].astype(bool)})

    def finish(self, mode, figures, **details):
        """Write run.json and put the folder in its place.

        Parameters
        ----------
        mode : str
            ``"open loop"`` or ``"closed loop"``.
        figures : dict
            By the names in `FIGURES`: a number, None (not measured), or ``{"median", "low", "high", "n"}`` of a
            repeated run.
        **details
            By the names in `DETAILS`: trace and start_state (name, sha256, ...; no path), policies, settings, seed,
            as_kernel, losses, recorded, inferred, counts (whatever else the replay counted), notes.

        Returns
        -------
        Run
        """
        if mode not in MODES:
            raise ValueError(f"mode {mode!r}: {' or '.join(MODES)}")
        _check_names("details", details, DETAILS)
        _check_figures(figures)
        kept = self.sampler.close()
        if self._extfrag:
            self._extfrag.close()
        self._machine.fold_counters()
        ops, events = _op_calls(self._machine), proc.vm_events(self._machine)
        info = {
            "format": folder.FORMAT, "format_version": folder.FORMAT_VERSION, "version": mm.__version__,
            "semantics": folder.SEMANTICS, "kernel": folder.KERNEL, "mode": mode,
            **{name: details.get(name, value) for name, value in DETAILS.items()},
            "figures": {name: figures.get(name) for name in FIGURES}, "machine": self._shape, "knobs": self._knobs,
            "sampling": {"interval_ns": self.sampler.interval_ns, "samples": kept},
            "vm_event_deltas": _deltas(self._vm_events, events), "unanswered_calls": _deltas(self._ops, ops),
            "tables": {path.name: _table_entry(path) for path in sorted(self._part.glob("*.parquet"))},
        }
        _write_json(self._part / "schema.json", _schemas())
        _write_json(self._part / "run.json", info)
        folder.publish(self._part, self.path)
        run = Run.open(self.path)
        run.temporary = self._temporary
        return run


def _table_entry(path):
    return {"rows": pq.read_metadata(path).num_rows, "bytes": path.stat().st_size, "sha256": folder.file_digest(path)}


def _schemas():
    return {f"{table}.parquet": [{"name": name, "type": str(kind), "meaning": text} for name, kind, text in columns]
            for table, columns in COLUMNS.items()}


def _check_names(what, given, known):
    unknown = given.keys() - known.keys()
    if unknown:
        raise ValueError(f"{what} {', '.join(sorted(unknown))}: there are {', '.join(known)}")


def _check_figures(figures):
    _check_names("figures", figures, FIGURES)
    for name, value in figures.items():
        numbers = [value] if value is not None else []
        if isinstance(value, dict):
            _check_names(f"figure {name}", value, dict.fromkeys(("median", "low", "high", "n")))
            numbers = [value.get(key) for key in ("median", "low", "high", "n")]
        for number in numbers:
            if isinstance(number, bool) or not isinstance(number, (int, float, np.integer, np.floating)):
                raise ValueError(f"figure {name}: {value!r} is no number")


def _plain(value):
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} cannot stand in run.json")


def _write_json(path, data):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, allow_nan=False, default=_plain)
        file.write("\n")
        file.flush()
        with contextlib.suppress(OSError):
            os.fsync(file.fileno())
