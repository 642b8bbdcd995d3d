"""Fallback to other migratetypes: stealing, pageblock conversion, the watermark boost, the high-order atomic reserve.

Linux: mm/page_alloc.c (__rmqueue_fallback, steal_suitable_fallback, move_freepages_block, boost_watermark,
reserve_highatomic_pageblock).  Not modelled: CMA (absent from the reference configuration).
Invariant: a moved block goes to the tail of its new list.  Cost: one pageblock scan a theft.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from mm._fast.core cimport mm_refresh_zone
from mm._fast.debug cimport VM_BUG_ON
from mm._fast.gfp cimport alloc_flags, ALLOC_KSWAPD, ALLOC_NOFRAGMENT
from mm._fast.physical.buddy cimport (buddy_order, first_free, get_pageblock_migratetype, migratetype_is_mergeable,
                                      move_to_free_list, page_order, PageBuddy, set_pageblock_migratetype)
from mm._fast.state cimport (alloc_context, BUG_NO_FALLBACK, extfrag_event, extfrag_log, MAX_ORDER,
                             MIGRATE_HIGHATOMIC, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE, MMState,
                             pageblock_nr_pages, pageblock_order, PFN_NONE, PG_lru, WMARK_HIGH, zone,
                             ZONE_BOOSTED_WATERMARK)
from mm._fast.vm_event_item cimport (BOOST, EXTFRAG, EXTFRAG_CLAIM, EXTFRAG_FRAGMENTING, EXTFRAG_SMALLEST,
                                     HIGHATOMIC_RESERVE, HIGHATOMIC_UNRESERVE)
from mm._fast.vmstat cimport count_zone_event, zone_watermark


cdef inline int32_t fallback_type(int32_t mt, int32_t i) noexcept nogil:
    """The i-th type that a request of type `mt` may take from (the table `fallbacks`)."""
    if mt == MIGRATE_UNMOVABLE:
        return MIGRATE_RECLAIMABLE if i == 0 else MIGRATE_MOVABLE
    if mt == MIGRATE_MOVABLE:
        return MIGRATE_RECLAIMABLE if i == 0 else MIGRATE_UNMOVABLE
    return MIGRATE_UNMOVABLE if i == 0 else MIGRATE_MOVABLE


cdef inline bint can_steal_fallback(const MMState *s, uint32_t order, int32_t start_mt) noexcept nogil:
    return (order >= pageblock_order // 2 or start_mt == MIGRATE_RECLAIMABLE or start_mt == MIGRATE_UNMOVABLE
            or s.g.page_group_by_mobility_disabled != 0)


cdef int32_t find_suitable_fallback(const MMState *s, const zone *z, uint32_t order, int32_t mt) noexcept nogil:
    """First type of the fallback table with a free block of exactly this order, -1 if none."""
    cdef int32_t i, other
    if z.nr_free[order] == 0 or mt > MIGRATE_RECLAIMABLE:
        return -1
    for i in range(2):
        other = fallback_type(mt, i)
        if first_free(s, z, order, other) != PFN_NONE:
            return other
    return -1


cdef public int64_t move_freepages_block "mm_move_freepages_block"(MMState *s, zone *z, uint32_t pfn, int32_t mt,
                                                                  int32_t *num_movable) noexcept nogil:
    """Move the free blocks of the pageblock of `pfn` to the tails of type `mt`'s lists, in address order.

    Returns the pages moved; `num_movable` gets the pages that a migration could move away (LRU pages).
    """
    cdef uint32_t start = pfn & ~<uint32_t>(pageblock_nr_pages - 1)
    cdef uint32_t end = start + pageblock_nr_pages
    cdef uint32_t order
    cdef int64_t moved = 0
    num_movable[0] = 0
    if start < z.zone_start_pfn:
        start = pfn
    if end > z.zone_start_pfn + z.spanned_pages:
        return 0
    pfn = start
    while pfn < end:
        if PageBuddy(s, pfn):
            order = buddy_order(s, pfn)
            move_to_free_list(s, z, pfn, order, mt)
            pfn += <uint32_t>1 << order
            moved += <int64_t>1 << order
        else:
            num_movable[0] += (s.page[pfn].flags & PG_lru) != 0
            pfn += 1
    return moved


cdef bint boost_watermark(MMState *s, zone *z) noexcept nogil:
    cdef int64_t high = zone_watermark(z, WMARK_HIGH)
    cdef int64_t max_boost
    if s.g.watermark_boost_factor == 0 or pageblock_nr_pages * 4 > z.managed_pages:
        return False
    max_boost = (high // 10000) * s.g.watermark_boost_factor + (high % 10000) * s.g.watermark_boost_factor // 10000
    if max_boost == 0:
        return False
    if max_boost < pageblock_nr_pages:
        max_boost = pageblock_nr_pages
    z.watermark_boost += pageblock_nr_pages
    if z.watermark_boost > max_boost:
        z.watermark_boost = max_boost
    count_zone_event(z, BOOST, 1)
    mm_refresh_zone(s, <int32_t>(z - s.zones))
    return True


cdef inline bint claims_pageblock(MMState *s, int64_t free_pages, int32_t movable, int32_t start_mt,
                                  int32_t old_mt) noexcept nogil:
    """Do free and alike pages make up half of the block?  A trace that recorded the answer decides instead."""
    cdef int64_t alike = 0
    cdef int32_t hint
    if s.g.nr_claim_hints > 0:
        s.g.nr_claim_hints -= 1
        hint = s.g.claim_hints & 1
        s.g.claim_hints >>= 1
        return hint != 0
    if start_mt == MIGRATE_MOVABLE:
        alike = movable
    elif old_mt == MIGRATE_MOVABLE:
        alike = pageblock_nr_pages - free_pages - movable
    return free_pages + alike >= pageblock_nr_pages // 2 or s.g.page_group_by_mobility_disabled != 0


cdef void steal_suitable_fallback(MMState *s, zone *z, uint32_t pfn, uint32_t alloc_flags, int32_t start_mt,
                                  bint whole_block) noexcept nogil:
    """Move the free block `pfn` of another type to `start_mt`'s list, with its whole pageblock where allowed."""
    cdef uint32_t order = page_order(s.page, pfn)
    cdef uint32_t block
    cdef int32_t old_mt = get_pageblock_migratetype(s, pfn)
    cdef int32_t movable = 0
    cdef int64_t free_pages
    if old_mt == MIGRATE_HIGHATOMIC:
        move_to_free_list(s, z, pfn, order, start_mt)
        return
    if order >= pageblock_order:
        for block in range(<uint32_t>1 << (order - pageblock_order)):
            set_pageblock_migratetype(s, pfn + block * pageblock_nr_pages, start_mt)
        move_to_free_list(s, z, pfn, order, start_mt)
        return
    if boost_watermark(s, z) and alloc_flags & ALLOC_KSWAPD:
        z.flags |= ZONE_BOOSTED_WATERMARK
        mm_refresh_zone(s, <int32_t>(z - s.zones))
    free_pages = 0
    if whole_block:
        free_pages = move_freepages_block(s, z, pfn, start_mt, &movable)
    if free_pages == 0:
        move_to_free_list(s, z, pfn, order, start_mt)
    elif claims_pageblock(s, free_pages, movable, start_mt, old_mt):
        set_pageblock_migratetype(s, pfn, start_mt)


