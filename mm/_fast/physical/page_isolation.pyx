"""Isolation of pageblocks, and ranges allocated by address.

Linux: mm/page_isolation.c; alloc_contig_range and alloc_contig_pages of mm/page_alloc.c; isolate_freepages_range of
mm/compaction.c.  Modelled: isolation with splits at the borders, allocation of ranges that are free once drained.
Moving pages out of the way is asked of MMState.ops.alloc_contig_migrate_range; nobody registered: the range is busy.
Not modelled: hugetlb pages, hwpoison, offlining flags.
Invariant: free pages of ISOLATE pageblocks are on ISOLATE lists and not in NR_FREE_PAGES.
Cost: linear in the range.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from mm._fast.core cimport (mm_drain_all_pages, mm_free_pages, mm_move_freepages_block, mm_prep_new_page,
                            mm_zone_watermark_ok)
from mm._fast.debug cimport ctz, fls
from mm._fast.gfp cimport __GFP_THISNODE, ALLOC_CMA
from mm._fast.physical.buddy cimport (__free_one_page, del_page_from_free_list, get_pageblock_migratetype,
                                      migratetype_is_mergeable, page_is_buddy, page_order, PageBuddy,
                                      set_pageblock_migratetype)
from mm._fast.physical.gfp_zone cimport gfp_zone
from mm._fast.state cimport (MAX_ORDER, MAX_ORDER_NR_PAGES, MIGRATE_ISOLATE, MIGRATE_MOVABLE, MMState,
                             OP_ALLOC_CONTIG_MIGRATE_RANGE, pageblock_nr_pages, pageblock_order, per_cpu_pages,
                             PFN_NONE, PG_head, PG_lru, PG_reserved, PG_tail, PG_valid, PG_ZONE_MASK, PG_ZONE_SHIFT,
                             WMARK_MIN, zone, ZONE_MOVABLE)
from mm._fast.vm_event_item cimport COMPACT_ISOLATED, NR_FREE_PAGES
from mm._fast.vmstat cimport (count_op_call, count_vm_events, mod_zone_page_state, zone_free_pages, zone_pcp,
                              zone_watermark)

cdef enum:
    EBUSY = 16
    EINVAL = 22


cdef inline zone *page_zone(MMState *s, uint32_t pfn) noexcept nogil:
    return &s.zones[(s.page[pfn].flags & PG_ZONE_MASK) >> PG_ZONE_SHIFT]


cdef inline per_cpu_pages *stat_of(MMState *s, const zone *z, int32_t cpu) noexcept nogil:
    return zone_pcp(s, <int32_t>(z - s.zones), cpu)


cdef inline bint is_isolated(const MMState *s, uint32_t pfn) noexcept nogil:
    return get_pageblock_migratetype(s, pfn) == MIGRATE_ISOLATE


cdef uint32_t first_valid_page(const MMState *s, uint32_t pfn, uint32_t nr_pages) noexcept nogil:
    cdef uint32_t i
    for i in range(pfn, pfn + nr_pages):
        if i < s.g.nr_pages and s.page[i].flags & PG_valid:
            return i
    return PFN_NONE


cdef uint32_t compound_nr(const MMState *s, uint32_t head) noexcept nogil:
    return <uint32_t>1 << page_order(s.page, head)


cdef uint32_t compound_head(const MMState *s, uint32_t pfn) noexcept nogil:
    return s.page[pfn].next if s.page[pfn].flags & PG_tail else pfn


cdef bint has_unmovable_pages(MMState *s, uint32_t pfn, uint32_t end) noexcept nogil:
    """Does the range hold a page that no migration can move away?"""
    cdef uint32_t flags, head
    cdef bint is_movable_zone = page_zone(s, pfn).zid == ZONE_MOVABLE
    while pfn < end:
        flags = s.page[pfn].flags
        if flags & PG_reserved or not flags & PG_valid:
            return True
        if is_movable_zone:
            pfn += 1
        elif flags & (PG_head | PG_tail):
            head = compound_head(s, pfn)
            if not s.page[head].flags & PG_lru:
                return True
            pfn = head + compound_nr(s, head)
        elif s.page[pfn].refcount == 0:
            pfn += <uint32_t>1 << page_order(s.page, pfn) if PageBuddy(s, pfn) else 1
        elif flags & PG_lru:
            pfn += 1
        else:
            return True
    return False


cdef public int32_t set_migratetype_isolate "mm_set_migratetype_isolate"(
        MMState *s, uint32_t pfn, uint32_t start, uint32_t end, int32_t cpu) noexcept nogil:
    """Make the pageblock of `pfn` ISOLATE unless its part in [start, end) holds an unmovable page; 0 or -EBUSY."""
    cdef zone *z = page_zone(s, pfn)
    cdef uint32_t block = pfn & ~<uint32_t>(pageblock_nr_pages - 1)
    cdef int32_t movable
    if is_isolated(s, pfn) or has_unmovable_pages(s, max(pfn, start), min(block + pageblock_nr_pages, end)):
        return -EBUSY
    set_pageblock_migratetype(s, pfn, MIGRATE_ISOLATE)
    z.nr_isolate_pageblock += 1
    mod_zone_page_state(z, stat_of(s, z, cpu), NR_FREE_PAGES,
                        -mm_move_freepages_block(s, z, pfn, MIGRATE_ISOLATE, &movable))
    return 0


cdef public uint32_t isolate_free_page "mm_isolate_free_page"(MMState *s, uint32_t pfn, uint32_t order,
                                                              int32_t cpu) noexcept nogil:
    """Take one free block off its list; pages taken, 0 if free memory would fall below the min mark."""
    cdef zone *z = page_zone(s, pfn)
    cdef int32_t mt = get_pageblock_migratetype(s, pfn)
    cdef uint32_t block
    if mt != MIGRATE_ISOLATE:
        if not mm_zone_watermark_ok(s, z, 0, zone_watermark(z, WMARK_MIN) + (<int64_t>1 << order), 0, ALLOC_CMA,
                                    zone_free_pages(z)):
            return 0
        mod_zone_page_state(z, stat_of(s, z, cpu), NR_FREE_PAGES, -(<int64_t>1 << order))
    del_page_from_free_list(s, z, pfn, order)
    if order >= pageblock_order - 1:
        block = pfn
        while block < pfn + (<uint32_t>1 << order):
            if migratetype_is_mergeable(get_pageblock_migratetype(s, block)):
                set_pageblock_migratetype(s, block, MIGRATE_MOVABLE)
            block += pageblock_nr_pages
    return <uint32_t>1 << order


cdef public void unset_migratetype_isolate "mm_unset_migratetype_isolate"(MMState *s, uint32_t pfn, int32_t mt,
                                                                          int32_t cpu) noexcept nogil:
    """Give an isolated pageblock back to type `mt`; a big free block is merged with its buddy on the way."""
    cdef zone *z = page_zone(s, pfn)
    cdef uint32_t order = 0
    cdef uint32_t buddy
    cdef bint taken = False
    cdef int32_t movable
    if not is_isolated(s, pfn):
        return
    if PageBuddy(s, pfn):
        order = page_order(s.page, pfn)
        if pageblock_order <= order < MAX_ORDER - 1:
            buddy = pfn ^ (<uint32_t>1 << order)
            if page_is_buddy(s, z, buddy, order):
                if not is_isolated(s, buddy):
                    taken = isolate_free_page(s, pfn, order, cpu) != 0
    if not taken:
        mod_zone_page_state(z, stat_of(s, z, cpu), NR_FREE_PAGES, mm_move_freepages_block(s, z, pfn, mt, &movable))
    set_pageblock_migratetype(s, pfn, mt)
    if taken:
        if mt != MIGRATE_ISOLATE:
            mod_zone_page_state(z, stat_of(s, z, cpu), NR_FREE_PAGES, <int64_t>1 << order)
        __free_one_page(s, z, pfn, order, mt, True)
    z.nr_isolate_pageblock -= 1


cdef void split_free_page(MMState *s, uint32_t head, uint32_t order, uint32_t offset, int32_t cpu) noexcept nogil:
    """Split a free block at `offset` pages and free the parts by their own pageblocks' types."""
    cdef zone *z = page_zone(s, head)
    cdef uint32_t pfn = head
    cdef uint32_t end = head + (<uint32_t>1 << order)
    cdef uint32_t part
    if offset == 0:
        return
    if not is_isolated(s, head):
        mod_zone_page_state(z, stat_of(s, z, cpu), NR_FREE_PAGES, -(<int64_t>1 << order))
    del_page_from_free_list(s, z, head, order)
    while pfn < end:
        part = ctz(pfn) if pfn else order
        part = min(part, fls(offset))
        if not is_isolated(s, pfn):
            mod_zone_page_state(z, stat_of(s, z, cpu), NR_FREE_PAGES, <int64_t>1 << part)
        __free_one_page(s, z, pfn, part, get_pageblock_migratetype(s, pfn), False)
        pfn += <uint32_t>1 << part
        offset -= <uint32_t>1 << part
        if offset == 0:
            offset = end - pfn


