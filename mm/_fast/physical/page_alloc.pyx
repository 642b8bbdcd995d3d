"""The page allocator: fallback and stealing, per-cpu lists, watermarks, the walk over zones, free.

Linux: mm/page_alloc.c of 6.1.192.  Modelled: everything of `get_page_from_freelist` and below, and the free path.
The slow path is alloc_slowpath.pyx, isolation and contiguous ranges page_isolation.pyx, free lists buddy.pxd.
Not modelled: lock contention, KASAN, CMA (absent from the reference configuration), deferred init.
Invariants: buddy.pxd's; per_cpu_pages.count is the pages on its lists; a page on a pcp list has PG_pcp, its order
and the type it returns to.  Cost: a pcp hit touches the page and its list neighbour; a refill or drain is bounded
by pcp batch and high.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from mm._fast.core cimport mm_alloc_pages_slowpath
from mm._fast.debug cimport likely, unlikely, VM_BUG_ON
from mm._fast.gfp cimport (__GFP_ATOMIC, __GFP_COMP, __GFP_DIRECT_RECLAIM, __GFP_FS, __GFP_HARDWALL, __GFP_IO,
                           __GFP_KSWAPD_RECLAIM, __GFP_MOVABLE, __GFP_NOFAIL, __GFP_NOWARN, __GFP_THISNODE, __GFP_WRITE,
                           ALLOC_CPUSET, ALLOC_HIGHATOMIC, ALLOC_KSWAPD, ALLOC_MIN_RESERVE, ALLOC_NO_WATERMARKS,
                           ALLOC_NOFRAGMENT, ALLOC_NON_BLOCK, ALLOC_OOM, ALLOC_RESERVES, ALLOC_WMARK_LOW,
                           ALLOC_WMARK_MASK)
from mm._fast.page_list cimport list_add, list_add_tail, list_del, list_empty
from mm._fast.page_ref cimport put_page_testzero, set_page_refcounted
from mm._fast.physical.buddy cimport (__free_one_page, __rmqueue_smallest, first_free, free_list,
                                      get_pageblock_migratetype, migratetype_is_mergeable, move_to_free_list, page_mt,
                                      page_order, set_pageblock_migratetype)
from mm._fast.physical.gfp_zone cimport gfp_migratetype, gfp_zone
from mm._fast.state cimport (alloc_context, BUG_NO_FALLBACK, BUG_PAGE_REFCOUNT, FREE_BAD_PFN, FREE_BAD_TAIL, FREE_COLD,
                             FREE_HOLE, FREE_NOT_ALLOCATED, FREE_OK, FREE_RESERVED, FREE_TAIL, FREE_UNALIGNED,
                             FREE_WRONG_ORDER, MAX_NR_ZONES, MAX_ORDER, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE,
                             MIGRATE_MOVABLE, MIGRATE_PCPTYPES, MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE, MMState,
                             MPOL_BIND, MPOL_DEFAULT, MPOL_INTERLEAVE, MPOL_PREFERRED, MPOL_PREFERRED_MANY,
                             NODE_RECLAIM_SOME, NODEMASK_ALL, NR_LOWORDER_PCP_LISTS, NR_PCP_LISTS, OP_NODE_RECLAIM,
                             OP_WAKEUP_KSWAPD, PAGE_ALLOC_COSTLY_ORDER, page_hot, pageblock_nr_pages, pageblock_order,
                             PCP_BATCH_SCALE_MAX, per_cpu_pages, PF_INTERRUPT, PF_MEMALLOC_NOFS, PF_MEMALLOC_NOIO,
                             PF_MEMALLOC_PIN, PF_OOM_VICTIM, PFN_NONE, PG_buddy, PG_cold, PG_head, PG_lru, PG_MT_SHIFT,
                             PG_order_known, PG_pcp, PG_pfmemalloc, PG_reserved, PG_tail, PG_valid, PG_ZONE_MASK,
                             PG_ZONE_SHIFT, task_context, WMARK_HIGH, WMARK_LOW, WMARK_MIN, zone,
                             ZONE_BOOSTED_WATERMARK, ZONE_MOVABLE, ZONE_NORMAL, ZONE_RECLAIM_ACTIVE)
from mm._fast.vm_event_item cimport (BOOST, BUDDY_ALLOC, BUDDY_FREE, EXTFRAG, EXTFRAG_CLAIM, EXTFRAG_FRAGMENTING,
                                     EXTFRAG_SMALLEST, HIGHATOMIC_RESERVE, HIGHATOMIC_UNRESERVE, NR_FREE_PAGES,
                                     NUMA_FOREIGN, NUMA_HIT, NUMA_INTERLEAVE, NUMA_LOCAL, NUMA_MISS, NUMA_OTHER,
                                     PCP_DRAIN, PCP_DRAIN_PAGES, PCP_DRAIN_WHOLE, PCP_HIT, PCP_REFILL, PCP_REFILL_PAGES,
                                     PGALLOC_DMA, PGFREE, WMARK_HIGH_FAIL, WMARK_LOW_FAIL, WMARK_MIN_FAIL)
from mm._fast.vmstat cimport (count_numa_event, count_op_call, count_vm_events, count_zone_event, mod_zone_page_state,
                              wmark_pages, zone_free_pages, zone_pcp, zone_watermark)

cdef enum:
    RECLAIM_DISTANCE = 30           # node_reclaim looks no farther
    FREE_CHECK_MASK = 0x0100c78f    # PG_valid | PG_cold | PG_tail | PG_reserved | PG_order_known | PG_pcp | PG_buddy | order


# ---------------------------------------------------------------------------------------------- fallback, stealing

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
        if s.page[pfn].flags & PG_buddy:
            order = page_order(s.page, pfn)
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
    free_pages = 0
    if whole_block:
        free_pages = move_freepages_block(s, z, pfn, start_mt, &movable)
    if free_pages == 0:
        move_to_free_list(s, z, pfn, order, start_mt)
    elif claims_pageblock(s, free_pages, movable, start_mt, old_mt):
        set_pageblock_migratetype(s, pfn, start_mt)


cdef bint __rmqueue_fallback(MMState *s, zone *z, uint32_t order, int32_t start_mt, uint32_t alloc_flags) noexcept nogil:
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
    return True


cdef inline uint32_t __rmqueue(MMState *s, zone *z, uint32_t order, int32_t mt, uint32_t alloc_flags) noexcept nogil:
    cdef uint32_t pfn = __rmqueue_smallest(s, z, order, mt)
    while unlikely(pfn == PFN_NONE):
        if not __rmqueue_fallback(s, z, order, mt, alloc_flags):
            return PFN_NONE
        pfn = __rmqueue_smallest(s, z, order, mt)
    return pfn


# -------------------------------------------------------------------------------------- reserve for atomic requests

cdef void reserve_highatomic_pageblock(MMState *s, zone *z, uint32_t pfn) noexcept nogil:
    cdef int32_t movable
    if z.nr_reserved_highatomic >= z.managed_pages // 100 + pageblock_nr_pages:
        return
    if migratetype_is_mergeable(get_pageblock_migratetype(s, pfn)):
        z.nr_reserved_highatomic += pageblock_nr_pages
        set_pageblock_migratetype(s, pfn, MIGRATE_HIGHATOMIC)
        move_freepages_block(s, z, pfn, MIGRATE_HIGHATOMIC, &movable)
        count_zone_event(z, HIGHATOMIC_RESERVE, 1)


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


# -------------------------------------------------------------------------------------------------- per-cpu lists

cdef inline bint pcp_allowed_order(const MMState *s, uint32_t order) noexcept nogil:
    return (order <= PAGE_ALLOC_COSTLY_ORDER or order == pageblock_order) and not s.g.is_pcp_disabled


cdef inline uint32_t order_to_pindex(int32_t mt, uint32_t order) noexcept nogil:
    if order > PAGE_ALLOC_COSTLY_ORDER:
        return NR_LOWORDER_PCP_LISTS + (mt == MIGRATE_MOVABLE)
    return MIGRATE_PCPTYPES * order + <uint32_t>mt


cdef inline uint32_t pindex_to_order(uint32_t pindex) noexcept nogil:
    return pageblock_order if pindex >= NR_LOWORDER_PCP_LISTS else pindex // MIGRATE_PCPTYPES


cdef uint32_t rmqueue_bulk(MMState *s, zone *z, per_cpu_pages *pcp, uint32_t order, uint32_t count, uint32_t head,
                           int32_t mt, uint32_t alloc_flags) noexcept nogil:
    """Refill: move up to `count` blocks from buddy to the tail of a pcp list.  Returns how many."""
    cdef uint32_t i = 0
    cdef uint32_t pfn
    while i < count:
        pfn = __rmqueue(s, z, order, mt, alloc_flags)
        if unlikely(pfn == PFN_NONE):
            break
        s.page[pfn].flags |= PG_pcp
        list_add_tail(s.page, head, pfn)
        i += 1
    mod_zone_page_state(z, pcp, NR_FREE_PAGES, -(<int64_t>i << order))
    count_zone_event(z, PCP_REFILL, 1)
    count_zone_event(z, PCP_REFILL_PAGES, <int64_t>i << order)
    return i


cdef void free_pcppages_bulk(MMState *s, zone *z, per_cpu_pages *pcp, per_cpu_pages *stat_cpu, int32_t count,
                             uint32_t pindex) noexcept nogil:
    """Drain about `count` pages to buddy: list `pindex` from its tail until empty, then the next list, round."""
    cdef page_hot *p = s.page
    cdef uint32_t head, pfn, order
    cdef int32_t mt, nr_pages
    if count > pcp.count:
        count = pcp.count
    count_zone_event(z, PCP_DRAIN, 1)
    while count > 0:
        head = pcp.first_list + pindex
        order = pindex_to_order(pindex)
        nr_pages = <int32_t>1 << order
        while count > 0 and not list_empty(p, head):
            pfn = p[head].prev
            list_del(p, pfn)
            count -= nr_pages
            pcp.count -= nr_pages
            count_zone_event(z, PCP_DRAIN_PAGES, nr_pages)
            mt = page_mt(p, pfn)
            if unlikely(z.nr_isolate_pageblock != 0):
                mt = get_pageblock_migratetype(s, pfn)
            __free_one_page(s, z, stat_cpu, pfn, order, mt, False)
        pindex += 1
        if pindex == NR_PCP_LISTS:
            pindex = 0


cdef inline int32_t nr_pcp_free(per_cpu_pages *pcp, int32_t high, int32_t batch) noexcept nogil:
    """Pages of the next drain; each drain without an allocation between doubles it."""
    cdef int32_t max_nr_free = high - batch
    cdef int32_t nr
    if unlikely(high < batch):
        return 1
    nr = batch << pcp.free_factor
    if nr < max_nr_free and pcp.free_factor < PCP_BATCH_SCALE_MAX:
        pcp.free_factor += 1
    if nr > max_nr_free:
        nr = max_nr_free
    return nr if nr > batch else batch


cdef inline int32_t nr_pcp_high(const per_cpu_pages *pcp, const zone *z) noexcept nogil:
    if likely(not z.flags & ZONE_RECLAIM_ACTIVE) or pcp.high == 0:
        return pcp.high
    return min(pcp.batch << 2, pcp.high)


cdef inline void free_unref_page_commit(MMState *s, zone *z, per_cpu_pages *pcp, uint32_t pfn, int32_t block_mt,
                                        uint32_t order, int32_t cpu) noexcept nogil:
    """Put a block on its pcp list (HIGHATOMIC ones on the movable list); drain if the lists are full."""
    cdef int32_t list_mt = block_mt if block_mt < MIGRATE_PCPTYPES else MIGRATE_MOVABLE
    cdef uint32_t pindex = order_to_pindex(list_mt, order)
    cdef int32_t high
    count_vm_events(s, cpu, PGFREE, <int64_t>1 << order)
    s.page[pfn].flags = z.page_bits | PG_pcp | order | (<uint32_t>block_mt << PG_MT_SHIFT)
    list_add(s.page, pcp.first_list + pindex, pfn)
    pcp.count += <int32_t>1 << order
    if unlikely(pcp.free_factor != 0 and order != 0 and order <= PAGE_ALLOC_COSTLY_ORDER):
        count_zone_event(z, PCP_DRAIN_WHOLE, 1)
        free_pcppages_bulk(s, z, pcp, pcp, pcp.count, pindex)
        return
    high = nr_pcp_high(pcp, z)
    if unlikely(pcp.count >= high):
        free_pcppages_bulk(s, z, pcp, pcp, nr_pcp_free(pcp, high, pcp.batch), pindex)


cdef public void drain_pages_zone "mm_drain_pages_zone"(MMState *s, zone *z, int32_t cpu, int32_t on_cpu) noexcept nogil:
    """Empty the pcp lists of `cpu` in one zone; `on_cpu` does the work and gets the counts."""
    cdef int32_t nr = <int32_t>(z - s.zones)
    cdef per_cpu_pages *pcp = zone_pcp(s, nr, cpu)
    if pcp.count > 0:
        free_pcppages_bulk(s, z, pcp, zone_pcp(s, nr, on_cpu), pcp.count, 0)


cdef public void drain_all_pages "mm_drain_all_pages"(MMState *s, int32_t zone_nr, int32_t on_cpu) noexcept nogil:
    """Empty the pcp lists of all CPUs, of one zone or (-1) of all."""
    cdef int32_t cpu, nr
    for cpu in range(s.g.nr_cpus):
        for nr in range(s.g.nr_zones):
            if s.zones[nr].spanned_pages and (zone_nr < 0 or nr == zone_nr):
                drain_pages_zone(s, &s.zones[nr], cpu, on_cpu)


# ---------------------------------------------------------------------------------------------------- one zone

cdef inline void zone_statistics(MMState *s, const alloc_context *ac, zone *z, int64_t nr) noexcept nogil:
    cdef int32_t preferred_nid = s.zones[ac.preferred_zone].nid
    if z.nid == preferred_nid:
        count_numa_event(z, NUMA_HIT, nr)
    else:
        count_numa_event(z, NUMA_MISS, nr)
        count_numa_event(&s.zones[ac.preferred_zone], NUMA_FOREIGN, nr)
    count_numa_event(z, NUMA_LOCAL if z.nid == s.cpu_node[ac.cpu] else NUMA_OTHER, nr)


cdef inline uint32_t __rmqueue_pcplist(MMState *s, zone *z, per_cpu_pages *pcp, uint32_t order, int32_t mt,
                                       uint32_t alloc_flags) noexcept nogil:
    cdef uint32_t head = pcp.first_list + order_to_pindex(mt, order)
    cdef uint32_t pfn
    cdef uint32_t batch
    if unlikely(list_empty(s.page, head)):
        batch = <uint32_t>pcp.batch
        if batch > 1:
            batch = max(batch >> order, <uint32_t>2)
        pcp.count += <int32_t>(rmqueue_bulk(s, z, pcp, order, batch, head, mt, alloc_flags) << order)
        if unlikely(list_empty(s.page, head)):
            return PFN_NONE
    else:
        count_zone_event(z, PCP_HIT, 1)
    pfn = s.page[head].next
    list_del(s.page, pfn)
    pcp.count -= <int32_t>1 << order
    return pfn


cdef uint32_t rmqueue_buddy(MMState *s, zone *z, uint32_t order, uint32_t alloc_flags,
                            const alloc_context *ac) noexcept nogil:
    cdef uint32_t pfn = PFN_NONE
    if alloc_flags & ALLOC_HIGHATOMIC:
        pfn = __rmqueue_smallest(s, z, order, MIGRATE_HIGHATOMIC)
    if pfn == PFN_NONE:
        pfn = __rmqueue(s, z, order, ac.migratetype, alloc_flags)
    if pfn == PFN_NONE and alloc_flags & (ALLOC_OOM | ALLOC_NON_BLOCK):
        pfn = __rmqueue_smallest(s, z, order, MIGRATE_HIGHATOMIC)
    if pfn != PFN_NONE:
        mod_zone_page_state(z, zone_pcp(s, <int32_t>(z - s.zones), ac.cpu), NR_FREE_PAGES, -(<int64_t>1 << order))
        count_zone_event(z, BUDDY_ALLOC, 1)
    return pfn


cdef inline uint32_t rmqueue(MMState *s, zone *z, uint32_t order, uint32_t alloc_flags,
                             const alloc_context *ac) noexcept nogil:
    """Take a block from one zone: per-cpu list, else buddy."""
    cdef uint32_t pfn = PFN_NONE
    cdef per_cpu_pages *pcp
    if pcp_allowed_order(s, order):
        pcp = zone_pcp(s, <int32_t>(z - s.zones), ac.cpu)
        pcp.free_factor >>= 1
        pfn = __rmqueue_pcplist(s, z, pcp, order, ac.migratetype, alloc_flags)
    if pfn == PFN_NONE:
        pfn = rmqueue_buddy(s, z, order, alloc_flags, ac)
    if pfn != PFN_NONE:
        count_vm_events(s, ac.cpu, PGALLOC_DMA + z.zid, <int64_t>1 << order)
        zone_statistics(s, ac, z, 1)
    if unlikely(z.flags & ZONE_BOOSTED_WATERMARK):
        z.flags &= ~<uint32_t>ZONE_BOOSTED_WATERMARK
        wakeup_kswapd(s, <int32_t>(z - s.zones), 0, 0, z.zid)
    return pfn


cdef inline void wakeup_kswapd(MMState *s, int32_t zone_nr, uint32_t gfp, uint32_t order,
                               int32_t highest_zoneidx) noexcept nogil:
    if s.ops.wakeup_kswapd != NULL:
        s.ops.wakeup_kswapd(s, zone_nr, gfp, order, highest_zoneidx)
    else:
        count_op_call(s, OP_WAKEUP_KSWAPD, 1)


# --------------------------------------------------------------------------------------------------- watermarks

cdef inline bint has_free_block(const MMState *s, const zone *z, uint32_t order, uint32_t alloc_flags) noexcept nogil:
    """Is a block of at least this order on a list that the request may use?"""
    cdef uint32_t o
    cdef int32_t mt
    for o in range(order, MAX_ORDER):
        if z.nr_free[o] == 0:
            continue
        for mt in range(MIGRATE_PCPTYPES):
            if not list_empty(s.page, free_list(z, o, mt)):
                return True
        if alloc_flags & (ALLOC_HIGHATOMIC | ALLOC_OOM) and not list_empty(s.page, free_list(z, o, MIGRATE_HIGHATOMIC)):
            return True
    return False


cdef public bint zone_watermark_ok "mm_zone_watermark_ok"(
        const MMState *s, const zone *z, uint32_t order, int64_t mark, int32_t highest_zoneidx, uint32_t alloc_flags,
        int64_t free_pages) noexcept nogil:
    """Would `free_pages` stay above `mark` (pages) after this request, with the reserves it may use?"""
    cdef int64_t low = mark
    free_pages -= (<int64_t>1 << order) - 1
    if likely(not alloc_flags & ALLOC_RESERVES):
        free_pages -= z.nr_reserved_highatomic
    else:
        if alloc_flags & ALLOC_MIN_RESERVE:
            low -= low // 2
            if alloc_flags & ALLOC_NON_BLOCK:
                low -= low // 4
        if alloc_flags & ALLOC_OOM:
            low -= low // 2
    if free_pages <= low + z.lowmem_reserve[highest_zoneidx]:
        return False
    return order == 0 or has_free_block(s, z, order, alloc_flags)


cdef inline bint zone_watermark_fast(const MMState *s, const zone *z, uint32_t order, int64_t mark,
                                     int32_t highest_zoneidx, uint32_t alloc_flags, uint32_t gfp) noexcept nogil:
    cdef int64_t free_pages = zone_free_pages(z)
    cdef int64_t usable
    if order == 0:
        usable = free_pages
        if not alloc_flags & ALLOC_RESERVES:
            usable -= min(usable, z.nr_reserved_highatomic)
        if likely(usable > mark + z.lowmem_reserve[highest_zoneidx]):
            return True
    if zone_watermark_ok(s, z, order, mark, highest_zoneidx, alloc_flags, free_pages):
        return True
    if order == 0 and gfp & __GFP_ATOMIC and z.watermark_boost and alloc_flags & ALLOC_WMARK_MASK == WMARK_MIN:
        return zone_watermark_ok(s, z, order, zone_watermark(z, WMARK_MIN), highest_zoneidx, alloc_flags, free_pages)
    return False


# ------------------------------------------------------------------------------------------------- the zone walk

cdef inline uint32_t alloc_flags_nofragment(const MMState *s, int32_t zone_nr, uint32_t gfp) noexcept nogil:
    """Mixing types is worse than using DMA32, but only where a DMA32 of the node stands beside Normal."""
    cdef uint32_t flags = gfp & __GFP_KSWAPD_RECLAIM
    if zone_nr < 0 or s.zones[zone_nr].zid != ZONE_NORMAL:
        return flags
    if s.g.nr_online_nodes > 1 and s.zones[zone_nr - 1].present_pages == 0:
        return flags
    return flags | ALLOC_NOFRAGMENT


cdef bint zone_may_serve(MMState *s, zone *z, uint32_t gfp, uint32_t order, uint32_t alloc_flags,
                         const alloc_context *ac) noexcept nogil:
    """The watermark test of the walk, with node_reclaim where vm.zone_reclaim_mode asks for it."""
    cdef uint32_t wmark = alloc_flags & ALLOC_WMARK_MASK
    cdef int64_t mark = wmark_pages(z, wmark)
    cdef int32_t distance
    if likely(zone_watermark_fast(s, z, order, mark, ac.highest_zoneidx, alloc_flags, gfp)):
        return True
    if alloc_flags & ALLOC_NO_WATERMARKS:
        return True
    count_zone_event(z, WMARK_LOW_FAIL if wmark == WMARK_LOW else WMARK_MIN_FAIL if wmark == WMARK_MIN else WMARK_HIGH_FAIL, 1)
    if s.g.node_reclaim_mode == 0:
        return False
    distance = s.node_distance[s.zones[ac.preferred_zone].nid * s.g.nr_nodes + z.nid]
    if distance > RECLAIM_DISTANCE:
        return False
    if s.ops.node_reclaim == NULL:
        count_op_call(s, OP_NODE_RECLAIM, 1)
        return False
    if s.ops.node_reclaim(s, z.nid, gfp, order, ac.cpu) < NODE_RECLAIM_SOME:
        return False
    return zone_watermark_ok(s, z, order, mark, ac.highest_zoneidx, alloc_flags, zone_free_pages(z))


cdef inline bint cpuset_zone_allowed(const MMState *s, const zone *z, uint32_t gfp, int32_t cpu) noexcept nogil:
    cdef const task_context *current = &s.current[cpu]
    if current.flags & PF_INTERRUPT or current.mems_allowed == 0 or (current.mems_allowed >> z.nid) & 1:
        return True
    return current.flags & PF_OOM_VICTIM or not gfp & __GFP_HARDWALL


cdef public uint32_t get_page_from_freelist "mm_get_page_from_freelist"(
        MMState *s, uint32_t gfp, uint32_t order, uint32_t alloc_flags, const alloc_context *ac) noexcept nogil:
    """Walk the zonelist from the preferred zone; the first zone above its mark serves the request.

    The first round keeps types apart (ALLOC_NOFRAGMENT); leaving the node, or failing, drops that and starts again.
    """
    cdef int32_t i = ac.preferred
    cdef int32_t local_nid, last_nid = -1
    cdef bint last_dirty_ok = False
    cdef zone *z
    cdef uint32_t pfn
    if i < 0:
        return PFN_NONE
    local_nid = s.zones[ac.preferred_zone].nid
    while True:
        if ac.zonelist[i] < 0:
            if not alloc_flags & ALLOC_NOFRAGMENT:
                return PFN_NONE
            alloc_flags &= ~<uint32_t>ALLOC_NOFRAGMENT
            i = ac.preferred
        z = &s.zones[ac.zonelist[i]]
        i += 1
        if z.zid > ac.highest_zoneidx or not (ac.nodemask >> z.nid) & 1:
            continue
        if s.g.is_cpusets_enabled and alloc_flags & ALLOC_CPUSET and not cpuset_zone_allowed(s, z, gfp, ac.cpu):
            continue
        if ac.spread_dirty_pages and s.ops.node_dirty_ok != NULL:
            if last_nid != z.nid:
                last_nid = z.nid
                last_dirty_ok = s.ops.node_dirty_ok(s, z.nid) != 0
            if not last_dirty_ok:
                continue
        if alloc_flags & ALLOC_NOFRAGMENT and z.nid != local_nid:
            alloc_flags &= ~<uint32_t>ALLOC_NOFRAGMENT
            i = ac.preferred
            continue
        if not zone_may_serve(s, z, gfp, order, alloc_flags, ac):
            continue
        pfn = rmqueue(s, z, order, alloc_flags, ac)
        if pfn == PFN_NONE:
            continue
        prep_new_page(s, pfn, order, gfp, alloc_flags)
        if unlikely(alloc_flags & ALLOC_HIGHATOMIC):
            reserve_highatomic_pageblock(s, z, pfn)
        return pfn


cdef inline void set_preferred(const MMState *s, alloc_context *ac) noexcept nogil:
    """First zone of the list that the mask and the nodes allow (first_zones_zonelist)."""
    cdef int32_t i = 0
    cdef const zone *z
    ac.preferred = -1
    ac.preferred_zone = -1
    while ac.zonelist[i] >= 0:
        z = &s.zones[ac.zonelist[i]]
        if z.zid <= ac.highest_zoneidx and (ac.nodemask >> z.nid) & 1:
            ac.preferred = i
            ac.preferred_zone = ac.zonelist[i]
            return
        i += 1


cdef public void first_zones_zonelist "mm_first_zones_zonelist"(const MMState *s, alloc_context *ac) noexcept nogil:
    set_preferred(s, ac)


# ------------------------------------------------------------------------------------------------- entry points

cdef inline uint32_t current_gfp_context(const MMState *s, uint32_t gfp, int32_t cpu) noexcept nogil:
    cdef uint32_t flags = s.current[cpu].flags
    if flags & PF_MEMALLOC_NOIO:
        gfp &= ~<uint32_t>(__GFP_IO | __GFP_FS)
    elif flags & PF_MEMALLOC_NOFS:
        gfp &= ~<uint32_t>__GFP_FS
    if flags & PF_MEMALLOC_PIN:
        gfp &= ~<uint32_t>__GFP_MOVABLE
    return gfp


cdef uint32_t prepare_alloc_pages(const MMState *s, uint32_t gfp, int32_t nid, uint64_t nodemask, int32_t cpu,
                                  alloc_context *ac, uint32_t *alloc_flags) noexcept nogil:
    """Fill `ac`; returns the mask of the first attempt."""
    cdef const task_context *current = &s.current[cpu]
    ac.highest_zoneidx = gfp_zone(gfp)
    ac.zonelist = &s.zonelists[(nid * 2 + ((gfp & __GFP_THISNODE) != 0)) * (s.g.nr_zones + 1)]
    ac.migratetype = MIGRATE_UNMOVABLE if s.g.page_group_by_mobility_disabled else gfp_migratetype(gfp)
    ac.nid = nid
    ac.cpu = cpu
    ac.nodemask = nodemask
    ac.spread_dirty_pages = (gfp & __GFP_WRITE) != 0
    if s.g.is_cpusets_enabled:
        gfp |= __GFP_HARDWALL
        if not current.flags & PF_INTERRUPT and nodemask == NODEMASK_ALL and current.mems_allowed:
            ac.nodemask = current.mems_allowed
        else:
            alloc_flags[0] |= ALLOC_CPUSET
    set_preferred(s, ac)
    return gfp


cdef public uint32_t alloc_pages_nodemask "mm_alloc_pages_nodemask"(
        MMState *s, uint32_t gfp, uint32_t order, int32_t nid, uint64_t nodemask, int32_t cpu) noexcept nogil:
    """`__alloc_pages`: first PFN of 2^order pages near node `nid` within `nodemask`, PFN_NONE if it fails."""
    cdef alloc_context ac
    cdef uint32_t alloc_flags = ALLOC_WMARK_LOW
    cdef uint32_t pfn, alloc_gfp
    s.g.step += 1
    gfp = current_gfp_context(s, gfp & s.g.gfp_allowed_mask, cpu)
    alloc_gfp = prepare_alloc_pages(s, gfp, nid, nodemask, cpu, &ac, &alloc_flags)
    alloc_flags |= alloc_flags_nofragment(s, ac.preferred_zone, gfp)
    pfn = get_page_from_freelist(s, alloc_gfp, order, alloc_flags, &ac)
    if likely(pfn != PFN_NONE):
        return pfn
    ac.spread_dirty_pages = 0
    ac.nodemask = nodemask
    return mm_alloc_pages_slowpath(s, gfp, order, &ac)


cdef inline uint32_t alloc_page_fast(MMState *s, uint32_t gfp, int32_t nid, int32_t cpu) noexcept nogil:
    """An order-0 request that the pcp list of its first zone can serve above the low mark; PFN_NONE: go the long way.

    The same steps as `get_page_from_freelist`, in the case that needs none of its loops; no effect if it refuses.
    """
    cdef int32_t highest_zoneidx = gfp_zone(gfp)
    cdef int32_t mt = gfp_migratetype(gfp)
    cdef int32_t nr
    cdef uint32_t head, pfn
    cdef zone *z
    cdef per_cpu_pages *pcp
    if unlikely(gfp & (__GFP_WRITE | __GFP_THISNODE) or mt > MIGRATE_RECLAIMABLE or highest_zoneidx > ZONE_MOVABLE):
        return PFN_NONE
    nr = s.first_zone[nid * MAX_NR_ZONES + highest_zoneidx]
    if unlikely(nr < 0):
        return PFN_NONE
    z = &s.zones[nr]
    if unlikely(zone_free_pages(z) - z.nr_reserved_highatomic
                <= zone_watermark(z, WMARK_LOW) + z.watermark_boost + z.lowmem_reserve[highest_zoneidx]
                or z.flags & ZONE_BOOSTED_WATERMARK):
        return PFN_NONE
    pcp = zone_pcp(s, nr, cpu)
    head = pcp.first_list + <uint32_t>mt
    pfn = s.page[head].next
    if unlikely(pfn == head):
        return PFN_NONE
    s.g.step += 1
    pcp.free_factor >>= 1
    list_del(s.page, pfn)
    pcp.count -= 1
    count_zone_event(z, PCP_HIT, 1)
    count_vm_events(s, cpu, PGALLOC_DMA + z.zid, 1)
    count_numa_event(z, NUMA_HIT if z.nid == nid else NUMA_MISS, 1)
    count_numa_event(z, NUMA_LOCAL if z.nid == s.cpu_node[cpu] else NUMA_OTHER, 1)
    VM_BUG_ON(s, s.page[pfn].refcount != 0, BUG_PAGE_REFCOUNT, pfn)
    s.page[pfn].refcount = 1
    s.page[pfn].flags = z.page_bits | PG_order_known
    return pfn


cdef uint64_t policy_nodemask(const MMState *s, uint32_t gfp, int32_t highest_zoneidx, int32_t cpu) noexcept nogil:
    """Nodes that the task's policy allows for this mask; a BIND that names no zone of the request is ignored."""
    cdef const task_context *current = &s.current[cpu]
    cdef int32_t nid
    if current.mpol_mode != MPOL_BIND:
        return NODEMASK_ALL
    for nid in range(s.g.nr_nodes):
        if (current.mpol_nodes >> nid) & 1 and s.zones[s.zonelists[(nid * 2 + 1) * (s.g.nr_zones + 1)]].zid >= 0:
            if lowest_zone(s, nid) <= highest_zoneidx:
                return current.mpol_nodes
    return NODEMASK_ALL


