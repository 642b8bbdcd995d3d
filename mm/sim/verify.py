"""Judge the model against recordings of a real kernel: replay what was recorded, compare every result and state.

A dataset is a folder with a `meta.json` (docs/recordings.md).  Kinds: `ops`, scripted allocator operations with the PFN
of each result and snapshots between; `boot`, states after boot and after sysctl writes; `trace`, ftrace text with both
end states.  What the model does not have yet is refused by name, never skipped silently.
"""

import pathlib
import time

import numpy as np

from mm.errors import AllocationFailed, BadFree
from mm.sim import snapshot as snapshots

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
        for i, (op, order, nid, cpu, slot, gfp, arg) in enumerate(zip(*columns)):
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


def verify_ops(directory, results=None):
    """Replay scripted operations; a result row of `mm verify`."""
    from mm.sim.machine import Machine

    directory = pathlib.Path(directory)
    start = time.perf_counter()
    ops = snapshots.read_npz(directory / "ops.npz")
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
    matched = int(((res == ops["res"]) & judged).sum()) + int((aux == ops["aux"][:len(aux)]).sum() if len(aux) else 0)
    total = int(judged.sum()) + len(ops["aux"])
    first = np.flatnonzero((res != ops["res"]) & judged)
    if len(first):
        i = int(first[0])
        failures.insert(0, f"first wrong result at op {i} ({OPS[ops['op'][i]]} order {ops['order'][i]}): recorded "
                           f"{ops['res'][i]}, model {res[i]}")
    if results is not None:
        np.savez(pathlib.Path(results) / f"{directory.name}-ops.npz", res=res, aux=aux)
    return {"dataset": directory.name, "kind": "ops", "status": "ok" if matched == total and all(checked) else "short",
            "matched": matched, "total": total, "lists_equal": all(checked), "snapshots_equal": sum(checked),
            "snapshots": len(checked), "seconds": round(time.perf_counter() - start, 3), "why": "; ".join(failures[:5])}