cdef int32_t split_at_boundary(MMState *s, uint32_t pfn, uint32_t boundary, int32_t cpu) noexcept nogil:
    """No free block may cross `boundary`; -EBUSY for a compound page that does and cannot be moved."""
    cdef uint32_t order, head
    while pfn < boundary:
        pfn = first_valid_page(s, pfn, boundary - pfn)
        if pfn == PFN_NONE:
            return 0
        if PageBuddy(s, pfn):
            order = page_order(s.page, pfn)
            if pfn + (<uint32_t>1 << order) > boundary:
                split_free_page(s, pfn, order, boundary - pfn, cpu)
            else:
                pfn += <uint32_t>1 << order
        elif s.page[pfn].flags & (PG_head | PG_tail):
            head = compound_head(s, pfn)
            pfn = head + compound_nr(s, head)
            if pfn > boundary:
                count_op_call(s, OP_ALLOC_CONTIG_MIGRATE_RANGE, (s.page[head].flags & PG_lru) != 0)
                return -EBUSY
        else:
            pfn += 1
    return 0


cdef int32_t isolate_single_pageblock(MMState *s, uint32_t boundary, bint before, bint is_done, int32_t mt,
                                      int32_t cpu) noexcept nogil:
    """Isolate the pageblock before or after `boundary` (a pageblock border) and split what lies across it."""
    cdef uint32_t block = boundary - pageblock_nr_pages if before else boundary
    cdef zone *z = page_zone(s, block)
    cdef uint32_t start = max(block & ~<uint32_t>(MAX_ORDER_NR_PAGES - 1), <uint32_t>z.zone_start_pfn)
    cdef uint32_t other = boundary if before else boundary - 1
    if not is_done and set_migratetype_isolate(s, block, block, block + pageblock_nr_pages, cpu):
        return -EBUSY
    if other >= s.g.nr_pages or not s.page[other].flags & PG_valid:
        return 0
    if split_at_boundary(s, start, boundary, cpu) == 0:
        return 0
    if not is_done:
        unset_migratetype_isolate(s, block, mt, cpu)
    return -EBUSY


