# One line of a kernel text trace, and what a parser finds in it.
#
# A line is prefix, event name, payload:
#
#     comm-pid  [cpu] flags  seconds.micros: event: key=value key=value ...
#
# Producers differ in the prefix (ftrace, trace-cmd report, perf script, function_graph), kernels in the payload.  So
# the prefix is recognised by shape, anchored at `[cpu]` and the time, and the payload is read by key, never by column.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

# What a line is.
cpdef enum LineKind:
    LINE_EVENT = 0          # an event that is converted; FtraceEvent is complete
    LINE_UNKNOWN = 1        # a well-formed event of another name (event, event_len)
    LINE_MALFORMED = 2      # the name is known, the payload is not usable (problem)
    LINE_LOST = 3           # events are missing: cpu and nr, TRACE_CPU_UNKNOWN and NR_UNKNOWN if unsaid
    LINE_HEADER = 4         # starts with #, or trace-cmd's "cpus=", or an annotation of the ring buffer
    LINE_BLANK = 5
    LINE_STACK = 6          # part of a stack trace
    LINE_UNPARSED = 7       # none of these
    NR_LINE_KINDS = 8

# Events that are converted.  mm_page_free_direct and mm_pagevec_free (before 3.3) are EV_FREE and EV_FREE_BATCHED.
cpdef enum EventName:
    EV_ALLOC = 0
    EV_FREE = 1
    EV_FREE_BATCHED = 2
    EV_ZONE_LOCKED = 3
    EV_PCPU_DRAIN = 4
    EV_EXTFRAG = 5
    EV_KSWAPD_WAKE = 6
    EV_KSWAPD_SLEEP = 7
    EV_DIRECT_RECLAIM_BEGIN = 8
    EV_DIRECT_RECLAIM_END = 9
    EV_COMPACTION_BEGIN = 10
    EV_COMPACTION_END = 11
    NR_EVENT_NAMES = 12

# Which keys a payload had; one bit each.
cpdef enum EventKey:
    KEY_PFN = 0x1
    KEY_ORDER = 0x2
    KEY_MIGRATETYPE = 0x4
    KEY_GFP = 0x8
    KEY_PERCPU_REFILL = 0x10
    KEY_ALLOC_ORDER = 0x20
    KEY_FALLBACK_ORDER = 0x40
    KEY_PAGEBLOCK_ORDER = 0x80
    KEY_ALLOC_MIGRATETYPE = 0x100
    KEY_FALLBACK_MIGRATETYPE = 0x200
    KEY_CHANGE_OWNERSHIP = 0x400
    KEY_NID = 0x800
    KEY_NR_RECLAIMED = 0x1000
    KEY_MODE = 0x2000
    KEY_STATUS = 0x4000
    KEY_MIGRATE_PFN = 0x8000

# Why a line of a known event was not usable.
cpdef enum LineProblem:
    PROBLEM_NONE = 0
    PROBLEM_MISSING_KEY = 1     # a key that the event needs is absent
    PROBLEM_BAD_NUMBER = 2      # a value is no number, or negative, or beyond 64 bits
    PROBLEM_PFN_RANGE = 3       # pfn beyond 0xfffffffd
    PROBLEM_ORDER_RANGE = 4     # order beyond TRACE_ORDER_LIMIT
    PROBLEM_UNALIGNED = 5       # pfn is not a multiple of the block size
    PROBLEM_FIELD_RANGE = 6     # a small field (migratetype, node) beyond its column
    PROBLEM_CPU_RANGE = 7
    NR_LINE_PROBLEMS = 8

# Shape of the prefix, to tell recorders apart.
cpdef enum PrefixShape:
    SHAPE_NONE = 0
    SHAPE_FLAGS = 1         # comm-pid [cpu] flags time
    SHAPE_NO_FLAGS = 2      # comm-pid [cpu] time: trace-cmd report without the column, very old ftrace
    SHAPE_PERF = 3          # comm tid [cpu] time, or pid/tid
    SHAPE_GLUED = 4         # comm-pid cpu+flags time: latency format
    SHAPE_GRAPH = 5         # function_graph comment

cdef enum:
    COMM_BYTES = 16         # TASK_COMM_LEN
    TIME_INTEGER = 1        # FtraceEvent.clock: the time was a bare integer, unit unknown
    TIME_MISSING = 2        # no time on the line

cdef struct FtraceEvent:
    int64_t time_ns         # since the recorder's zero; the bare number for TIME_INTEGER
    uint64_t pfn
    uint64_t nr             # events lost, pages reclaimed
    const char *comm        # into the line
    const char *event
    const char *gfp
    uint32_t comm_len
    uint32_t event_len
    uint32_t gfp_len
    uint32_t keys           # EventKey bits
    uint32_t context        # TraceFlag bits 0-3
    int32_t pid
    uint32_t cpu
    uint32_t order
    uint32_t migratetype
    uint32_t percpu_refill
    uint32_t fallback_order
    uint32_t pageblock_order
    uint32_t fallback_migratetype
    uint32_t change_ownership
    int32_t nid
    uint8_t mode_sync
    uint8_t status          # TraceCompactStatus
    uint8_t shape           # PrefixShape
    uint8_t clock           # TIME_* bits
    uint8_t name            # EventName
    uint8_t problem         # LineProblem

# Parses the line [line, end), without its newline.  Nothing outside is read; `end` may be followed by anything.
# Returns a LineKind; `ev` is written in full for LINE_EVENT, as far as it goes for the others.
cdef uint32_t ftrace_parse_line(const char *line, const char *end, FtraceEvent *ev) noexcept nogil
