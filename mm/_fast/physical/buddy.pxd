# Buddy free lists: take, split, merge, and the pageblock types that choose the list.
#
# Linux: mm/page_alloc.c (add_to_free_list, expand, __free_one_page), mm/internal.h, pageblock-flags.h.
# A zone has a list for each order and migratetype.  Blocks are taken at the head; on a split the upper halves go
# to the heads of their lists; a merged block goes to the head, or to the tail when its next merge is likely.
# Invariants: the head page of a block on a list, and no other page, has PG_buddy with the block's order and the
# list's type; zone.nr_free[order] is the number of blocks; two free buddies of one order below pageblock_order
# never coexist.  Cost: a few cache lines a merge or split, bounded by MAX_ORDER.

from libc.stdint cimport int32_t, uint8_t, uint32_t
from mm._fast.debug cimport MM_IS_CANARY, VM_BUG_ON, mm_bug, unlikely
from mm._fast.page_list cimport list_add, list_add_tail, list_del, list_empty
from mm._fast.state cimport (MMState, MAX_ORDER, MIGRATE_ISOLATE, MIGRATE_RECLAIMABLE,
                             MIGRATE_TYPES, PFN_NONE, PG_buddy, PG_MT_MASK, PG_MT_SHIFT, PG_ORDER_MASK, PG_ZONE_MASK, PG_pcp, PG_valid,
                             BUG_BAD_PFN_ALIGN, BUG_ZONE_MISMATCH, page_hot, pageblock_order, zone)

cdef enum:
    PB_MIGRATE_MASK = 0x7           # bits of MMState.pageblock_flags
    PB_SKIP = 0x8


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
    refresh_pageblock(s, pfn >> pageblock_order)


cdef inline void refresh_pageblock(MMState *s, uint32_t block) noexcept nogil:
    """Derive pageblock_bits from the block's type; its zone bits are there, none for a block of several zones."""
    cdef uint32_t bits = s.pageblock_bits[block] & (PG_ZONE_MASK | PG_valid)
    cdef uint32_t mt = s.pageblock_flags[block] & PB_MIGRATE_MASK
    if bits and mt <= MIGRATE_RECLAIMABLE:
        bits |= PG_pcp | (mt << PG_MT_SHIFT)
    s.pageblock_bits[block] = bits


cdef inline bint migratetype_is_mergeable(int32_t mt) noexcept nogil:
    return mt <= MIGRATE_RECLAIMABLE


cdef inline bint PageBuddy(const MMState *s, uint32_t pfn) noexcept nogil:
    return s.buddy[pfn] != 0


cdef inline uint32_t buddy_order(const MMState *s, uint32_t pfn) noexcept nogil:
    """Order of the free block that `pfn` heads."""
    return s.buddy[pfn] - <uint32_t>1


cdef inline void set_buddy(MMState *s, const zone *z, uint32_t pfn, uint32_t order, int32_t mt) noexcept nogil:
    s.buddy[pfn] = <uint8_t>(order + 1)
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
    s.buddy[pfn] = 0
    s.page[pfn].flags = z.page_bits
    z.nr_free[order] -= 1


cdef inline uint32_t first_free(const MMState *s, const zone *z, uint32_t order, int32_t mt) noexcept nogil:
    """Head of a free list, PFN_NONE if it is empty (get_page_from_free_area)."""
    cdef uint32_t head = free_list(z, order, mt)
    cdef uint32_t pfn = s.page[head].next
    return PFN_NONE if pfn == head else pfn


cdef inline uint32_t __rmqueue_smallest(MMState *s, zone *z, uint32_t order, int32_t mt) noexcept nogil:
    """Take the head of the smallest sufficient list of one type; PFN_NONE if there is none.

    The upper halves of a larger block go back to the heads of their lists, largest first (expand).
    """
    cdef page_hot *p = s.page
    cdef uint8_t *b = s.buddy
    cdef uint32_t bits = z.page_bits
    cdef uint32_t head = z.first_list + order * MIGRATE_TYPES + <uint32_t>mt
    cdef uint32_t high = order
    cdef uint32_t pfn = p[head].next
    while pfn == head:
        high += 1
        if high == MAX_ORDER:
            return PFN_NONE
        head += MIGRATE_TYPES
        pfn = p[head].next
    list_del(p, pfn)
    b[pfn] = 0
    z.nr_free[high] -= 1
    while high > order:
        high -= 1
        head -= MIGRATE_TYPES
        link_free(p, b, head, pfn + (<uint32_t>1 << high), bits, high, mt)
        z.nr_free[high] += 1
    p[pfn].flags = bits | order | (<uint32_t>mt << PG_MT_SHIFT)
    return pfn


