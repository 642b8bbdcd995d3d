"""The front door: order-0 requests and frees that a per-cpu list settles; all others go the long way.

Linux: mm/page_alloc.c; the same steps as `get_page_from_freelist` and `free_unref_page` in the case that needs none of
their loops.  What the two paths read is derived beforehand (refresh_zone, refresh_fast_requests), what they count is
folded into the counters when somebody looks (fold_counters).  They stand in a module of their own so that the compiler
keeps them free of the long way's registers and stack.
Invariant: a fast path that refuses has changed nothing.  Cost: the page's line and its list neighbour's.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t

from mm._fast.core cimport mm_alloc_page_local, mm_alloc_pages_long, mm_try_free_pages_long
from mm._fast.debug cimport likely, unlikely, VM_BUG_ON
from mm._fast.physical.gfp_zone cimport gfp_migratetype, gfp_zone
from mm._fast.state cimport (BUG_PAGE_REFCOUNT, FAST_FREE, fast_request, FAST_REQUEST_MASK, FREE_OK, MAX_NR_ZONES,
                             MIGRATE_RECLAIMABLE, MMState, NR_FAST_REQUESTS, page_hot, pageblock_order, per_cpu_pages,
                             PFN_NONE, PG_MT_MASK, PG_MT_SHIFT, PG_order_known, PG_pcp, PG_valid, PG_ZONE_MASK,
                             PG_ZONE_SHIFT, WMARK_LOW, zone, ZONE_BOOSTED_WATERMARK, ZONE_MOVABLE, ZONE_RECLAIM_ACTIVE)
from mm._fast.vm_event_item cimport NUMA_HIT, NUMA_LOCAL, NUMA_OTHER, PCP_HIT, PGALLOC_DMA, PGFREE
from mm._fast.vmstat cimport count_numa_event, count_vm_events, count_zone_event, wmark_pages, zone_pcp


cdef public void refresh_zone "mm_refresh_zone"(MMState *s, int32_t nr) noexcept nogil:
    """Derive fast_mark and the pcp limits from the zone's marks, boost, reserves and flags.

    To be called by whoever changes one of these.
    """
    cdef zone *z = &s.zones[nr]
    cdef per_cpu_pages *pcp
    cdef int32_t i
    for i in range(MAX_NR_ZONES):
        z.fast_mark[i] = wmark_pages(z, WMARK_LOW) + z.lowmem_reserve[i] + z.nr_reserved_highatomic
        if z.flags & ZONE_BOOSTED_WATERMARK:
            z.fast_mark[i] = INT64_MAX
    for i in range(s.g.nr_cpus):
        pcp = zone_pcp(s, nr, i)
        pcp.limit = pcp.high
        if s.g.is_pcp_disabled:
            pcp.limit = 0
        elif z.flags & ZONE_RECLAIM_ACTIVE:
            pcp.limit = min(pcp.batch << 2, pcp.high)


cdef public void refresh_fast_requests "mm_refresh_fast_requests"(MMState *s) noexcept nogil:
    """Rebuild the table of alloc_page_fast; called when zonelists or the rights of a CPU's task change."""
    cdef int32_t cpu, bits, nr
    cdef fast_request *f
    for cpu in range(s.g.nr_cpus):
        s.fast[cpu * NR_FAST_REQUESTS + FAST_FREE].page_bits = PFN_NONE    # no such bits
        for bits in range(FAST_REQUEST_MASK + 1):
            f = &s.fast[cpu * NR_FAST_REQUESTS + bits]
            f.pcp = NULL
            if not s.current[cpu].is_plain or gfp_zone(bits) > ZONE_MOVABLE or gfp_migratetype(bits) > MIGRATE_RECLAIMABLE:
                continue
            nr = s.first_zone[s.cpu_node[cpu] * MAX_NR_ZONES + gfp_zone(bits)]
            if nr < 0 or s.zones[nr].nid != s.cpu_node[cpu] or s.ops.node_dirty_ok != NULL:
                continue
            f.free_pages = s.zones[nr].vm_stat
            f.mark = &s.zones[nr].fast_mark[gfp_zone(bits)]
            f.pcp = zone_pcp(s, nr, cpu)
            f.head = f.pcp.first_list + <uint32_t>gfp_migratetype(bits)
            f.page_bits = s.zones[nr].page_bits | PG_order_known


