"""Run: a folder with the result of a replay; how it is read and what it may hold.

Linux has nothing alike.  A run is `run.json` (what was run on what, with which settings, losses, figures), the file
`schema.json` (every column with type and meaning) and Parquet tables: samples, pageblocks, progress, memory
(sampler.py), and extfrag events where they were asked for.
Invariants: a folder appears whole or not at all (written aside, then renamed); run.json holds the digest of every
table; nothing in it depends on the wall clock, a host or a path, so the same run gives the same bytes.
Cost: one read of the tables to digest them at `Run.open`.
"""

import hashlib
import json
import os
import pathlib
import shutil
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mm.sim.run import sampler

FORMAT = "mm-run"
FORMAT_VERSION = 1
# Rises when the same input gives another result; the changelog says which.
SEMANTICS = 1
KERNEL = "linux-6.1.192"
MODES = ("open loop", "closed loop")


class Figure(NamedTuple):
    """A headline figure: what it is called, its unit, what it means."""

    label: str
    unit: str
    meaning: str


# The headline figures a run may have, in the order of reports.
FIGURES = {
    "pfn_agreement_ratio": Figure("PFN agreement, free running", "ratio", "allocations that got the recorded page "
                                  "frame; pages that the trace cannot show are taken by inference"),
    "pfn_agreement_plain_ratio": Figure("PFN agreement, no inferences", "ratio",
                                        "the same with nothing but the trace's own events"),
    "one_step_agreement_ratio": Figure("One-step agreement", "ratio", "the same with the machine set right after every "
                                       "wrong answer: how often a single decision is right"),
    "allocations_count": Figure("Allocations", "count", "allocations replayed"),
    "frees_count": Figure("Frees", "count", "frees replayed"),
    "inferred_pages": Figure("Inferred pages", "pages", "pages taken without an event of the trace"),
    "failures_count": Figure("Failed allocations", "count", "allocations the model refused"),
    "recorded_failures_count": Figure("Failed, recorded", "count", "allocations the recorded kernel refused"),
    "skipped_frees_count": Figure("Frees of unknown pages", "count", "frees of pages whose allocation is not known"),
    "lost_events_count": Figure("Lost events", "count", "events the recorder lost"),
}

# What a caller may say about a run, and the value if it says nothing.
DETAILS = {"trace": {}, "start_state": {}, "policies": {}, "settings": {}, "seed": None, "as_kernel": None,
           "losses": {}, "recorded": [], "inferred": {}, "counts": {}, "notes": []}

EXTFRAG_EVENTS = [
    ("time_ns", pa.int64(), "simulated time"), ("pfn", pa.uint32(), "page frame taken"),
    ("alloc_order", pa.uint8(), "order asked for"), ("fallback_order", pa.uint8(), "order of the block taken"),
    ("alloc_migratetype", pa.uint8(), "type asked for"),
    ("fallback_migratetype", pa.uint8(), "type of the list it came from"),
    ("fragmenting", pa.bool_(), "the block taken is smaller than a pageblock"),
    ("change_ownership", pa.bool_(), "the pageblock took the type asked for"),
]


class RunError(ValueError):
    """A run that cannot be opened: names the file and what is wrong with it."""


