# What a gfp mask asks of zones and types.
#
# Linux: include/linux/gfp.h (gfp_zone, gfp_migratetype), mm/page_alloc.c (gfp_to_alloc_flags).

from libc.stdint cimport int32_t, uint32_t, uint64_t

cdef enum:
    GFP_ZONEMASK = 0x0f
    GFP_MOVABLE_MASK = 0x18
    GFP_MOVABLE_SHIFT = 3
    GFP_ZONE_BAD = 15


cdef inline int32_t gfp_zone(uint32_t gfp) noexcept nogil:
    """Highest zone the mask allows (x86-64: no highmem); GFP_ZONE_BAD for contradictory zone bits.

    One nibble for each value of the four zone bits.
    """
    return <int32_t>((<uint64_t>0xFFF1F302FFF1F202 >> ((gfp & GFP_ZONEMASK) * 4)) & 15)


cdef inline int32_t gfp_migratetype(uint32_t gfp) noexcept nogil:
    return <int32_t>((gfp & GFP_MOVABLE_MASK) >> GFP_MOVABLE_SHIFT)
