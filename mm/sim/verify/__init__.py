"""Judge the model against recordings of a real kernel: replay what was recorded, compare every result and state.

A dataset is a folder with a `meta.json` (docs/recordings.md).  Kinds: `ops`, scripted allocator operations with the PFN
of each result and snapshots between; `boot`, states after boot and after sysctl writes; `trace`, ftrace text with both
end states.  What the model does not have yet is refused by name, never skipped silently.  A dataset that cannot be
read is `short` and the reason names the file.
"""

import importlib
import pathlib
import time

import numpy as np

from mm.errors import AllocationFailed, VMBug
from mm.sim import snapshot as snapshots

STATUSES = ("ok", "short", "not_modelled", "not_judged")
OPS = ("NONE", "ALLOC", "FREE", "BULK", "SPLIT", "FREELIST", "SNAP", "DRAIN", "CONTIG", "CONTIGPAGES")
MAX_SLOTS = 1 << 24


class OpsReplay:
    """Runs the operations of `ops.npz` on a machine and collects what it answers.

    Parameters
    ----------
    machine : mm.Machine
        In the state `before`.
    ops : dict of str to ndarray
        Columns op, order, nid, cpu, slot, gfp, arg (one row an operation).
    on_snapshot : callable
        Called with the label of each recorded snapshot when its operation is reached.
    """

    def __init__(self, machine, ops, on_snapshot):
        self.machine = machine
        self.ops = ops
        self.on_snapshot = on_snapshot
        nr_slots = int(max(ops["slot"].max(initial=0), ops["arg"].max(initial=0)) + 4096)
        if nr_slots > MAX_SLOTS or ops["slot"].min(initial=0) < 0:
            raise snapshots.SnapshotError(f"ops name slot {nr_slots}: 0 to {MAX_SLOTS}")
        self.slots = [-1] * nr_slots
        self.res = np.full(len(ops["op"]), -1, np.int64)
        self.aux = []

    def run(self):
        """Run all; returns (res, aux) as in the recording."""
        columns = [self.ops[name].tolist() for name in ("op", "order", "nid", "cpu", "slot", "gfp", "arg")]
        handlers = [getattr(self, "do_" + name.lower(), None) for name in OPS]
        for i, (op, order, nid, cpu, slot, gfp, arg) in enumerate(zip(*columns, strict=True)):
            if not 0 < op < len(handlers):
                raise snapshots.SnapshotError(f"ops row {i}: operation {op}, 1 to {len(handlers) - 1}")
            self.index = i
            self.res[i] = handlers[op](order, nid, cpu, slot, gfp, arg)
        return self.res, np.array(self.aux, np.int64)

    def take(self, slot):
        pfn, self.slots[slot] = self.slots[slot], -1
        return pfn

    def do_alloc(self, order, nid, cpu, slot, gfp, arg):
        try:
            pfn = self.machine.alloc_pages(gfp, order, cpu, nid)
        except AllocationFailed:
            pfn = -1
        self.slots[slot] = pfn
        return pfn

    def do_free(self, order, nid, cpu, slot, gfp, arg):
        pfn = self.take(slot)
        if pfn >= 0:
            self.machine.free_pages(pfn, order, cpu)
        return pfn

    def do_bulk(self, order, nid, cpu, slot, gfp, arg):
        pfns = self.machine.alloc_pages_bulk(gfp, arg, cpu, nid).tolist()
        self.slots[slot:slot + arg] = pfns + [-1] * (arg - len(pfns))
        self.aux += pfns
        return len(pfns)

    def do_split(self, order, nid, cpu, slot, gfp, arg):
        pfn = self.take(slot)
        if pfn >= 0:
            self.machine.split_page(pfn, order)
            self.slots[arg:arg + (1 << order)] = range(pfn, pfn + (1 << order))
        return pfn

    def do_freelist(self, order, nid, cpu, slot, gfp, arg):
        pfns = [pfn for pfn in self.slots[slot:slot + arg] if pfn >= 0]
        self.slots[slot:slot + arg] = [-1] * arg
        self.machine.free_unref_page_list(np.array(pfns, np.uint32), cpu)
        return len(pfns)

    def do_snap(self, order, nid, cpu, slot, gfp, arg):
        self.on_snapshot(f"op{self.index}")
        return -1

    def do_drain(self, order, nid, cpu, slot, gfp, arg):
        self.machine.drain_local_pages(cpu)
        return -1

    def do_contig(self, order, nid, cpu, slot, gfp, arg):
        n = 1 << order
        try:
            self.machine.alloc_contig_range(arg, arg + n, cpu)
        except OSError as error:
            self.slots[slot:slot + n] = [-1] * n
            return -error.errno
        self.slots[slot:slot + n] = range(arg, arg + n)
        return 0

    def do_contigpages(self, order, nid, cpu, slot, gfp, arg):
        try:
            pfn = self.machine.alloc_contig_pages(arg, gfp, nid, cpu)
        except AllocationFailed:
            self.slots[slot:slot + arg] = [-1] * arg
            return -1
        self.slots[slot:slot + arg] = range(pfn, pfn + arg)
        return pfn


