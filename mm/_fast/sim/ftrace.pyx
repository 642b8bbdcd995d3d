"""Parser of one line of a kernel text trace: ftrace, trace-cmd report, perf script, function_graph.

Linux: kernel/trace/trace_output.c (prefix), include/trace/events/{kmem,vmscan,compaction}.h (payload, all versions).
Modelled: prefix by shape, payload by key, lost-event markers.  Not modelled: events other than EventName (their name
is reported), raw (`-R`) and binary output, perf trace (it has no CPU).  Invariants: only bytes of the line are read;
a line is consumed in one pass over its payload; no allocation, no Python.  Cost: about 0.1 us a line.
"""

from libc.string cimport memchr, memcmp, memset

from mm._fast.sim.text_scan cimport (before, hex_digit, is_digit, is_flag, is_hex, is_word, parse_decimal, skip_spaces,
                                     starts_with)
from mm._fast.sim.trace_ops cimport (COMPACT_STATUS_COMPLETE, COMPACT_STATUS_CONTENDED, COMPACT_STATUS_CONTINUE,
                                     COMPACT_STATUS_DEFERRED, COMPACT_STATUS_NOT_SUITABLE_ZONE,
                                     COMPACT_STATUS_NO_SUITABLE_PAGE, COMPACT_STATUS_PARTIAL_SKIPPED,
                                     COMPACT_STATUS_SKIPPED, COMPACT_STATUS_SUCCESS, COMPACT_STATUS_UNKNOWN,
                                     TRACE_CONTEXT_KNOWN, TRACE_CPU_UNKNOWN, TRACE_IN_HARDIRQ, TRACE_IN_NMI,
                                     TRACE_IN_SOFTIRQ, TRACE_MIGRATETYPE_UNKNOWN, TRACE_NODE_LOCAL, TRACE_ORDER_LIMIT)

cdef enum:
    PID_COLUMN = 17         # ftrace and trace-cmd print comm as %16s and a dash
    MAX_FLAGS = 8           # characters of the flags column; 4 or 5 so far
    MIN_FLAGS = 4
    MAX_TGID = 32           # how far back the ( of a thread group id is looked for


cdef uint32_t ftrace_parse_line(const char *line, const char *end, FtraceEvent *ev) noexcept nogil:
    cdef const char *p
    memset(ev, 0, sizeof(FtraceEvent))
    ev.nid = TRACE_NODE_LOCAL
    ev.cpu = TRACE_CPU_UNKNOWN
    ev.pid = -1
    ev.migratetype = TRACE_MIGRATETYPE_UNKNOWN
    if end > line and before(end) == c'\r':
        end -= 1
    p = parse_prefix(line, end, ev)
    if p == NULL:
        return classify(line, end, ev)
    ev.name = <uint8_t>event_name(ev.event, ev.event_len)
    if ev.name == NR_EVENT_NAMES:
        return LINE_UNKNOWN
    parse_payload(p, end, ev)
    if ev.problem == PROBLEM_NONE:
        check_event(ev)
    return LINE_EVENT if ev.problem == PROBLEM_NONE else LINE_MALFORMED


# ---- prefix

cdef const char *parse_prefix(const char *line, const char *end, FtraceEvent *ev) noexcept nogil:
    """Fills task, cpu, context, time and event name; returns the start of the payload, NULL if no shape fits.

    The dash in the column where ftrace puts it is tried first: then a comm that looks like a prefix cannot deceive.
    """
    cdef const char *p
    cdef const char *bracket
    if end - line > PID_COLUMN and line[PID_COLUMN - 1] == c'-' and is_digit(line[PID_COLUMN]):
        p = parse_after_dash(line + PID_COLUMN, end, ev)
        if p != NULL:
            set_comm(ev, line, line + PID_COLUMN - 1)
            return p
    bracket = line
    while True:
        bracket = <const char *>memchr(bracket, c'[', end - bracket)
        if bracket == NULL:
            break
        p = parse_around_bracket(line, bracket, end, ev)
        if p != NULL:
            return p
        bracket += 1
    p = parse_glued(line, end, ev)
    return p if p != NULL else parse_graph(line, end, ev)


