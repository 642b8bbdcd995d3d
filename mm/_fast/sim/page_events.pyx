"""What the events of a trace mean for its pages: rows, handles, and the frees that two events announce.

Linux: mm/page_alloc.c (free_unref_page_list: all mm_page_free, then all mm_page_free_batched; __alloc_pages).
Modelled: handles, lost and unknown frees, frees of parts of a block, gaps, who reclaims.  Not modelled: pages whose
allocation leaves no event (alloc_pages_bulk, compaction's targets); their frees count as unknown.  Invariants: a page
is in at most one held block; a handle is live in the rows from its ALLOC (or SPLIT) to its FREE.  Cost: one or two
table entries an order-0 event; an allocation of order n reads the 2**n entries it covers.
"""

from libc.stdint cimport INT64_MIN, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memcmp

from mm._fast.sim.ftrace cimport (EV_ALLOC, EV_FREE, EV_FREE_BATCHED, EV_ZONE_LOCKED, EV_PCPU_DRAIN, EV_EXTFRAG,
                                  EV_KSWAPD_WAKE, EV_DIRECT_RECLAIM_BEGIN, EV_DIRECT_RECLAIM_END, EV_COMPACTION_BEGIN,
                                  KEY_GFP, KEY_NR_RECLAIMED, KEY_MIGRATE_PFN, TIME_INTEGER, TIME_MISSING, FtraceEvent)
from mm._fast.sim.held_pages cimport (CHUNK_SHIFT, PAGE_FREED, PAGE_FREED_OPEN, PAGE_HELD, HeldPage,
                                      held_cover, held_page, held_page_make)
from mm._fast.sim.str_table cimport STR_NONE, str_intern
from mm._fast.sim.text_scan cimport is_digit
from mm._fast.sim.trace_ops cimport (TRACE_ALLOC, TRACE_FREE, TRACE_REFILL, TRACE_DRAIN, TRACE_EXTFRAG, TRACE_SPLIT,
                                     TRACE_RECLAIM_BEGIN, TRACE_RECLAIM_END, TRACE_COMPACTION_BEGIN,
                                     TRACE_COMPACTION_END, TRACE_GAP, CAUSE_UNKNOWN, CAUSE_KSWAPD,
                                     CAUSE_DIRECT_RECLAIM, CAUSE_COMPACTION, TRACE_IN_SOFTIRQ, TRACE_IN_HARDIRQ,
                                     TRACE_IN_NMI, TRACE_CONTEXT_KNOWN, TRACE_SYNTHESISED, FREE_UNKNOWN_PAGE,
                                     FREE_BATCHED, REFILL_PERCPU, RECLAIM_KSWAPD, COMPACTION_SYNC,
                                     COMPACTION_STATUS_SHIFT, EXTFRAG_FALLBACK_ORDER_SHIFT,
                                     EXTFRAG_ALLOC_MIGRATETYPE_SHIFT, EXTFRAG_FALLBACK_MIGRATETYPE_SHIFT,
                                     EXTFRAG_PAGEBLOCK_ORDER_SHIFT, EXTFRAG_CHANGE_OWNERSHIP,
                                     TRACE_MIGRATETYPE_UNKNOWN, TRACE_NODE_LOCAL, trace_pfn_unknown, trace_pfn_failed,
                                     trace_handle_none)


cdef void convert_event(ConvertState *s, const FtraceEvent *ev) noexcept nogil:
    cdef ConvertCpu *cpu = s.cpus + ev.cpu
    cdef int64_t time_ns = event_time(s, cpu, ev)
    cdef uint32_t pfn = <uint32_t>ev.pfn
    s.counts.context_known += (ev.context & TRACE_CONTEXT_KNOWN) != 0
    cpu.events += 1
    if ev.name == EV_ALLOC:
        on_alloc(s, ev, pfn, time_ns)
    elif ev.name == EV_FREE:
        on_free(s, ev, pfn, time_ns)
    elif ev.name == EV_FREE_BATCHED:
        on_free_batched(s, ev, pfn, time_ns)
        return                      # keeps cpu.last_batched
    elif ev.name == EV_ZONE_LOCKED or ev.name == EV_PCPU_DRAIN:
        on_move(s, ev, pfn, time_ns)
    elif ev.name == EV_EXTFRAG:
        on_extfrag(s, ev, pfn, time_ns)
    elif ev.name <= EV_DIRECT_RECLAIM_END:
        on_reclaim(s, ev, time_ns)
    else:
        on_compaction(s, ev, time_ns)
    cpu.last_batched = 0


