"""Take a named free block out of the allocator, and put one back where it came from.

Linux: mm/page_alloc.c (take_page_off_buddy, break_down_buddy_pages), used there for poisoned pages; here a guided
replay uses it to follow a recording.  Invariants: those of buddy.pxd and the pcp lists.
Cost: a block on a pcp list is looked for on every CPU's list of its kind.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t

from mm._fast.core cimport mm_prep_new_page
from mm._fast.page_list cimport list_add, list_del
from mm._fast.physical.buddy cimport (__free_one_page, add_to_free_list, buddy_order, del_page_from_free_list, page_mt,
                                      page_order, PageBuddy)
from mm._fast.physical.pcp cimport order_to_pindex, pcp_allowed_order
from mm._fast.state cimport (MAX_ORDER, MIGRATE_ISOLATE, MIGRATE_PCPTYPES, MMState, NR_PCP_LISTS, per_cpu_pages,
                             PFN_NONE, PG_MT_SHIFT, PG_order_known, PG_pcp, PG_ZONE_MASK, PG_ZONE_SHIFT, zone)
from mm._fast.vm_event_item cimport NR_FREE_PAGES
from mm._fast.vmstat cimport mod_zone_page_state, zone_pcp
cdef uint32_t free_head(const MMState *s, uint32_t pfn) noexcept nogil:
    """Head of the free block on a buddy list that `pfn` lies in, PFN_NONE if none does."""
    cdef uint32_t order, head
    for order in range(MAX_ORDER):
        head = pfn & ~((<uint32_t>1 << order) - 1)
        if PageBuddy(s, head) and buddy_order(s, head) >= order:
            return head
    return PFN_NONE


cdef public bint is_inside_block "mm_is_inside_block"(const MMState *s, uint32_t pfn) noexcept nogil:
    """Does the page belong to a block on a buddy or pcp list, or to an allocated one whose order is known?"""
    cdef uint32_t order, head
    if free_head(s, pfn) != PFN_NONE:
        return True
    for order in range(MAX_ORDER):
        head = pfn & ~((<uint32_t>1 << order) - 1)
        if s.page[head].flags & (PG_pcp | PG_order_known) and page_order(s.page, head) >= order:
            return True
    return False


cdef bint take_from_pcp(MMState *s, uint32_t pfn, uint32_t order) noexcept nogil:
    """Unlink a block from the pcp list it heads; which CPU's is found by looking."""
    cdef int32_t nr = <int32_t>((s.page[pfn].flags & PG_ZONE_MASK) >> PG_ZONE_SHIFT)
    cdef int32_t cpu
    cdef uint32_t pindex, head, page
    cdef per_cpu_pages *pcp
    if page_order(s.page, pfn) != order:
        return False
    for cpu in range(s.g.nr_cpus):
        pcp = zone_pcp(s, nr, cpu)
        for pindex in range(NR_PCP_LISTS):
            head = pcp.first_list + pindex
            page = s.page[head].next
            while page != head and page != pfn:
                page = s.page[page].next
            if page == pfn:
                list_del(s.page, pfn)
                pcp.count -= <int32_t>1 << order
                return True
    return False


cdef bint take_off_buddy(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil:
    """Split the free block that holds the wanted one until it stands alone, and take it."""
    cdef uint32_t head = free_head(s, pfn)
    cdef zone *z
    cdef uint32_t high, upper
    cdef int32_t mt
    if head == PFN_NONE or buddy_order(s, head) < order:
        return False
    z = &s.zones[(s.page[head].flags & PG_ZONE_MASK) >> PG_ZONE_SHIFT]
    mt = page_mt(s.page, head)
    high = buddy_order(s, head)
    del_page_from_free_list(s, z, head, high)
    while high > order:
        high -= 1
        upper = head + (<uint32_t>1 << high)
        if pfn >= upper:
            add_to_free_list(s, z, head, high, mt)
            head = upper
        else:
            add_to_free_list(s, z, upper, high, mt)
    if mt != MIGRATE_ISOLATE:
        mod_zone_page_state(z, zone_pcp(s, <int32_t>(z - s.zones), cpu), NR_FREE_PAGES, -(<int64_t>1 << order))
    return True


cdef public bint take_page "mm_take_page"(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil:
    """Allocate exactly this block if it is free as a whole; False, and nothing changed, if it is not."""
    cdef bint is_taken
    if pfn + (<uint32_t>1 << order) > s.g.nr_pages or pfn & ((<uint32_t>1 << order) - 1):
        return False
    if s.page[pfn].flags & PG_pcp:
        is_taken = take_from_pcp(s, pfn, order)
    else:
        is_taken = take_off_buddy(s, pfn, order, cpu)
    if is_taken:
        mm_prep_new_page(s, pfn, order, 0, 0)
    return is_taken


cdef public void give_page_back "mm_give_page_back"(MMState *s, uint32_t pfn, uint32_t order, int32_t mt,
                                                    int32_t cpu) noexcept nogil:
    """Undo an allocation: the block returns to the head of the list that it came from."""
    cdef int32_t nr = <int32_t>((s.page[pfn].flags & PG_ZONE_MASK) >> PG_ZONE_SHIFT)
    cdef zone *z = &s.zones[nr]
    cdef per_cpu_pages *pcp = zone_pcp(s, nr, cpu)
    cdef uint32_t i
    for i in range(pfn, pfn + (<uint32_t>1 << order)):
        s.page[i].flags = z.page_bits
    s.page[pfn].refcount = 0
    if pcp_allowed_order(s, order) and mt < MIGRATE_PCPTYPES:
        list_add(s.page, pcp.first_list + order_to_pindex(mt, order), pfn)
        s.page[pfn].flags = z.page_bits | PG_pcp | order | (<uint32_t>mt << PG_MT_SHIFT)
        pcp.count += <int32_t>1 << order
    else:
        mod_zone_page_state(z, pcp, NR_FREE_PAGES, <int64_t>1 << order)
        __free_one_page(s, z, pfn, order, mt, False)
