"""What a request's mask asks for, as numbers for Python.

Linux: include/linux/gfp.h (gfp_zone, gfp_migratetype), mm/page_alloc.c (gfp_to_alloc_flags).
The rules themselves stand in gfp_zone.pxd and alloc_slowpath.pyx.  Cost: one call.
"""

from libc.stdint cimport int32_t, uint32_t, uintptr_t

from mm._fast.core cimport mm_slowpath_alloc_flags
from mm._fast.physical.gfp_zone cimport gfp_migratetype, gfp_zone
from mm._fast.state cimport MMState


def decode(uintptr_t address, uint32_t gfp, uint32_t order, int32_t cpu):
    """(highest zone, migratetype, alloc_flags in the slow path) of a request on a CPU of the machine at `address`.

    Zone 15: the zone bits contradict each other; migratetype 3: both mobility bits.
    """
    return gfp_zone(gfp), gfp_migratetype(gfp), mm_slowpath_alloc_flags(<const MMState *>address, gfp, order, cpu)