cdef int64_t event_time(ConvertState *s, ConvertCpu *cpu, const FtraceEvent *ev) noexcept nogil:
    """The event's time; gives it to a gap that waits for it."""
    cdef int64_t time_ns = ev.time_ns
    if ev.clock & TIME_MISSING:
        s.counts.time_missing += 1
        time_ns = s.last_time
    elif ev.clock & TIME_INTEGER:
        s.counts.time_integer += 1
    if not s.has_time:
        s.has_time = 1
        s.first_time = time_ns
    s.counts.time_backwards += cpu.events != 0 and time_ns < cpu.last_time
    cpu.last_time = time_ns
    s.last_time = time_ns
    if cpu.open_gap:
        if cpu.open_gap - 1 >= s.first_row:
            s.rows[cpu.open_gap - 1 - s.first_row].time_ns = time_ns
        cpu.open_gap = 0
    return time_ns


cdef void convert_gap(ConvertState *s, const FtraceEvent *ev) noexcept nogil:
    """Events are missing.  Who was reclaiming is no longer known."""
    cdef ConvertCpu *cpu = s.cpus + ev.cpu
    cdef TraceRow *row = add_row(s, TRACE_GAP, trace_pfn_unknown(), s.last_time if s.has_time else INT64_MIN, ev)
    s.counts.gaps += 1
    cpu.gaps += 1
    s.nr_tasks = 0
    if row == NULL:
        return
    row.flags = 0
    if ev.nr == 0:
        s.counts.gaps_unsized += 1
    else:
        row.pfn = <uint32_t>ev.nr if ev.nr < trace_pfn_failed() else trace_pfn_failed() - 1
        cpu.lost += ev.nr
        s.counts.lost_events += ev.nr
    cpu.open_gap = s.first_row + s.nr_rows
    s.last_gap = cpu.open_gap
    cpu.last_batched = 0


# ---- allocation and free

cdef void on_alloc(ConvertState *s, const FtraceEvent *ev, uint32_t pfn, int64_t time_ns) noexcept nogil:
    cdef TraceRow *row
    cdef HeldPage *page = NULL
    cdef uint32_t handle = trace_handle_none()
    if pfn == 0:
        s.counts.failed_allocs += 1
        pfn = trace_pfn_failed()
    else:
        if ev.order > s.pages.max_order:
            s.pages.max_order = ev.order
        lose_blocks(s, pfn, ev.order, time_ns, ev)
        page = make_page(s, pfn)
        if page == NULL or not new_handle(s, &handle):
            return
        page.value = handle
        page.order = <uint8_t>ev.order
        page.state = PAGE_HELD
        s.pages.nr_held += 1
        s.counts.allocs += 1
    row = add_row(s, TRACE_ALLOC, pfn, time_ns, ev)
    if row == NULL:
        return
    row.handle = handle
    row.order = <uint8_t>ev.order
    row.migratetype = <uint8_t>ev.migratetype
    row.gfp = gfp_id(s, ev)


cdef void on_free(ConvertState *s, const FtraceEvent *ev, uint32_t pfn, int64_t time_ns) noexcept nogil:
    """mm_page_free: the insertion follows at once, unless mm_page_free_batched comes."""
    cdef HeldPage *page
    if s.cpus[ev.cpu].last_batched == pfn + 1 and ev.order == 0:
        s.counts.repeated_frees += 1
        return
    page = free_block(s, ev, pfn, ev.order, time_ns, 0)
    if page != NULL:
        page.state = PAGE_FREED_OPEN
        page.value = <uint32_t>(s.first_row + s.nr_rows - 1)


cdef void on_free_batched(ConvertState *s, const FtraceEvent *ev, uint32_t pfn, int64_t time_ns) noexcept nogil:
    """mm_page_free_batched: the page goes in here.  Its mm_page_free, if it was seen, is withdrawn."""
    cdef HeldPage *page = held_page(&s.pages, pfn)
    cdef TraceRow *row
    cdef TraceRow old
    cdef uint32_t age
    s.cpus[ev.cpu].last_batched = 0
    if page == NULL or page.state != PAGE_FREED_OPEN or is_gap_between(s, page.value):
        page = free_block(s, ev, pfn, 0, time_ns, FREE_BATCHED)
        if page != NULL:
            page.state = PAGE_FREED
            s.counts.batched_alone += 1
            s.cpus[ev.cpu].last_batched = pfn + 1
        return
    page.state = PAGE_FREED
    age = <uint32_t>(s.first_row + s.nr_rows) - page.value
    if age > s.window or s.rows[s.nr_rows - age].op != TRACE_FREE or s.rows[s.nr_rows - age].pfn != pfn:
        s.counts.batched_late += 1
        return
    old = s.rows[s.nr_rows - age]
    s.rows[s.nr_rows - age].op = ROW_DROPPED
    row = add_row(s, TRACE_FREE, pfn, time_ns, ev)
    if row == NULL:
        return
    row.handle = old.handle
    row.order = old.order
    row.cause = cause_of(s, ev)
    row.flags |= FREE_BATCHED | (old.flags & FREE_UNKNOWN_PAGE)
    s.counts.batched_frees += 1


