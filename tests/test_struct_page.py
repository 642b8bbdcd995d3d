"""struct page as far as the allocator keeps it: zone bits, compound blocks, reference counts."""

import numpy as np
import pytest

import mm
from mm._fast.state import pageflags

COMP = 0x40000
HEAD, TAIL = int(pageflags.PG_head), int(pageflags.PG_tail)
ZONE = int(pageflags.PG_ZONE_MASK)


def busy_machine():
    """Two nodes after some thousand requests of every order, some freed."""
    m = mm.Machine("512M", nodes=2, cpus=4)
    rng = np.random.default_rng(3)
    held = []
    for _ in range(4000):
        if held and rng.random() < 0.45:
            m.free_pages(*held.pop(int(rng.integers(len(held)))), int(rng.integers(4)))
        else:
            order = int(rng.integers(6))
            gfp = (mm.GFP_KERNEL, mm.GFP_KERNEL | COMP, mm.GFP_HIGHUSER_MOVABLE)[int(rng.integers(3))]
            held.append((m.alloc_pages(gfp, order, int(rng.integers(4))), order))
    return m


def free_pages_of(m):
    """Pages on the free lists and the per-CPU lists."""
    return (sum(len(pfns) << order for (_, _, order, _), pfns in m.free_lists().items())
            + sum(len(pfns) << index // 3 for (_, _, _, index), pfns in m.pcp_lists().items()))


@pytest.mark.spec("PM-03", missing="the 64-byte record itself, aliases of flags, page types, reclaim and NUMA bits")
def test_no_operation_disturbs_the_zone_bits():
    fresh, m = mm.Machine("512M", nodes=2, cpus=4), busy_machine()
    zones = (m.mem_map["flags"] & ZONE) >> int(pageflags.PG_ZONE_SHIFT)
    assert np.array_equal(zones, (fresh.mem_map["flags"] & ZONE) >> int(pageflags.PG_ZONE_SHIFT))
    is_there = (m.mem_map["flags"] & int(pageflags.PG_valid | pageflags.PG_reserved)) == int(pageflags.PG_valid)
    for nr, zone in enumerate(m.zones):
        pfns = np.flatnonzero(is_there & (zones == nr))
        start, end = int(zone["zone_start_pfn"]), int(zone["zone_start_pfn"] + zone["spanned_pages"])
        assert len(pfns) == 0 or (start <= pfns[0] and pfns[-1] < end), nr
    assert m.page.dtype.itemsize == 16 and m.cold.dtype.itemsize == 32


@pytest.mark.spec("PM-04", missing="destructors, references put through a tail, the marking of 32-bit kernels")
def test_compound_block_has_one_head_and_tails_that_name_it():
    m = mm.Machine("64M", zones=["Normal"])
    pfn = m.alloc_pages(mm.GFP_KERNEL | COMP, 3)
    flags = m.mem_map["flags"][pfn:pfn + 8]
    assert [bool(f & HEAD) for f in flags] == [True] + [False] * 7
    assert [bool(f & TAIL) for f in flags] == [False] + [True] * 7
    assert (m.mem_map["next"][pfn + 1:pfn + 8] == pfn).all()
    assert m.mem_map["refcount"][pfn:pfn + 8].tolist() == [1] + [0] * 7
    for tail in range(pfn + 1, pfn + 8):
        with pytest.raises(mm.BadFree, match=f"{tail}"):
            m.free_pages(tail, 0)
    m.free_pages(pfn, 3)
    assert not (m.mem_map["flags"][pfn:pfn + 8] & (HEAD | TAIL)).any()


@pytest.mark.spec("PM-04", missing="destructors, references put through a tail, the marking of 32-bit kernels")
def test_plain_block_has_no_links():
    m = mm.Machine("64M", zones=["Normal"])
    pfn = m.alloc_pages(mm.GFP_KERNEL, 3)
    assert not (m.mem_map["flags"][pfn:pfn + 8] & (HEAD | TAIL)).any()
    assert m.mem_map["refcount"][pfn:pfn + 8].tolist() == [1] + [0] * 7


@pytest.mark.spec("PM-05", missing="map counts, freezing, the suitability test")
@pytest.mark.parametrize("gfp", [mm.GFP_KERNEL, mm.GFP_KERNEL | COMP])
def test_block_is_freed_with_its_last_reference(gfp):
    m = mm.Machine("64M", zones=["Normal"])
    pfn = m.alloc_pages(gfp, 3)
    free = free_pages_of(m)
    m.page["refcount"][pfn] += 1            # another owner takes a reference, as get_page does
    m.free_pages(pfn, 3)
    assert m.mem_map["refcount"][pfn] == 1
    still_held = 8 if gfp & COMP else 1     # without COMP nobody knows the block: its other pages go at once
    assert free_pages_of(m) - free == 8 - still_held
    m.free_pages(pfn, 3 if gfp & COMP else 0)
    assert m.mem_map["refcount"][pfn] == 0
    with pytest.raises(mm.BadFree):
        m.free_pages(pfn, 0)