cdef const char *parse_after_dash(const char *p, const char *end, FtraceEvent *ev) noexcept nogil:
    """`pid [(tgid)] [cpu] ...` from the first digit of pid."""
    cdef uint64_t pid = 0
    p = parse_decimal(p, end, &pid)
    if p == NULL:
        return NULL
    p = skip_spaces(p, end)
    if p < end and p[0] == c'(':
        while p < end and p[0] != c')':
            p += 1
        p = skip_spaces(p + 1, end) if p < end else end
    if p >= end or p[0] != c'[':
        return NULL
    p = parse_cpu_and_time(p + 1, end, ev)
    if p != NULL:
        ev.pid = <int32_t>pid if pid < 0x7fffffff else -1
    return p


cdef const char *parse_around_bracket(const char *line, const char *bracket, const char *end,
                                      FtraceEvent *ev) noexcept nogil:
    """`task [cpu] ...` where task ends before `bracket`: comm-pid, comm-pid (tgid), comm tid, comm pid/tid."""
    cdef const char *task = bracket
    cdef const char *digits
    cdef const char *after
    cdef uint64_t pid = 0
    if task == line:
        return NULL
    while task > line and before(task) == c' ':
        task -= 1
    if task > line and before(task) == c')':
        while task > line and before(task) != c'(' and bracket - task < MAX_TGID:
            task -= 1
        task -= task > line
        while task > line and before(task) == c' ':
            task -= 1
    digits = task
    while digits > line and is_digit(before(digits)):
        digits -= 1
    if digits == line or digits == task or parse_decimal(digits, task, &pid) == NULL:
        return NULL
    if before(digits) != c'-' and before(digits) != c' ' and before(digits) != c'/':
        return NULL
    after = parse_cpu_and_time(bracket + 1, end, ev)
    if after == NULL:
        return NULL
    ev.pid = <int32_t>pid if pid < 0x7fffffff else -1
    if before(digits) != c'-':
        ev.shape = SHAPE_PERF
    if before(digits) == c'/':
        digits -= 1
        while digits > line and is_digit(before(digits)):
            digits -= 1
    set_comm(ev, line, digits - (1 if digits > line else 0))
    return after


cdef const char *parse_cpu_and_time(const char *p, const char *end, FtraceEvent *ev) noexcept nogil:
    """`cpu] [flags] time: [subsystem:]event:` from the first digit of cpu; returns the start of the payload."""
    cdef uint64_t cpu = 0
    cdef const char *after
    p = parse_decimal(p, end, &cpu)
    if p == NULL or p >= end or p[0] != c']':
        return NULL
    p = skip_spaces(p + 1, end)
    ev.shape = SHAPE_NO_FLAGS
    after = parse_time(p, end, ev)
    if after == NULL:
        p = parse_flags(p, end, ev)
        if p == NULL:
            return NULL
        after = parse_time(skip_spaces(p, end), end, ev)
        if after == NULL:
            ev.context = 0
            return NULL
        ev.shape = SHAPE_FLAGS
    set_cpu(ev, cpu)
    return parse_event(after, end, ev)


cdef const char *parse_flags(const char *p, const char *end, FtraceEvent *ev) noexcept nogil:
    """The flags column: irqs off, need resched, context, preempt depth, migrate disable.  Sets ev.context."""
    cdef const char *start = p
    while p < end and p[0] != c' ' and p - start <= MAX_FLAGS:
        if not is_flag(p[0]):
            return NULL
        p += 1
    if p - start < MIN_FLAGS or p - start > MAX_FLAGS:
        return NULL
    ev.context = context_of(start[2])
    return p


cdef uint32_t context_of(char letter) noexcept nogil:
    """TraceFlag bits of the third flag: Z NMI in hardirq, z NMI, H hardirq in softirq, h hardirq, s softirq."""
    cdef uint32_t context = TRACE_CONTEXT_KNOWN
    if letter == c'h' or letter == c'H' or letter == c'Z':
        context |= TRACE_IN_HARDIRQ
    if letter == c's' or letter == c'H':
        context |= TRACE_IN_SOFTIRQ
    if letter == c'z' or letter == c'Z':
        context |= TRACE_IN_NMI
    return context


