# Buddy free lists: take, split, merge, and the pageblock types that choose the list.
#
# Linux: mm/page_alloc.c (add_to_free_list, expand, __free_one_page), mm/internal.h, pageblock-flags.h.
# A zone has a list for each order and migratetype.  Blocks are taken at the head; on a split the upper halves go
# to the heads of their lists; a merged block goes to the head, or to the tail when its next merge is likely.
# Invariants: the head page of a block on a list, and no other page, has PG_buddy with the block's order and the
# list's type; zone.nr_free[order] is the number of blocks; two free buddies of one order below pageblock_order
# never coexist.  Cost: a few cache lines a merge or split, bounded by MAX_ORDER.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from mm._fast.debug cimport MM_IS_CANARY, VM_BUG_ON, mm_bug, unlikely
from mm._fast.page_list cimport list_add, list_add_tail, list_del, list_empty
from mm._fast.state cimport (MMState, MAX_ORDER, MIGRATE_ISOLATE, MIGRATE_RECLAIMABLE,
                             MIGRATE_TYPES, PFN_NONE, PG_buddy, PG_MT_MASK, PG_MT_SHIFT, PG_ORDER_MASK, PG_ZONE_MASK,
                             BUG_BAD_PFN_ALIGN, BUG_ZONE_MISMATCH, page_hot, pageblock_order, per_cpu_pages, zone)
from mm._fast.vm_event_item cimport NR_FREE_PAGES
from mm._fast.vmstat cimport mod_zone_page_state

cdef enum:
    PB_MIGRATE_MASK = 0x7           # bits of MMState.pageblock_flags
    PB_SKIP = 0x8
    BUDDY_MATCH = 0x00ff008f        # PG_ZONE_MASK | PG_buddy | PG_ORDER_MASK


cdef inline uint32_t free_list(const zone *z, uint32_t order, int32_t mt) noexcept nogil:
    """Slot of the head of a free list."""
    return z.first_list + order * MIGRATE_TYPES + mt


cdef inline uint32_t page_order(const page_hot *p, uint32_t pfn) noexcept nogil:
    return p[pfn].flags & PG_ORDER_MASK


cdef inline int32_t page_mt(const page_hot *p, uint32_t pfn) noexcept nogil:
    """Type of the list a free page is on, or a pcp page returns to (get_pcppage_migratetype)."""
    return <int32_t>((p[pfn].flags & PG_MT_MASK) >> PG_MT_SHIFT)


cdef inline int32_t get_pageblock_migratetype(const MMState *s, uint32_t pfn) noexcept nogil:
    return s.pageblock_flags[pfn >> pageblock_order] & PB_MIGRATE_MASK


cdef inline void set_pageblock_migratetype(MMState *s, uint32_t pfn, int32_t mt) noexcept nogil:
    """With grouping by mobility off, every block of a pcp type stays unmovable."""
    cdef uint8_t *b = &s.pageblock_flags[pfn >> pageblock_order]
    if s.g.page_group_by_mobility_disabled and mt <= MIGRATE_RECLAIMABLE:
        mt = 0
    b[0] = <uint8_t>((b[0] & ~PB_MIGRATE_MASK) | mt)


cdef inline bint migratetype_is_mergeable(int32_t mt) noexcept nogil:
    return mt <= MIGRATE_RECLAIMABLE


cdef inline void set_buddy(MMState *s, const zone *z, uint32_t pfn, uint32_t order, int32_t mt) noexcept nogil:
    s.page[pfn].flags = z.page_bits | PG_buddy | order | (<uint32_t>mt << PG_MT_SHIFT)


cdef inline void add_to_free_list(MMState *s, zone *z, uint32_t pfn, uint32_t order, int32_t mt) noexcept nogil:
    list_add(s.page, free_list(z, order, mt), pfn)
    set_buddy(s, z, pfn, order, mt)
    z.nr_free[order] += 1


cdef inline void add_to_free_list_tail(MMState *s, zone *z, uint32_t pfn, uint32_t order, int32_t mt) noexcept nogil:
    list_add_tail(s.page, free_list(z, order, mt), pfn)
    set_buddy(s, z, pfn, order, mt)
    z.nr_free[order] += 1


cdef inline void move_to_free_list(MMState *s, zone *z, uint32_t pfn, uint32_t order, int32_t mt) noexcept nogil:
    """Move a free block to the tail of another type's list."""
    list_del(s.page, pfn)
    list_add_tail(s.page, free_list(z, order, mt), pfn)
    set_buddy(s, z, pfn, order, mt)


