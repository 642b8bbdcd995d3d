# The core's C functions for other packages: cimport them from here, not from core.pxd.
#
# Made by docs/generate from core.pxd.  Cython gives another package pointers to these at import time, so
# that package links with nothing of ours.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from mm._fast.state cimport MMState, alloc_context, zone

cdef uint32_t mm_alloc_pages(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, int32_t cpu) noexcept nogil
cdef int32_t mm_try_free_pages(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil
cdef void mm_refresh_zone(MMState *s, int32_t nr) noexcept nogil
cdef void mm_refresh_fast_requests(MMState *s) noexcept nogil
cdef void mm_fold_counters(MMState *s) noexcept nogil
cdef uint32_t mm_alloc_pages_policy(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, int32_t cpu) noexcept nogil
cdef uint32_t mm_alloc_pages_long(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, int32_t cpu) noexcept nogil
cdef uint32_t mm_alloc_page_local(MMState *s, uint32_t gfp, int32_t cpu) noexcept nogil
cdef uint32_t mm_alloc_pages_nodemask(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, uint64_t nodemask,
                                      int32_t cpu) noexcept nogil
cdef uint32_t mm_alloc_pages_bulk(MMState *s, uint32_t gfp, int32_t nid, uint32_t nr_pages, int32_t cpu,
                                  uint32_t *pfns) noexcept nogil
cdef uint32_t mm_get_page_from_freelist(MMState *s, uint32_t gfp, uint32_t order, uint32_t alloc_flags,
                                        const alloc_context *ac) noexcept nogil
cdef void mm_first_zones_zonelist(const MMState *s, alloc_context *ac) noexcept nogil
cdef void mm_prep_new_page(MMState *s, uint32_t pfn, uint32_t order, uint32_t gfp, uint32_t alloc_flags) noexcept nogil
cdef bint mm_zone_watermark_ok(const MMState *s, const zone *z, uint32_t order, int64_t mark, int32_t highest_zoneidx,
                               uint32_t alloc_flags, int64_t free_pages) noexcept nogil
cdef int32_t mm_expected_zone(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, int32_t cpu) noexcept nogil
cdef uint32_t mm_alloc_in_zone(MMState *s, int32_t zone_nr, uint32_t gfp, uint32_t order, int32_t cpu) noexcept nogil
cdef uint32_t mm_take_pcp_pages(MMState *s, zone *z, int32_t mt, uint32_t nr_pages, int32_t cpu) noexcept nogil
cdef bint mm_rmqueue_fallback(MMState *s, zone *z, uint32_t order, int32_t start_mt,
                              uint32_t alloc_flags) noexcept nogil
cdef int64_t mm_move_freepages_block(MMState *s, zone *z, uint32_t pfn, int32_t mt, int32_t *num_movable) noexcept nogil
cdef void mm_reserve_highatomic_pageblock(MMState *s, zone *z, uint32_t pfn) noexcept nogil
cdef bint mm_unreserve_highatomic_pageblock(MMState *s, const alloc_context *ac, bint force) noexcept nogil
cdef int32_t mm_free_pages_check(const MMState *s, uint32_t pfn, uint32_t order) noexcept nogil
cdef void mm_free_pages(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil
cdef void mm_free_one_page(MMState *s, uint32_t pfn, uint32_t order, int32_t mt, int32_t cpu,
                           bint to_tail) noexcept nogil
cdef int32_t mm_try_free_pages_long(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil
cdef void mm_free_unref_page_list(MMState *s, const uint32_t *pfns, uint32_t nr, int32_t cpu) noexcept nogil
cdef void mm_split_page(MMState *s, uint32_t pfn, uint32_t order) noexcept nogil
cdef void mm_drain_pages_zone(MMState *s, zone *z, int32_t cpu, int32_t on_cpu) noexcept nogil
cdef void mm_drain_all_pages(MMState *s, int32_t zone_nr, int32_t on_cpu) noexcept nogil
cdef uint32_t mm_slowpath_alloc_flags(const MMState *s, uint32_t gfp, uint32_t order, int32_t cpu) noexcept nogil
cdef uint32_t mm_alloc_pages_slowpath(MMState *s, uint32_t gfp, uint32_t order, alloc_context *ac) noexcept nogil
cdef int32_t mm_set_migratetype_isolate(MMState *s, uint32_t pfn, uint32_t start, uint32_t end,
                                        int32_t cpu) noexcept nogil
cdef void mm_unset_migratetype_isolate(MMState *s, uint32_t pfn, int32_t mt, int32_t cpu) noexcept nogil
cdef uint32_t mm_isolate_free_page(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil
cdef int32_t mm_alloc_contig_range(MMState *s, uint32_t start, uint32_t end, int32_t mt, int32_t cpu) noexcept nogil
cdef uint32_t mm_alloc_contig_pages(MMState *s, uint32_t nr_pages, uint32_t gfp, int32_t nid, uint64_t nodemask,
                                    int32_t cpu) noexcept nogil
cdef bint mm_take_page(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil
cdef void mm_give_page_back(MMState *s, uint32_t pfn, uint32_t order, int32_t mt, int32_t cpu) noexcept nogil
cdef bint mm_is_inside_block(const MMState *s, uint32_t pfn) noexcept nogil
cdef int32_t mm_verify(MMState *s) noexcept nogil
cdef uint64_t mm_image_bytes(const MMState *s) noexcept nogil
cdef int32_t mm_image_save(const MMState *s, void *image, uint64_t nbytes) noexcept nogil
cdef int32_t mm_image_load(MMState *s, void *image, uint64_t nbytes) noexcept nogil
