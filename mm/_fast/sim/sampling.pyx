"""One look at all free blocks: how many there are of each kind, and how many free pages each pageblock has.

Linux has no such function: pagetypeinfo_showfree_print and a walk of struct pages come nearest.
Invariant: the counts of a zone and order add up to zone.nr_free[order].  Pages on per-cpu lists are not free here.
Cost: one pass over a byte a page, eight pages a step where nothing is free; no Python, no allocation.
"""

import numpy as np

from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uintptr_t
from mm._fast.state cimport (MAX_ORDER, MIGRATE_TYPES, MMState, PG_MT_MASK, PG_MT_SHIFT, PG_ZONE_MASK, PG_ZONE_SHIFT,
                             pageblock_nr_pages, pageblock_order)


cdef void count_free_block(const MMState *s, uint32_t pfn, uint32_t order, int64_t *nr_free,
                           uint16_t *free_pages) noexcept nogil:
    """Add one free block to the counts."""
    cdef uint32_t flags = s.page[pfn].flags
    cdef uint32_t nr = (flags & PG_ZONE_MASK) >> PG_ZONE_SHIFT
    cdef uint32_t mt = (flags & PG_MT_MASK) >> PG_MT_SHIFT
    cdef uint32_t block, first = pfn >> pageblock_order
    cdef uint32_t end = (pfn + (<uint32_t>1 << order)) >> pageblock_order
    if nr >= <uint32_t>s.g.nr_zones or mt >= MIGRATE_TYPES:
        return
    nr_free[(nr * MAX_ORDER + order) * MIGRATE_TYPES + mt] += 1
    if order < pageblock_order:
        free_pages[first] += <uint16_t>(1 << order)
    else:
        for block in range(first, end):
            free_pages[block] = pageblock_nr_pages


cdef void sample_free_blocks(const MMState *s, int64_t *nr_free, uint16_t *free_pages) noexcept nogil:
    cdef uint32_t pfn = 0
    cdef uint32_t order
    while pfn < s.g.nr_pages:
        if not pfn & 7 and (<const uint64_t *>(s.buddy + pfn))[0] == 0:
            pfn += 8
            continue
        if s.buddy[pfn] == 0 or s.buddy[pfn] > MAX_ORDER:
            pfn += 1
            continue
        order = s.buddy[pfn] - <uint32_t>1
        if pfn + (<uint32_t>1 << order) > s.g.nr_pages:
            return
        count_free_block(s, pfn, order, nr_free, free_pages)
        pfn += <uint32_t>1 << order


def free_blocks(machine):
    """Count the free blocks of a machine.

    Parameters
    ----------
    machine : MachineCore

    Returns
    -------
    nr_free : ndarray of int64, shape (zones, 11, 5)
        Free blocks by zone number, order and migratetype of the list.
    free_pages : ndarray of uint16, shape (pageblocks,)
        Free pages of each pageblock, 0 to 512.
    """
    cdef const MMState *s = <const MMState *><uintptr_t>machine.address
    nr_free = np.zeros((s.g.nr_zones, MAX_ORDER, MIGRATE_TYPES), np.int64)
    free_pages = np.zeros(s.g.nr_pages >> pageblock_order, np.uint16)
    cdef int64_t[:, :, ::1] counts = nr_free
    cdef uint16_t[::1] pages = free_pages
    with nogil:
        sample_free_blocks(s, &counts[0, 0, 0], &pages[0])
    return nr_free, free_pages