cdef inline void del_page_from_free_list(MMState *s, zone *z, uint32_t pfn, uint32_t order) noexcept nogil:
    list_del(s.page, pfn)
    s.page[pfn].flags = z.page_bits
    z.nr_free[order] -= 1


cdef inline uint32_t first_free(const MMState *s, const zone *z, uint32_t order, int32_t mt) noexcept nogil:
    """Head of a free list, PFN_NONE if it is empty (get_page_from_free_area)."""
    cdef uint32_t head = free_list(z, order, mt)
    cdef uint32_t pfn = s.page[head].next
    return PFN_NONE if pfn == head else pfn


cdef inline void expand(MMState *s, zone *z, uint32_t pfn, uint32_t low, uint32_t high, int32_t mt) noexcept nogil:
    """Give back the upper halves of a block of order `high` of which the first 2^low pages are wanted."""
    while high > low:
        high -= 1
        add_to_free_list(s, z, pfn + (<uint32_t>1 << high), high, mt)


cdef inline uint32_t __rmqueue_smallest(MMState *s, zone *z, uint32_t order, int32_t mt) noexcept nogil:
    """Take the head of the smallest sufficient list of one type; PFN_NONE if there is none."""
    cdef uint32_t current_order, pfn
    for current_order in range(order, MAX_ORDER):
        pfn = first_free(s, z, current_order, mt)
        if pfn == PFN_NONE:
            continue
        del_page_from_free_list(s, z, pfn, current_order)
        expand(s, z, pfn, order, current_order, mt)
        s.page[pfn].flags = z.page_bits | order | (<uint32_t>mt << PG_MT_SHIFT)
        return pfn
    return PFN_NONE


cdef inline bint page_is_buddy(const page_hot *p, uint32_t pfn, uint32_t want) noexcept nogil:
    """Is the frame the head of a free block of this order and zone?  `want`: zone bits | PG_buddy | order."""
    return (p[pfn].flags & BUDDY_MATCH) == want


cdef inline bint can_merge_types(const MMState *s, int32_t mt, uint32_t buddy) noexcept nogil:
    """From pageblock_order on, blocks of unlike types merge only if both types are ordinary ones."""
    cdef int32_t buddy_mt = get_pageblock_migratetype(s, buddy)
    return mt == buddy_mt or (migratetype_is_mergeable(mt) and migratetype_is_mergeable(buddy_mt))


cdef inline void __free_one_page(MMState *s, zone *z, per_cpu_pages *stat_cpu, uint32_t pfn, uint32_t order, int32_t mt,
                                 bint to_tail) noexcept nogil:
    """Put a block on the free list of type `mt`, merged as far as it goes."""
    cdef uint32_t buddy
    cdef uint32_t want = (z.page_bits & PG_ZONE_MASK) | PG_buddy | order
    VM_BUG_ON(s, pfn & ((<uint32_t>1 << order) - 1), BUG_BAD_PFN_ALIGN, pfn)
    VM_BUG_ON(s, (s.page[pfn].flags ^ z.page_bits) & PG_ZONE_MASK, BUG_ZONE_MISMATCH, pfn)
    if mt != MIGRATE_ISOLATE:
        mod_zone_page_state(z, stat_cpu, NR_FREE_PAGES, <int64_t>1 << order)
    s.page[pfn].flags = z.page_bits
    while order < MAX_ORDER - 1 - MM_IS_CANARY:
        buddy = pfn ^ (<uint32_t>1 << order)
        if not page_is_buddy(s.page, buddy, want):
            break
        if unlikely(order >= pageblock_order) and not can_merge_types(s, mt, buddy):
            break
        del_page_from_free_list(s, z, buddy, order)
        pfn &= buddy
        order += 1
        want += 1
    if to_tail or buddy_merge_likely(s.page, pfn, order, want):
        add_to_free_list_tail(s, z, pfn, order, mt)
    else:
        add_to_free_list(s, z, pfn, order, mt)


cdef inline bint buddy_merge_likely(const page_hot *p, uint32_t pfn, uint32_t order, uint32_t want) noexcept nogil:
    """Is the buddy of the pair that this block would form free as a whole?"""
    cdef uint32_t pair
    if order >= MAX_ORDER - 2:
        return False
    pair = pfn & ~(<uint32_t>1 << order)
    return page_is_buddy(p, pair ^ (<uint32_t>2 << order), want + 1)
