# Counters: the only code that changes them.
#
# Linux: mm/vmstat.c.  Modelled: global zone counters with a per-CPU part that is folded in when it passes
# stat_threshold; per-CPU events; NUMA events.
# Invariant: zone.vm_stat[i] + the sum over CPUs of vm_stat_diff[i] is the true number.  Cost: one or two adds.

from libc.stdint cimport int32_t, int64_t, uint64_t
from mm._fast.state cimport MMState, per_cpu_pages, zone
from mm._fast.vm_event_item cimport NR_FREE_PAGES, NR_VM_EVENT_ITEMS


cdef inline per_cpu_pages *zone_pcp(MMState *s, int32_t zone_nr, int32_t cpu) noexcept nogil:
    return &s.pageset[zone_nr * s.g.nr_cpus + cpu]


cdef inline int64_t zone_page_state(const zone *z, int32_t item) noexcept nogil:
    """The global part of a zone counter."""
    return z.vm_stat[item]


cdef inline int64_t pcp_page_state(const per_cpu_pages *pcp, int32_t item) noexcept nogil:
    """A CPU's part of a zone counter."""
    return pcp.vm_stat_diff[item]


cdef inline int64_t zone_watermark(const zone *z, int32_t i) noexcept nogil:
    return z.watermark[i]


cdef inline int64_t wmark_pages(const zone *z, int32_t i) noexcept nogil:
    """A mark as requests see it: with the boost."""
    return z.watermark[i] + z.watermark_boost


cdef inline void mod_zone_page_state(zone *z, per_cpu_pages *pcp, int32_t item, int64_t delta) noexcept nogil:
    """Add to a zone counter on the CPU that owns `pcp`; fold its part in when it passes the threshold."""
    cdef int64_t x = delta + pcp.vm_stat_diff[item]
    if x > pcp.stat_threshold or x < -pcp.stat_threshold:
        z.vm_stat[item] += x
        x = 0
    pcp.vm_stat_diff[item] = <int32_t>x


cdef inline void set_page_state(zone *z, per_cpu_pages *pcp, int32_t item, int64_t whole, int64_t part) noexcept nogil:
    """Set the global and one CPU's part of a zone counter."""
    z.vm_stat[item] = whole
    pcp.vm_stat_diff[item] = <int32_t>part


cdef inline int64_t zone_free_pages(const zone *z) noexcept nogil:
    """NR_FREE_PAGES as a watermark test reads it: without the CPUs' parts, never negative."""
    cdef int64_t x = zone_page_state(z, NR_FREE_PAGES)
    return x if x > 0 else 0


cdef inline int64_t zone_free_pages_snapshot(MMState *s, int32_t zone_nr) noexcept nogil:
    """NR_FREE_PAGES with the CPUs' parts."""
    cdef int64_t x = zone_page_state(&s.zones[zone_nr], NR_FREE_PAGES)
    cdef int32_t cpu
    for cpu in range(s.g.nr_cpus):
        x += pcp_page_state(zone_pcp(s, zone_nr, cpu), NR_FREE_PAGES)
    return x if x > 0 else 0


cdef inline void count_vm_events(MMState *s, int32_t cpu, int32_t item, int64_t delta) noexcept nogil:
    s.vm_event[cpu * NR_VM_EVENT_ITEMS + item] += delta


cdef inline void count_numa_event(zone *z, int32_t item, int64_t delta) noexcept nogil:
    z.numa_event[item] += delta


cdef inline void count_zone_event(zone *z, int32_t item, int64_t delta) noexcept nogil:
    """The model's own counters of a zone."""
    z.event[item] += delta


cdef inline int64_t zone_event(const zone *z, int32_t item) noexcept nogil:
    return z.event[item]


cdef inline void count_op_call(MMState *s, int32_t op, uint64_t delta) noexcept nogil:
    """A call upward that nobody was registered to answer."""
    s.g.nr_op_calls[op] += delta
