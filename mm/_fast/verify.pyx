"""The audit: does the whole state obey its invariants?

Linux: none as a whole; the parts are CONFIG_DEBUG_VM, DEBUG_LIST and page_table_check.
Checked: links of every list; flags, order, type, zone and alignment of every block on a list; that no page is on two
lists or inside a free block; that no two mergeable buddies are both free; nr_free, pcp counts, NR_FREE_PAGES with the
CPUs' parts; reference counts of free pages.  Cost: two passes over the pages.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t

from mm._fast.core cimport mm_refresh_zone
from mm._fast.debug cimport mm_bug
from mm._fast.physical.buddy cimport (buddy_order, can_merge_types, free_list, get_pageblock_migratetype, page_is_buddy,
                                      page_order, PageBuddy)
from mm._fast.state cimport (BUG_BAD_PFN_ALIGN, BUG_BUDDY_RANGE, BUG_DERIVED, BUG_LIST_BROKEN, BUG_NR_FREE,
                             BUG_PAGE_NOT_FREE, BUG_PAGE_REFCOUNT, BUG_PCP_COUNT, MAX_ORDER, MIGRATE_ISOLATE,
                             MIGRATE_TYPES, MMState, NR_PCP_LISTS, pageblock_order, per_cpu_pages, PG_buddy, PG_MT_MASK,
                             PG_pcp, PG_valid, PG_ZONE_MASK, PG_ZONE_SHIFT, zone)
from mm._fast.vm_event_item cimport NR_FREE_PAGES
from mm._fast.vmstat cimport pcp_page_state, zone_page_state, zone_pcp


cdef int64_t audit_list(MMState *s, const zone *z, uint32_t head, uint32_t want, uint32_t mask) noexcept nogil:
    """Blocks on one list whose pages must have flags `want` under `mask`; -1 after recording a bug."""
    cdef uint32_t prev = head
    cdef uint32_t pfn = s.page[head].next
    cdef int64_t n = 0
    while pfn != head:
        if pfn >= s.g.nr_pages or s.page[pfn].prev != prev or n > s.g.nr_pages:
            mm_bug(s, BUG_LIST_BROKEN, pfn, 1)
            return -1
        if (s.page[pfn].flags & mask) != want:
            mm_bug(s, BUG_PAGE_NOT_FREE, pfn, 2)
            return -1
        if pfn & ((<uint32_t>1 << page_order(s.page, pfn)) - 1):
            mm_bug(s, BUG_BAD_PFN_ALIGN, pfn, 3)
            return -1
        prev = pfn
        pfn = s.page[pfn].next
        n += 1
    if s.page[head].prev != prev:
        mm_bug(s, BUG_LIST_BROKEN, head, 4)
        return -1
    return n


cdef int64_t audit_free_lists(MMState *s, zone *z) noexcept nogil:
    """Free pages on the zone's lists, those of ISOLATE pageblocks left out; -1 after recording a bug."""
    cdef uint32_t order, mt
    cdef int64_t n, blocks, pages = 0
    for order in range(MAX_ORDER):
        blocks = 0
        for mt in range(MIGRATE_TYPES):
            n = audit_list(s, z, free_list(z, order, mt), z.page_bits | PG_buddy | order | (mt << 4), 0xffffffff)
            if n < 0:
                return -1
            blocks += n
            if mt != MIGRATE_ISOLATE:
                pages += n << order
        if blocks != z.nr_free[order]:
            mm_bug(s, BUG_NR_FREE, z.first_list, 5)
            return -1
    return pages


cdef bint audit_pcp(MMState *s, zone *z, int32_t nr) noexcept nogil:
    cdef int32_t cpu
    cdef uint32_t k, order
    cdef int64_t n, pages
    cdef per_cpu_pages *pcp
    for cpu in range(s.g.nr_cpus):
        pcp = zone_pcp(s, nr, cpu)
        pages = 0
        for k in range(NR_PCP_LISTS):
            order = k // 3 if k < 12 else pageblock_order
            n = audit_list(s, z, pcp.first_list + k, z.page_bits | PG_pcp | order, ~<uint32_t>PG_MT_MASK)
            if n < 0:
                return False
            pages += n << order
        if pages != pcp.count:
            mm_bug(s, BUG_PCP_COUNT, pcp.first_list, 6)
            return False
    return True