cdef inline void link_free(page_hot *p, uint8_t *b, uint32_t head, uint32_t pfn, uint32_t bits, uint32_t order,
                           int32_t mt) noexcept nogil:
    """Mark a block free and put it at the head of its list."""
    list_add(p, head, pfn)
    b[pfn] = <uint8_t>(order + 1)
    p[pfn].flags = bits | PG_buddy | order | (<uint32_t>mt << PG_MT_SHIFT)


cdef inline bint page_is_buddy(const MMState *s, const zone *z, uint32_t pfn, uint32_t order) noexcept nogil:
    """Is the frame the head of a free block of this order, in this zone?"""
    return s.buddy[pfn] == order + 1 and not (s.page[pfn].flags ^ z.page_bits) & PG_ZONE_MASK


cdef inline bint can_merge_types(const MMState *s, int32_t mt, uint32_t buddy) noexcept nogil:
    """From pageblock_order on, blocks of unlike types merge only if both types are ordinary ones."""
    cdef int32_t buddy_mt = get_pageblock_migratetype(s, buddy)
    return mt == buddy_mt or (migratetype_is_mergeable(mt) and migratetype_is_mergeable(buddy_mt))


cdef inline void __free_one_page(MMState *s, zone *z, uint32_t pfn, uint32_t order, int32_t mt, bint to_tail) noexcept nogil:
    """Put a block on the free list of type `mt`, merged as far as it goes.  The caller counts its pages.

    Works on local pointers: a store to the byte array could alias anything that is read through `s`.
    """
    cdef page_hot *p = s.page
    cdef uint8_t *b = s.buddy
    cdef uint32_t bits = z.page_bits
    cdef uint32_t head = z.first_list + <uint32_t>mt
    cdef uint32_t buddy = pfn ^ (<uint32_t>1 << order)
    VM_BUG_ON(s, pfn & ((<uint32_t>1 << order) - 1), BUG_BAD_PFN_ALIGN, pfn)
    VM_BUG_ON(s, (p[pfn].flags ^ bits) & PG_ZONE_MASK, BUG_ZONE_MISMATCH, pfn)
    p[pfn].flags = bits
    while order < MAX_ORDER - 1 - MM_IS_CANARY and b[buddy] == order + 1:
        if (p[buddy].flags ^ bits) & PG_ZONE_MASK:
            break
        if unlikely(order >= pageblock_order) and not can_merge_types(s, mt, buddy):
            break
        list_del(p, buddy)
        b[buddy] = 0
        p[buddy].flags = bits
        z.nr_free[order] -= 1
        pfn &= buddy
        order += 1
        buddy = pfn ^ (<uint32_t>1 << order)
    head += order * MIGRATE_TYPES
    z.nr_free[order] += 1
    b[pfn] = <uint8_t>(order + 1)
    p[pfn].flags = bits | PG_buddy | order | (<uint32_t>mt << PG_MT_SHIFT)
    if to_tail or buddy_merge_likely(s, z, pfn, order):
        list_add_tail(p, head, pfn)
    else:
        list_add(p, head, pfn)


cdef inline bint buddy_merge_likely(const MMState *s, const zone *z, uint32_t pfn, uint32_t order) noexcept nogil:
    """Is the buddy of the pair that this block would form free as a whole?"""
    cdef uint32_t pair
    if order >= MAX_ORDER - 2:
        return False
    pair = pfn & ~(<uint32_t>1 << order)
    return page_is_buddy(s, z, pair ^ (<uint32_t>2 << order), order + 1)
