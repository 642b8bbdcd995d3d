"""Free: checks, per-cpu lists and their drains, straight to buddy, batches, split_page.

Linux: mm/page_alloc.c of 6.1.192 (`__free_pages`, `free_unref_page`, `free_pcppages_bulk`, `free_unref_page_list`).
Modelled: pcp high, batch and free_factor; whole drains on high-order frees; HIGHATOMIC pages on the movable list;
ISOLATE pages past the lists.  Not modelled: lock contention (a trylock always succeeds), poisoning.
Invariant: after a drain per_cpu_pages.count is the pages left on its lists.  Cost: a drain is bounded by pcp high.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t

from mm._fast.debug cimport ctz, fls, likely, prefetchw, unlikely
from mm._fast.page_list cimport list_add, list_del
from mm._fast.page_ref cimport put_page_testzero, set_page_refcounted
from mm._fast.physical.buddy cimport __free_one_page, get_pageblock_migratetype, page_mt, PageBuddy
from mm._fast.physical.pcp cimport order_to_pindex, pcp_allowed_order, pindex_to_order
from mm._fast.state cimport (FREE_BAD_PFN, FREE_BAD_TAIL, FREE_COLD, FREE_HOLE, FREE_NOT_ALLOCATED, FREE_OK,
                             FREE_RESERVED, FREE_TAIL, FREE_UNALIGNED, FREE_WRONG_ORDER, MIGRATE_ISOLATE,
                             MIGRATE_MOVABLE, MIGRATE_PCPTYPES, MMState, NR_PCP_LISTS, PAGE_ALLOC_COSTLY_ORDER,
                             page_hot, pageblock_order, PCP_BATCH_SCALE_MAX, per_cpu_pages, PG_buddy, PG_cold, PG_head,
                             PG_MT_SHIFT, PG_order_known, PG_ORDER_MASK, PG_pcp, PG_reserved, PG_tail, PG_valid,
                             PG_ZONE_MASK, PG_ZONE_SHIFT, zone)
from mm._fast.vm_event_item cimport BUDDY_FREE, NR_FREE_PAGES, PCP_DRAIN, PCP_DRAIN_PAGES, PCP_DRAIN_WHOLE, PGFREE
from mm._fast.vmstat cimport count_vm_events, count_zone_event, mod_zone_page_state, zone_pcp


cdef enum:
    FREE_CHECK_MASK = 0x0100c78f    # PG_valid | PG_cold | PG_tail | PG_reserved | PG_order_known | PG_pcp | PG_buddy | order


cdef inline uint32_t tail_run(const page_hot *p, uint32_t head, uint32_t step, uint32_t limit) noexcept nogil:
    """Blocks at the tail of a list, at most `limit`, that lie one behind the other and return to the same type."""
    cdef uint32_t first = p[head].prev
    cdef uint32_t flags = p[first].flags
    cdef uint32_t last = first
    cdef uint32_t n = 1
    while n < limit and p[last].prev == last + step and p[last + step].flags == flags:
        last += step
        n += 1
    return n


cdef inline void free_run(MMState *s, zone *z, uint32_t pfn, uint32_t n, uint32_t order, int32_t mt) noexcept nogil:
    """Free `n` blocks in a row as the largest aligned blocks: what freeing one after the other merges to.

    No part of an aligned block finds its buddy outside before the block is whole, so the steps between leave no trace.
    """
    cdef uint32_t high, room
    while n > 0:
        room = fls(n)
        high = ctz(pfn | (<uint32_t>1 << pageblock_order)) - order
        if high > room:
            high = room
        __free_one_page(s, z, pfn, order + high, mt, False)
        pfn += <uint32_t>1 << (order + high)
        n -= <uint32_t>1 << high


cdef void free_pcppages_bulk(MMState *s, zone *z, per_cpu_pages *pcp, per_cpu_pages *stat_cpu, int32_t count,
                             uint32_t pindex) noexcept nogil:
    """Drain about `count` pages to buddy: list `pindex` from its tail until empty, then the next list, round.

    NR_FREE_PAGES is folded in block by block, as mod_zone_page_state does.
    """
    cdef page_hot *p = s.page
    cdef uint32_t head, pfn, order, step, n, i
    cdef int32_t mt
    cdef int32_t left = count if count < pcp.count else pcp.count
    cdef int32_t drained = 0
    cdef uint32_t bits = z.page_bits
    while drained < left:
        head = pcp.first_list + pindex
        order = pindex_to_order(pindex)
        step = <uint32_t>1 << order
        while drained < left and p[head].prev != head:
            pfn = p[head].prev
            mt = page_mt(p, pfn)
            if p[pfn].prev != pfn + step and likely(z.nr_isolate_pageblock == 0):
                prefetchw(&s.buddy[p[pfn].prev])
                list_del(p, pfn)
                drained += <int32_t>step
                mod_zone_page_state(z, stat_cpu, NR_FREE_PAGES, step)
                __free_one_page(s, z, pfn, order, mt, False)
                continue
            n = 1
            if z.nr_isolate_pageblock == 0:
                n = tail_run(p, head, step, <uint32_t>(left - drained + <int32_t>step - 1) >> order)
            drained += <int32_t>(n << order)
            p[head].prev = p[pfn + (n - 1) * step].prev
            p[p[head].prev].next = head
            for i in range(n):
                p[pfn + i * step].flags = bits
            if unlikely(z.nr_isolate_pageblock != 0):
                mt = get_pageblock_migratetype(s, pfn)
            if likely(mt != MIGRATE_ISOLATE):
                for i in range(n):
                    mod_zone_page_state(z, stat_cpu, NR_FREE_PAGES, step)
            free_run(s, z, pfn, n, order, mt)
        pindex += 1
        if pindex == NR_PCP_LISTS:
            pindex = 0
    pcp.count -= drained
    count_zone_event(z, PCP_DRAIN, 1)
    count_zone_event(z, PCP_DRAIN_PAGES, drained)


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


cdef inline void free_unref_page_commit(MMState *s, zone *z, per_cpu_pages *pcp, uint32_t pfn, int32_t block_mt,
                                        uint32_t order, int32_t cpu) noexcept nogil:
    """Put a block on its pcp list (HIGHATOMIC ones on the movable list); drain if the lists are full."""
    cdef int32_t list_mt = block_mt if block_mt < MIGRATE_PCPTYPES else MIGRATE_MOVABLE
    cdef uint32_t pindex = order_to_pindex(list_mt, order)
    count_vm_events(s, cpu, PGFREE, <int64_t>1 << order)
    s.page[pfn].flags = z.page_bits | PG_pcp | order | (<uint32_t>block_mt << PG_MT_SHIFT)
    list_add(s.page, pcp.first_list + pindex, pfn)
    pcp.count += <int32_t>1 << order
    if unlikely(pcp.free_factor != 0 and order != 0 and order <= PAGE_ALLOC_COSTLY_ORDER):
        count_zone_event(z, PCP_DRAIN_WHOLE, 1)
        free_pcppages_bulk(s, z, pcp, pcp, pcp.count, pindex)
    elif unlikely(pcp.count >= pcp.limit):
        free_pcppages_bulk(s, z, pcp, pcp, nr_pcp_free(pcp, pcp.limit, pcp.batch), pindex)


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
    if likely(mt != MIGRATE_ISOLATE):
        mod_zone_page_state(z, zone_pcp(s, nr, cpu), NR_FREE_PAGES, <int64_t>1 << order)
    __free_one_page(s, z, pfn, order, mt, to_tail)


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
    if unlikely(not s.page[pfn].flags & PG_order_known and order):
        forget_tails(s, pfn, order)
    if likely(put_page_testzero(s.page, pfn)):
        free_the_page(s, pfn, order, cpu)
    elif not is_head:
        s.page[pfn].flags &= ~<uint32_t>PG_ORDER_MASK       # the first page alone is left to whoever holds it
        while order > 0:
            order -= 1
            free_the_page(s, pfn + (<uint32_t>1 << order), order, cpu)


cdef public int32_t try_free_pages_long "mm_try_free_pages_long"(MMState *s, uint32_t pfn, uint32_t order,
                                                                int32_t cpu) noexcept nogil:
    """`__free_pages` behind its checks, past the fast path."""
    cdef int32_t why = free_pages_check(s, pfn, order)
    if likely(why == FREE_OK):
        free_pages(s, pfn, order, cpu)
    return why


cdef public void free_unref_page_list "mm_free_unref_page_list"(MMState *s, const uint32_t *pfns, uint32_t nr,
                                                                int32_t cpu) noexcept nogil:
    """Free order-0 pages without references in list order; those of isolated pageblocks first, to buddy."""
    cdef uint32_t i
    for i in range(nr):
        if unlikely(get_pageblock_migratetype(s, pfns[i]) == MIGRATE_ISOLATE):
            free_one_page(s, pfns[i], 0, MIGRATE_ISOLATE, cpu, False)
    for i in range(nr):
        if not PageBuddy(s, pfns[i]):
            free_the_page(s, pfns[i], 0, cpu)


cdef public void split_page "mm_split_page"(MMState *s, uint32_t pfn, uint32_t order) noexcept nogil:
    """Make an allocated block that is not compound into 2^order pages, each with a reference of its own."""
    cdef uint32_t i
    cdef uint32_t flags = (s.page[pfn].flags & (PG_ZONE_MASK | PG_valid)) | PG_order_known
    for i in range(pfn, pfn + (<uint32_t>1 << order)):
        s.page[i].flags = flags
        if i != pfn:
            set_page_refcounted(s.page, i)
