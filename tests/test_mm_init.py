"""Zone and node spans, Movable, the memory map, who is free, reserved or a hole."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm._fast.state import pageflags
from mm.physical.memblock import Memblock
from mm.physical.mm_init import MemoryLayout, arch_zone_limits, calc_memmap_size, find_zone_movable_pfns, possible_pfns
from mm.physical.setup_arch import DEBIAN_6_1, PAGES_PER_SECTION, large_system_hash_log2, pcpu_units, present_sections
from mm.sim.machine import Machine

MIB, GIB = 1 << 20, 1 << 30
PAGES_PER_GIB = GIB >> 12
PG_valid, PG_reserved = int(pageflags.PG_valid), int(pageflags.PG_reserved)


def memory(*ranges):
    """Memblock of (start, end, node) in pages."""
    mb = Memblock()
    for start, end, nid in ranges:
        mb.add_node(start << 12, (end - start) << 12, nid)
    return mb


def spans(layout):
    return {(z.nid, z.zid): (z.start, z.spanned, z.present) for z in layout.zones.values()}


def assert_each_frame_once(m):
    """Free, reserved or a hole, exactly one of them; the free ones are those managed."""
    nr_pages = int(m.g["nr_pages"][0])
    is_free = np.zeros(nr_pages, bool)
    for (_, _, order, _), pfns in m.free_lists().items():
        for pfn in pfns.tolist():
            assert not is_free[pfn:pfn + (1 << order)].any()
            is_free[pfn:pfn + (1 << order)] = True
    flags = m.page["flags"][:nr_pages]
    is_reserved = (flags & PG_reserved) != 0
    is_hole = (flags & PG_valid) == 0
    assert (is_free.astype(int) + is_reserved + is_hole == 1).all()
    assert is_free.sum() == m.zones["managed_pages"].sum() == int(m.g["totalram_pages"][0])
    assert (m.page["refcount"][:nr_pages][is_reserved] == 1).all()


@pytest.mark.spec("PM-06", missing="a deferred mode of its own; the log of steps that memory does not depend on")
@pytest.mark.parametrize("kwargs", [
    {"memory": "256M"}, {"memory": "6G", "nodes": 2, "cpus": 4}, {"memory": "4G", "movablecore": "30%"},
    {"memory_map": [(MIB, 8 * GIB - MIB)], "zones": ["DMA", "DMA32", "Normal"], "cpus": 8},
    {"memory": "1G", "reserve": None},
    {"memory_map": [(0, 3 * MIB + 0x5000), (5 * MIB, 7 * MIB), (2 * GIB, 130 * MIB)], "zones": ["Normal"]},
])
def test_each_frame_is_free_reserved_or_a_hole(kwargs):
    assert_each_frame_once(Machine(**kwargs))


@pytest.mark.spec("PM-06")
def test_reference_machine_with_three_zones():
    m = Machine(memory_map=[(MIB, 8 * GIB - MIB)], zones=["DMA", "DMA32", "Normal"], cpus=8)
    assert m.zones["managed_pages"].tolist() == [3840, 1044480, 1048576, 0, 0]
    assert m.zones["zone_start_pfn"].tolist() == [256, 4096, 1048576, 0, 0]


@pytest.mark.spec("PM-08", missing="enumeration of zonelists by mask and highest zone; device zones")
def test_spans_with_a_hole_and_two_nodes():
    mb = memory((1, 0x9f, 0), (0x100, 0xbffe0, 0), (0x100000, 0x140000, 0), (0x140000, 0x200000, 1))
    layout = MemoryLayout(mb, [0, 1], 2)
    assert spans(layout) == {
        (0, 0): (1, 4095, 4096 - 0x100 + 0x9e),
        (0, 1): (4096, 0x100000 - 4096, 0xbffe0 - 4096),
        (0, 2): (0x100000, 0x40000, 0x40000),
        (1, 2): (0x140000, 0xc0000, 0xc0000)}


@pytest.mark.spec("PM-08")
def test_a_node_that_straddles_the_dma32_limit_has_both_zones():
    layout = MemoryLayout(memory((0, 0x80000, 0), (0x80000, 0x180000, 1)), [0], 2)
    assert spans(layout)[1, 1] == (0x80000, 0x80000, 0x80000)
    assert spans(layout)[1, 2] == (0x100000, 0x80000, 0x80000)


def test_only_the_zones_that_are_asked_for():
    assert arch_zone_limits(memory((0, 2 * PAGES_PER_GIB, 0)), ["Normal"]) == [0, 0, 2 * PAGES_PER_GIB, 0, 0]
    assert arch_zone_limits(memory((0, 1000, 0)), ["DMA"]) == [1000, 0, 0, 0, 0]
    assert arch_zone_limits(memory((0, 5 * PAGES_PER_GIB, 0))) == [4096, 4 * PAGES_PER_GIB, 5 * PAGES_PER_GIB, 0, 0]
    m = Machine("64M", zones=["DMA32"])
    assert m.zones["managed_pages"].tolist() == [0, 16384, 0, 0, 0]


@pytest.mark.parametrize("zones, what", [(["Normal", "Normal"], "different"), ("Normal", "list"), ([], "list"),
                                         (["HighMem"], "HighMem"), (["DMA"], "add 'Normal'"), (["Device"], "Device")])
def test_bad_zone_lists_are_named(zones, what):
    with pytest.raises(ValueError, match=what):
        arch_zone_limits(memory((0, PAGES_PER_GIB, 0)), zones)


# ------------------------------------------------------------------------------------------------ the Movable zone

def movable(mb, kernelcore=0, movablecore=0):
    return find_zone_movable_pfns(mb, *possible_pfns(mb, arch_zone_limits(mb)), kernelcore, movablecore)


def test_kernelcore_is_spread_evenly_over_nodes():
    """8 GiB on two nodes, 4 GiB for the kernel: 2 GiB a node; on node 0 all below 4 GiB is kernel memory already."""
    mb = memory((0, 4 * PAGES_PER_GIB, 0), (4 * PAGES_PER_GIB, 8 * PAGES_PER_GIB, 1))
    assert movable(mb, 4 * PAGES_PER_GIB) == {0: 0, 1: 4 * PAGES_PER_GIB}
    assert movable(mb, 6 * PAGES_PER_GIB) == {0: 0, 1: 6 * PAGES_PER_GIB}


def test_kernelcore_that_small_nodes_cannot_hold_goes_to_others():
    """Nodes of 1, 1 and 6 GiB, all Normal: 3 GiB for the kernel are 1 each; of 6 GiB the large node takes 4."""
    g = PAGES_PER_GIB
    mb = memory((4 * g, 5 * g, 0), (5 * g, 6 * g, 1), (6 * g, 12 * g, 2))
    assert movable(mb, 3 * g) == {0: 0, 1: 0, 2: 7 * g}
    assert movable(mb, 6 * g)[2] == pytest.approx(10 * g, abs=2048), "the spreading stops within a node count of pages"


def test_movablecore_is_the_rest_and_the_larger_kernelcore_wins():
    g = PAGES_PER_GIB
    mb = memory((0, 8 * g, 0))
    assert movable(mb, 0, 2 * g) == {0: 6 * g}
    assert movable(mb, 7 * g, 2 * g) == {0: 7 * g}
    assert movable(mb, 0, 1) == {0: 8 * g - 1024}, "rounded up to a largest block"
    assert movable(mb, 8 * g) == {} == movable(mb)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 4000), min_size=1, max_size=4), st.integers(1, 16000))
def test_movable_starts_at_a_largest_block_and_kernelcore_is_met(sizes, kernelcore):
    start, ranges = 4 * PAGES_PER_GIB, []
    for nid, size in enumerate(sizes):
        ranges.append((start, start + size, nid))
        start += size
    result = movable(memory(*ranges), kernelcore)
    total = sum(sizes)
    nr_movable = 0
    for nid, pfn in result.items():
        assert pfn % 1024 == 0
        if pfn:
            assert ranges[nid][0] <= pfn < ranges[nid][1]
            nr_movable += ranges[nid][1] - pfn
    assert total - nr_movable >= min(kernelcore, total) - len(sizes)


def test_movable_zone_takes_the_end_of_a_node_and_only_movable_requests():
    m = Machine("2G", zones=["Normal", "Movable"], kernelcore="1536M")
    assert m.zones["managed_pages"].tolist() == [0, 0, 393216, 131072, 0]
    assert m.zones["zone_start_pfn"][3] == 393216
    assert m.alloc_pages(0x100cca) >= 393216 > m.alloc_pages(0xcc0)


@pytest.mark.parametrize("kwargs, what", [
    ({"kernelcore": "120%"}, "0% to 100%"), ({"movablecore": "lots"}, "size"),
    ({"kernelcore": "mirror"}, "not modelled"),
    ({"zones": ["Normal", "Movable"]}, "needs"), ({"zones": ["Normal"], "kernelcore": "1G"}, "need 'Movable'")])
def test_bad_movable_options_are_named(kwargs, what):
    with pytest.raises(ValueError, match=what):
        Machine("2G", **kwargs)


# ---------------------------------------------------------------- sections, memory map, deferred, unavailable

def test_sections_of_128_mib_count_for_the_first_node():
    mb = memory((0, 40000, 0), (40000, 70000, 1), (10 * PAGES_PER_SECTION, 10 * PAGES_PER_SECTION + 1, 1))
    assert present_sections(mb) == {0: 2, 1: 2}


def test_memmap_cost():
    """64 bytes a page; with holes of more than a sixteenth only present pages are charged (calc_memmap_size)."""
    assert calc_memmap_size(4095, 3998) == 64
    assert calc_memmap_size(1044480, 782304) == 12224
    assert calc_memmap_size(0, 0) == 0


def test_deferred_part_begins_at_the_second_section_of_the_highest_zone():
    """Witness: the recorded drift marks of the highest zones, computed before the deferred part was there."""
    assert MemoryLayout(memory((1, 0x9f, 0), (0x100, 0x3ffe0, 0)), [0], 1).first_deferred_pfns() == {0: 65536}
    low_and_high = memory((1, 0x9f, 0), (0x100, 0xbffe0, 0), (0x100000, 0x1c0000, 0))
    assert MemoryLayout(low_and_high, [0], 1).first_deferred_pfns() == {0: 0x108000}
    two_nodes = memory((0, 0x20000, 0), (0x20000, 0x3ffe0, 1))
    assert MemoryLayout(two_nodes, [0], 2).first_deferred_pfns() == {0: 65536, 1: 0x28000}
    assert MemoryLayout(memory((1, 0xffe0, 0)), [0], 1).first_deferred_pfns() == {}


def test_unavailable_frames_belong_to_the_zone_of_the_memory_behind(recording):
    """The 6 GiB machine's dmesg: 1 and 97 pages in DMA, 32 in Normal though they lie below 4 GiB."""
    layout = MemoryLayout(memory((1, 0x9f, 0), (0x100, 0xbffe0, 0), (0x100000, 0x1c0000, 0)), [0], 1)
    assert [(a, b, z.zid) for a, b, z in layout.unavailable_ranges()] == [
        (0, 1, 0), (0x9f, 0x100, 0), (0xbffe0, 0xc0000, 2)]