cdef public void fold_counters "mm_fold_counters"(MMState *s) noexcept nogil:
    """Move what the fast paths counted to the events and NUMA counters that reports read."""
    cdef int32_t nr, cpu
    cdef per_cpu_pages *pcp
    cdef zone *z
    for nr in range(s.g.nr_zones):
        z = &s.zones[nr]
        for cpu in range(s.g.nr_cpus):
            pcp = zone_pcp(s, nr, cpu)
            count_vm_events(s, cpu, PGALLOC_DMA + z.zid, pcp.nr_alloc)
            count_numa_event(z, NUMA_HIT, pcp.nr_alloc)
            count_numa_event(z, NUMA_LOCAL if z.nid == s.cpu_node[cpu] else NUMA_OTHER, pcp.nr_alloc)
            count_zone_event(z, PCP_HIT, pcp.nr_alloc)
            count_vm_events(s, cpu, PGFREE, pcp.nr_free)
            pcp.nr_alloc = 0
            pcp.nr_free = 0


cdef public uint32_t alloc_pages "mm_alloc_pages"(MMState *s, uint32_t gfp, uint32_t order, int32_t nid,
                                                  int32_t cpu) noexcept nogil:
    """First PFN of 2^order pages near node `nid` (-1: the CPU's own, by the task's policy), PFN_NONE if it fails.

    Fast path: an order-0 request that the pcp list of its first zone can serve above the low mark takes the same steps
    as `get_page_from_freelist`, in the case that needs none of its loops.
    """
    cdef fast_request *f = &s.fast[<uint32_t>cpu * NR_FAST_REQUESTS + (gfp & FAST_REQUEST_MASK)]
    cdef page_hot *p = s.page
    cdef per_cpu_pages *pcp = f.pcp
    cdef uint32_t head, pfn, nxt
    if unlikely(order != 0 or nid >= 0):
        return mm_alloc_pages_long(s, gfp, order, nid, cpu)
    head = f.head
    if unlikely(pcp == NULL):
        return mm_alloc_page_local(s, gfp, cpu)
    pfn = p[head].next
    if unlikely(pfn == head or f.free_pages[0] <= f.mark[0]):
        return mm_alloc_page_local(s, gfp, cpu)
    nxt = p[pfn].next
    p[head].next = nxt
    p[nxt].prev = head
    pcp.free_factor >>= 1
    pcp.count -= 1
    pcp.nr_alloc += 1
    VM_BUG_ON(s, p[pfn].refcount != 0, BUG_PAGE_REFCOUNT, pfn)
    p[pfn].refcount = 1
    p[pfn].flags = f.page_bits
    return pfn


cdef inline bint free_page_fast(MMState *s, uint32_t pfn, int32_t cpu) noexcept nogil:
    """Free an order-0 page that this machine allocated and that fits on its pcp list; False: go the long way.

    Zone and type come from the pageblock, and their list from the CPU's last fast free if that had the same: then no
    address waits for a load that depends on the page.
    """
    cdef page_hot *p = s.page
    cdef fast_request *f = &s.fast[<uint32_t>cpu * NR_FAST_REQUESTS + FAST_FREE]
    cdef uint32_t bits = s.pageblock_bits[pfn >> pageblock_order]
    cdef uint32_t head, nxt
    cdef int32_t count
    if unlikely(f.page_bits != bits):
        if not bits & PG_pcp:
            return False
        f.page_bits = bits
        f.pcp = zone_pcp(s, <int32_t>((bits & PG_ZONE_MASK) >> PG_ZONE_SHIFT), cpu)
        f.head = f.pcp.first_list + ((bits & PG_MT_MASK) >> PG_MT_SHIFT)
    count = f.pcp.count + 1
    if unlikely(p[pfn].flags != ((bits & (PG_ZONE_MASK | PG_valid)) | PG_order_known) or p[pfn].refcount != 1
                or count >= f.pcp.limit):
        return False
    head = f.head
    nxt = p[head].next
    p[pfn].refcount = 0
    p[pfn].flags = bits
    p[pfn].next = nxt
    p[pfn].prev = head
    p[nxt].prev = pfn
    p[head].next = pfn
    f.pcp.count = count
    f.pcp.nr_free += 1
    return True


cdef public int32_t try_free_pages "mm_try_free_pages"(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil:
    """`__free_pages` behind its checks: FREE_OK, or why nothing was done."""
    if likely(order == 0 and pfn < s.g.nr_pages) and likely(free_page_fast(s, pfn, cpu)):
        return FREE_OK
    return mm_try_free_pages_long(s, pfn, order, cpu)
