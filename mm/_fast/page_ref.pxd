# Reference counts of pages: the only code that writes page_hot.refcount.
#
# Linux: include/linux/page_ref.h.  0 while a page is free; an allocation sets 1.

from libc.stdint cimport int32_t, uint32_t
from mm._fast.state cimport page_hot


cdef inline void set_page_refcounted(page_hot *p, uint32_t pfn) noexcept nogil:
    p[pfn].refcount = 1


cdef inline bint put_page_testzero(page_hot *p, uint32_t pfn) noexcept nogil:
    p[pfn].refcount -= 1
    return p[pfn].refcount == 0


cdef inline void page_ref_add(page_hot *p, uint32_t pfn, int32_t nr) noexcept nogil:
    p[pfn].refcount += nr


cdef inline bint get_page_unless_zero(page_hot *p, uint32_t pfn) noexcept nogil:
    if p[pfn].refcount == 0:
        return False
    p[pfn].refcount += 1
    return True


cdef inline bint page_ref_freeze(page_hot *p, uint32_t pfn, int32_t count) noexcept nogil:
    """Set the count to 0 if it is exactly `count`."""
    if p[pfn].refcount != count:
        return False
    p[pfn].refcount = 0
    return True


cdef inline void page_ref_unfreeze(page_hot *p, uint32_t pfn, int32_t count) noexcept nogil:
    p[pfn].refcount = count