def test_pageblocks_are_movable_unless_their_first_frame_is_no_memory():
    m = Machine(memory_map=[(MIB, 63 * MIB)], zones=["Normal"])
    assert m.pageblock_flags[:32].tolist() == [0] + [1] * 31


@pytest.mark.spec("PM-06")
def test_grouping_by_mobility_is_off_on_tiny_machines():
    """512 pages x 5 types = 10 MiB (build_all_zonelists)."""
    for size, is_off in (("10M", 0), (10 * MIB - 4096, 1)):
        m = Machine(size, zones=["Normal"])
        assert m.g["page_group_by_mobility_disabled"][0] == is_off
        assert m.pageblock_flags[0] == 1
        m.free_pages(m.alloc_pages(0xcc0))


def test_free_lists_of_a_fresh_machine_ascend():
    m = Machine("1G", zones=["Normal"], cpus=4)
    assert list(m.free_lists()) == [(0, 2, 10, 1)]
    assert m.free_lists()[0, 2, 10, 1].tolist() == list(range(0, 262144, 1024))
    assert m.zones["nr_free"][2].tolist() == [0] * 10 + [256]


# ------------------------------------------------------------------------------------------ what boot takes, formulas

@pytest.mark.parametrize("cpus, units, unit_size", [([1], 1, 2 * MIB), ([2], 2, MIB), ([4], 4, 512 << 10),
                                                    ([8], 8, 256 << 10), ([1, 1], 1, 2 * MIB)])
