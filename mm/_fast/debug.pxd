# Invariant checks and branch hints.
#
# Linux: include/linux/mmdebug.h.  VM_BUG_ON costs nothing unless the build defines MM_DEBUG_VM; mm_bug records the
# first broken invariant in MMState.g.bug, which the Python boundary raises as mm.VMBug.

from libc.stdint cimport int32_t, uint32_t
from mm._fast.state cimport MMState

cdef extern from "mm_debug.h" nogil:
    const bint MM_IS_DEBUG_VM
    const bint MM_IS_CANARY
    void VM_BUG_ON(MMState *s, bint cond, int32_t code, uint32_t pfn)
    bint likely "MM_LIKELY"(bint cond)
    bint unlikely "MM_UNLIKELY"(bint cond)
    void prefetchw "MM_PREFETCHW"(const void *p)
    uint32_t ctz "MM_CTZ"(uint32_t x)       # lowest set bit; x > 0
    uint32_t fls "MM_FLS"(uint32_t x)       # highest set bit; x > 0


cdef inline void mm_bug "mm_bug"(MMState *s, int32_t code, uint32_t pfn, int32_t line) noexcept nogil:
    if s.g.bug.code == 0:
        s.g.bug.code = code
        s.g.bug.pfn = pfn
        s.g.bug.line = line
        s.g.bug.step = s.g.step
        if pfn < s.g.nr_pages + s.g.nr_lists:
            s.g.bug.page = s.page[pfn]