cdef const char *parse_time(const char *p, const char *end, FtraceEvent *ev) noexcept nogil:
    """`seconds.fraction:` or `integer:`; returns what follows the colon."""
    cdef uint64_t whole = 0
    cdef uint64_t part = 0
    cdef int64_t scale = 1000000000
    cdef const char *start
    p = parse_decimal(p, end, &whole)
    if p == NULL or p >= end:
        return NULL
    if p[0] == c':':
        ev.time_ns = <int64_t>whole
        ev.clock = TIME_INTEGER
        return p + 1 if whole <= 0x7fffffffffffffffULL else NULL
    if p[0] != c'.' or whole > 9000000000ULL:
        return NULL
    p += 1
    start = p
    while p < end and is_digit(p[0]):
        if p - start < 9:
            part = part * 10 + <uint64_t>(p[0] - c'0')
            scale //= 10
        p += 1
    if p == start or p >= end or p[0] != c':':
        return NULL
    ev.time_ns = <int64_t>whole * 1000000000LL + <int64_t>part * scale
    ev.clock = 0
    return p + 1


cdef const char *parse_event(const char *p, const char *end, FtraceEvent *ev) noexcept nogil:
    """`[period] [subsystem:]event:`; returns what follows the last colon, NULL if that is no event."""
    cdef const char *start = skip_spaces(p, end)
    cdef const char *word
    p = start
    while p < end and is_digit(p[0]):       # perf script may print the sampling period
        p += 1
    word = skip_spaces(p, end) if p > start and p < end and p[0] == c' ' else start
    p = word
    while p < end and is_word(p[0]):
        p += 1
    if p == word or p >= end or p[0] != c':':
        return NULL
    ev.event = word
    ev.event_len = <uint32_t>(p - word)
    word = p + 1
    p = word
    while p < end and is_word(p[0]):
        p += 1
    if p > word and p < end and p[0] == c':' and (p + 1 == end or p[1] == c' '):
        ev.event = word
        ev.event_len = <uint32_t>(p - word)
        return p + 1
    return word


cdef const char *parse_glued(const char *line, const char *end, FtraceEvent *ev) noexcept nogil:
    """Latency format: `comm-pid  0d.h1. 106467.859747: event:`, cpu and flags in one word."""
    cdef const char *dash = line
    cdef const char *p
    cdef uint64_t pid = 0
    cdef uint64_t cpu = 0
    while True:
        dash = <const char *>memchr(dash, c'-', end - dash)
        if dash == NULL:
            return NULL
        p = parse_decimal(dash + 1, end, &pid)
        if p != NULL and p < end and p[0] == c' ':
            p = parse_decimal(skip_spaces(p, end), end, &cpu)
            if p != NULL:
                p = parse_flags(p, end, ev)
            if p != NULL:
                p = parse_time(skip_spaces(p, end), end, ev)
            if p != NULL:
                p = parse_event(p, end, ev)
            if p != NULL:
                ev.shape = SHAPE_GLUED
                ev.pid = <int32_t>pid if pid < 0x7fffffff else -1
                set_cpu(ev, cpu)
                set_comm(ev, line, dash)
                return p
        ev.context = 0
        dash += 1


cdef const char *parse_graph(const char *line, const char *end, FtraceEvent *ev) noexcept nogil:
    """function_graph: `[time |] cpu) [task |] duration |  /* event: payload */`."""
    cdef const char *slash = line
    cdef const char *paren = <const char *>memchr(line, c')', end - line)
    cdef const char *digits
    cdef const char *p
    cdef uint64_t cpu = 0
    if paren == NULL or paren == line:
        return NULL
    digits = paren
    while digits > line and is_digit(before(digits)):
        digits -= 1
    if digits == paren or parse_decimal(digits, paren, &cpu) == NULL:
        return NULL
    slash = paren
    while True:
        slash = <const char *>memchr(slash, c'/', end - slash)
        if slash == NULL or end - slash < 3:
            return NULL
        if slash[1] == c'*' and slash[2] == c' ':
            break
        slash += 1
    p = parse_event(slash + 3, end, ev)
    if p == NULL:
        return NULL
    ev.shape = SHAPE_GRAPH
    ev.clock = TIME_MISSING
    ev.context = 0
    set_cpu(ev, cpu)
    parse_graph_time(skip_spaces(line, end), digits, ev)
    return p


