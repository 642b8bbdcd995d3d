# The native trace's vocabulary: operations, causes, flag bits, sentinels.  The one list; Python derives its names.
#
# A trace is a table with one row an event, in replay order (mm/sim/trace writes and reads it).  Column meaning by
# operation, where it differs from the column's own:
#
#   op                order          migratetype        pfn                 handle              flags
#   ALLOC             block order    as recorded        result or sentinel  block, NONE if it   context
#                                                                           failed
#   FREE              block order    255                first page          block               context, FREE_*
#   BULK_ALLOC        0              as ALLOC           as ALLOC            page                context
#   REFILL            block order    list               first page          NONE                context, REFILL_PERCPU
#   DRAIN             block order    list               first page          NONE                context
#   EXTFRAG           alloc_order    alloc_migratetype  first page of the   NONE                context, EXTFRAG_*
#                                                       block taken
#   SPLIT             order of both  255                first page of the   block, keeps the    handle of the upper
#                     halves                            upper half          lower half          half (all 32 bits)
#   RECLAIM_BEGIN     request        255                UNKNOWN             NONE                context, RECLAIM_KSWAPD
#   RECLAIM_END       0              255                pages reclaimed     NONE                context, RECLAIM_KSWAPD
#   COMPACTION_BEGIN  0              255                migrate scanner     NONE                context, COMPACTION_SYNC
#   COMPACTION_END    0              255                migrate scanner     NONE                and COMPACTION_STATUS
#   GAP               0              255                events lost,        NONE                0
#                                                       UNKNOWN if unsaid
#
# kswapd's wake and sleep are RECLAIM_BEGIN and RECLAIM_END with RECLAIM_KSWAPD; `node` is its node.

from libc.stdint cimport uint32_t

# Column `op`.  Other values are kept, counted and skipped by every reader.
cpdef enum TraceOp:
    TRACE_ALLOC = 0
    TRACE_FREE = 1
    TRACE_BULK_ALLOC = 2
    TRACE_REFILL = 3            # mm_page_alloc_zone_locked: buddy to per-cpu list, or straight to the caller
    TRACE_DRAIN = 4             # mm_page_pcpu_drain: per-cpu list to buddy
    TRACE_EXTFRAG = 5           # a block taken from another migratetype
    TRACE_SPLIT = 6             # a held block became two; inferred from frees of parts
    TRACE_MIGRATE = 7
    TRACE_RECLAIM_BEGIN = 8
    TRACE_RECLAIM_END = 9
    TRACE_COMPACTION_BEGIN = 10
    TRACE_COMPACTION_END = 11
    TRACE_KNOB = 12
    TRACE_ACCESS = 13
    TRACE_MAP = 14
    TRACE_FAULT = 15
    TRACE_MARKER = 254
    TRACE_GAP = 255             # events of this CPU are missing here, up to time_ns

# Column `cause`: why a free happened.
cpdef enum TraceCause:
    CAUSE_UNKNOWN = 0
    CAUSE_UNMAP = 1
    CAUSE_KSWAPD = 2
    CAUSE_DIRECT_RECLAIM = 3
    CAUSE_COMPACTION = 4
    CAUSE_TRUNCATE = 5
    CAUSE_SLAB = 6

# Column `flags`.  Bits 0-3: in which context the event was recorded.  Bits 4-7: how the row came to be.
# Bits 8 and up belong to the operation.
cpdef enum TraceFlag:
    TRACE_IN_SOFTIRQ = 0x01
    TRACE_IN_HARDIRQ = 0x02
    TRACE_IN_NMI = 0x04
    TRACE_CONTEXT_KNOWN = 0x08      # unset: the recorder did not say, bits 0-2 are 0
    TRACE_SYNTHESISED = 0x10        # not recorded, inferred from a later row
    FREE_UNKNOWN_PAGE = 0x20        # FREE: nothing in this trace allocated the page
    FREE_BATCHED = 0x40             # FREE: through free_unref_page_list; the row stands at the insertion
    REFILL_PERCPU = 0x80            # REFILL: onto a per-cpu list; unset: handed to the caller
    RECLAIM_KSWAPD = 0x100          # RECLAIM_*: kswapd woke or slept; unset: direct reclaim
    COMPACTION_SYNC = 0x100         # COMPACTION_*: mode=sync
    EXTFRAG_CHANGE_OWNERSHIP = 0x1000000    # EXTFRAG: the pageblock has the requested type now

# Numbers inside column `flags`: lowest bit of each, all 4 bits wide (TRACE_FIELD_MASK).
cpdef enum TraceField:
    TRACE_FIELD_MASK = 0xf
    EXTFRAG_FALLBACK_ORDER_SHIFT = 8
    COMPACTION_STATUS_SHIFT = 9             # TraceCompactStatus
    EXTFRAG_ALLOC_MIGRATETYPE_SHIFT = 12
    EXTFRAG_FALLBACK_MIGRATETYPE_SHIFT = 16
    EXTFRAG_PAGEBLOCK_ORDER_SHIFT = 20

# COMPACTION_END's status, as the kernel prints it (COMPACTION_STATUS in trace/events/mmflags.h).
cpdef enum TraceCompactStatus:
    COMPACT_STATUS_UNKNOWN = 0
    COMPACT_STATUS_NOT_SUITABLE_ZONE = 1
    COMPACT_STATUS_SKIPPED = 2
    COMPACT_STATUS_DEFERRED = 3
    COMPACT_STATUS_NO_SUITABLE_PAGE = 4
    COMPACT_STATUS_CONTINUE = 5
    COMPACT_STATUS_COMPLETE = 6
    COMPACT_STATUS_PARTIAL_SKIPPED = 7
    COMPACT_STATUS_CONTENDED = 8
    COMPACT_STATUS_SUCCESS = 9

# Sentinels and limits.
cpdef enum TraceLimit:
    TRACE_MIGRATETYPE_UNKNOWN = 255
    TRACE_NODE_LOCAL = -1           # the CPU's own node
    TRACE_CPU_UNKNOWN = 65535
    TRACE_ORDER_LIMIT = 20          # orders 0..20; every Linux configuration is below

# Four bytes wide and unsigned, so no enum (a C enum constant is an int).
cdef inline uint32_t trace_pfn_unknown() noexcept nogil:
    return 0xffffffff

cdef inline uint32_t trace_pfn_failed() noexcept nogil:
    return 0xfffffffe

cdef inline uint32_t trace_handle_none() noexcept nogil:
    return 0xffffffff
