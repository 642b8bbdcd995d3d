"""The page allocator: refill of per-cpu lists, watermarks, the walk over zones, one request.

Linux: mm/page_alloc.c of 6.1.192 (`rmqueue`, `get_page_from_freelist`, `__alloc_pages`, `__alloc_pages_bulk`).
Its other parts: front door and fast path front.pyx, slow path alloc_slowpath.pyx, fallback fallback.pyx, free
page_free.pyx, isolation and contiguous ranges page_isolation.pyx, free lists buddy.pxd.
Not modelled: lock contention, KASAN, CMA (absent from the reference configuration), deferred init.
Invariants: buddy.pxd's; per_cpu_pages.count is the pages on its lists; a page on a pcp list has PG_pcp, its order
and the type it returns to.  Cost: a refill is bounded by pcp batch, the walk by the zonelist.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from mm._fast.core cimport (mm_alloc_pages_slowpath, mm_refresh_zone, mm_reserve_highatomic_pageblock,
                            mm_rmqueue_fallback, mm_slowpath_alloc_flags)
from mm._fast.debug cimport ctz, likely, unlikely, VM_BUG_ON
from mm._fast.gfp cimport (__GFP_ATOMIC, __GFP_COMP, __GFP_FS, __GFP_HARDWALL, __GFP_IO, __GFP_KSWAPD_RECLAIM,
                           __GFP_MOVABLE, __GFP_THISNODE, __GFP_WRITE, ALLOC_CPUSET, alloc_flags, ALLOC_HIGHATOMIC,
                           ALLOC_MIN_RESERVE, ALLOC_NO_WATERMARKS, ALLOC_NOFRAGMENT, ALLOC_NON_BLOCK, ALLOC_OOM,
                           ALLOC_RESERVES, ALLOC_WMARK_LOW, ALLOC_WMARK_MASK)
from mm._fast.page_list cimport list_del, list_empty
from mm._fast.page_ref cimport set_page_refcounted
from mm._fast.physical.buddy cimport __rmqueue_smallest, add_to_free_list, del_page_from_free_list, free_list
from mm._fast.physical.gfp_zone cimport gfp_migratetype, gfp_zone
from mm._fast.physical.pcp cimport order_to_pindex, pcp_allowed_order
from mm._fast.state cimport (alloc_context, BUG_PAGE_REFCOUNT, MAX_ORDER, MIGRATE_HIGHATOMIC, MIGRATE_PCPTYPES,
                             MIGRATE_TYPES, MIGRATE_UNMOVABLE, MMState, NODE_RECLAIM_SOME, NODEMASK_ALL,
                             OP_NODE_RECLAIM, OP_WAKEUP_KSWAPD, page_hot, per_cpu_pages, PF_INTERRUPT, PF_MEMALLOC_NOFS,
                             PF_MEMALLOC_NOIO, PF_MEMALLOC_PIN, PF_OOM_VICTIM, PFN_NONE, PG_head, PG_MT_SHIFT,
                             PG_order_known, PG_pcp, PG_pfmemalloc, PG_tail, PG_valid, PG_ZONE_MASK, task_context,
                             WMARK_LOW, WMARK_MIN, zone, ZONE_BOOSTED_WATERMARK, ZONE_NORMAL)
from mm._fast.vm_event_item cimport (ALLOC_FALLBACK, ALLOC_SLOW, ALLOC_SLOW_HIT, BUDDY_ALLOC, EXTFRAG, NR_FREE_PAGES,
                                     NUMA_FOREIGN, NUMA_HIT, NUMA_LOCAL, NUMA_MISS, NUMA_OTHER, PCP_HIT, PCP_REFILL,
                                     PCP_REFILL_PAGES, PGALLOC_DMA, WMARK_HIGH_FAIL, WMARK_LOW_FAIL, WMARK_MIN_FAIL)
from mm._fast.vmstat cimport (count_numa_event, count_op_call, count_vm_events, count_zone_event, mod_zone_page_state,
                              wmark_pages, zone_event, zone_free_pages, zone_pcp, zone_watermark)


cdef enum:
    RECLAIM_DISTANCE = 30           # node_reclaim looks no farther


cdef inline uint32_t __rmqueue(MMState *s, zone *z, uint32_t order, int32_t mt, uint32_t alloc_flags) noexcept nogil:
    cdef uint32_t pfn = __rmqueue_smallest(s, z, order, mt)
    while unlikely(pfn == PFN_NONE):
        if not mm_rmqueue_fallback(s, z, order, mt, alloc_flags):
            return PFN_NONE
        pfn = __rmqueue_smallest(s, z, order, mt)
    return pfn


cdef inline uint32_t rmqueue_run(MMState *s, zone *z, uint32_t order, uint32_t count, int32_t mt, uint32_t alloc_flags,
                                 uint32_t *n) noexcept nogil:
    """Take up to `count` blocks of one order that lie one behind the other; first PFN, and how many in `n`.

    What as many calls of __rmqueue would take: the smallest sufficient list serves until its first block is used up, in
    address order, since each split puts the next part on lists that were empty.
    """
    cdef page_hot *p = s.page
    cdef uint32_t high = order
    cdef uint32_t head = free_list(z, order, mt)
    cdef uint32_t pfn, pos, part
    while True:
        while high < MAX_ORDER and p[head].next == head:
            high += 1
            head += MIGRATE_TYPES
        if likely(high < MAX_ORDER):
            break
        if not mm_rmqueue_fallback(s, z, order, mt, alloc_flags):
            n[0] = 0
            return PFN_NONE
        high = order
        head = free_list(z, order, mt)
    pfn = p[head].next
    del_page_from_free_list(s, z, pfn, high)
    n[0] = min(count, <uint32_t>1 << (high - order))
    pos = n[0] << order
    while pos < <uint32_t>1 << high:
        part = ctz(pos)
        add_to_free_list(s, z, pfn + pos, part, mt)
        pos += <uint32_t>1 << part
    return pfn


cdef uint32_t rmqueue_bulk(MMState *s, zone *z, per_cpu_pages *pcp, uint32_t order, uint32_t count, uint32_t head,
                           int32_t mt, uint32_t alloc_flags) noexcept nogil:
    """Refill: move up to `count` blocks from buddy to the tail of a pcp list.  Returns how many."""
    cdef page_hot *p = s.page
    cdef uint32_t bits = z.page_bits | PG_pcp | order | (<uint32_t>mt << PG_MT_SHIFT)
    cdef uint32_t i = 0
    cdef uint32_t n, pfn, tail
    while i < count:
        pfn = rmqueue_run(s, z, order, count - i, mt, alloc_flags, &n)
        if unlikely(n == 0):
            break
        i += n
        tail = p[head].prev
        while n > 0:
            p[tail].next = pfn
            p[pfn].prev = tail
            p[pfn].flags = bits
            tail = pfn
            pfn += <uint32_t>1 << order
            n -= 1
        p[tail].next = head
        p[head].prev = tail
    mod_zone_page_state(z, pcp, NR_FREE_PAGES, -(<int64_t>i << order))
    count_zone_event(z, PCP_REFILL, 1)
    count_zone_event(z, PCP_REFILL_PAGES, <int64_t>i << order)
    return i


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


cdef inline void wakeup_kswapd(MMState *s, int32_t zone_nr, uint32_t gfp, uint32_t order,
                               int32_t highest_zoneidx) noexcept nogil:
    if s.ops.wakeup_kswapd != NULL:
        s.ops.wakeup_kswapd(s, zone_nr, gfp, order, highest_zoneidx)
    else:
        count_op_call(s, OP_WAKEUP_KSWAPD, 1)


cdef inline uint32_t rmqueue(MMState *s, zone *z, uint32_t order, uint32_t alloc_flags,
                             const alloc_context *ac) noexcept nogil:
    """Take a block from one zone: per-cpu list, else buddy."""
    cdef uint32_t pfn = PFN_NONE
    cdef per_cpu_pages *pcp
    cdef int64_t hits = zone_event(z, PCP_HIT)
    cdef int64_t thefts = zone_event(z, EXTFRAG)
    if pcp_allowed_order(s, order):
        pcp = zone_pcp(s, <int32_t>(z - s.zones), ac.cpu)
        pcp.free_factor >>= 1
        pfn = __rmqueue_pcplist(s, z, pcp, order, ac.migratetype, alloc_flags)
    if pfn == PFN_NONE:
        pfn = rmqueue_buddy(s, z, order, alloc_flags, ac)
    if pfn != PFN_NONE:
        count_vm_events(s, ac.cpu, PGALLOC_DMA + z.zid, <int64_t>1 << order)
        zone_statistics(s, ac, z, 1)
        if unlikely(alloc_flags & ALLOC_WMARK_MASK != WMARK_LOW):
            count_zone_event(z, ALLOC_SLOW, 1)
            count_zone_event(z, ALLOC_SLOW_HIT, zone_event(z, PCP_HIT) - hits)
        elif unlikely(zone_event(z, EXTFRAG) != thefts):
            count_zone_event(z, ALLOC_FALLBACK, 1)
    if unlikely(z.flags & ZONE_BOOSTED_WATERMARK):
        z.flags &= ~<uint32_t>ZONE_BOOSTED_WATERMARK
        mm_refresh_zone(s, <int32_t>(z - s.zones))
        wakeup_kswapd(s, <int32_t>(z - s.zones), 0, 0, z.zid)
    return pfn


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


cdef inline uint32_t alloc_flags_nofragment(const MMState *s, int32_t zone_nr, uint32_t gfp) noexcept nogil:
    """Mixing types is worse than using DMA32, but only where a DMA32 of the node stands beside Normal."""
    cdef uint32_t flags = gfp & __GFP_KSWAPD_RECLAIM
    if zone_nr < 0 or s.zones[zone_nr].zid != ZONE_NORMAL:
        return flags
    if s.g.nr_online_nodes > 1 and s.zones[zone_nr - 1].present_pages == 0:
        return flags
    return flags | ALLOC_NOFRAGMENT


cdef inline bint cpuset_zone_allowed(const MMState *s, const zone *z, uint32_t gfp, int32_t cpu) noexcept nogil:
    cdef const task_context *current = &s.current[cpu]
    if current.flags & PF_INTERRUPT or current.mems_allowed == 0 or (current.mems_allowed >> z.nid) & 1:
        return True
    return current.flags & PF_OOM_VICTIM or not gfp & __GFP_HARDWALL


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
            mm_reserve_highatomic_pageblock(s, z, pfn)
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
    gfp = current_gfp_context(s, gfp & s.g.gfp_allowed_mask, cpu)
    alloc_gfp = prepare_alloc_pages(s, gfp, nid, nodemask, cpu, &ac, &alloc_flags)
    alloc_flags |= alloc_flags_nofragment(s, ac.preferred_zone, gfp)
    pfn = get_page_from_freelist(s, alloc_gfp, order, alloc_flags, &ac)
    if likely(pfn != PFN_NONE):
        return pfn
    ac.spread_dirty_pages = 0
    ac.nodemask = nodemask
    return mm_alloc_pages_slowpath(s, gfp, order, &ac)


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


cdef uint32_t take_single_pages(MMState *s, zone *z, per_cpu_pages *pcp, int32_t mt, uint32_t alloc_flags,
                                uint32_t nr_pages, uint32_t *pfns) noexcept nogil:
    """Pages from one pcp list as that many __rmqueue_pcplist would give; refills that are used up at once skip the list."""
    cdef page_hot *p = s.page
    cdef uint32_t bits = z.page_bits | PG_order_known
    cdef uint32_t head = pcp.first_list + order_to_pindex(mt, 0)
    cdef uint32_t batch = max(<uint32_t>pcp.batch, <uint32_t>2) if pcp.batch > 1 else 1
    cdef uint32_t n = 0
    cdef uint32_t pfn, run, refill, i
    cdef int64_t thefts
    while n < nr_pages:
        thefts = zone_event(z, EXTFRAG)
        if list_empty(p, head) and nr_pages - n >= batch:
            refill = 0
            while refill < batch:
                pfn = rmqueue_run(s, z, 0, batch - refill, mt, alloc_flags, &run)
                if run == 0:
                    break
                refill += run
                for i in range(run):
                    p[pfn + i].refcount = 1
                    p[pfn + i].flags = bits
                    pfns[n + i] = pfn + i
                n += run
            mod_zone_page_state(z, pcp, NR_FREE_PAGES, -<int64_t>refill)
            count_zone_event(z, PCP_REFILL, 1)
            count_zone_event(z, PCP_REFILL_PAGES, refill)
            if refill == 0:
                break
            count_zone_event(z, PCP_HIT, refill - 1)
            count_zone_event(z, ALLOC_FALLBACK, zone_event(z, EXTFRAG) != thefts)
            continue
        pfn = __rmqueue_pcplist(s, z, pcp, 0, mt, alloc_flags)
        if pfn == PFN_NONE:
            break
        count_zone_event(z, ALLOC_FALLBACK, zone_event(z, EXTFRAG) != thefts)
        p[pfn].refcount = 1
        p[pfn].flags = bits
        pfns[n] = pfn
        n += 1
    return n


cdef public uint32_t alloc_pages_bulk "mm_alloc_pages_bulk"(
        MMState *s, uint32_t gfp, int32_t nid, uint32_t nr_pages, int32_t cpu, uint32_t *pfns) noexcept nogil:
    """`alloc_pages_bulk_array`: up to `nr_pages` order-0 pages from one pcp list.  Returns how many came."""
    cdef alloc_context ac
    cdef uint32_t alloc_flags = ALLOC_WMARK_LOW
    cdef uint32_t n = 0
    cdef uint32_t pfn, bulk_gfp
    cdef zone *z = NULL
    if nr_pages == 0:
        return 0
    if nid < 0:
        nid = s.cpu_node[cpu]
    if nr_pages > 1:
        bulk_gfp = prepare_alloc_pages(s, gfp & s.g.gfp_allowed_mask, nid, NODEMASK_ALL, cpu, &ac, &alloc_flags)
        z = bulk_zone(s, bulk_gfp, nr_pages, alloc_flags, &ac)
    if z != NULL:
        n = take_single_pages(s, z, zone_pcp(s, <int32_t>(z - s.zones), cpu), ac.migratetype, alloc_flags, nr_pages, pfns)
        if n:
            count_vm_events(s, cpu, PGALLOC_DMA + z.zid, n)
            zone_statistics(s, &ac, z, n)
            return n
    pfn = alloc_pages_nodemask(s, gfp, 0, nid, NODEMASK_ALL, cpu)
    if pfn == PFN_NONE:
        return 0
    pfns[0] = pfn
    return 1


cdef public int32_t expected_zone "mm_expected_zone"(MMState *s, uint32_t gfp, uint32_t order, int32_t nid,
                                                    int32_t cpu) noexcept nogil:
    """The zone whose mark a request passes first: the low mark, then what the slow path allows; -1 if none."""
    cdef alloc_context ac
    cdef uint32_t alloc_flags = ALLOC_WMARK_LOW
    cdef int32_t i, attempt
    cdef zone *z
    prepare_alloc_pages(s, gfp, nid, NODEMASK_ALL, cpu, &ac, &alloc_flags)
    for attempt in range(2):
        i = 0
        while ac.zonelist[i] >= 0:
            z = &s.zones[ac.zonelist[i]]
            if z.zid <= ac.highest_zoneidx and zone_watermark_fast(s, z, order, wmark_pages(z, alloc_flags & ALLOC_WMARK_MASK),
                                                                   ac.highest_zoneidx, alloc_flags, gfp):
                return ac.zonelist[i]
            i += 1
        alloc_flags = mm_slowpath_alloc_flags(s, gfp, order, cpu)
    return -1


cdef public uint32_t alloc_in_zone "mm_alloc_in_zone"(MMState *s, int32_t zone_nr, uint32_t gfp, uint32_t order,
                                                     int32_t cpu) noexcept nogil:
    """A block from one zone whatever its marks, with the rights of the slow path."""
    cdef alloc_context ac
    cdef uint32_t alloc_flags = 0
    cdef uint32_t pfn
    prepare_alloc_pages(s, gfp, s.zones[zone_nr].nid, NODEMASK_ALL, cpu, &ac, &alloc_flags)
    if ac.preferred_zone < 0:
        return PFN_NONE
    alloc_flags = mm_slowpath_alloc_flags(s, gfp, order, cpu)
    pfn = rmqueue(s, &s.zones[zone_nr], order, alloc_flags, &ac)
    if pfn != PFN_NONE:
        prep_new_page(s, pfn, order, gfp, alloc_flags)
    return pfn


cdef public uint32_t take_pcp_pages "mm_take_pcp_pages"(MMState *s, zone *z, int32_t mt, uint32_t nr_pages,
                                                       int32_t cpu) noexcept nogil:
    """Order-0 pages from one pcp list as a bulk allocation takes them, whatever the marks; returns how many came."""
    cdef per_cpu_pages *pcp = zone_pcp(s, <int32_t>(z - s.zones), cpu)
    cdef uint32_t n = 0
    cdef uint32_t pfn
    while n < nr_pages:
        pfn = __rmqueue_pcplist(s, z, pcp, 0, mt, ALLOC_WMARK_LOW)
        if pfn == PFN_NONE:
            break
        s.page[pfn].refcount = 1
        s.page[pfn].flags = z.page_bits | PG_order_known
        n += 1
    count_vm_events(s, cpu, PGALLOC_DMA + z.zid, n)
    return n


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
