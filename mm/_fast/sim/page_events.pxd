# State of one conversion from text to trace rows.
#
# Rows wait in a buffer until they are older than a window, since a later line can still change them:
#   - mm_page_free of a page whose mm_page_free_batched comes later is dropped; the free stands where the page is
#     inserted (free_unref_page_list prepares a whole list before it inserts the first page);
#   - a gap's row gets the time of the next event of its CPU.
# A handle is reused only when the row of its free has left the window, so it is unique while live in the output.

from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from mm._fast.sim.ftrace cimport NR_EVENT_NAMES, NR_LINE_KINDS, NR_LINE_PROBLEMS, FtraceEvent
from mm._fast.sim.held_pages cimport HeldPages
from mm._fast.sim.str_table cimport StrTable

cdef enum:
    ROW_DROPPED = 0xfd          # op of a row that does not leave the buffer
    MAX_LINE_BYTES = 65536      # longer lines are not parsed
    NR_CPUS = 65536             # values of column cpu
    NR_TASKS = 64               # tasks in direct reclaim or compaction at once
    NR_NOTED_LINES = 16         # malformed lines that are reported by number
    NR_SHAPES = 6
    MAX_GFP_STRINGS = 65536
    MAX_COMMS = 65536
    MAX_EVENT_NAMES = 4096

cpdef enum ConvertError:
    CONVERT_OK = 0
    CONVERT_NO_MEMORY = 1
    CONVERT_TABLE_FULL = 2      # more page frames than the table may hold

# What was counted; every member is a uint64_t, Python derives the names (TextConverter.counts).
cdef struct ConvertCounts:
    uint64_t allocs
    uint64_t failed_allocs
    uint64_t frees              # rows, not events
    uint64_t batched_frees      # of frees: mm_page_free and mm_page_free_batched made one
    uint64_t batched_alone      # of frees: mm_page_free_batched without mm_page_free
    uint64_t batched_late       # mm_page_free_batched after its mm_page_free left the window: dropped
    uint64_t repeated_frees     # mm_page_free right after mm_page_free_batched (before 4.15): dropped
    uint64_t lost_frees         # of frees: synthesised, the page was allocated again
    uint64_t unknown_frees      # of frees: nothing in the trace allocated the page
    uint64_t unknown_frees_reused   # of unknown_frees: the page had been freed in the trace before (bulk allocation)
    uint64_t splits             # rows
    uint64_t order_mismatches   # frees of more than was allocated
    uint64_t refills
    uint64_t drains
    uint64_t extfrags
    uint64_t gaps
    uint64_t lost_events
    uint64_t gaps_unsized       # gaps that do not say how many events
    uint64_t time_backwards     # events earlier than the one before on their CPU
    uint64_t time_integer       # events whose time is a bare number
    uint64_t time_missing       # events without a time
    uint64_t context_known      # events with a context column
    uint64_t gfp_missing        # allocations without gfp_flags, or with more distinct masks than are kept
    uint64_t names_dropped      # unknown events beyond MAX_EVENT_NAMES names
    uint64_t held_pages_at_end  # blocks

cdef struct TraceRow:
    int64_t time_ns
    uint32_t pfn
    uint32_t handle
    uint32_t gfp                # id of the string
    uint32_t flags
    int32_t pid
    uint32_t comm               # id of the string
    uint16_t cpu
    int16_t node
    uint8_t op
    uint8_t order
    uint8_t migratetype
    uint8_t cause

cdef struct ConvertCpu:
    int64_t last_time
    uint64_t events
    uint64_t lost
    uint64_t gaps
    uint64_t open_gap           # row number + 1 of a gap that waits for its time, 0 none
    uint32_t last_batched       # pfn + 1 if the CPU's last event was a mm_page_free_batched that stood alone

cdef struct NotedLine:
    uint64_t line
    uint32_t name               # EventName
    uint32_t problem            # LineProblem

cdef struct ReclaimTask:
    int32_t pid
    uint8_t cause               # TraceCause

cdef struct ConvertState:
    TraceRow *rows
    uint64_t nr_rows
    uint64_t max_rows
    uint64_t full_rows          # take() is due
    uint64_t window
    uint64_t first_row          # number of rows[0] in the whole conversion
    HeldPages pages
    uint32_t *free_handles
    uint64_t nr_free_handles
    uint64_t max_free_handles
    uint32_t nr_handles         # handles ever made
    uint64_t last_gap           # row number + 1 of the latest gap, 0 none
    StrTable gfps
    StrTable comms
    StrTable names
    uint64_t *name_counts
    ConvertCpu *cpus
    ReclaimTask tasks[NR_TASKS]
    uint32_t nr_tasks
    uint32_t keep_tasks         # columns pid and comm are wanted
    int64_t first_time
    int64_t last_time
    uint32_t has_time
    uint32_t error              # ConvertError
    uint64_t line
    uint64_t kinds[NR_LINE_KINDS]
    uint64_t events[NR_EVENT_NAMES]
    uint64_t problems[NR_LINE_PROBLEMS]
    uint64_t shapes[NR_SHAPES]
    NotedLine noted[NR_NOTED_LINES]
    uint32_t nr_noted
    ConvertCounts counts

# Appends the rows of one event; sets s.error.
cdef void convert_event(ConvertState *s, const FtraceEvent *ev) noexcept nogil
cdef void convert_gap(ConvertState *s, const FtraceEvent *ev) noexcept nogil