cdef int32_t lowest_zone(const MMState *s, int32_t nid) noexcept nogil:
    cdef int32_t zid
    for zid in range(MAX_NR_ZONES):
        if s.zones[nid * MAX_NR_ZONES + zid].managed_pages:
            return zid
    return MAX_NR_ZONES


cdef int32_t interleave_next(const MMState *s, task_context *current) noexcept nogil:
    """Next node of the task's interleave set."""
    cdef int32_t i, nid
    for i in range(1, s.g.nr_nodes + 1):
        nid = (current.il_prev + i) % s.g.nr_nodes
        if (current.mpol_nodes >> nid) & 1:
            current.il_prev = nid
            return nid
    return -1


cdef int32_t nearest_node(const MMState *s, int32_t nid, uint64_t nodes) noexcept nogil:
    """The node of the set that the fallback list of `nid` names first."""
    cdef int32_t i = 0
    cdef const int32_t *zonelist = &s.zonelists[nid * 2 * (s.g.nr_zones + 1)]
    while zonelist[i] >= 0:
        if (nodes >> s.zones[zonelist[i]].nid) & 1:
            return s.zones[zonelist[i]].nid
        i += 1
    return nid


cdef uint32_t alloc_pages_policy(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, int32_t cpu) noexcept nogil:
    """`alloc_pages` of a task with a memory policy: the policy chooses the preferred node and the nodemask."""
    cdef task_context *current = &s.current[cpu]
    cdef uint32_t pfn
    cdef int32_t mode = current.mpol_mode
    if current.flags & PF_INTERRUPT or gfp & __GFP_THISNODE:
        mode = MPOL_DEFAULT
    if mode == MPOL_INTERLEAVE and current.mpol_nodes:
        nid = interleave_next(s, current)
        pfn = alloc_pages_nodemask(s, gfp, order, nid, NODEMASK_ALL, cpu)
        if pfn != PFN_NONE and s.zones[(s.page[pfn].flags & PG_ZONE_MASK) >> PG_ZONE_SHIFT].nid == nid:
            count_numa_event(&s.zones[(s.page[pfn].flags & PG_ZONE_MASK) >> PG_ZONE_SHIFT], NUMA_INTERLEAVE, 1)
        return pfn
    if mode == MPOL_PREFERRED and current.mpol_nodes:
        return alloc_pages_nodemask(s, gfp, order, nearest_node(s, nid, current.mpol_nodes), NODEMASK_ALL, cpu)
    if mode == MPOL_PREFERRED_MANY and current.mpol_nodes:
        pfn = alloc_pages_nodemask(s, (gfp | __GFP_NOWARN) & ~<uint32_t>(__GFP_DIRECT_RECLAIM | __GFP_NOFAIL), order,
                                   nid, current.mpol_nodes, cpu)
        if pfn != PFN_NONE:
            return pfn
        return alloc_pages_nodemask(s, gfp, order, nid, NODEMASK_ALL, cpu)
    if mode == MPOL_BIND:
        return alloc_pages_nodemask(s, gfp, order, nid, policy_nodemask(s, gfp, gfp_zone(gfp), cpu), cpu)
    return alloc_pages_nodemask(s, gfp, order, nid, NODEMASK_ALL, cpu)


