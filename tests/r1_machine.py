"""The specification's reference machine R1 and what the allocator's tests ask of it."""

import numpy as np

from mm._fast.state import zone_type
from mm._fast.vm_event_item import zone_event_item
from mm.errors import AllocationFailed
from mm.sim.gfp import GFP_BITS, GFP_MASKS
from mm.sim.machine import Machine

NORMAL = int(zone_type.ZONE_NORMAL)     # R1's only zone, also its number
MANAGED = 262144
PAGEBLOCK = 512
MAX_BLOCK = 1024                        # pages of order 10
UNMOVABLE, MOVABLE, RECLAIMABLE, HIGHATOMIC = range(4)

GFP_KERNEL, GFP_ATOMIC = GFP_MASKS["GFP_KERNEL"], GFP_MASKS["GFP_ATOMIC"]
GFP_MOVABLE = GFP_KERNEL | GFP_BITS["__GFP_MOVABLE"]
GFP_RECLAIMABLE = GFP_KERNEL | GFP_BITS["__GFP_RECLAIMABLE"]
MEMALLOC = GFP_BITS["__GFP_MEMALLOC"]   # may take the last page
OF_TYPE = {UNMOVABLE: GFP_KERNEL, MOVABLE: GFP_MOVABLE, RECLAIMABLE: GFP_RECLAIMABLE}


def r1(**kwargs):
    """One node, one zone Normal of 262144 managed pages, 4 CPUs."""
    return Machine("1G", zones=["Normal"], cpus=4, **kwargs)


def without_pcp(m):
    """No per-CPU lists and no per-CPU part of counters: every page is seen where it is."""
    m.g["is_pcp_disabled"] = 1
    m.zones["vm_stat"] += m.pageset["vm_stat_diff"].sum(axis=1)
    m.pageset["vm_stat_diff"] = 0
    m.pageset["stat_threshold"] = 0
    return changed(m)


def with_pcp(m):
    m.g["is_pcp_disabled"] = 0
    return changed(m)


def changed(m):
    """After fields were written."""
    m.refresh()
    m.update_current()
    return m


def nr_free(m):
    """Free blocks by order."""
    return m.zones["nr_free"][NORMAL].tolist()


def free_pages(m):
    """Pages on buddy lists, the CPUs' parts of the counter included."""
    return int(m.zones["vm_stat"][NORMAL, 0] + m.pageset["vm_stat_diff"][NORMAL, :, 0].sum())


def on_list(m, order, migratetype):
    return m.free_lists().get((0, NORMAL, order, migratetype), np.empty(0, np.uint32)).tolist()


def block_type(m, pfn):
    return int(m.pageblock_flags[pfn // PAGEBLOCK] & 7)


def event(m, name):
    """The zone's own counter of the allocator's decisions."""
    m.fold_counters()
    return int(m.zones["event"][NORMAL, int(zone_event_item[name])])


def is_granted(m, gfp, order=0, cpu=0):
    """Whether a request succeeds; its pages are kept."""
    try:
        m.alloc_pages(gfp, order, cpu)
    except AllocationFailed:
        return False
    return True


def take_all(m, migratetype=MOVABLE):
    """Allocate every page of R1, in single pages of pageblocks of the type."""
    for _ in range(MANAGED // MAX_BLOCK):
        m.split_page(m.alloc_pages(OF_TYPE[migratetype] | MEMALLOC, 10), 10)
    assert free_pages(m) == 0
    return m


def full(migratetype=MOVABLE):
    """R1 without pcp and without a free page."""
    return take_all(without_pcp(r1()), migratetype)


def give(m, pfns):
    """Free single pages."""
    for pfn in pfns:
        m.free_pages(pfn)