cdef void parse_graph_time(const char *p, const char *end, FtraceEvent *ev) noexcept nogil:
    """The absolute time that `funcgraph-abstime` puts first: `seconds.micros |`."""
    cdef uint64_t whole = 0
    cdef uint64_t part = 0
    cdef const char *dot = parse_decimal(p, end, &whole)
    cdef const char *after
    if dot == NULL or dot >= end or dot[0] != c'.' or whole > 9000000000ULL:
        return
    after = parse_decimal(dot + 1, end, &part)
    if after != NULL and after - dot == 7:
        ev.time_ns = <int64_t>whole * 1000000000LL + <int64_t>part * 1000
        ev.clock = 0


# ---- lines that are no events

cdef uint32_t classify(const char *line, const char *end, FtraceEvent *ev) noexcept nogil:
    cdef const char *p = line
    while p < end and (p[0] == c' ' or p[0] == c'\t'):
        p += 1
    if p == end:
        return LINE_BLANK
    if p[0] == c'#' or starts_with(p, end, "cpus=", 5):
        return LINE_HEADER
    if parse_lost(p, end, ev):
        return LINE_LOST
    if starts_with(p, end, "=> ", 3) or starts_with(p, end, "<stack trace", 12) or \
            starts_with(p, end, "<user stack trace", 17):
        return LINE_STACK
    if p > line and is_hex(p[0]):           # perf script's call chain: address symbol (object)
        while p < end and is_hex(p[0]):
            p += 1
        if p < end and p[0] == c' ':
            return LINE_STACK
    return LINE_UNPARSED


cdef bint parse_lost(const char *p, const char *end, FtraceEvent *ev) noexcept nogil:
    """`CPU:n [LOST k EVENTS]`, `CPU:n [EVENTS DROPPED]`, `CPU n [k EVENTS DROPPED]`, `LOST k events!`."""
    cdef uint64_t number = 0
    cdef const char *q
    ev.nr = 0
    if starts_with(p, end, "LOST ", 5):
        return parse_decimal(p + 5, end, &ev.nr) != NULL
    if not starts_with(p, end, "CPU", 3) or end - p < 5 or (p[3] != c':' and p[3] != c' '):
        return False
    q = parse_decimal(skip_spaces(p + 4, end), end, &number)
    if q == NULL:
        return False
    q = skip_spaces(q, end)
    if q >= end or q[0] != c'[':
        return False
    q += 1
    if starts_with(q, end, "LOST ", 5):
        if parse_decimal(q + 5, end, &ev.nr) == NULL:
            return False
    elif not starts_with(q, end, "EVENTS DROPPED", 14):
        q = parse_decimal(q, end, &ev.nr)
        if q == NULL or not starts_with(skip_spaces(q, end), end, "EVENTS DROPPED", 14):
            return False
    set_cpu(ev, number)
    return True


# ---- payload

cdef uint32_t event_name(const char *s, uint32_t n) noexcept nogil:
    """EventName of a name, NR_EVENT_NAMES if it is not converted."""
    if n < 12 or memcmp(s, <const char *>"mm_", 3) != 0:
        return NR_EVENT_NAMES
    if n == 13 and memcmp(s, <const char *>"mm_page_alloc", 13) == 0:
        return EV_ALLOC
    if n == 12 and memcmp(s, <const char *>"mm_page_free", 12) == 0:
        return EV_FREE
    if n == 20 and memcmp(s, <const char *>"mm_page_free_batched", 20) == 0:
        return EV_FREE_BATCHED
    if n == 25 and memcmp(s, <const char *>"mm_page_alloc_zone_locked", 25) == 0:
        return EV_ZONE_LOCKED
    if n == 18 and memcmp(s, <const char *>"mm_page_pcpu_drain", 18) == 0:
        return EV_PCPU_DRAIN
    if n == 21 and memcmp(s, <const char *>"mm_page_alloc_extfrag", 21) == 0:
        return EV_EXTFRAG
    if n == 21 and memcmp(s, <const char *>"mm_vmscan_kswapd_wake", 21) == 0:
        return EV_KSWAPD_WAKE
    if n == 22 and memcmp(s, <const char *>"mm_vmscan_kswapd_sleep", 22) == 0:
        return EV_KSWAPD_SLEEP
    if n == 30 and memcmp(s, <const char *>"mm_vmscan_direct_reclaim_begin", 30) == 0:
        return EV_DIRECT_RECLAIM_BEGIN
    if n == 28 and memcmp(s, <const char *>"mm_vmscan_direct_reclaim_end", 28) == 0:
        return EV_DIRECT_RECLAIM_END
    if n == 19 and memcmp(s, <const char *>"mm_compaction_begin", 19) == 0:
        return EV_COMPACTION_BEGIN
    if n == 17 and memcmp(s, <const char *>"mm_compaction_end", 17) == 0:
        return EV_COMPACTION_END
    if n == 19 and memcmp(s, <const char *>"mm_page_free_direct", 19) == 0:
        return EV_FREE
    if n == 15 and memcmp(s, <const char *>"mm_pagevec_free", 15) == 0:
        return EV_FREE_BATCHED
    return NR_EVENT_NAMES