cdef public uint32_t alloc_pages "mm_alloc_pages"(MMState *s, uint32_t gfp, uint32_t order, int32_t nid,
                                                  int32_t cpu) noexcept nogil:
    """First PFN of 2^order pages near node `nid` (-1: the CPU's own, by the task's policy), PFN_NONE if it fails."""
    cdef uint32_t pfn
    cdef int32_t node = s.cpu_node[cpu] if nid < 0 else nid
    if likely(s.current[cpu].is_plain != 0):
        if order == 0:
            pfn = alloc_page_fast(s, gfp, node, cpu)
            if likely(pfn != PFN_NONE):
                return pfn
        return alloc_pages_nodemask(s, gfp, order, node, NODEMASK_ALL, cpu)
    if nid < 0:
        return alloc_pages_policy(s, gfp, order, node, cpu)
    return alloc_pages_nodemask(s, gfp, order, node, NODEMASK_ALL, cpu)


cdef zone *bulk_zone(MMState *s, uint32_t gfp, uint32_t nr_pages, uint32_t alloc_flags,
                     const alloc_context *ac) noexcept nogil:
    """First allowed zone of the local node whose mark + nr_pages holds; NULL if none."""
    cdef int32_t i = ac.preferred
    cdef zone *z
    cdef int64_t mark
    if i < 0:
        return NULL
    while ac.zonelist[i] >= 0:
        z = &s.zones[ac.zonelist[i]]
        i += 1
        if z.zid > ac.highest_zoneidx or not (ac.nodemask >> z.nid) & 1:
            continue
        if s.g.is_cpusets_enabled and alloc_flags & ALLOC_CPUSET and not cpuset_zone_allowed(s, z, gfp, ac.cpu):
            continue
        if s.g.nr_online_nodes > 1 and z.nid != s.zones[ac.preferred_zone].nid:
            return NULL
        mark = wmark_pages(z, alloc_flags & ALLOC_WMARK_MASK) + nr_pages
        if zone_watermark_fast(s, z, 0, mark, s.zones[ac.preferred_zone].zid, alloc_flags, gfp):
            return z
    return NULL


