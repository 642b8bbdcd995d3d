# Rows of a replay: trace events put in the order in which they acted on the allocator.
#
# A recorded kernel names a page's way in several events.  Stage one (attach.pyx) ties those of one operation together
# and needs no allocator; stage two (replay.pyx) runs the operations on a machine.

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from mm._fast.physical.gfp_zone cimport gfp_migratetype
from mm._fast.sim.trace_ops cimport TRACE_IN_HARDIRQ, TRACE_IN_NMI, TRACE_IN_SOFTIRQ
from mm._fast.state cimport (extfrag_log, MIGRATE_RECLAIMABLE, MMState, PG_valid, PG_ZONE_MASK, PG_ZONE_SHIFT, per_cpu_pages, zone)
from mm._fast.vmstat cimport zone_pcp

cdef enum:
    KSWAPD_IDLE = 0
    KSWAPD_ACTIVE = 1
    KSWAPD_ENDED = 2            # by inference: may be taken back until it wakes again
    ROW_BULK = 100              # refills that no allocation owns: a bulk allocation without an event
    ROW_DRAINED = 101           # drains that no free caused
    BATCH_LOOK = 4096           # rows of one CPU: the longest run of refills that is followed
    IRQ_LOOK = 256              # rows of one CPU: the longest visit of an interrupt
    HISTORY_ROWS = 8192         # rows kept before a window and looked at behind it

# Columns of a window of the trace, as NumPy arrays hold them; all of the same length.
cdef struct TraceColumns:
    const uint8_t *op
    const uint8_t *order
    const uint8_t *migratetype
    const uint16_t *cpu
    const int16_t *node
    const uint32_t *gfp
    const uint32_t *handle
    const uint32_t *pfn
    const uint32_t *flags
    const int64_t *time_ns

cdef struct ReplayRow:
    int64_t time_ns
    uint64_t claims             # recorded answers 'the pageblock changes its type', the first in bit 0
    uint32_t src                # row in the trace, from the start of the replay's result array
    uint32_t gfp
    uint32_t handle
    uint32_t pfn                # recorded
    uint32_t flags
    uint32_t nr_refilled        # blocks that a refill took from buddy for this operation
    uint32_t drained            # pages that went from pcp lists to buddy with this free
    uint16_t cpu
    int16_t node
    uint8_t op                  # TraceOp or ROW_*
    uint8_t order
    uint8_t migratetype
    uint8_t nr_claims
    uint8_t in_irq
    uint8_t done

# What a replay counted.  The Python names are derived from the fields.
cdef struct ReplayCounts:
    int64_t events              # rows run
    int64_t allocs              # allocations
    int64_t alloc_failures      # that the model could not serve
    int64_t frees
    int64_t pfn_known           # allocations with a recorded outcome
    int64_t pfn_equal           # of these: the model's answer is the recorded one
    int64_t one_step_total      # guided: allocations with a recorded outcome
    int64_t one_step_equal      # guided: the model would have decided as recorded
    int64_t contradictions      # guided: the recorded block was not free, or the recorded failure had memory
    int64_t inferred_below_head     # pages taken by hidden bulk allocations, by what told it
    int64_t inferred_list_empty
    int64_t inferred_refill
    int64_t inferred_drain
    int64_t lost_frees          # guided: blocks handed out again that the model still held
    int64_t late_allocs         # allocations run before the interrupt that came before their event
    int64_t kswapd_toggles      # changes of the pcp limit under kswapd that a drain told
    int64_t zones_explained     # zone choices explained by what has no event: folded counters, kswapd's end, a lost boost
    int64_t zones_forced        # zone choices taken from the recording
    int64_t drains_alone        # drains that no free caused
    int64_t unknown_frees       # frees of pages that nothing in the trace allocated
    int64_t bad_frees           # frees of a page that is free in the model: skipped
    int64_t refused_frees       # frees of what the model had not been able to allocate: skipped
    int64_t splits              # blocks split because a part was freed
    int64_t bulk_high_order     # hidden refills of order > 0: not inferred
    int64_t gaps                # rows that say events are missing
    int64_t lost_events         # events missing by their count
    int64_t extfrag_dropped     # thefts between two samples that were more than the log of events holds
    int64_t other_rows          # rows of operations that a page-allocator replay does not run
    int64_t bad_rows            # rows out of range (CPU, node, order, mask): skipped