cdef void parse_payload(const char *p, const char *end, FtraceEvent *ev) noexcept nogil:
    """Reads every `key=value`; words without `=` and unknown keys are passed over."""
    cdef const char *key
    cdef const char *value
    while p < end:
        while p < end and (p[0] == c' ' or p[0] == c','):
            p += 1
        key = p
        while p < end and p[0] != c'=' and p[0] != c' ':
            p += 1
        if p >= end or p[0] == c' ':
            continue
        value = p + 1
        p = value
        while p < end and p[0] != c' ' and p[0] != c',':
            p += 1
        take_key(key, <uint32_t>(value - 1 - key), value, p, ev)


cdef void take_key(const char *key, uint32_t n, const char *value, const char *end, FtraceEvent *ev) noexcept nogil:
    """Stores one value by the name of its key; the length tells most keys apart."""
    if n == 3 and memcmp(key, <const char *>"pfn", 3) == 0:
        take_u64(value, end, &ev.pfn, KEY_PFN, ev)
    elif n == 5 and memcmp(key, <const char *>"order", 5) == 0:
        take_u32(value, end, &ev.order, KEY_ORDER, ev)
    elif n == 11 and memcmp(key, <const char *>"migratetype", 11) == 0:
        take_u32(value, end, &ev.migratetype, KEY_MIGRATETYPE, ev)
    elif n == 9 and memcmp(key, <const char *>"gfp_flags", 9) == 0:
        ev.gfp = value
        ev.gfp_len = <uint32_t>(end - value)
        ev.keys |= KEY_GFP
    elif n == 13 and memcmp(key, <const char *>"percpu_refill", 13) == 0:
        take_u32(value, end, &ev.percpu_refill, KEY_PERCPU_REFILL, ev)
    elif n != 4 or memcmp(key, <const char *>"page", 4) != 0:
        take_rare_key(key, n, value, end, ev)


cdef void take_rare_key(const char *key, uint32_t n, const char *value, const char *end,
                        FtraceEvent *ev) noexcept nogil:
    """The keys of extfrag, vmscan and compaction events."""
    if n == 11 and memcmp(key, <const char *>"alloc_order", 11) == 0:
        take_u32(value, end, &ev.order, KEY_ALLOC_ORDER, ev)
    elif n == 14 and memcmp(key, <const char *>"fallback_order", 14) == 0:
        take_u32(value, end, &ev.fallback_order, KEY_FALLBACK_ORDER, ev)
    elif n == 15 and memcmp(key, <const char *>"pageblock_order", 15) == 0:
        take_u32(value, end, &ev.pageblock_order, KEY_PAGEBLOCK_ORDER, ev)
    elif n == 17 and memcmp(key, <const char *>"alloc_migratetype", 17) == 0:
        take_u32(value, end, &ev.migratetype, KEY_ALLOC_MIGRATETYPE, ev)
    elif n == 20 and memcmp(key, <const char *>"fallback_migratetype", 20) == 0:
        take_u32(value, end, &ev.fallback_migratetype, KEY_FALLBACK_MIGRATETYPE, ev)
    elif n == 16 and memcmp(key, <const char *>"change_ownership", 16) == 0:
        take_u32(value, end, &ev.change_ownership, KEY_CHANGE_OWNERSHIP, ev)
    elif n == 3 and memcmp(key, <const char *>"nid", 3) == 0:
        take_u32(value, end, <uint32_t *>&ev.nid, KEY_NID, ev)
    elif n == 12 and memcmp(key, <const char *>"nr_reclaimed", 12) == 0:
        take_u64(value, end, &ev.nr, KEY_NR_RECLAIMED, ev)
    elif n == 11 and memcmp(key, <const char *>"migrate_pfn", 11) == 0:
        take_u64(value, end, &ev.pfn, KEY_MIGRATE_PFN, ev)
    elif n == 13 and memcmp(key, <const char *>"migrate_start", 13) == 0:
        take_u64(value, end, &ev.pfn, KEY_MIGRATE_PFN, ev)
    elif n == 4 and memcmp(key, <const char *>"mode", 4) == 0:
        ev.mode_sync = end - value == 4 and memcmp(value, <const char *>"sync", 4) == 0
        ev.keys |= KEY_MODE
    elif n == 6 and memcmp(key, <const char *>"status", 6) == 0:
        ev.status = compact_status(value, <uint32_t>(end - value))
        ev.keys |= KEY_STATUS