cdef bint is_gap_between(ConvertState *s, uint32_t row_number) noexcept nogil:
    """Whether the row is older than the window and events were lost since: then it belongs to an earlier free."""
    cdef uint64_t next_row = s.first_row + s.nr_rows
    cdef uint32_t age = <uint32_t>next_row - row_number
    return age > s.window and s.last_gap != 0 and next_row - s.last_gap < age


cdef HeldPage *free_block(ConvertState *s, const FtraceEvent *ev, uint32_t pfn, uint32_t order, int64_t time_ns,
                          uint32_t flags) noexcept nogil:
    """Appends the FREE row of a block and ends its handle; returns the entry, its state still to be set."""
    cdef HeldPage *page = make_page(s, pfn)
    cdef TraceRow *row
    cdef uint32_t handle = 0
    cdef uint32_t head
    if page == NULL:
        return NULL
    head = pfn if page.state == PAGE_HELD else held_cover(&s.pages, pfn)
    if held_order(s, head) > order:
        split_block(s, head, pfn, order, time_ns, ev)
    if page.state == PAGE_HELD:
        handle = page.value
        s.counts.order_mismatches += page.order < order
        page.state = PAGE_FREED
        s.pages.nr_held -= 1
    else:
        flags |= FREE_UNKNOWN_PAGE
        s.counts.unknown_frees += 1
        s.counts.unknown_frees_reused += page.state == PAGE_FREED or page.state == PAGE_FREED_OPEN
        if not new_handle(s, &handle):
            return NULL
    if order:
        lose_blocks(s, pfn, order, time_ns, ev)
    row = add_row(s, TRACE_FREE, pfn, time_ns, ev)
    if row == NULL:
        return NULL
    row.handle = handle
    row.order = <uint8_t>order
    row.cause = cause_of(s, ev)
    row.flags |= flags
    s.counts.frees += 1
    return page


cdef uint32_t held_order(const ConvertState *s, uint32_t pfn) noexcept nogil:
    """Order of the block held at pfn, 0 if there is none."""
    cdef const HeldPage *page = held_page(&s.pages, pfn)
    return page.order if page != NULL and page.state == PAGE_HELD else 0


cdef void split_block(ConvertState *s, uint32_t head, uint32_t pfn, uint32_t order, int64_t time_ns,
                      const FtraceEvent *ev) noexcept nogil:
    """Halves the block held at head until pfn starts a block of `order`."""
    cdef HeldPage *lower = held_page(&s.pages, head)
    cdef HeldPage *upper
    cdef TraceRow *row
    cdef uint32_t middle, handle = 0
    while lower.order > order:
        middle = head + (<uint32_t>1 << (lower.order - 1))
        upper = make_page(s, middle)
        if upper == NULL or not new_handle(s, &handle):
            return
        row = add_row(s, TRACE_SPLIT, middle, time_ns, ev)
        if row == NULL:
            return
        lower.order -= 1
        upper.value = handle
        upper.order = lower.order
        upper.state = PAGE_HELD
        s.pages.nr_held += 1
        s.counts.splits += 1
        row.handle = lower.value
        row.order = lower.order
        row.flags = handle
        if pfn >= middle:
            head = middle
            lower = upper


cdef void lose_blocks(ConvertState *s, uint32_t pfn, uint32_t order, int64_t time_ns,
                      const FtraceEvent *ev) noexcept nogil:
    """Nothing can be held in [pfn, pfn + 2**order): what the table says is held there was freed unseen."""
    cdef uint64_t at = pfn
    cdef uint64_t end = at + (<uint64_t>1 << order)
    cdef uint32_t head = held_cover(&s.pages, pfn)
    cdef HeldPage *page
    if head != pfn:
        lose_block(s, head, held_page(&s.pages, head), time_ns, ev)
    while at < end:
        page = held_page(&s.pages, <uint32_t>at)
        if page == NULL:
            at = ((at >> CHUNK_SHIFT) + 1) << CHUNK_SHIFT
            continue
        if page.state == PAGE_HELD:
            lose_block(s, <uint32_t>at, page, time_ns, ev)
        elif page.state == PAGE_FREED_OPEN:
            page.state = PAGE_FREED
        at += 1


