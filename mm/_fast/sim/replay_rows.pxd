# Rows of a replay: trace events put in the order in which they acted on the allocator.
#
# A recorded kernel names a page's way in several events.  Stage one (attach.pyx) ties those of one operation together
# and needs no allocator; stage two (replay.pyx) runs the operations on a machine.

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
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

cdef extern:
    # attach
    int64_t mm_attach_rows(const TraceColumns *t, int64_t begin, int64_t end, int64_t total, int64_t first_src,
                           int32_t *nxt, int32_t *prv, int32_t *last, uint8_t *done, ReplayRow *out) noexcept nogil