cdef struct ReplayState:
    MMState *s
    uint32_t *pfn_of            # [nr_handles]: what the model holds for a handle
    uint32_t nr_handles
    uint32_t *result            # [rows of the window], by ReplayRow.src - first_src
    int64_t first_src
    int64_t *noted_boost        # [nr_zones]: boost that kswapd found when it began
    int8_t *kswapd              # [nr_nodes]: KSWAPD_*
    bint is_guided
    bint is_inferring
    int64_t guided_until_ns
    extfrag_log log             # attached to the machine while rows run, if its size is not 0
    ReplayCounts c


cdef inline zone *zone_of(MMState *s, uint32_t pfn) noexcept nogil:
    return &s.zones[(s.page[pfn].flags & PG_ZONE_MASK) >> PG_ZONE_SHIFT]


cdef inline per_cpu_pages *pcp_of(MMState *s, const zone *z, int32_t cpu) noexcept nogil:
    return zone_pcp(s, <int32_t>(z - s.zones), cpu)


cdef inline int32_t row_mt(const ReplayRow *row) noexcept nogil:
    return row.migratetype if row.migratetype <= MIGRATE_RECLAIMABLE else gfp_migratetype(row.gfp)


cdef inline bint is_pfn(const MMState *s, uint32_t pfn) noexcept nogil:
    """A recorded PFN that this machine has a page for."""
    return pfn < s.g.nr_pages and s.page[pfn].flags & PG_valid != 0


cdef inline void set_claims(MMState *s, const ReplayRow *row) noexcept nogil:
    s.g.claim_hints = row.claims
    s.g.nr_claim_hints = row.nr_claims


cdef inline bint in_irq(const TraceColumns *t, int64_t i) noexcept nogil:
    return t.flags[i] & (TRACE_IN_SOFTIRQ | TRACE_IN_HARDIRQ | TRACE_IN_NMI) != 0


cdef inline void fill_row(ReplayRow *row, const TraceColumns *t, int64_t i, int64_t first_src) noexcept nogil:
    row.time_ns = t.time_ns[i]
    row.claims = 0
    row.src = <uint32_t>(first_src + i)
    row.gfp = t.gfp[i]
    row.handle = t.handle[i]
    row.pfn = t.pfn[i]
    row.flags = t.flags[i]
    row.nr_refilled = 0
    row.drained = 0
    row.cpu = t.cpu[i]
    row.node = t.node[i]
    row.op = t.op[i]
    row.order = t.order[i]
    row.migratetype = t.migratetype[i]
    row.nr_claims = 0
    row.in_irq = in_irq(t, i)
    row.done = 0


cdef extern:
    # attach
    int64_t mm_attach_rows(const TraceColumns *t, int64_t begin, int64_t end, int64_t total, int64_t first_src,
                           int32_t *nxt, int32_t *prv, int32_t *last, uint8_t *done, ReplayRow *out) noexcept nogil
    # infer
    int64_t mm_list_length(const MMState *s, uint32_t head, uint32_t stop) noexcept nogil
    bint mm_infer_before_alloc(ReplayState *r, const ReplayRow *row) noexcept nogil
    bint mm_settle_zone(ReplayState *r, const ReplayRow *row) noexcept nogil
    void mm_infer_before_free(ReplayState *r, const ReplayRow *row, zone *z) noexcept nogil
    void mm_infer_bulk(ReplayState *r, const ReplayRow *row) noexcept nogil
    void mm_infer_kswapd(ReplayState *r, const ReplayRow *row) noexcept nogil