cdef void lose_block(ConvertState *s, uint32_t pfn, HeldPage *page, int64_t time_ns,
                     const FtraceEvent *ev) noexcept nogil:
    """A free that the recorder lost: it stands right before the row that proves it."""
    cdef TraceRow *row = add_row(s, TRACE_FREE, pfn, time_ns, ev)
    page.state = PAGE_FREED
    s.pages.nr_held -= 1
    s.counts.lost_frees += 1
    s.counts.frees += 1
    if row == NULL:
        return
    row.handle = page.value
    row.order = page.order
    row.flags = TRACE_SYNTHESISED
    row.pid = -1
    row.comm = 0


# ---- the other events

cdef void on_move(ConvertState *s, const FtraceEvent *ev, uint32_t pfn, int64_t time_ns) noexcept nogil:
    """Between buddy and per-cpu list: mm_page_alloc_zone_locked, mm_page_pcpu_drain."""
    cdef bint refill = ev.name == EV_ZONE_LOCKED
    cdef TraceRow *row = add_row(s, TRACE_REFILL if refill else TRACE_DRAIN, pfn, time_ns, ev)
    if row == NULL:
        return
    row.order = <uint8_t>ev.order
    row.migratetype = <uint8_t>ev.migratetype
    if refill:
        s.counts.refills += 1
        row.flags |= REFILL_PERCPU if ev.percpu_refill else 0
        if pfn == 0:                # the kernel prints a page that is NULL so
            row.pfn = trace_pfn_failed()
    else:
        s.counts.drains += 1


cdef void on_extfrag(ConvertState *s, const FtraceEvent *ev, uint32_t pfn, int64_t time_ns) noexcept nogil:
    cdef TraceRow *row = add_row(s, TRACE_EXTFRAG, pfn, time_ns, ev)
    s.counts.extfrags += 1
    if row == NULL:
        return
    row.order = <uint8_t>ev.order
    row.migratetype = <uint8_t>ev.migratetype
    row.flags |= ev.fallback_order << EXTFRAG_FALLBACK_ORDER_SHIFT
    row.flags |= ev.migratetype << EXTFRAG_ALLOC_MIGRATETYPE_SHIFT
    row.flags |= ev.fallback_migratetype << EXTFRAG_FALLBACK_MIGRATETYPE_SHIFT
    row.flags |= ev.pageblock_order << EXTFRAG_PAGEBLOCK_ORDER_SHIFT
    row.flags |= EXTFRAG_CHANGE_OWNERSHIP if ev.change_ownership else 0


cdef void on_reclaim(ConvertState *s, const FtraceEvent *ev, int64_t time_ns) noexcept nogil:
    cdef bint begin = ev.name == EV_KSWAPD_WAKE or ev.name == EV_DIRECT_RECLAIM_BEGIN
    cdef bint direct = ev.name == EV_DIRECT_RECLAIM_BEGIN or ev.name == EV_DIRECT_RECLAIM_END
    cdef TraceRow *row = add_row(s, TRACE_RECLAIM_BEGIN if begin else TRACE_RECLAIM_END, trace_pfn_unknown(), time_ns,
                                 ev)
    if direct:
        note_task(s, ev.pid, CAUSE_DIRECT_RECLAIM, begin)
    if row == NULL:
        return
    row.order = <uint8_t>ev.order
    row.node = <int16_t>ev.nid
    row.flags |= 0 if direct else RECLAIM_KSWAPD
    if ev.keys & KEY_GFP:
        row.gfp = gfp_id(s, ev)
    if ev.keys & KEY_NR_RECLAIMED:
        row.pfn = <uint32_t>ev.nr if ev.nr < trace_pfn_failed() else trace_pfn_unknown()


cdef void on_compaction(ConvertState *s, const FtraceEvent *ev, int64_t time_ns) noexcept nogil:
    cdef bint begin = ev.name == EV_COMPACTION_BEGIN
    cdef TraceRow *row = add_row(s, TRACE_COMPACTION_BEGIN if begin else TRACE_COMPACTION_END,
                                 trace_pfn_unknown(), time_ns, ev)
    note_task(s, ev.pid, CAUSE_COMPACTION, begin)
    if row == NULL:
        return
    if ev.keys & KEY_MIGRATE_PFN:
        row.pfn = <uint32_t>ev.pfn
    row.flags |= COMPACTION_SYNC if ev.mode_sync else 0
    row.flags |= <uint32_t>ev.status << COMPACTION_STATUS_SHIFT


