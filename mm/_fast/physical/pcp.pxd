# Which per-cpu list holds what.
#
# Linux: mm/page_alloc.c (order_to_pindex, pcp_allowed_order).  A zone and CPU have NR_PCP_LISTS lists: three types for
# each of the orders 0..3, then order 9 not movable, order 9 movable.

from libc.stdint cimport int32_t, uint32_t
from mm._fast.state cimport (MIGRATE_MOVABLE, MIGRATE_PCPTYPES, MMState, NR_LOWORDER_PCP_LISTS, PAGE_ALLOC_COSTLY_ORDER,
                             pageblock_order)


cdef inline bint pcp_allowed_order(const MMState *s, uint32_t order) noexcept nogil:
    return (order <= PAGE_ALLOC_COSTLY_ORDER or order == pageblock_order) and not s.g.is_pcp_disabled


cdef inline uint32_t order_to_pindex(int32_t mt, uint32_t order) noexcept nogil:
    if order > PAGE_ALLOC_COSTLY_ORDER:
        return NR_LOWORDER_PCP_LISTS + (mt == MIGRATE_MOVABLE)
    return MIGRATE_PCPTYPES * order + <uint32_t>mt


cdef inline uint32_t pindex_to_order(uint32_t pindex) noexcept nogil:
    return pageblock_order if pindex >= NR_LOWORDER_PCP_LISTS else pindex // MIGRATE_PCPTYPES
