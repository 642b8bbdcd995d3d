"""The slow path: what a request does when the first walk over the zones found nothing.

Linux: mm/page_alloc.c (`__alloc_pages_slowpath` and what it calls), 6.1.192.
Modelled: reserves, kswapd wake-ups, direct compaction and reclaim with their retry rules, the OOM entry, NOFAIL.
Reclaim, compaction and the OOM killer are called through MMState.ops; where nothing is registered they answer
'no progress' and MMGlobals.nr_op_calls counts the call.
Not modelled: a request that nothing in the machine can help but that may not fail, or whose OOM killer never frees
anything, waits for ever in Linux and fails here after MAX_ROUNDS rounds; races with cpuset and zonelist updates.
Cost: bounded by the retry limits.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t

from mm._fast.core cimport (mm_drain_all_pages, mm_first_zones_zonelist, mm_get_page_from_freelist, mm_prep_new_page,
                            mm_unreserve_highatomic_pageblock, mm_zone_watermark_ok)
from mm._fast.gfp cimport (__GFP_ATOMIC, __GFP_DIRECT_RECLAIM, __GFP_HARDWALL, __GFP_HIGH, __GFP_IO,
                           __GFP_KSWAPD_RECLAIM, __GFP_MEMALLOC, __GFP_NOFAIL, __GFP_NOMEMALLOC, __GFP_NORETRY,
                           __GFP_RETRY_MAYFAIL, __GFP_THISNODE, ALLOC_CPUSET, ALLOC_HIGHATOMIC, ALLOC_KSWAPD,
                           ALLOC_MIN_RESERVE, ALLOC_NO_WATERMARKS, ALLOC_NON_BLOCK, ALLOC_OOM, ALLOC_WMARK_HIGH,
                           ALLOC_WMARK_MIN)
from mm._fast.state cimport (alloc_context, COMPACT_CONTINUE, COMPACT_DEFERRED, COMPACT_NO_SUITABLE_PAGE,
                             COMPACT_NOT_SUITABLE_ZONE, COMPACT_PRIO_ASYNC, COMPACT_PRIO_SYNC_FULL,
                             COMPACT_PRIO_SYNC_LIGHT, COMPACT_SKIPPED, COMPACT_SUCCESS, MIGRATE_MOVABLE, MMState,
                             NODEMASK_ALL, OP_OUT_OF_MEMORY, OP_TRY_TO_COMPACT_PAGES, OP_TRY_TO_FREE_PAGES,
                             OP_WAKEUP_KSWAPD, PAGE_ALLOC_COSTLY_ORDER, PF_DUMPCORE, PF_FATAL_SIGNAL, PF_INTERRUPT,
                             PF_MEMALLOC, PF_OOM_VICTIM, PF_RT, PFN_NONE, WMARK_MIN, zone, ZONE_NORMAL)
from mm._fast.vm_event_item cimport COMPACT_FAIL, COMPACT_STALL, COMPACT_SUCCESS as COMPACT_SUCCESS_EVENT
from mm._fast.vmstat cimport count_op_call, count_vm_events, wmark_pages, zone_free_pages_snapshot

cdef enum:
    MAX_RECLAIM_RETRIES = 16
    MAX_COMPACT_RETRIES = 16
    MAX_ROUNDS = 16384              # a request that would retry for ever gives up here: nothing in this machine can help it

# What the retry rules remember within one request.
cdef struct retry_state:
    int32_t compaction_retries
    int32_t no_progress_loops
    int32_t compact_result
    int32_t compact_priority
    int64_t did_some_progress


cdef uint32_t gfp_to_alloc_flags(const MMState *s, uint32_t gfp, uint32_t order, int32_t cpu) noexcept nogil:
    cdef uint32_t flags = ALLOC_WMARK_MIN | ALLOC_CPUSET | (gfp & (__GFP_HIGH | __GFP_KSWAPD_RECLAIM))
    if not gfp & __GFP_DIRECT_RECLAIM:
        if not gfp & __GFP_NOMEMALLOC:
            flags |= ALLOC_NON_BLOCK
            if order > 0 and flags & ALLOC_MIN_RESERVE:
                flags |= ALLOC_HIGHATOMIC
        if flags & ALLOC_MIN_RESERVE:
            flags &= ~<uint32_t>ALLOC_CPUSET
    elif s.current[cpu].flags & PF_RT and not s.current[cpu].flags & PF_INTERRUPT:
        flags |= ALLOC_MIN_RESERVE
    return flags


cdef public uint32_t slowpath_alloc_flags "mm_slowpath_alloc_flags"(const MMState *s, uint32_t gfp, uint32_t order,
                                                                    int32_t cpu) noexcept nogil:
    return gfp_to_alloc_flags(s, gfp, order, cpu)


cdef uint32_t gfp_pfmemalloc_flags(const MMState *s, uint32_t gfp, int32_t cpu) noexcept nogil:
    """Reserves that override the mask's: all, an OOM victim's part, or none."""
    cdef uint32_t task = s.current[cpu].flags
    if gfp & __GFP_NOMEMALLOC:
        return 0
    if gfp & __GFP_MEMALLOC:
        return ALLOC_NO_WATERMARKS
    if task & PF_INTERRUPT:
        return 0
    if task & PF_MEMALLOC:
        return ALLOC_NO_WATERMARKS
    return ALLOC_OOM if task & PF_OOM_VICTIM else 0


cdef bint compaction_allowed(uint32_t gfp) noexcept nogil:
    """No compaction for callers that may not do I/O."""
    return gfp & __GFP_IO != 0


cdef void wake_all_kswapds(MMState *s, uint32_t order, uint32_t gfp, const alloc_context *ac) noexcept nogil:
    cdef int32_t i = 0
    cdef int32_t last_nid = -1
    cdef const zone *z
    while ac.zonelist[i] >= 0:
        z = &s.zones[ac.zonelist[i]]
        if z.zid <= ac.highest_zoneidx and (ac.nodemask >> z.nid) & 1 and z.managed_pages and z.nid != last_nid:
            last_nid = z.nid
            if s.ops.wakeup_kswapd != NULL:
                s.ops.wakeup_kswapd(s, ac.zonelist[i], gfp, order, ac.highest_zoneidx)
            else:
                count_op_call(s, OP_WAKEUP_KSWAPD, 1)
        i += 1


cdef uint32_t direct_compact(MMState *s, uint32_t gfp, uint32_t order, uint32_t alloc_flags, const alloc_context *ac,
                             retry_state *r, int32_t priority) noexcept nogil:
    """Compact, then try the free lists; counts a stall unless every zone was skipped."""
    cdef uint32_t pfn = PFN_NONE
    if order == 0:
        return PFN_NONE
    if s.ops.try_to_compact_pages == NULL:
        count_op_call(s, OP_TRY_TO_COMPACT_PAGES, 1)
        r.compact_result = COMPACT_SKIPPED
        return PFN_NONE
    r.compact_result = s.ops.try_to_compact_pages(s, ac, order, gfp, alloc_flags, priority, &pfn)
    if r.compact_result == COMPACT_SKIPPED:
        return PFN_NONE
    count_vm_events(s, ac.cpu, COMPACT_STALL, 1)
    if pfn != PFN_NONE:
        mm_prep_new_page(s, pfn, order, gfp, alloc_flags)
    else:
        pfn = mm_get_page_from_freelist(s, gfp, order, alloc_flags, ac)
    count_vm_events(s, ac.cpu, COMPACT_FAIL if pfn == PFN_NONE else COMPACT_SUCCESS_EVENT, 1)
    return pfn


cdef uint32_t direct_reclaim(MMState *s, uint32_t gfp, uint32_t order, uint32_t alloc_flags, const alloc_context *ac,
                             retry_state *r) noexcept nogil:
    """Reclaim; if it freed something, try the free lists, once more after draining what hides pages."""
    cdef uint32_t pfn
    if s.ops.try_to_free_pages == NULL:
        count_op_call(s, OP_TRY_TO_FREE_PAGES, 1)
        r.did_some_progress = 0
        return PFN_NONE
    r.did_some_progress = s.ops.try_to_free_pages(s, ac, order, gfp)
    if r.did_some_progress == 0:
        return PFN_NONE
    pfn = mm_get_page_from_freelist(s, gfp, order, alloc_flags, ac)
    if pfn == PFN_NONE:
        mm_unreserve_highatomic_pageblock(s, ac, False)
        mm_drain_all_pages(s, -1, ac.cpu)
        pfn = mm_get_page_from_freelist(s, gfp, order, alloc_flags, ac)
    return pfn


cdef bint should_reclaim_retry(MMState *s, uint32_t order, uint32_t alloc_flags, const alloc_context *ac,
                               retry_state *r) noexcept nogil:
    """Could the request succeed if all that is reclaimable came back?"""
    cdef int32_t i = 0
    cdef int64_t available
    cdef const zone *z
    if r.did_some_progress > 0 and order <= PAGE_ALLOC_COSTLY_ORDER:
        r.no_progress_loops = 0
    else:
        r.no_progress_loops += 1
    if r.no_progress_loops <= MAX_RECLAIM_RETRIES:
        while ac.zonelist[i] >= 0:
            z = &s.zones[ac.zonelist[i]]
            if z.zid <= ac.highest_zoneidx and (ac.nodemask >> z.nid) & 1:
                available = zone_free_pages_snapshot(s, ac.zonelist[i])
                if s.ops.zone_reclaimable_pages != NULL:
                    available += s.ops.zone_reclaimable_pages(s, ac.zonelist[i])
                if mm_zone_watermark_ok(s, z, order, wmark_pages(z, WMARK_MIN), ac.highest_zoneidx,
                                        alloc_flags, available):
                    return True
            i += 1
    return mm_unreserve_highatomic_pageblock(s, ac, True)


cdef bint should_compact_retry(MMState *s, uint32_t order, uint32_t alloc_flags, const alloc_context *ac,
                               retry_state *r) noexcept nogil:
    cdef int32_t max_retries = MAX_COMPACT_RETRIES
    cdef int32_t min_priority = COMPACT_PRIO_SYNC_FULL
    if order == 0 or s.current[ac.cpu].flags & PF_FATAL_SIGNAL:
        return False
    if order > PAGE_ALLOC_COSTLY_ORDER:
        max_retries //= 4
        min_priority = COMPACT_PRIO_SYNC_LIGHT
    if r.compact_result == COMPACT_SUCCESS:
        r.compaction_retries += 1
    if r.compact_result == COMPACT_SKIPPED:
        return (s.ops.compaction_zonelist_suitable != NULL
                and s.ops.compaction_zonelist_suitable(s, ac, order, alloc_flags) != 0)
    if r.compact_result in (COMPACT_CONTINUE, COMPACT_SUCCESS, COMPACT_NO_SUITABLE_PAGE, COMPACT_NOT_SUITABLE_ZONE):
        if r.compaction_retries <= max_retries:
            return True
    if r.compact_priority > min_priority:
        r.compact_priority -= 1
        r.compaction_retries = 0
        return True
    return False


cdef uint32_t alloc_may_oom(MMState *s, uint32_t gfp, uint32_t order, const alloc_context *ac,
                            retry_state *r) noexcept nogil:
    """One last look above the high mark, then the OOM killer for the requests it may serve."""
    cdef uint32_t pfn
    r.did_some_progress = 0
    pfn = mm_get_page_from_freelist(s, (gfp | __GFP_HARDWALL) & ~<uint32_t>__GFP_DIRECT_RECLAIM, order,
                                    ALLOC_WMARK_HIGH | ALLOC_CPUSET, ac)
    if pfn != PFN_NONE:
        return pfn
    if (s.current[ac.cpu].flags & PF_DUMPCORE or order > PAGE_ALLOC_COSTLY_ORDER
            or gfp & (__GFP_RETRY_MAYFAIL | __GFP_THISNODE) or ac.highest_zoneidx < ZONE_NORMAL):
        return PFN_NONE
    if s.ops.out_of_memory != NULL:
        r.did_some_progress = s.ops.out_of_memory(s, ac, order, gfp)
    else:
        count_op_call(s, OP_OUT_OF_MEMORY, 1)
    if gfp & __GFP_NOFAIL:
        r.did_some_progress = 1
        pfn = cpuset_fallback(s, gfp, order, ALLOC_NO_WATERMARKS, ac)
    return pfn


cdef uint32_t cpuset_fallback(MMState *s, uint32_t gfp, uint32_t order, uint32_t alloc_flags,
                              const alloc_context *ac) noexcept nogil:
    cdef uint32_t pfn = mm_get_page_from_freelist(s, gfp, order, alloc_flags | ALLOC_CPUSET, ac)
    if pfn == PFN_NONE:
        pfn = mm_get_page_from_freelist(s, gfp, order, alloc_flags, ac)
    return pfn


cdef uint32_t reclaim_and_compact(MMState *s, uint32_t gfp, uint32_t order, uint32_t alloc_flags, alloc_context *ac,
                                  retry_state *r, bint *retry) noexcept nogil:
    """Steps 9 to 15 of the slow path: reclaim, compact, decide about another round, OOM."""
    cdef bint costly = order > PAGE_ALLOC_COSTLY_ORDER
    cdef bint can_compact = compaction_allowed(gfp)
    cdef uint32_t pfn
    retry[0] = False
    pfn = direct_reclaim(s, gfp, order, alloc_flags, ac, r)
    if pfn != PFN_NONE:
        return pfn
    pfn = direct_compact(s, gfp, order, alloc_flags, ac, r, r.compact_priority)
    if pfn != PFN_NONE or gfp & __GFP_NORETRY:
        return pfn
    if costly and not (can_compact and gfp & __GFP_RETRY_MAYFAIL):
        return PFN_NONE
    if should_reclaim_retry(s, order, alloc_flags, ac, r):
        retry[0] = True
        return PFN_NONE
    if r.did_some_progress > 0 and can_compact and should_compact_retry(s, order, alloc_flags, ac, r):
        retry[0] = True
        return PFN_NONE
    pfn = alloc_may_oom(s, gfp, order, ac, r)
    if pfn != PFN_NONE:
        return pfn
    if s.current[ac.cpu].flags & PF_OOM_VICTIM and (alloc_flags & ALLOC_OOM or gfp & __GFP_NOMEMALLOC):
        return PFN_NONE
    if r.did_some_progress:
        r.no_progress_loops = 0
        retry[0] = True
    return PFN_NONE


cdef uint32_t early_compact(MMState *s, uint32_t gfp, uint32_t order, uint32_t alloc_flags, const alloc_context *ac,
                            retry_state *r, bint *give_up) noexcept nogil:
    """Costly, and high-order unmovable, requests compact before they reclaim."""
    cdef bint costly = order > PAGE_ALLOC_COSTLY_ORDER
    cdef uint32_t pfn
    give_up[0] = False
    if not (gfp & __GFP_DIRECT_RECLAIM and compaction_allowed(gfp)):
        return PFN_NONE
    if not (costly or (order > 0 and ac.migratetype != MIGRATE_MOVABLE)) or gfp_pfmemalloc_flags(s, gfp, ac.cpu):
        return PFN_NONE
    pfn = direct_compact(s, gfp, order, alloc_flags, ac, r, COMPACT_PRIO_ASYNC)
    if pfn == PFN_NONE and costly and gfp & __GFP_NORETRY:
        give_up[0] = (r.compact_result == COMPACT_SKIPPED or r.compact_result == COMPACT_DEFERRED
                      or gfp & __GFP_THISNODE)
        r.compact_priority = COMPACT_PRIO_ASYNC
    return pfn


cdef public uint32_t alloc_pages_slowpath "mm_alloc_pages_slowpath"(MMState *s, uint32_t gfp, uint32_t order,
                                                                    alloc_context *ac) noexcept nogil:
    """What a request does that the first walk could not serve.  PFN_NONE if it fails."""
    cdef retry_state r
    cdef uint32_t alloc_flags, reserve_flags, pfn
    cdef bint give_up, retry
    cdef int32_t rounds = 0
    if gfp & (__GFP_ATOMIC | __GFP_DIRECT_RECLAIM) == __GFP_ATOMIC | __GFP_DIRECT_RECLAIM:
        gfp &= ~<uint32_t>__GFP_ATOMIC
    r.compaction_retries = 0
    r.no_progress_loops = 0
    r.compact_result = COMPACT_SKIPPED
    r.compact_priority = COMPACT_PRIO_SYNC_LIGHT
    r.did_some_progress = 0
    alloc_flags = gfp_to_alloc_flags(s, gfp, order, ac.cpu)
    mm_first_zones_zonelist(s, ac)
    if ac.preferred < 0:
        return PFN_NONE
    if alloc_flags & ALLOC_KSWAPD:
        wake_all_kswapds(s, order, gfp, ac)
    pfn = mm_get_page_from_freelist(s, gfp, order, alloc_flags, ac)
    if pfn != PFN_NONE:
        return pfn
    pfn = early_compact(s, gfp, order, alloc_flags, ac, &r, &give_up)
    if pfn != PFN_NONE:
        return pfn
    retry = not give_up
    while True:
        while retry:
            retry = False
            if alloc_flags & ALLOC_KSWAPD:
                wake_all_kswapds(s, order, gfp, ac)
            reserve_flags = gfp_pfmemalloc_flags(s, gfp, ac.cpu)
            if reserve_flags:
                alloc_flags = reserve_flags | (alloc_flags & ALLOC_KSWAPD)
            if not alloc_flags & ALLOC_CPUSET or reserve_flags:
                ac.nodemask = NODEMASK_ALL
                mm_first_zones_zonelist(s, ac)
            pfn = mm_get_page_from_freelist(s, gfp, order, alloc_flags, ac)
            if pfn != PFN_NONE:
                return pfn
            if gfp & __GFP_DIRECT_RECLAIM and not s.current[ac.cpu].flags & PF_MEMALLOC:
                pfn = reclaim_and_compact(s, gfp, order, alloc_flags, ac, &r, &retry)
                if pfn != PFN_NONE:
                    return pfn
                rounds += retry
                if rounds > MAX_ROUNDS:
                    return PFN_NONE
        if not gfp & __GFP_NOFAIL or not gfp & __GFP_DIRECT_RECLAIM or rounds > MAX_ROUNDS:
            return PFN_NONE
        pfn = cpuset_fallback(s, gfp, order, ALLOC_MIN_RESERVE, ac)
        if pfn != PFN_NONE:
            return pfn
        rounds += 1
        retry = True