cdef void note_task(ConvertState *s, int32_t pid, uint8_t cause, bint begin) noexcept nogil:
    """Remembers who is in direct reclaim or compaction, the latest last; a begin without room is forgotten."""
    cdef uint32_t i
    if begin:
        if s.nr_tasks < NR_TASKS and pid >= 0:
            s.tasks[s.nr_tasks].pid = pid
            s.tasks[s.nr_tasks].cause = cause
            s.nr_tasks += 1
        return
    i = s.nr_tasks
    while i:
        i -= 1
        if s.tasks[i].pid == pid and s.tasks[i].cause == cause:
            s.nr_tasks -= 1
            while i < s.nr_tasks:
                s.tasks[i] = s.tasks[i + 1]
                i += 1
            return


cdef uint8_t cause_of(const ConvertState *s, const FtraceEvent *ev) noexcept nogil:
    """Why the task frees, as far as its name and its begin events tell; an interrupt frees for others."""
    cdef uint32_t i = s.nr_tasks
    if ev.context & (TRACE_IN_SOFTIRQ | TRACE_IN_HARDIRQ | TRACE_IN_NMI):
        return CAUSE_UNKNOWN
    if ev.comm_len > 6 and ev.comm[0] == c'k':
        if memcmp(ev.comm, <const char *>"kswapd", 6) == 0 and is_digit(ev.comm[6]):
            return CAUSE_KSWAPD
        if ev.comm_len > 9 and memcmp(ev.comm, <const char *>"kcompactd", 9) == 0 and is_digit(ev.comm[9]):
            return CAUSE_COMPACTION
    while i:
        i -= 1
        if s.tasks[i].pid == ev.pid:
            return s.tasks[i].cause
    return CAUSE_UNKNOWN


# ---- rows, handles, strings

cdef TraceRow *add_row(ConvertState *s, uint32_t op, uint32_t pfn, int64_t time_ns,
                       const FtraceEvent *ev) noexcept nogil:
    """The next row with the columns that every event has; NULL and s.error if memory is short.

    The buffer grows only if one line makes more rows than are kept free: a large block lost in many parts.
    """
    cdef TraceRow *row
    if s.nr_rows == s.max_rows:
        row = <TraceRow *>realloc(s.rows, 2 * s.max_rows * sizeof(TraceRow))
        if row == NULL:
            s.error = CONVERT_NO_MEMORY
            return NULL
        s.rows = row
        s.max_rows *= 2
    row = s.rows + s.nr_rows
    s.nr_rows += 1
    row.time_ns = time_ns
    row.pfn = pfn
    row.handle = trace_handle_none()
    row.gfp = 0
    row.flags = ev.context
    row.pid = ev.pid
    row.comm = 0
    if s.keep_tasks and ev.comm != NULL:
        row.comm = str_intern(&s.comms, ev.comm, ev.comm_len)
        if row.comm == STR_NONE:
            row.comm = 0
    row.cpu = <uint16_t>ev.cpu
    row.node = TRACE_NODE_LOCAL
    row.op = <uint8_t>op
    row.order = 0
    row.migratetype = TRACE_MIGRATETYPE_UNKNOWN
    row.cause = CAUSE_UNKNOWN
    return row


cdef HeldPage *make_page(ConvertState *s, uint32_t pfn) noexcept nogil:
    cdef HeldPage *page = held_page_make(&s.pages, pfn)
    if page == NULL:
        s.error = CONVERT_TABLE_FULL if s.pages.nr_chunks == s.pages.max_chunks else CONVERT_NO_MEMORY
    return page


cdef bint new_handle(ConvertState *s, uint32_t *handle) noexcept nogil:
    """The handle freed last, or one more; False and s.error after 2**32 - 1 of them."""
    if s.nr_free_handles:
        s.nr_free_handles -= 1
        handle[0] = s.free_handles[s.nr_free_handles]
        return True
    if s.nr_handles == trace_handle_none():
        s.error = CONVERT_TABLE_FULL
        return False
    handle[0] = s.nr_handles
    s.nr_handles += 1
    return True


cdef uint32_t gfp_id(ConvertState *s, const FtraceEvent *ev) noexcept nogil:
    """Id of the printed mask, 0 if there is none."""
    cdef uint32_t at = str_intern(&s.gfps, ev.gfp, ev.gfp_len) if ev.keys & KEY_GFP else <uint32_t>STR_NONE
    if at == STR_NONE:
        s.counts.gfp_missing += 1
        return 0
    return at
