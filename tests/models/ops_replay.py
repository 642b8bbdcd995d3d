"""Replay scripted recordings of a real kernel's page allocator against `PageAllocModel`.

A recording is a folder with `meta.json`, `ops.npz` (one row an operation, with its result) and `snap-*.npz`.
Usage: python ops_replay.py DIR...
"""

import json
import sys
from pathlib import Path

import numpy as np
from contig_range import ContigAllocModel
from page_alloc import PageAllocModel

ALLOC, FREE, BULK, SPLIT, FREELIST, SNAP, DRAIN, CONTIG, CONTIGPAGES = range(1, 10)


class OpsReplay:
    """Runs operations on a model; `slots` holds the first PFN of what each slot holds."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.meta = json.loads((self.folder / "meta.json").read_text())
        self.fields = self.meta["fields"]
        self.ops = np.load(self.folder / "ops.npz")
        contig = np.isin(self.ops["op"], (CONTIG, CONTIGPAGES)).any()
        model = ContigAllocModel if contig else PageAllocModel
        self.model = model.from_snapshot(self.folder / "snap-before.npz", self.fields, self.meta["cpu_node"])
        self.slots, self.wrong, self.total, self.first_wrong = {}, 0, 0, None
        self.snapshots = {}

    def alloc(self, op):
        pfn = self.model.alloc_pages(op["gfp"], op["order"], op["cpu"], op["nid"])
        self.slots.pop(op["slot"], None)
        if pfn is not None:
            self.slots[op["slot"]] = pfn
        return -1 if pfn is None else pfn

    def free(self, op):
        pfn = self.slots.pop(op["slot"], None)
        if pfn is None:
            return -1
        self.model.free_pages(pfn, op["order"], op["cpu"])
        return pfn

    def bulk(self, op, aux):
        got = self.model.alloc_pages_bulk(op["gfp"], op["arg"], op["cpu"], op["nid"])
        self.fill(op["slot"], got, op["arg"])
        expected = [next(aux) for _ in range(op["res"])]
        self.total += len(expected)
        self.wrong += sum(a != b for a, b in zip(got, expected))
        return len(got)

    def split(self, op):
        first = self.slots.pop(op["slot"], None)
        if first is None:
            return -1
        self.slots.update(enumerate(self.model.split_page(first, op["order"]), op["arg"]))
        return first

    def freelist(self, op):
        pfns = [self.slots.pop(op["slot"] + i, None) for i in range(op["arg"])]
        pfns = [pfn for pfn in pfns if pfn is not None]
        self.model.free_unref_page_list(pfns, op["cpu"])
        return len(pfns)

    def fill(self, slot, pfns, n):
        for i in range(n):
            self.slots.pop(slot + i, None)
        self.slots.update(enumerate(pfns, slot))

    def contig(self, op):
        n = 1 << op["order"]
        result = self.model.alloc_contig_range(op["arg"], op["arg"] + n, cpu=op["cpu"])
        self.fill(op["slot"], range(op["arg"], op["arg"] + n) if result == 0 else (), n)
        return result

    def contig_pages(self, op):
        first = self.model.alloc_contig_pages(op["arg"], op["gfp"], op["cpu"], op["nid"])
        self.fill(op["slot"], () if first is None else range(first, first + op["arg"]), op["arg"])
        return -1 if first is None else first

    def snap(self, label):
        path = self.folder / f"snap-{label}.npz"
        if path.exists():
            self.snapshots[label] = self.model.compare_snapshot(path, self.fields)

    def run(self):
        ops, aux = self.ops, iter(self.ops["aux"].tolist())
        run = {ALLOC: self.alloc, FREE: self.free, SPLIT: self.split, FREELIST: self.freelist, CONTIG: self.contig,
               CONTIGPAGES: self.contig_pages}
        names = ("op", "order", "nid", "cpu", "slot", "gfp", "arg", "res")
        for index, row in enumerate(zip(*(ops[n].tolist() for n in names))):
            op = dict(zip(names, row))
            kind = op["op"]
            if kind == SNAP:
                self.snap(f"op{index}")
                continue
            if kind == DRAIN:
                self.model.drain_local_pages(op["cpu"])
                continue
            if kind == BULK:
                result = self.bulk(op, aux)
            else:
                result = run[kind](op)
            self.total += 1
            if result != op["res"]:
                self.wrong += 1
                self.first_wrong = self.first_wrong or (index, op, result)
        self.snap("after")
        return self


def main(folders):
    for folder in folders:
        replay = OpsReplay(folder).run()
        same = sum(not found for found in replay.snapshots.values())
        print(f"{replay.folder.name}: {replay.total - replay.wrong}/{replay.total} results equal, "
              f"{same}/{len(replay.snapshots)} snapshots equal", replay.first_wrong or "", flush=True)
        for label, found in replay.snapshots.items():
            if found:
                print("  ", label, len(found), "differences; first:", str(found[0])[:300])
                break


if __name__ == "__main__":
    main(sys.argv[1:])