cdef bint audit_block(MMState *s, uint32_t pfn) noexcept nogil:
    """A free block: no references, plain pages behind the first, no free buddy it should have merged with."""
    cdef uint32_t order = page_order(s.page, pfn)
    cdef uint32_t i
    cdef uint32_t plain = s.page[pfn].flags & (PG_ZONE_MASK | PG_valid)
    cdef uint32_t buddy = pfn ^ (<uint32_t>1 << order)
    for i in range(pfn, pfn + (<uint32_t>1 << order)):
        if s.page[i].refcount != 0:
            mm_bug(s, BUG_PAGE_REFCOUNT, i, 7)
            return False
        if i != pfn and s.page[i].flags != plain:
            mm_bug(s, BUG_PAGE_NOT_FREE, i, 8)
            return False
    if s.page[pfn].flags & PG_buddy and order < MAX_ORDER - 1:
        if page_is_buddy(s, &s.zones[(plain & PG_ZONE_MASK) >> PG_ZONE_SHIFT], buddy, order):
            if order < pageblock_order or can_merge_types(s, get_pageblock_migratetype(s, pfn), buddy):
                mm_bug(s, BUG_BUDDY_RANGE, pfn, 9)
                return False
    return True


cdef bint audit_pages(MMState *s, int64_t listed) noexcept nogil:
    """Every page frame; the blocks with list flags must be exactly those on lists."""
    cdef uint32_t pfn = 0
    cdef int64_t seen = 0
    while pfn < s.g.nr_pages:
        if PageBuddy(s, pfn) != ((s.page[pfn].flags & PG_buddy) != 0):
            mm_bug(s, BUG_DERIVED, pfn, 12)
            return False
        if s.page[pfn].flags & (PG_buddy | PG_pcp):
            if s.page[pfn].flags & PG_buddy and buddy_order(s, pfn) != page_order(s.page, pfn):
                mm_bug(s, BUG_DERIVED, pfn, 13)
                return False
            if not audit_block(s, pfn):
                return False
            seen += <int64_t>1 << page_order(s.page, pfn)
            pfn += <uint32_t>1 << page_order(s.page, pfn)
        else:
            pfn += 1
    if seen != listed:
        mm_bug(s, BUG_PAGE_NOT_FREE, 0, 10)
        return False
    return True


cdef bint audit_derived(MMState *s, int32_t nr) noexcept nogil:
    """What refresh_zone derives must follow from what it is derived from."""
    cdef int64_t mark = s.zones[nr].fast_mark[0]
    cdef int32_t limit = zone_pcp(s, nr, 0).limit
    mm_refresh_zone(s, nr)
    if mark != s.zones[nr].fast_mark[0] or limit != zone_pcp(s, nr, 0).limit:
        mm_bug(s, BUG_DERIVED, <uint32_t>nr, 14)
        return False
    return True


cdef public int32_t verify "mm_verify"(MMState *s) noexcept nogil:
    """0, or the vm_bug that was recorded in s.g.bug."""
    cdef int32_t nr, cpu
    cdef uint32_t order
    cdef int64_t pages, counted, listed = 0
    cdef zone *z
    for nr in range(s.g.nr_zones):
        z = &s.zones[nr]
        pages = audit_free_lists(s, z)
        if pages < 0 or not audit_pcp(s, z, nr):
            return s.g.bug.code
        counted = zone_page_state(z, NR_FREE_PAGES)
        for cpu in range(s.g.nr_cpus):
            counted += pcp_page_state(zone_pcp(s, nr, cpu), NR_FREE_PAGES)
            listed += zone_pcp(s, nr, cpu).count
        for order in range(MAX_ORDER):
            listed += z.nr_free[order] << order
        if not audit_derived(s, nr):
            return s.g.bug.code
        if counted != pages:
            mm_bug(s, BUG_NR_FREE, <uint32_t>nr, 11)
            return s.g.bug.code
    audit_pages(s, listed)
    return s.g.bug.code