OP_COLUMNS = ("op", "order", "nid", "cpu", "slot", "gfp", "arg", "res")


def read_ops(path):
    """The arrays of an `ops.npz`, checked: integer columns of one length."""
    ops = snapshots.read_npz(path)
    for name in (*OP_COLUMNS, "aux"):
        if name not in ops:
            raise snapshots.SnapshotError(f"{path}: no array {name!r}; expected {', '.join(OP_COLUMNS)}, aux")
        if ops[name].dtype.kind not in "iu" or ops[name].ndim != 1:
            raise snapshots.SnapshotError(f"{path}: array {name!r} is {ops[name].ndim}-dimensional {ops[name].dtype}, "
                                          "expected a row of integers")
    lengths = {name: len(ops[name]) for name in OP_COLUMNS}
    if len(set(lengths.values())) != 1:
        raise snapshots.SnapshotError(f"{path}: columns have lengths {lengths}")
    return ops


def verify_ops(directory, results=None):
    """Replay scripted operations; a result row of `mm verify`."""
    from mm.sim.machine import Machine

    directory = pathlib.Path(directory)
    start = time.perf_counter()
    ops = read_ops(directory / "ops.npz")
    machine = Machine.from_snapshot(directory / "snap-before.npz")
    failures = []

    def check(label):
        path = directory / f"snap-{label}.npz"
        differences = snapshots.compare(snapshots.read_snapshot(path), machine)
        failures.extend(f"{label}: {line}" for line in differences[:3])
        checked.append(not differences)

    checked = []
    replay = OpsReplay(machine, ops, check)
    res, aux = replay.run()
    check("after")
    machine.verify()
    judged = ~np.isin(ops["op"], (6, 7))
    both = min(len(aux), len(ops["aux"]))
    matched = int(((res == ops["res"]) & judged).sum()) + int((aux[:both] == ops["aux"][:both]).sum())
    total = int(judged.sum()) + len(ops["aux"])
    first = np.flatnonzero((res != ops["res"]) & judged)
    if len(first):
        i = int(first[0])
        failures.insert(0, f"first wrong result at op {i} ({OPS[ops['op'][i]]} order {ops['order'][i]}): recorded "
                           f"{ops['res'][i]}, model {res[i]}")
    if results is not None:
        kept = pathlib.Path(results) / directory.name
        kept.mkdir(exist_ok=True)
        np.savez_compressed(kept / "ops.npz", **(ops | {"res": res, "aux": aux}))
    return {"dataset": directory.name, "kind": "ops", "status": "ok" if matched == total and all(checked) else "short",
            "matched": matched, "total": total, "lists_equal": all(checked), "snapshots_equal": sum(checked),
            "snapshots": len(checked), "seconds": round(time.perf_counter() - start, 3), "why": "; ".join(failures[:5])}


# ---- any dataset: kind, judge, row ----------------------------------------------------------------------------------

SLEEPING_OPS = (OPS.index("CONTIG"), OPS.index("CONTIGPAGES"))