def file_digest(path):
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class Run:
    """A finished run; `Run.open(path)`.

    Attributes
    ----------
    path : pathlib.Path
    info : dict
        What run.json holds.
    figures : dict
        Headline figures by the names in `FIGURES`; None: not measured.
    """

    temporary = None    # the temporary folder of a run that was given no path; it goes when the Run goes

    def __init__(self, path, info):
        self.path, self.info = pathlib.Path(path), info

    @classmethod
    def open(cls, path):
        """Open a run and check that it is whole.

        Raises
        ------
        RunError
            Not a run, from another format version, or a file missing, cut off or changed.
        """
        path = pathlib.Path(path)
        info = _read_info(path)
        for name, entry in info["tables"].items():
            _check_table(path, name, entry)
        samples, zones = info["sampling"]["samples"], len(info["machine"]["zones"])
        rows = {"samples": samples * zones, "pageblocks": samples, "progress": samples,
                "memory": info["machine"]["pages"] // info["machine"]["pageblock_pages"]}
        for name, count in rows.items():
            entry = info["tables"].get(f"{name}.parquet")
            if entry is None:
                raise RunError(f"{path / 'run.json'}: no table {name}")
            if entry.get("rows") != count or pq.read_metadata(path / f"{name}.parquet").num_rows != count:
                raise RunError(f"{path / name}.parquet: not the {count} rows that run.json implies")
        return cls(path, info)

    def save(self, path, overwrite=False):
        """Copy the run to a folder and return it opened there; FileExistsError as in `RunWriter`."""
        path = pathlib.Path(path)
        part = make_part(path, overwrite)
        try:
            for name in ("run.json", "schema.json", *self.info["tables"]):
                shutil.copyfile(self.path / name, part / name)
            publish(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return Run.open(path)

    @property
    def name(self):
        """Name of the folder; of a run that is not saved: of its trace."""
        return self.info["trace"].get("name", "run") if self.temporary else self.path.resolve().name

    def headline(self):
        """What a run comes to, as plain data: where it comes from, and the figures that were measured."""
        names = ("mode", "kernel", "as_kernel", "version", "semantics", "seed", "losses")
        measured = {name: value for name, value in self.figures.items() if value is not None}
        return {"run": self.name, **{name: self.info[name] for name in names}, **measured}

    def __str__(self):
        lines = [f"{self.name}: {self.info['mode']}, {self.info['kernel']}, seed {self.info['seed']}"]
        for name, value in self.figures.items():
            if value is not None:
                lines.append(f"  {FIGURES[name].label:<28} {figure_text(name, value)}")
        return "\n".join(lines)

    @property
    def figures(self):
        return self.info["figures"]

    def to_table(self, name="samples"):
        """A table of the run.

        Parameters
        ----------
        name : str
            samples, pageblocks, progress, memory, or extfrag where it was recorded.

        Returns
        -------
        pyarrow.Table

        Raises
        ------
        KeyError
            The run has no such table.
        """
        if f"{name}.parquet" not in self.info["tables"]:
            there = ", ".join(table.removesuffix(".parquet") for table in self.info["tables"])
            raise KeyError(f"run {self.name} has no table {name!r}; there are {there}")
        return pq.read_table(self.path / f"{name}.parquet")

    def pageblocks(self):
        """The picture of memory over time.

        Returns
        -------
        time_ns : ndarray of int64, shape (samples,)
        migratetype : ndarray of uint8, shape (samples, pageblocks)
            255: no memory there.
        free_pages : ndarray of uint16, shape (samples, pageblocks)
            0 to 512 pages.
        """
        table = self.to_table("pageblocks")
        shape = len(table), -1
        types = np.frombuffer(b"".join(table["migratetype"].to_pylist()), np.uint8).reshape(shape)
        free = np.frombuffer(b"".join(table["free_pages"].to_pylist()), "<u2").reshape(shape)
        return table["time_ns"].to_numpy(), types, free

    def report(self, path):
        """Write the interactive HTML report of this run; see `mm.sim.report.write_report`."""
        from mm.sim.report import write_report

        write_report([self], path)

    def __repr__(self):
        return f"<Run {self.name}: {self.info['mode']}, {self.info['sampling']['samples']} samples>"


COLUMNS = {**sampler.TABLES, "extfrag": EXTFRAG_EVENTS}
_REQUIRED_INFO = {"format_version": int, "version": str, "semantics": int, "kernel": str, "mode": str, "figures": dict,
                  "machine": dict, "knobs": dict, "sampling": dict, "tables": dict, "vm_event_deltas": dict,
                  "unanswered_calls": dict,
                  **{name: object if value is None else type(value) for name, value in DETAILS.items()}}


def figure_text(name, value):
    """A figure as reports print it: a spread if it was repeated, else `n=1, deterministic`."""
    def show(x):
        return f"{x:.3%}" if FIGURES[name].unit == "ratio" else f"{x:,}"
    if value is None:
        return "not measured"
    if isinstance(value, dict):
        return f"{show(value['median'])} (median of n={value['n']}, {show(value['low'])} to {show(value['high'])})"
    return f"{show(value)} (n=1, deterministic)"


def make_part(path, overwrite):
    """A folder beside `path` to write in."""
    if path.exists() and not (overwrite and (path / "run.json").is_file()):
        raise FileExistsError(f"{path}: exists" + (" and is no run" if overwrite else ""))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.mkdir()
    return part


def publish(part, path):
    """Rename into place; a run that is replaced is moved aside first and dropped last."""
    old = part.with_suffix(".old")
    if path.exists():
        path.rename(old)
    try:
        part.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _read_info(path):
    """run.json, checked for all that readers rely on."""
    file = path / "run.json"
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path}: not a run: no run.json") from None
    except NotADirectoryError:
        raise RunError(f"{path}: not a run: a run is a folder") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"{file}: damaged: {error}") from None
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise RunError(f"{file}: not a run: 'format' is not {FORMAT!r}")
    if info.get("format_version") != FORMAT_VERSION:
        raise RunError(f"{file}: format version {info.get('format_version')!r}, this package reads {FORMAT_VERSION}")
    for name, kind in _REQUIRED_INFO.items():
        if name not in info or not isinstance(info[name], kind):
            raise RunError(f"{file}: damaged: {name!r} is missing or of a wrong kind")
    _check_shape(file, info)
    return info


def _check_shape(file, info):
    """The numbers that say how long tables are."""
    machine, zones = info["machine"], info["machine"].get("zones")
    numbers = [machine.get("pages"), machine.get("pageblock_pages"), info["sampling"].get("samples")]
    if not all(isinstance(number, int) and number > 0 for number in numbers) or not isinstance(zones, list):
        raise RunError(f"{file}: damaged: 'machine' or 'sampling' lacks its sizes")
    for zone in zones:
        for name in ("node", "zone", "start_pfn", "managed_pages"):
            if not isinstance(zone, dict) or name not in zone:
                raise RunError(f"{file}: damaged: a zone without {name!r}")
    if set(info["figures"]) - set(FIGURES):
        raise RunError(f"{file}: damaged: unknown figures {sorted(set(info['figures']) - set(FIGURES))}")


def _check_table(folder, name, entry):
    path = folder / name
    columns = COLUMNS.get(name.removesuffix(".parquet"))
    if columns is None or not isinstance(entry, dict):
        raise RunError(f"{folder / 'run.json'}: damaged: table {name!r}")
    try:
        size = path.stat().st_size
    except OSError:
        raise RunError(f"{path}: missing") from None
    if size != entry.get("bytes"):
        raise RunError(f"{path}: {size} bytes, run.json says {entry.get('bytes')}: cut off or changed")
    if file_digest(path) != entry.get("sha256"):
        raise RunError(f"{path}: its digest is not the one in run.json: damaged or changed")
    try:
        there = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path}: not a Parquet table: {error}") from None
    for column, kind, _ in columns:
        if column not in there.names or there.field(column).type != kind:
            raise RunError(f"{path}: no column {column!r} of type {kind}")