cdef void trace_mm_page_alloc_extfrag(MMState *s, uint32_t pfn, uint32_t alloc_order, int32_t fallback_order,
                                      int32_t alloc_mt, int32_t fallback_mt) noexcept nogil:
    cdef extfrag_log *log = s.extfrag
    cdef extfrag_event *event
    log.nr += 1
    if log.nr > log.size:
        return
    event = &log.events[log.nr - 1]
    event.time_ns = log.time_ns
    event.pfn = pfn
    event.alloc_order = <uint8_t>alloc_order
    event.fallback_order = <uint8_t>fallback_order
    event.alloc_migratetype = <uint8_t>alloc_mt
    event.fallback_migratetype = <uint8_t>fallback_mt
    event.change_ownership = get_pageblock_migratetype(s, pfn) == alloc_mt


cdef public bint rmqueue_fallback "mm_rmqueue_fallback"(MMState *s, zone *z, uint32_t order, int32_t start_mt,
                                                        uint32_t alloc_flags) noexcept nogil:
    """Move a block of another type to `start_mt`'s lists; False if no other type has one.

    The search goes from the largest order down, so that one big theft saves many small ones; a movable request that
    may not take the whole pageblock takes the smallest sufficient block instead.
    """
    cdef int32_t current_order = MAX_ORDER - 1
    cdef int32_t min_order = <int32_t>order
    cdef int32_t other = -1
    cdef bint can_steal
    cdef uint32_t pfn
    if order < pageblock_order and alloc_flags & ALLOC_NOFRAGMENT:
        min_order = pageblock_order
    while current_order >= min_order:
        other = find_suitable_fallback(s, z, current_order, start_mt)
        if other >= 0:
            break
        current_order -= 1
    if other < 0:
        return False
    can_steal = can_steal_fallback(s, current_order, start_mt)
    if not can_steal and start_mt == MIGRATE_MOVABLE and current_order > <int32_t>order:
        count_zone_event(z, EXTFRAG_SMALLEST, 1)
        for current_order in range(<int32_t>order, MAX_ORDER):
            other = find_suitable_fallback(s, z, current_order, start_mt)
            if other >= 0:
                can_steal = can_steal_fallback(s, current_order, start_mt)
                break
    VM_BUG_ON(s, other < 0, BUG_NO_FALLBACK, 0)
    pfn = first_free(s, z, current_order, other)
    steal_suitable_fallback(s, z, pfn, alloc_flags, start_mt, can_steal)
    count_zone_event(z, EXTFRAG, 1)
    count_zone_event(z, EXTFRAG_FRAGMENTING, current_order < pageblock_order)
    count_zone_event(z, EXTFRAG_CLAIM, get_pageblock_migratetype(s, pfn) == start_mt)
    if s.extfrag != NULL:
        trace_mm_page_alloc_extfrag(s, pfn, order, current_order, start_mt, other)
    return True


