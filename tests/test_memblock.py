"""memblock: examples, a page-by-page model under random operations, search and allocation."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm.physical.memblock import (
    MEMBLOCK_DRIVER_MANAGED,
    MEMBLOCK_HOTPLUG,
    MEMBLOCK_NOMAP,
    MEMBLOCK_NONE,
    NUMA_NO_NODE,
    PAGE_SIZE,
    PHYS_ADDR_MAX,
    Memblock,
    Region,
)

MIB, GIB = 1 << 20, 1 << 30
FLAGS = (MEMBLOCK_HOTPLUG, MEMBLOCK_NOMAP)
NR_UNITS = 64                   # pages of the model's address space
NODES = (NUMA_NO_NODE, 0, 1)


class PageModel:
    """The same, one page a cell: memory[i] is None or (node, flags), reserved[i] a truth value."""

    def __init__(self):
        self.memory = [None] * NR_UNITS
        self.reserved = [False] * NR_UNITS

    def add_node(self, lo, n, nid):
        for i in range(lo, lo + n):
            self.memory[i] = self.memory[i] or (nid, MEMBLOCK_NONE)

    def remove(self, lo, n):
        self.memory[lo:lo + n] = [None] * n

    def reserve(self, lo, n):
        self.reserved[lo:lo + n] = [True] * n

    def phys_free(self, lo, n):
        self.reserved[lo:lo + n] = [False] * n

    def set_node(self, lo, n, nid):
        for i in range(lo, lo + n):
            self.memory[i] = self.memory[i] and (nid, self.memory[i][1])

    def set_flag(self, lo, n, flag, is_set):
        for i in range(lo, lo + n):
            if self.memory[i]:
                nid, flags = self.memory[i]
                self.memory[i] = (nid, flags | flag if is_set else flags & ~flag)

    def memory_regions(self):
        """(start, end, node, flags) of each maximal run."""
        runs = []
        for i, cell in enumerate(self.memory):
            if cell and runs and runs[-1][1] == i and runs[-1][2:] == cell:
                runs[-1] = (runs[-1][0], i + 1, *cell)
            elif cell:
                runs.append((i, i + 1, *cell))
        return runs

    def reserved_regions(self):
        runs = []
        for i, cell in enumerate(self.reserved):
            if cell and runs and runs[-1][1] == i:
                runs[-1] = (runs[-1][0], i + 1)
            elif cell:
                runs.append((i, i + 1))
        return runs

    def free_ranges(self, nid=NUMA_NO_NODE, flags=MEMBLOCK_NONE):
        runs = []
        for lo, hi, node, have in self.memory_regions():
            if nid not in (NUMA_NO_NODE, node) or (have & MEMBLOCK_NOMAP and not flags & MEMBLOCK_NOMAP):
                continue
            start = None
            for i in range(lo, hi + 1):
                is_free = i < hi and not self.reserved[i]
                if is_free and start is None:
                    start = i
                if not is_free and start is not None:
                    runs.append((start, i, node))
                    start = None
        return runs

    def find(self, n, align, lo, hi, nid, is_bottom_up):
        """First fitting page in search order, 0 if none; page 0 is never used."""
        places = [p for a, b, _ in self.free_ranges(nid) for p in range(a, b)
                  if p % align == 0 and max(lo, 1) <= p and p >= a and p + n <= min(b, hi)]
        return (min if is_bottom_up else max)(places, default=0)


def apply(op, lo, n, nid, flag, mb, model):
    base, size = lo * PAGE_SIZE, n * PAGE_SIZE
    if op == "add_node":
        mb.add_node(base, size, nid)
        model.add_node(lo, n, nid)
    elif op == "set_node":
        mb.set_node(base, size, nid)
        model.set_node(lo, n, nid)
    elif op in ("mark", "clear"):
        name = f"{op}_{'hotplug' if flag == MEMBLOCK_HOTPLUG else 'nomap'}"
        getattr(mb, name)(base, size)
        model.set_flag(lo, n, flag, op == "mark")
    else:
        getattr(mb, op)(base, size)
        getattr(model, op)(lo, n)


def compare(mb, model):
    page = PAGE_SIZE
    assert [(r.base // page, r.end // page, r.nid, r.flags) for r in mb.memory] == model.memory_regions()
    assert [(r.base // page, r.end // page) for r in mb.reserved] == model.reserved_regions()
    for flags in (MEMBLOCK_NONE, MEMBLOCK_NOMAP):
        for nid in NODES:
            want = model.free_ranges(nid, flags)
            have = [(a // page, b // page, n) for a, b, n in mb.free_mem_ranges(nid, flags)]
            assert have == want
            assert list(mb.free_mem_ranges(nid, flags, is_reverse=True)) == list(mb.free_mem_ranges(nid, flags))[::-1]


OPS = ("add_node", "add_node", "remove", "reserve", "reserve", "phys_free", "set_node", "mark", "clear")
STEP = st.tuples(st.sampled_from(OPS), st.integers(0, NR_UNITS - 1), st.integers(0, 24), st.sampled_from(NODES),
                 st.sampled_from(FLAGS))


@settings(max_examples=200, deadline=None)
@given(st.lists(STEP, max_size=60))
def test_random_operations_equal_page_model(steps):
    mb, model = Memblock(), PageModel()
    for op, lo, n, nid, flag in steps:
        apply(op, lo, min(n, NR_UNITS - lo), nid, flag, mb, model)
    compare(mb, model)


@pytest.mark.spec("PM-07")
def test_ten_thousand_operations_equal_page_model():
    rng = random.Random(7)
    mb, model = Memblock(), PageModel()
    for step in range(10_000):
        lo = rng.randrange(NR_UNITS)
        n = rng.randrange(min(12, NR_UNITS - lo) + 1)
        apply(rng.choice(OPS), lo, n, rng.choice(NODES), rng.choice(FLAGS), mb, model)
        if step % 10 == 0:
            compare(mb, model)
            assert mb.memory.total_size == sum(r.size for r in mb.memory)
            assert all(not b.continues(a) for a, b in itertools.pairwise(mb.memory))


@settings(max_examples=200, deadline=None)
@given(st.lists(STEP, max_size=20), st.integers(1, 16), st.sampled_from([1, 2, 4, 16]), st.integers(0, NR_UNITS),
       st.integers(1, NR_UNITS), st.sampled_from(NODES), st.booleans())
def test_search_equals_page_model(steps, n, align, lo, hi, nid, is_bottom_up):
    mb, model = Memblock(is_bottom_up=is_bottom_up), PageModel()
    for op, at, count, node, flag in steps:
        apply(op, at, min(count, NR_UNITS - at), node, flag, mb, model)
    found = mb.find_in_range_node(n * PAGE_SIZE, align * PAGE_SIZE, lo * PAGE_SIZE, hi * PAGE_SIZE, nid, MEMBLOCK_NONE)
    assert found == model.find(n, align, lo, hi, nid, is_bottom_up) * PAGE_SIZE


# ------------------------------------------------------------------------------------------------ examples, PM-07

def gib_machine(**kwargs):
    mb = Memblock(**kwargs)
    mb.add(MIB, GIB - MIB)
    return mb


@pytest.mark.spec("PM-07")
def test_allocation_is_top_down():
    mb = gib_machine()
    assert mb.phys_alloc_range(4096, 4096, 0, 0) == 0x3FFFF000
    assert mb.phys_alloc_range(4096, 4096, 0, 0) == 0x3FFFE000


@pytest.mark.spec("PM-07")
def test_reserve_then_free_restores_the_regions():
    mb = gib_machine()
    before = [Region(r.base, r.size, r.flags, r.nid) for r in mb.reserved]
    mb.reserve(512 * MIB, MIB)
    mb.phys_free(512 * MIB, MIB)
    assert mb.reserved.regions == before == []


@pytest.mark.spec("PM-07")
def test_overlapping_add_gives_one_region():
    mb = gib_machine()
    mb.add(GIB // 2, 2 * GIB - GIB // 2)
    assert mb.memory.regions == [Region(MIB, 2 * GIB - MIB)]


def test_bottom_up_starts_at_the_lowest_address():
    mb = gib_machine(is_bottom_up=True)
    assert mb.phys_alloc_range(4096, 4096, 0, 0) == MIB
    assert mb.phys_alloc_range(4096, 2 * MIB, 0, 0) == 2 * MIB


def test_first_page_is_never_allocated():
    mb = Memblock()
    mb.add(0, 2 * PAGE_SIZE)
    assert mb.phys_alloc_range(PAGE_SIZE, PAGE_SIZE, 0, 0) == PAGE_SIZE
    assert mb.phys_alloc_range(PAGE_SIZE, PAGE_SIZE, 0, 0) == 0


def test_node_is_preferred_and_others_are_the_fallback():
    mb = Memblock()
    mb.add_node(MIB, MIB, 0)
    mb.add_node(2 * MIB, MIB, 1)
    assert mb.phys_alloc_try_nid(MIB, 4096, 0) == MIB
    assert mb.phys_alloc_try_nid(4096, 4096, 0) == 3 * MIB - 4096
    assert mb.alloc_exact_nid(4096, 4096, 0, 0, 0) == 0


def test_lower_limit_is_dropped_when_nothing_lies_above():
    mb = gib_machine()
    assert mb.alloc_try_nid(4096, 4096, min_addr=2 * GIB) == GIB - 4096


def test_current_limit_bounds_allocations_without_end():
    mb = gib_machine()
    mb.current_limit = 16 * MIB
    assert mb.alloc_try_nid(4096, 4096) == 16 * MIB - 4096


def test_mirrored_memory_first_then_any():
    mb = gib_machine()
    mb.mark_mirror(MIB, MIB)
    assert mb.phys_alloc_range(MIB, 4096, 0, 0) == MIB
    assert mb.phys_alloc_range(4096, 4096, 0, 0) == GIB - 4096
    assert mb.find_in_range(0, PHYS_ADDR_MAX, 4096, 4096) == GIB - 2 * 4096


def test_nomap_and_driver_managed_memory_is_left_out():
    mb = gib_machine()
    mb.mark_nomap(512 * MIB, 512 * MIB)
    assert mb.phys_alloc_range(4096, 4096, 0, 0) == 512 * MIB - 4096
    assert not mb.is_map_memory(GIB - 1) and mb.is_memory(GIB - 1)
    mb.add_node(GIB, MIB, 0, MEMBLOCK_DRIVER_MANAGED)
    assert max(end for _, end, _ in mb.free_mem_ranges()) < GIB
    mb.clear_nomap(512 * MIB, 512 * MIB)
    assert mb.memory.regions[0] == Region(MIB, GIB - MIB)


def test_hotplug_memory_is_left_out_with_movable_node_only():
    for is_movable_node, end in ((False, GIB), (True, 512 * MIB)):
        mb = gib_machine(is_movable_node=is_movable_node)
        mb.mark_hotplug(512 * MIB, 512 * MIB)
        assert max(stop for _, stop, _ in mb.free_mem_ranges()) == end
        mb.clear_hotplug(0, PHYS_ADDR_MAX)
        assert max(stop for _, stop, _ in mb.free_mem_ranges()) == GIB


def test_questions():
    mb = gib_machine()
    mb.set_node(0, 2 * GIB, 3)
    mb.reserve(4 * MIB, MIB)
    assert mb.is_memory(MIB) and not mb.is_memory(MIB - 1) and not mb.is_memory(GIB)
    assert mb.is_reserved(4 * MIB) and not mb.is_reserved(5 * MIB)
    assert mb.is_region_memory(MIB, GIB - MIB) and not mb.is_region_memory(MIB, GIB)
    assert mb.is_region_reserved(0, 4 * MIB + 1) and not mb.is_region_reserved(0, 4 * MIB)
    assert mb.search_pfn_nid(256) == (256, 262144, 3) and mb.search_pfn_nid(0) is None
    assert (mb.phys_mem_size(), mb.reserved_size()) == (GIB - MIB, MIB)
    assert (mb.start_of_DRAM(), mb.end_of_DRAM()) == (MIB, GIB)


def test_pfn_ranges_hold_whole_pages_only():
    mb = Memblock()
    mb.add_node(0x800, 0x2000, 0)
    mb.add_node(0x10000, 0x400, 1)
    assert list(mb.mem_pfn_ranges()) == [(1, 2, 0)]
    mb.trim_memory()
    assert mb.memory.regions == [Region(0x1000, 0x1000, MEMBLOCK_NONE, 0)]


def test_limits_cut_both_arrays():
    mb = gib_machine()
    mb.reserve(600 * MIB, MIB)
    mb.enforce_memory_limit(511 * MIB)
    assert (mb.end_of_DRAM(), mb.reserved_size()) == (512 * MIB, 0)
    mb.enforce_memory_limit(GIB)
    assert mb.end_of_DRAM() == 512 * MIB
    mb.mark_nomap(MIB, MIB)
    mb.cap_memory_range(100 * MIB, 28 * MIB)
    assert [(r.base, r.end) for r in mb.memory] == [(MIB, 2 * MIB), (100 * MIB, 128 * MIB)]


def test_arrays_double_and_ranges_end_at_the_end_of_the_address_space():
    mb = Memblock()
    for i in range(200):
        mb.reserve(i * 2 * PAGE_SIZE, PAGE_SIZE)
    assert len(mb.reserved) == 200 and mb.reserved.max == 256
    mb.add(PHYS_ADDR_MAX - 10, 100)
    assert mb.end_of_DRAM() == PHYS_ADDR_MAX


def test_bad_arguments_are_named():
    mb = gib_machine()
    with pytest.raises(ValueError, match="no negative size"):
        mb.add(0, -1)
    with pytest.raises(ValueError, match="above 0"):
        mb.phys_alloc_range(0, 4096, 0, 0)


def test_dump_prints_both_arrays():
    mb = gib_machine()
    mb.set_node(0, GIB, 1)
    mb.reserve(MIB, 4096)
    text = mb.dump()
    assert (" memory[0x0]\t[0x0000000000100000-0x000000003fffffff], 0x000000003ff00000 bytes on node 1 flags: 0x0\n"
            in text)
    assert " reserved.cnt  = 0x1\n" in text