cdef uint8_t compact_status(const char *s, uint32_t n) noexcept nogil:
    if n == 7 and memcmp(s, <const char *>"skipped", 7) == 0:
        return COMPACT_STATUS_SKIPPED
    if n == 8 and memcmp(s, <const char *>"deferred", 8) == 0:
        return COMPACT_STATUS_DEFERRED
    if n == 8 and memcmp(s, <const char *>"continue", 8) == 0:
        return COMPACT_STATUS_CONTINUE
    if n == 7 and memcmp(s, <const char *>"success", 7) == 0:
        return COMPACT_STATUS_SUCCESS
    if n == 15 and memcmp(s, <const char *>"partial_skipped", 15) == 0:
        return COMPACT_STATUS_PARTIAL_SKIPPED
    if n == 8 and memcmp(s, <const char *>"complete", 8) == 0:
        return COMPACT_STATUS_COMPLETE
    if n == 16 and memcmp(s, <const char *>"no_suitable_page", 16) == 0:
        return COMPACT_STATUS_NO_SUITABLE_PAGE
    if n == 17 and memcmp(s, <const char *>"not_suitable_zone", 17) == 0:
        return COMPACT_STATUS_NOT_SUITABLE_ZONE
    if n == 9 and memcmp(s, <const char *>"contended", 9) == 0:
        return COMPACT_STATUS_CONTENDED
    return COMPACT_STATUS_UNKNOWN


cdef void take_u64(const char *p, const char *end, uint64_t *out, uint32_t key, FtraceEvent *ev) noexcept nogil:
    """A number as the kernel prints it: 0x means hexadecimal, anything else is decimal."""
    cdef uint64_t value = 0
    cdef const char *start
    cdef const char *after
    if end - p > 2 and p[0] == c'0' and p[1] == c'x':
        start = p + 2
        after = start
        while after < end and is_hex(after[0]) and after - start < 16:
            value = (value << 4) | hex_digit(after[0])
            after += 1
    else:
        after = parse_decimal(p, end, &value)
    if after != end:
        if not (end - p == 5 and memcmp(p, <const char *>"(nil)", 5) == 0):
            ev.problem = PROBLEM_BAD_NUMBER
            return
        value = 0
    out[0] = value
    ev.keys |= key


cdef void take_u32(const char *p, const char *end, uint32_t *out, uint32_t key, FtraceEvent *ev) noexcept nogil:
    cdef uint64_t value = 0
    take_u64(p, end, &value, key, ev)
    if value > 0x7fffffff:
        ev.problem = PROBLEM_FIELD_RANGE
        value = 0
    out[0] = <uint32_t>value