cdef public uint32_t alloc_pages_bulk "mm_alloc_pages_bulk"(
        MMState *s, uint32_t gfp, int32_t nid, uint32_t nr_pages, int32_t cpu, uint32_t *pfns) noexcept nogil:
    """`alloc_pages_bulk_array`: up to `nr_pages` order-0 pages from one pcp list.  Returns how many came."""
    cdef alloc_context ac
    cdef uint32_t alloc_flags = ALLOC_WMARK_LOW
    cdef uint32_t n = 0
    cdef uint32_t pfn, bulk_gfp
    cdef zone *z = NULL
    cdef per_cpu_pages *pcp
    if nr_pages == 0:
        return 0
    if nid < 0:
        nid = s.cpu_node[cpu]
    if nr_pages > 1:
        bulk_gfp = prepare_alloc_pages(s, gfp & s.g.gfp_allowed_mask, nid, NODEMASK_ALL, cpu, &ac, &alloc_flags)
        z = bulk_zone(s, bulk_gfp, nr_pages, alloc_flags, &ac)
    if z != NULL:
        s.g.step += 1
        pcp = zone_pcp(s, <int32_t>(z - s.zones), cpu)
        while n < nr_pages:
            pfn = __rmqueue_pcplist(s, z, pcp, 0, ac.migratetype, alloc_flags)
            if pfn == PFN_NONE:
                break
            s.page[pfn].refcount = 1
            s.page[pfn].flags = z.page_bits | PG_order_known
            pfns[n] = pfn
            n += 1
        if n:
            count_vm_events(s, cpu, PGALLOC_DMA + z.zid, n)
            zone_statistics(s, &ac, z, n)
            return n
    pfn = alloc_pages_nodemask(s, gfp, 0, nid, NODEMASK_ALL, cpu)
    if pfn == PFN_NONE:
        return 0
    pfns[0] = pfn
    return 1


