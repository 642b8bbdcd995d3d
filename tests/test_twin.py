"""Random operations on the core and on its slow twin: every result and every list is the same."""

import json
import sys

import numpy as np
import pytest
from conftest import RECORDINGS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mm

sys.path.insert(0, str(RECORDINGS.parents[1] / "models"))
from page_alloc import PageAllocModel

START = RECORDINGS / "E1" / "snap-before.npz"      # two nodes, two CPUs, 700 MiB
MASKS = (mm.GFP_KERNEL | 0x10000, mm.GFP_HIGHUSER_MOVABLE | 0x10000, mm.GFP_ATOMIC, mm.GFP_NOWAIT, mm.GFP_DMA32 & 0x4 | 0x800,
         mm.GFP_NOWAIT | 0x10, mm.GFP_NOWAIT | 0x8 | 0x2)
ORDERS = (0,) * 12 + (1, 1, 2, 2, 3, 3, 4, 5, 7, 9, 10)


class Pair:
    """A machine and its twin in the same recorded state; each operation runs on both."""

    def __init__(self):
        meta = json.loads((START.parent / "meta.json").read_text())
        self.core = mm.Machine.from_snapshot(START)
        self.twin = PageAllocModel.from_snapshot(START, meta["fields"], meta["cpu_node"])
        self.held = []

    def alloc(self, gfp, order, cpu, nid):
        try:
            pfn = self.core.alloc_pages(gfp, order, cpu, nid)
        except mm.AllocationFailed:
            pfn = None
        assert pfn == self.twin.alloc_pages(gfp, order, cpu, nid)
        if pfn is not None:
            self.held.append((pfn, order))

    def bulk(self, gfp, n, cpu):
        pages = self.core.alloc_pages_bulk(gfp, n, cpu).tolist()
        assert pages == list(self.twin.alloc_pages_bulk(gfp, n, cpu))
        self.held += [(pfn, 0) for pfn in pages]

    def free(self, which, cpu):
        if self.held:
            at = which % len(self.held)
            self.held[at], self.held[-1] = self.held[-1], self.held[at]
            pfn, order = self.held.pop()
            self.core.free_pages(pfn, order, cpu)
            self.twin.free_pages(pfn, order, cpu)

    def split(self, which):
        at = which % len(self.held) if self.held else 0
        if self.held and self.held[at][1]:
            pfn, order = self.held.pop(at)
            self.core.split_page(pfn, order)
            self.twin.split_page(pfn, order)
            self.held += [(page, 0) for page in range(pfn, pfn + (1 << order))]

    def free_list(self, n, cpu):
        pages = [pfn for pfn, order in self.held[-n:] if order == 0]
        self.held = self.held[:-n] + [block for block in self.held[-n:] if block[1]]
        self.core.free_unref_page_list(np.array(pages, np.uint32), cpu)
        self.twin.free_unref_page_list(pages, cpu)

    def drain(self, cpu):
        self.core.drain_local_pages(cpu)
        self.twin.drain_local_pages(cpu)

    def compare(self):
        """All lists in order, pageblock types and the counters that decide."""
        free = {(nid, zid, order, mt): list(blocks) for (nid, zid), zone in self.twin.zones.items()
                for order, types in enumerate(zone.free) for mt, blocks in enumerate(types) if blocks}
        pcp = {(nid, zid, cpu, i): list(pages) for (nid, zid), zone in self.twin.zones.items()
               for cpu, each in zone.pcp.items() for i, pages in enumerate(each.lists) if pages}
        assert {key: pfns.tolist() for key, pfns in self.core.free_lists().items()} == free
        assert {key: pfns.tolist() for key, pfns in self.core.pcp_lists().items()} == pcp
        for (nid, zid), zone in self.twin.zones.items():
            row = self.core.zones[nid * 5 + zid]
            assert (int(row["vm_stat"][0]), int(row["watermark_boost"])) == (zone.nr_free_pages, zone.watermark_boost)
        self.core.verify()


def run(seed, steps):
    """Phases of growth and release, so that memory comes near its end and back."""
    rng, pair = np.random.default_rng(seed), Pair()
    for phase in range(4):
        share = 0.85 if phase % 2 == 0 else 0.25
        if phase % 2 == 0:      # most of the rest in one go: fallback, boosts and reserves then happen
            for gfp in MASKS[:3]:
                pair.bulk(gfp, int(rng.integers(20_000, 60_000)), int(rng.integers(2)))
        for _ in range(steps):
            cpu, what = int(rng.integers(2)), rng.random()
            if what < 0.02:
                pair.drain(cpu)
            elif what < 0.04:
                pair.split(int(rng.integers(1 << 30)))
            elif what < 0.06:
                pair.free_list(int(rng.integers(1, 200)), cpu)
            elif what < 0.08:
                pair.bulk(MASKS[int(rng.integers(len(MASKS)))], int(rng.integers(1, 300)), cpu)
            elif what < 0.08 + 0.92 * share:
                pair.alloc(MASKS[int(rng.integers(len(MASKS)))], int(rng.choice(ORDERS)), cpu, int(rng.integers(-1, 2)))
            else:
                pair.free(int(rng.integers(1 << 30)), cpu)
        pair.compare()
    return pair


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_random_operations_agree_with_the_twin(seed):
    run(seed, 1500)


def test_the_random_operations_reach_fallback_and_failure():
    """Else the comparison above would prove little."""
    pair = run(1, 2500)
    event = pair.core.zones["event"].sum(axis=0)
    from mm._fast.vm_event_item import zone_event_item as item

    for name in ("EXTFRAG", "EXTFRAG_FRAGMENTING", "PCP_DRAIN", "BOOST", "WMARK_LOW_FAIL", "WMARK_MIN_FAIL"):
        assert event[int(item[name])] > 0, name


@pytest.mark.slow
def test_a_long_random_run_agrees_with_the_twin():
    run(2, 20_000)