cdef void check_event(FtraceEvent *ev) noexcept nogil:
    """Sets ev.problem unless everything the event needs is there and fits the trace's columns."""
    cdef uint32_t needed = needed_keys(ev.name)
    if ev.keys & needed != needed:
        ev.problem = PROBLEM_MISSING_KEY
    elif ev.shape != SHAPE_NONE and ev.cpu == TRACE_CPU_UNKNOWN:
        ev.problem = PROBLEM_CPU_RANGE
    elif ev.order > TRACE_ORDER_LIMIT:
        ev.problem = PROBLEM_ORDER_RANGE
    elif ev.migratetype > 255 or ev.nid > 32767 or ev.percpu_refill > 1 or ev.change_ownership > 1:
        ev.problem = PROBLEM_FIELD_RANGE
    elif ev.name == EV_EXTFRAG and (ev.fallback_order > 15 or ev.pageblock_order > 15 or ev.migratetype > 15
                                    or ev.fallback_migratetype > 15):
        ev.problem = PROBLEM_FIELD_RANGE
    elif ev.keys & (KEY_PFN | KEY_MIGRATE_PFN) and ev.pfn > 0xfffffffdULL:
        # A failed allocation is pfn 0, or -1 where the kernel prints its own marker.
        if ev.name == EV_ALLOC and ev.pfn == <uint64_t>-1:
            ev.pfn = 0
        else:
            ev.problem = PROBLEM_PFN_RANGE
    elif ev.name <= EV_PCPU_DRAIN and ev.pfn & ((<uint64_t>1 << ev.order) - 1):
        ev.problem = PROBLEM_UNALIGNED


cdef uint32_t needed_keys(uint32_t name) noexcept nogil:
    if name == EV_ALLOC or name == EV_FREE or name == EV_ZONE_LOCKED or name == EV_PCPU_DRAIN:
        return KEY_PFN | KEY_ORDER
    if name == EV_FREE_BATCHED:
        return KEY_PFN
    if name == EV_EXTFRAG:
        return KEY_PFN | KEY_ALLOC_ORDER | KEY_FALLBACK_ORDER | KEY_ALLOC_MIGRATETYPE | KEY_FALLBACK_MIGRATETYPE
    if name == EV_KSWAPD_WAKE or name == EV_KSWAPD_SLEEP:
        return KEY_NID
    return 0


# ---- small

cdef inline void set_cpu(FtraceEvent *ev, uint64_t cpu) noexcept nogil:
    ev.cpu = <uint32_t>cpu if cpu < TRACE_CPU_UNKNOWN else TRACE_CPU_UNKNOWN

cdef inline void set_comm(FtraceEvent *ev, const char *start, const char *end) noexcept nogil:
    """The command name without padding, cut to what the kernel keeps."""
    while start < end and start[0] == c' ':
        start += 1
    while end > start and before(end) == c' ':
        end -= 1
    ev.comm = start
    ev.comm_len = <uint32_t>(end - start) if end - start < COMM_BYTES else COMM_BYTES


# ---- for Python

def parse_line(bytes line not None):
    """What the parser makes of one line: for tests, and for a look at a line that was not understood.

    Parameters
    ----------
    line : bytes
        Without newline.

    Returns
    -------
    dict
        `kind` and the fields found, numbers as recorded, text as bytes.
    """
    cdef FtraceEvent ev
    cdef const char *start = line
    cdef const char *end = start + len(line)
    cdef uint32_t kind = ftrace_parse_line(start, end, &ev)
    return {
        "kind": LineKind(kind), "shape": PrefixShape(ev.shape), "problem": LineProblem(ev.problem),
        "comm": ev.comm[:ev.comm_len] if ev.comm != NULL else None, "pid": ev.pid, "cpu": ev.cpu,
        "time_ns": ev.time_ns, "clock": ev.clock, "context": ev.context,
        "event": ev.event[:ev.event_len] if ev.event != NULL else None,
        "name": EventName(ev.name) if kind in (LINE_EVENT, LINE_MALFORMED) else None, "keys": ev.keys,
        "pfn": ev.pfn, "order": ev.order, "migratetype": ev.migratetype,
        "gfp": ev.gfp[:ev.gfp_len] if ev.gfp != NULL else None, "percpu_refill": ev.percpu_refill,
        "fallback_order": ev.fallback_order, "pageblock_order": ev.pageblock_order,
        "fallback_migratetype": ev.fallback_migratetype, "change_ownership": ev.change_ownership,
        "nid": ev.nid, "nr": ev.nr, "mode_sync": bool(ev.mode_sync), "status": ev.status,
    }