cdef inline void prep_compound_page(MMState *s, uint32_t pfn, uint32_t order) noexcept nogil:
    cdef uint32_t i
    cdef uint32_t plain = s.page[pfn].flags & (PG_ZONE_MASK | PG_valid)
    s.page[pfn].flags |= PG_head
    for i in range(pfn + 1, pfn + (<uint32_t>1 << order)):
        s.page[i].next = pfn
        s.page[i].flags = plain | PG_tail


cdef public void prep_new_page "mm_prep_new_page"(MMState *s, uint32_t pfn, uint32_t order, uint32_t gfp,
                                                  uint32_t alloc_flags) noexcept nogil:
    """Hand a block over: one reference on the first page, head and tail marks for __GFP_COMP."""
    cdef page_hot *page = &s.page[pfn]
    VM_BUG_ON(s, page.refcount != 0, BUG_PAGE_REFCOUNT, pfn)
    page.flags = (page.flags & (PG_ZONE_MASK | PG_valid)) | PG_order_known | order
    set_page_refcounted(s.page, pfn)
    if order and gfp & __GFP_COMP:
        prep_compound_page(s, pfn, order)
    if unlikely(alloc_flags & ALLOC_NO_WATERMARKS):
        page.flags |= PG_pfmemalloc


# ----------------------------------------------------------------------------------------------------------- free