cdef void undo_isolate_page_range(MMState *s, uint32_t start, uint32_t end, int32_t mt, int32_t cpu) noexcept nogil:
    cdef uint32_t pfn, page
    pfn = start
    while pfn < end:
        page = first_valid_page(s, pfn, pageblock_nr_pages)
        if page != PFN_NONE and is_isolated(s, page):
            unset_migratetype_isolate(s, page, mt, cpu)
        pfn += pageblock_nr_pages


cdef int32_t start_isolate_page_range(MMState *s, uint32_t start, uint32_t end, int32_t mt, int32_t cpu) noexcept nogil:
    """Isolate every pageblock that meets [start, end): the first and last with their borders, then the others."""
    cdef uint32_t first = start & ~<uint32_t>(pageblock_nr_pages - 1)
    cdef uint32_t last = (end + pageblock_nr_pages - 1) & ~<uint32_t>(pageblock_nr_pages - 1)
    cdef uint32_t pfn, page
    if isolate_single_pageblock(s, first, False, False, mt, cpu):
        return -EBUSY
    if isolate_single_pageblock(s, last, True, first == last - pageblock_nr_pages, mt, cpu):
        unset_migratetype_isolate(s, first, mt, cpu)
        return -EBUSY
    pfn = first + pageblock_nr_pages
    while pfn < last - pageblock_nr_pages:
        page = first_valid_page(s, pfn, pageblock_nr_pages)
        if page != PFN_NONE and set_migratetype_isolate(s, page, start, end, cpu):
            undo_isolate_page_range(s, first, pfn, mt, cpu)
            unset_migratetype_isolate(s, last - pageblock_nr_pages, mt, cpu)
            return -EBUSY
        pfn += pageblock_nr_pages
    return 0


cdef uint32_t find_outer_start(const MMState *s, uint32_t start) noexcept nogil:
    """Head of the free block that `start` lies in; `start` itself if there is none."""
    cdef uint32_t order = 0
    cdef uint32_t outer = start
    while not PageBuddy(s, outer):
        order += 1
        if order >= MAX_ORDER:
            return start
        outer = start & ~((<uint32_t>1 << order) - 1)
    if outer + (<uint32_t>1 << page_order(s.page, outer)) <= start:
        return start
    return outer


cdef bint is_range_free(const MMState *s, uint32_t pfn, uint32_t end) noexcept nogil:
    """Is every page of the range in an isolated pageblock and free (test_pages_isolated)?"""
    cdef uint32_t block
    block = pfn
    while block < end:
        if not is_isolated(s, block):
            return False
        block += pageblock_nr_pages
    while pfn < end:
        if not PageBuddy(s, pfn):
            return False
        pfn += <uint32_t>1 << page_order(s.page, pfn)
    return True


