# Who holds which page while a trace is converted: page frame number to handle.
#
# Two levels: a table of chunks, a chunk for each 512 page frames, made when the first of them is named.  A block is
# recorded at its first page; the entries of its other pages are not HELD.  8 bytes a page frame.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    CHUNK_SHIFT = 9
    CHUNK_PAGES = 512
    NR_CHUNKS = 1 << 23         # 2**32 page frames

cdef enum PageState:
    PAGE_UNSEEN = 0             # neither allocated nor freed in this trace
    PAGE_HELD = 1               # first page of an allocated block; value = handle
    PAGE_FREED_OPEN = 2         # mm_page_free seen; value = low bits of its row number; mm_page_free_batched may follow
    PAGE_FREED = 3

cdef struct HeldPage:
    uint32_t value
    uint8_t order
    uint8_t state               # PageState
    uint16_t unused

cdef struct HeldPages:
    HeldPage **chunks           # [NR_CHUNKS], untouched parts cost no memory
    uint64_t nr_chunks
    uint64_t max_chunks
    uint64_t nr_held
    uint32_t max_order          # of any block so far


cdef inline bint held_pages_init(HeldPages *t, uint64_t max_chunks) noexcept nogil:
    t.chunks = <HeldPage **>calloc(NR_CHUNKS, sizeof(HeldPage *))
    t.nr_chunks = 0
    t.max_chunks = max_chunks
    t.nr_held = 0
    t.max_order = 0
    return t.chunks != NULL


cdef inline void held_pages_free(HeldPages *t) noexcept nogil:
    cdef uint32_t i = 0
    if t.chunks == NULL:
        return
    while t.nr_chunks and i < NR_CHUNKS:
        if t.chunks[i] != NULL:
            free(t.chunks[i])
            t.nr_chunks -= 1
        i += 1
    free(t.chunks)


cdef inline HeldPage *held_page(const HeldPages *t, uint32_t pfn) noexcept nogil:
    """The entry, NULL if nothing near the page was ever named."""
    cdef HeldPage *chunk = t.chunks[pfn >> CHUNK_SHIFT]
    return NULL if chunk == NULL else chunk + (pfn & (CHUNK_PAGES - 1))


cdef inline HeldPage *held_page_make(HeldPages *t, uint32_t pfn) noexcept nogil:
    """The entry; NULL if the table may not grow."""
    cdef HeldPage *chunk = t.chunks[pfn >> CHUNK_SHIFT]
    if chunk == NULL:
        if t.nr_chunks == t.max_chunks:
            return NULL
        chunk = <HeldPage *>calloc(CHUNK_PAGES, sizeof(HeldPage))
        if chunk == NULL:
            return NULL
        t.chunks[pfn >> CHUNK_SHIFT] = chunk
        t.nr_chunks += 1
    return chunk + (pfn & (CHUNK_PAGES - 1))


cdef inline uint32_t held_cover(const HeldPages *t, uint32_t pfn) noexcept nogil:
    """First page of the held block that contains pfn and starts before it; pfn itself if there is none."""
    cdef uint32_t order = 1
    cdef uint32_t head
    cdef const HeldPage *page
    while order <= t.max_order:
        head = pfn & ~((<uint32_t>1 << order) - 1)
        if head != pfn:
            page = held_page(t, head)
            if page != NULL and page.state == PAGE_HELD and page.order >= order:
                return head
        order += 1
    return pfn