cdef inline void destroy_compound(MMState *s, uint32_t pfn, uint32_t order) noexcept nogil:
    cdef uint32_t i
    cdef uint32_t plain = s.page[pfn].flags & (PG_ZONE_MASK | PG_valid)
    for i in range(pfn + 1, pfn + (<uint32_t>1 << order)):
        s.page[i].flags = plain


cdef public void free_one_page "mm_free_one_page"(MMState *s, uint32_t pfn, uint32_t order, int32_t mt, int32_t cpu,
                                                  bint to_tail) noexcept nogil:
    """Free straight to buddy."""
    cdef int32_t nr = <int32_t>((s.page[pfn].flags & PG_ZONE_MASK) >> PG_ZONE_SHIFT)
    cdef zone *z = &s.zones[nr]
    if unlikely(z.nr_isolate_pageblock != 0 or mt == MIGRATE_ISOLATE):
        mt = get_pageblock_migratetype(s, pfn)
    count_zone_event(z, BUDDY_FREE, 1)
    __free_one_page(s, z, zone_pcp(s, nr, cpu), pfn, order, mt, to_tail)


cdef inline void free_the_page(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil:
    """A block whose last reference is gone: to its pcp list, or to buddy where none takes it."""
    cdef int32_t mt = get_pageblock_migratetype(s, pfn)
    cdef int32_t nr = <int32_t>((s.page[pfn].flags & PG_ZONE_MASK) >> PG_ZONE_SHIFT)
    if unlikely(s.page[pfn].flags & PG_head):
        destroy_compound(s, pfn, order)
    if likely(pcp_allowed_order(s, order)):
        if unlikely(mt == MIGRATE_ISOLATE):
            free_one_page(s, pfn, order, mt, cpu, False)
        else:
            free_unref_page_commit(s, &s.zones[nr], zone_pcp(s, nr, cpu), pfn, mt, order, cpu)
        return
    free_one_page(s, pfn, order, mt, cpu, False)
    count_vm_events(s, cpu, PGFREE, <int64_t>1 << order)


cdef public int32_t free_pages_check "mm_free_pages_check"(const MMState *s, uint32_t pfn,
                                                           uint32_t order) noexcept nogil:
    """May this block be freed?  FREE_OK, or why not; looks at one cache line."""
    cdef uint32_t flags
    if unlikely(pfn >= s.g.nr_pages):
        return FREE_BAD_PFN
    flags = s.page[pfn].flags
    if likely(s.page[pfn].refcount > 0 and (flags & FREE_CHECK_MASK) == (PG_valid | PG_order_known | order)):
        return FREE_OK
    if not flags & PG_valid:
        return FREE_HOLE
    if flags & PG_reserved:
        return FREE_RESERVED
    if flags & PG_tail:
        return FREE_TAIL
    if flags & (PG_buddy | PG_pcp) or s.page[pfn].refcount <= 0:
        return FREE_NOT_ALLOCATED
    if flags & PG_cold:
        return FREE_COLD
    if flags & PG_order_known:
        return FREE_WRONG_ORDER
    if pfn & ((<uint32_t>1 << order) - 1):
        return FREE_UNALIGNED
    return tail_pages_check(s, pfn, order)


cdef int32_t tail_pages_check(const MMState *s, uint32_t pfn, uint32_t order) noexcept nogil:
    """A block whose order nobody recorded: no page behind the first may be free, foreign or absent."""
    cdef uint32_t i
    for i in range(pfn + 1, pfn + (<uint32_t>1 << order)):
        if (s.page[i].flags & (PG_valid | PG_buddy | PG_pcp | PG_reserved | PG_order_known)) != PG_valid:
            return FREE_BAD_TAIL
        if (s.page[i].flags ^ s.page[pfn].flags) & PG_ZONE_MASK:
            return FREE_BAD_TAIL
    return FREE_OK


cdef void forget_tails(MMState *s, uint32_t pfn, uint32_t order) noexcept nogil:
    """Tail pages of a block that was allocated before the machine's start state: to the state of free pages."""
    cdef uint32_t i
    s.g.nr_order_unknown += 1
    for i in range(pfn + 1, pfn + (<uint32_t>1 << order)):
        s.page[i].flags &= PG_ZONE_MASK | PG_valid
        s.page[i].refcount = 0


cdef public void free_pages "mm_free_pages"(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil:
    """`__free_pages`: drop a reference of a block that free_pages_check accepts; free it with the last one."""
    cdef bint is_head = (s.page[pfn].flags & PG_head) != 0
    s.g.step += 1
    if unlikely(not s.page[pfn].flags & PG_order_known and order):
        forget_tails(s, pfn, order)
    if likely(put_page_testzero(s.page, pfn)):
        free_the_page(s, pfn, order, cpu)
    elif not is_head:
        while order > 0:
            order -= 1
            free_the_page(s, pfn + (<uint32_t>1 << order), order, cpu)


cdef public void free_unref_page_list "mm_free_unref_page_list"(MMState *s, const uint32_t *pfns, uint32_t nr,
                                                                int32_t cpu) noexcept nogil:
    """Free order-0 pages without references in list order; those of isolated pageblocks first, to buddy."""
    cdef uint32_t i
    s.g.step += 1
    for i in range(nr):
        if unlikely(get_pageblock_migratetype(s, pfns[i]) == MIGRATE_ISOLATE):
            free_one_page(s, pfns[i], 0, MIGRATE_ISOLATE, cpu, False)
    for i in range(nr):
        if not s.page[pfns[i]].flags & PG_buddy:
            free_the_page(s, pfns[i], 0, cpu)


cdef public void split_page "mm_split_page"(MMState *s, uint32_t pfn, uint32_t order) noexcept nogil:
    """Make an allocated block that is not compound into 2^order pages, each with a reference of its own."""
    cdef uint32_t i
    cdef uint32_t flags = (s.page[pfn].flags & (PG_ZONE_MASK | PG_valid)) | PG_order_known
    for i in range(pfn, pfn + (<uint32_t>1 << order)):
        s.page[i].flags = flags
        if i != pfn:
            set_page_refcounted(s.page, i)
