"""Addresses of the core's C functions, for numba, ctypes, cffi, SciPy and other Cython packages.

Linux: none.  Made by docs/generate from core.pxd: one wrapper a function, so that Cython exports it in
`__pyx_capi__` as a PyCapsule whose name is the C signature.  Cost: one jump more than the function itself.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from mm._fast.state cimport MMState, alloc_context, zone
from mm._fast cimport core

from cpython.pycapsule cimport PyCapsule_GetName, PyCapsule_GetPointer


cdef uint32_t mm_alloc_pages(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, int32_t cpu) noexcept nogil:
    return core.mm_alloc_pages(s, gfp, order, nid, cpu)


cdef int32_t mm_try_free_pages(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil:
    return core.mm_try_free_pages(s, pfn, order, cpu)


cdef void mm_refresh_zone(MMState *s, int32_t nr) noexcept nogil:
    core.mm_refresh_zone(s, nr)


cdef void mm_refresh_fast_requests(MMState *s) noexcept nogil:
    core.mm_refresh_fast_requests(s)


cdef void mm_fold_counters(MMState *s) noexcept nogil:
    core.mm_fold_counters(s)


cdef uint32_t mm_alloc_pages_policy(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, int32_t cpu) noexcept nogil:
    return core.mm_alloc_pages_policy(s, gfp, order, nid, cpu)


cdef uint32_t mm_alloc_pages_long(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, int32_t cpu) noexcept nogil:
    return core.mm_alloc_pages_long(s, gfp, order, nid, cpu)


cdef uint32_t mm_alloc_page_local(MMState *s, uint32_t gfp, int32_t cpu) noexcept nogil:
    return core.mm_alloc_page_local(s, gfp, cpu)


cdef uint32_t mm_alloc_pages_nodemask(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, uint64_t nodemask,
                                      int32_t cpu) noexcept nogil:
    return core.mm_alloc_pages_nodemask(s, gfp, order, nid, nodemask, cpu)


cdef uint32_t mm_alloc_pages_bulk(MMState *s, uint32_t gfp, int32_t nid, uint32_t nr_pages, int32_t cpu,
                                  uint32_t *pfns) noexcept nogil:
    return core.mm_alloc_pages_bulk(s, gfp, nid, nr_pages, cpu, pfns)


cdef uint32_t mm_get_page_from_freelist(MMState *s, uint32_t gfp, uint32_t order, uint32_t alloc_flags,
                                        const alloc_context *ac) noexcept nogil:
    return core.mm_get_page_from_freelist(s, gfp, order, alloc_flags, ac)


cdef void mm_first_zones_zonelist(const MMState *s, alloc_context *ac) noexcept nogil:
    core.mm_first_zones_zonelist(s, ac)


cdef void mm_prep_new_page(MMState *s, uint32_t pfn, uint32_t order, uint32_t gfp, uint32_t alloc_flags) noexcept nogil:
    core.mm_prep_new_page(s, pfn, order, gfp, alloc_flags)


cdef bint mm_zone_watermark_ok(const MMState *s, const zone *z, uint32_t order, int64_t mark, int32_t highest_zoneidx,
                               uint32_t alloc_flags, int64_t free_pages) noexcept nogil:
    return core.mm_zone_watermark_ok(s, z, order, mark, highest_zoneidx, alloc_flags, free_pages)


cdef int32_t mm_expected_zone(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, int32_t cpu) noexcept nogil:
    return core.mm_expected_zone(s, gfp, order, nid, cpu)


cdef uint32_t mm_alloc_in_zone(MMState *s, int32_t zone_nr, uint32_t gfp, uint32_t order, int32_t cpu) noexcept nogil:
    return core.mm_alloc_in_zone(s, zone_nr, gfp, order, cpu)


cdef uint32_t mm_take_pcp_pages(MMState *s, zone *z, int32_t mt, uint32_t nr_pages, int32_t cpu) noexcept nogil:
    return core.mm_take_pcp_pages(s, z, mt, nr_pages, cpu)


cdef bint mm_rmqueue_fallback(MMState *s, zone *z, uint32_t order, int32_t start_mt,
                              uint32_t alloc_flags) noexcept nogil:
    return core.mm_rmqueue_fallback(s, z, order, start_mt, alloc_flags)


cdef int64_t mm_move_freepages_block(MMState *s, zone *z, uint32_t pfn, int32_t mt,
                                     int32_t *num_movable) noexcept nogil:
    return core.mm_move_freepages_block(s, z, pfn, mt, num_movable)


cdef void mm_reserve_highatomic_pageblock(MMState *s, zone *z, uint32_t pfn) noexcept nogil:
    core.mm_reserve_highatomic_pageblock(s, z, pfn)


cdef bint mm_unreserve_highatomic_pageblock(MMState *s, const alloc_context *ac, bint force) noexcept nogil:
    return core.mm_unreserve_highatomic_pageblock(s, ac, force)


cdef int32_t mm_free_pages_check(const MMState *s, uint32_t pfn, uint32_t order) noexcept nogil:
    return core.mm_free_pages_check(s, pfn, order)


cdef void mm_free_pages(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil:
    core.mm_free_pages(s, pfn, order, cpu)


cdef void mm_free_one_page(MMState *s, uint32_t pfn, uint32_t order, int32_t mt, int32_t cpu,
                           bint to_tail) noexcept nogil:
    core.mm_free_one_page(s, pfn, order, mt, cpu, to_tail)


cdef int32_t mm_try_free_pages_long(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil:
    return core.mm_try_free_pages_long(s, pfn, order, cpu)


cdef void mm_free_unref_page_list(MMState *s, const uint32_t *pfns, uint32_t nr, int32_t cpu) noexcept nogil:
    core.mm_free_unref_page_list(s, pfns, nr, cpu)


cdef void mm_split_page(MMState *s, uint32_t pfn, uint32_t order) noexcept nogil:
    core.mm_split_page(s, pfn, order)


cdef void mm_drain_pages_zone(MMState *s, zone *z, int32_t cpu, int32_t on_cpu) noexcept nogil:
    core.mm_drain_pages_zone(s, z, cpu, on_cpu)


cdef void mm_drain_all_pages(MMState *s, int32_t zone_nr, int32_t on_cpu) noexcept nogil:
    core.mm_drain_all_pages(s, zone_nr, on_cpu)


cdef uint32_t mm_slowpath_alloc_flags(const MMState *s, uint32_t gfp, uint32_t order, int32_t cpu) noexcept nogil:
    return core.mm_slowpath_alloc_flags(s, gfp, order, cpu)


cdef uint32_t mm_alloc_pages_slowpath(MMState *s, uint32_t gfp, uint32_t order, alloc_context *ac) noexcept nogil:
    return core.mm_alloc_pages_slowpath(s, gfp, order, ac)


cdef int32_t mm_set_migratetype_isolate(MMState *s, uint32_t pfn, uint32_t start, uint32_t end,
                                        int32_t cpu) noexcept nogil:
    return core.mm_set_migratetype_isolate(s, pfn, start, end, cpu)


cdef void mm_unset_migratetype_isolate(MMState *s, uint32_t pfn, int32_t mt, int32_t cpu) noexcept nogil:
    core.mm_unset_migratetype_isolate(s, pfn, mt, cpu)


cdef uint32_t mm_isolate_free_page(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil:
    return core.mm_isolate_free_page(s, pfn, order, cpu)


cdef int32_t mm_alloc_contig_range(MMState *s, uint32_t start, uint32_t end, int32_t mt, int32_t cpu) noexcept nogil:
    return core.mm_alloc_contig_range(s, start, end, mt, cpu)


cdef uint32_t mm_alloc_contig_pages(MMState *s, uint32_t nr_pages, uint32_t gfp, int32_t nid, uint64_t nodemask,
                                    int32_t cpu) noexcept nogil:
    return core.mm_alloc_contig_pages(s, nr_pages, gfp, nid, nodemask, cpu)


cdef bint mm_take_page(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu) noexcept nogil:
    return core.mm_take_page(s, pfn, order, cpu)


cdef void mm_give_page_back(MMState *s, uint32_t pfn, uint32_t order, int32_t mt, int32_t cpu) noexcept nogil:
    core.mm_give_page_back(s, pfn, order, mt, cpu)


cdef bint mm_is_inside_block(const MMState *s, uint32_t pfn) noexcept nogil:
    return core.mm_is_inside_block(s, pfn)


cdef int32_t mm_verify(MMState *s) noexcept nogil:
    return core.mm_verify(s)


cdef uint64_t mm_image_bytes(const MMState *s) noexcept nogil:
    return core.mm_image_bytes(s)


cdef int32_t mm_image_save(const MMState *s, void *image, uint64_t nbytes) noexcept nogil:
    return core.mm_image_save(s, image, nbytes)


cdef int32_t mm_image_load(MMState *s, void *image, uint64_t nbytes) noexcept nogil:
    return core.mm_image_load(s, image, nbytes)


def addresses():
    """{name: (address, C signature)} of every function of core.pxd.

    Returns
    -------
    dict of str to tuple of int and str
        An address is valid as long as the process lives.
    """
    return {name: (<size_t>PyCapsule_GetPointer(capsule, PyCapsule_GetName(capsule)),
                   (<bytes>PyCapsule_GetName(capsule)).decode())
            for name, capsule in globals()["__pyx_capi__"].items()}
