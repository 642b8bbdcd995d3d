# Circular lists of pages, linked by index: the only code that writes page_hot.next and .prev of listed pages.
#
# Linux: include/linux/list.h.  Heads are slots of the same array behind the last page, so adding and deleting
# have no branch.  Invariant: next and prev of neighbours agree; an empty head points at itself.

from libc.stdint cimport uint32_t
from mm._fast.state cimport page_hot


cdef inline void INIT_LIST_HEAD(page_hot *p, uint32_t head) noexcept nogil:
    p[head].next = head
    p[head].prev = head


cdef inline bint list_empty(const page_hot *p, uint32_t head) noexcept nogil:
    return p[head].next == head


cdef inline void list_add(page_hot *p, uint32_t head, uint32_t pfn) noexcept nogil:
    """Insert behind `head`: it is the next to be taken."""
    cdef uint32_t nxt = p[head].next
    p[nxt].prev = pfn
    p[pfn].next = nxt
    p[pfn].prev = head
    p[head].next = pfn


cdef inline void list_add_tail(page_hot *p, uint32_t head, uint32_t pfn) noexcept nogil:
    cdef uint32_t prv = p[head].prev
    p[prv].next = pfn
    p[pfn].next = head
    p[pfn].prev = prv
    p[head].prev = pfn


cdef inline void list_del(page_hot *p, uint32_t pfn) noexcept nogil:
    """Unlink; the links of `pfn` itself are left stale."""
    cdef uint32_t nxt = p[pfn].next
    cdef uint32_t prv = p[pfn].prev
    p[nxt].prev = prv
    p[prv].next = nxt


cdef inline void list_move_tail(page_hot *p, uint32_t head, uint32_t pfn) noexcept nogil:
    list_del(p, pfn)
    list_add_tail(p, head, pfn)