def test_percpu_units(cpus, units, unit_size):
    """One CPU, two CPUs, and two nodes of one as recorded; four and eight by the same rule."""
    assert pcpu_units(253952, cpus) == (units, unit_size)


@pytest.mark.parametrize("pages, dentries, inodes", [
    (64224, 32768, 16384), (128736, 65536, 32768), (257760, 131072, 65536), (1548000, 1048576, 524288)])
def test_hash_table_sizes_are_the_recorded_ones(pages, dentries, inodes):
    assert 1 << large_system_hash_log2(pages, pages, 13) == dentries
    assert 1 << large_system_hash_log2(pages, pages, 14) == inodes


def test_hash_tables_grow_slower_above_64_gib():
    pages = 256 * PAGES_PER_GIB
    assert large_system_hash_log2(pages, pages, 13) == large_system_hash_log2(pages // 4, pages // 4, 13) + 1


def test_kernel_image_has_no_gap():
    for (_, _, end, _), (_, start, _, _) in itertools.pairwise(DEBIAN_6_1.kernel):
        assert end == start


@pytest.mark.parametrize("kwargs, what", [
    ({"memory": "64M"}, "to be RAM"), ({"memory": "80M", "cpus": 64}, "too small"),
    ({"memory_map": [(0, 17 * MIB)]}, "to be RAM")])
def test_memory_too_small_to_boot_is_named(kwargs, what):
    with pytest.raises(ValueError, match=what):
        Machine(**kwargs)