cdef uint32_t isolate_freepages_range(MMState *s, uint32_t pfn, uint32_t end, int32_t cpu) noexcept nogil:
    """Take the free blocks of a wholly free range, as single pages with a reference each; first PFN behind them."""
    cdef uint32_t order, n, i
    while pfn < end:
        order = page_order(s.page, pfn)
        n = isolate_free_page(s, pfn, order, cpu)
        if n == 0:
            return 0
        count_vm_events(s, cpu, COMPACT_ISOLATED, n)
        for i in range(pfn, pfn + n):
            mm_prep_new_page(s, i, 0, 0, 0)
        pfn += n
    return pfn


cdef bint needs_migration(const MMState *s, uint32_t pfn, uint32_t end) noexcept nogil:
    for pfn in range(pfn, end):
        if s.page[pfn].flags & PG_lru and s.page[pfn].refcount > 0:
            return True
    return False


cdef public int32_t alloc_contig_range "mm_alloc_contig_range"(MMState *s, uint32_t start, uint32_t end, int32_t mt,
                                                               int32_t cpu) noexcept nogil:
    """Allocate exactly the pages [start, end) of one zone; 0, -EBUSY, or -EINVAL for an impossible range."""
    cdef uint32_t outer_start, outer_end, pfn
    cdef uint32_t first = start & ~<uint32_t>(pageblock_nr_pages - 1)
    cdef uint32_t last = (end + pageblock_nr_pages - 1) & ~<uint32_t>(pageblock_nr_pages - 1)
    cdef zone *z
    cdef int32_t ret = 0
    if start >= end or last > s.g.nr_pages or not s.page[start].flags & PG_valid or not s.page[first].flags & PG_valid:
        return -EINVAL
    z = page_zone(s, start)
    if start_isolate_page_range(s, start, end, mt, cpu):
        return -EBUSY
    mm_drain_all_pages(s, <int32_t>(z - s.zones), cpu)
    if s.ops.alloc_contig_migrate_range != NULL:
        ret = s.ops.alloc_contig_migrate_range(s, start, end)
    elif needs_migration(s, start, end):
        count_op_call(s, OP_ALLOC_CONTIG_MIGRATE_RANGE, 1)
    if ret == 0 or ret == -EBUSY:
        ret = -EBUSY
        outer_start = find_outer_start(s, start)
        if is_range_free(s, outer_start, end):
            outer_end = isolate_freepages_range(s, outer_start, end, cpu)
            if outer_end:
                for pfn in range(outer_start, start):
                    mm_free_pages(s, pfn, 0, cpu)
                for pfn in range(end, outer_end):
                    mm_free_pages(s, pfn, 0, cpu)
                ret = 0
    undo_isolate_page_range(s, first, last, mt, cpu)
    return ret


cdef bint is_range_valid_contig(MMState *s, const zone *z, uint32_t pfn, uint32_t nr_pages) noexcept nogil:
    cdef uint32_t i
    for i in range(pfn, pfn + nr_pages):
        if (s.page[i].flags & (PG_ZONE_MASK | PG_valid | PG_reserved)) != z.page_bits:
            return False
    return True


cdef public uint32_t alloc_contig_pages "mm_alloc_contig_pages"(
        MMState *s, uint32_t nr_pages, uint32_t gfp, int32_t nid, uint64_t nodemask, int32_t cpu) noexcept nogil:
    """First range of `nr_pages`, aligned to its size, that alloc_contig_range gets; PFN_NONE if none."""
    cdef const int32_t *zonelist = &s.zonelists[(nid * 2 + ((gfp & __GFP_THISNODE) != 0)) * (s.g.nr_zones + 1)]
    cdef int32_t i = 0
    cdef int32_t highest_zoneidx = gfp_zone(gfp)
    cdef const zone *z
    cdef int64_t pfn
    while zonelist[i] >= 0:
        z = &s.zones[zonelist[i]]
        i += 1
        if z.zid > highest_zoneidx or not (nodemask >> z.nid) & 1:
            continue
        pfn = (z.zone_start_pfn + nr_pages - 1) & ~(<int64_t>nr_pages - 1)
        while pfn + nr_pages <= z.zone_start_pfn + z.spanned_pages:
            if is_range_valid_contig(s, z, <uint32_t>pfn, nr_pages):
                if alloc_contig_range(s, <uint32_t>pfn, <uint32_t>pfn + nr_pages, MIGRATE_MOVABLE, cpu) == 0:
                    return <uint32_t>pfn
            pfn += nr_pages
    return PFN_NONE