cdef public void reserve_highatomic_pageblock "mm_reserve_highatomic_pageblock"(MMState *s, zone *z,
                                                                                 uint32_t pfn) noexcept nogil:
    cdef int32_t movable
    if z.nr_reserved_highatomic >= z.managed_pages // 100 + pageblock_nr_pages:
        return
    if migratetype_is_mergeable(get_pageblock_migratetype(s, pfn)):
        z.nr_reserved_highatomic += pageblock_nr_pages
        set_pageblock_migratetype(s, pfn, MIGRATE_HIGHATOMIC)
        move_freepages_block(s, z, pfn, MIGRATE_HIGHATOMIC, &movable)
        count_zone_event(z, HIGHATOMIC_RESERVE, 1)
        mm_refresh_zone(s, <int32_t>(z - s.zones))


cdef bint unreserve_zone(MMState *s, zone *z, int32_t mt) noexcept nogil:
    """Give one HIGHATOMIC pageblock of the zone, found by its smallest free block, to type `mt`."""
    cdef uint32_t order, pfn
    cdef int32_t movable
    for order in range(MAX_ORDER):
        pfn = first_free(s, z, order, MIGRATE_HIGHATOMIC)
        if pfn == PFN_NONE:
            continue
        if get_pageblock_migratetype(s, pfn) == MIGRATE_HIGHATOMIC:
            z.nr_reserved_highatomic -= min(<int64_t>pageblock_nr_pages, z.nr_reserved_highatomic)
        set_pageblock_migratetype(s, pfn, mt)
        count_zone_event(z, HIGHATOMIC_UNRESERVE, 1)
        mm_refresh_zone(s, <int32_t>(z - s.zones))
        if move_freepages_block(s, z, pfn, mt, &movable):
            return True
    return False


cdef public bint unreserve_highatomic_pageblock "mm_unreserve_highatomic_pageblock"(
        MMState *s, const alloc_context *ac, bint force) noexcept nogil:
    """Under pressure: turn one reserved pageblock back; unless forced, each zone keeps one."""
    cdef int32_t i = 0
    cdef zone *z
    while ac.zonelist[i] >= 0:
        z = &s.zones[ac.zonelist[i]]
        i += 1
        if z.zid > ac.highest_zoneidx or not (ac.nodemask >> z.nid) & 1:
            continue
        if not force and z.nr_reserved_highatomic <= pageblock_nr_pages:
            continue
        if unreserve_zone(s, z, ac.migratetype):
            return True
    return False