def kind_of(directory):
    """(kind, why not) of a dataset, from its files; why not: status and reason if it is not judged or not modelled."""
    directory = pathlib.Path(directory)
    names = {path.name for path in directory.iterdir()}
    if any(name.endswith(".jsonl.zst") for name in names):
        return "syscalls", ("not_modelled", "system calls, VMAs and faults are not modelled")
    if "index.json" in names and any(name.endswith(".json.zst") for name in names):
        return "workloads", ("not_modelled", "faults, reclaim, swap, huge pages and page cache are not modelled")
    if "results.json" in names and "trace.txt.zst" in names:
        return "knob_effects", ("not_modelled", "the load reacts to memory pressure: it needs reclaim and a page cache")
    if "ops.npz" in names and "trace.txt.zst" in names:
        return "ops", ("not_modelled", "the operations sleep: direct reclaim, compaction and swap are not modelled")
    if "ops.npz" in names:
        return "ops", None
    if "snap-boot.npz" in names:
        return "boot", None
    if "trace.txt.zst" in names:
        if snapshots.read_meta(directory).get("events_compaction"):
            return "compaction", ("not_modelled", "a whole compaction: the scanners and migration are not modelled")
        return "trace", None
    raise snapshots.SnapshotError(f"{directory}: no dataset: expected ops.npz, snap-boot.npz or trace.txt.zst")


def judge_ops(directory, results=None):
    """`verify_ops`; what ran in process context, with other tasks between, is shown and not judged."""
    sleeps = np.isin(read_ops(pathlib.Path(directory) / "ops.npz")["op"], SLEEPING_OPS).any()
    row = verify_ops(directory, results)
    if sleeps:
        row |= {"status": "not_judged", "why": "recorded in process context: other tasks ran between the operations"}
    return row


# kind: module and function; imported when the first dataset of the kind is judged
JUDGES = {
    "ops": ("mm.sim.verify", "judge_ops"),
    "boot": ("mm.sim.verify.boot", "verify_boot"),
    "trace": ("mm.sim.verify.trace", "verify_trace"),
}


def verify_one(directory, results=None):
    """The row of one dataset; never raises for what the dataset contains."""
    directory = pathlib.Path(directory)
    start = time.perf_counter()
    row = {"dataset": directory.resolve().name, "kind": "unknown", "status": "short", "matched": 0, "total": 0,
           "lists_equal": False, "seconds": 0.0, "why": ""}
    try:
        if not directory.is_dir():
            raise snapshots.SnapshotError(f"{directory}: no such folder")
        row["kind"], refusal = kind_of(directory)
        if refusal:
            row["status"], row["why"] = refusal
            return row
        module, function = JUDGES[row["kind"]]
        row |= getattr(importlib.import_module(module), function)(directory, results)
    except ModuleNotFoundError as error:
        if error.name != JUDGES[row["kind"]][0]:
            raise
        row |= {"status": "not_modelled", "why": f"this version has no judge for {row['kind']} datasets"}
    except (OSError, EOFError, MemoryError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError,
            VMBug) as error:
        row["why"] = describe(directory, error)
    row["seconds"] = round(time.perf_counter() - start, 3)
    return row


def describe(directory, error):
    """One line that names the file, or at least the folder, of a dataset that failed."""
    text = " ".join(str(error).split()) or "no further word"
    if str(directory) in text:
        return text
    return f"{directory}: {text if isinstance(error, ValueError) else f'{type(error).__name__}: {text}'}"


def datasets_in(path):
    """The folder itself, or the datasets in it if it only holds such."""
    path = pathlib.Path(path)
    if not path.is_dir() or any(not child.is_dir() and child.suffix in (".npz", ".zst") for child in path.iterdir()):
        return [path]
    children = sorted(child for child in path.iterdir() if child.is_dir() and (child / "meta.json").exists())
    return children or [path]


def verify(paths, results=None, on_row=None):
    """Judge datasets.

    Parameters
    ----------
    paths : iterable of path
        Dataset folders, or folders of such.
    results : path, optional
        Where to leave what the model answered, one file a dataset.
    on_row : callable, optional
        Called with each row when it is done.

    Returns
    -------
    list of dict
        dataset, kind, status (one of STATUSES), matched, total (results compared), lists_equal (every list and counter
        of every snapshot), seconds, why.
    """
    if results is not None:
        pathlib.Path(results).mkdir(parents=True, exist_ok=True)
    rows = []
    for path in paths:
        for directory in datasets_in(path):
            rows.append(verify_one(directory, results))
            if on_row is not None:
                on_row(rows[-1])
    return rows
