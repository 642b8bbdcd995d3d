"""Stage two of a replay: operations of a trace on a machine.

The model decides everything (free), or follows the recording and counts where it would have decided otherwise (guided).
Pages that the recorded kernel handed out without an event (alloc_pages_bulk) are inferred from what the trace shows of
the per-cpu lists: a refill happens on an empty list only, a page below the head means that those above are gone, a
drain tells how many pages the lists held.  Inferences are counted by reason.
Not modelled: reclaim between the events, pages that compaction takes.
Invariant: a row that contradicts the machine's state changes nothing but a counter.  Cost: that of the operation.
"""

import numpy as np

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t

from mm._fast.core cimport (mm_alloc_in_zone, mm_alloc_pages, mm_drain_all_pages, mm_drain_pages_zone, mm_free_pages,
                            mm_free_pages_check, mm_give_page_back, mm_is_inside_block, mm_split_page, mm_take_page,
                            mm_try_free_pages)
from mm._fast.debug cimport prefetchw, unlikely
from mm._fast.physical.buddy cimport page_order
from mm._fast.physical.gfp_zone cimport gfp_migratetype, gfp_zone, GFP_ZONE_BAD
from mm._fast.physical.pcp cimport order_to_pindex, pcp_allowed_order
from mm._fast.sim.replay_rows cimport (fill_row, HISTORY_ROWS, in_irq, IRQ_LOOK, is_pfn, mm_attach_rows,
                                       mm_infer_before_alloc, mm_infer_before_free, mm_infer_bulk, mm_infer_kswapd,
                                       mm_settle_zone, pcp_of, ReplayRow, ReplayState, ROW_BULK, ROW_DRAINED, row_mt,
                                       set_claims, TraceColumns, zone_of)
from mm._fast.sim.trace_ops cimport (TRACE_ALLOC, TRACE_BULK_ALLOC, TRACE_DRAIN, TRACE_EXTFRAG, TRACE_FREE, TRACE_GAP,
                                     TRACE_RECLAIM_BEGIN, TRACE_RECLAIM_END, TRACE_REFILL, TRACE_SPLIT)
from mm._fast.state cimport (extfrag_event, FREE_NOT_ALLOCATED, FREE_OK, FREE_TAIL, FREE_WRONG_ORDER, MAX_ORDER,
                             MIGRATE_RECLAIMABLE, MMState, page_hot, PFN_FAILED, PFN_NONE, PG_buddy, PG_order_known,
                             PG_pcp, PG_tail, PG_valid, PG_ZONE_MASK, zone)



cdef enum:
    PREFETCH_ROWS = 12          # rows ahead whose page is fetched early

cdef int64_t pages_on_pcp_lists(MMState *s) noexcept nogil:
    cdef int64_t n = 0
    cdef int32_t i
    for i in range(s.g.nr_zones * s.g.nr_cpus):
        n += s.pageset[i].count
    return n


# ------------------------------------------------------------------------------------------------- operations

cdef bint adopt_held(ReplayState *r, const ReplayRow *row) noexcept nogil:
    """The recorded kernel handed out a block that the model still holds: its free was lost, so it changes hands."""
    cdef MMState *s = r.s
    if mm_free_pages_check(s, row.pfn, row.order) != FREE_OK:
        return False
    mm_free_pages(s, row.pfn, row.order, row.cpu)
    r.c.lost_frees += 1
    return mm_take_page(s, row.pfn, row.order, row.cpu)


cdef void follow_recording(ReplayState *r, const ReplayRow *row, bint is_inferred, uint32_t *pfn) noexcept nogil:
    """Guided: put the model's block back and take the recorded one, where that is possible.

    An answer that needed an inference from the recording counts as a disagreement.
    """
    cdef MMState *s = r.s
    r.c.one_step_total += 1
    if pfn[0] == row.pfn:
        r.c.one_step_equal += not is_inferred
        return
    if row.pfn == PFN_FAILED:
        mm_give_page_back(s, pfn[0], row.order, row_mt(row), row.cpu)
        pfn[0] = PFN_FAILED
        r.c.contradictions += 1
    elif is_pfn(s, row.pfn) and (mm_take_page(s, row.pfn, row.order, row.cpu) or adopt_held(r, row)):
        if pfn[0] != PFN_FAILED:
            mm_give_page_back(s, pfn[0], row.order, row_mt(row), row.cpu)
        pfn[0] = row.pfn
    else:
        r.c.contradictions += 1


cdef inline void note_result(ReplayState *r, int64_t src, uint32_t pfn) noexcept nogil:
    if r.result != NULL:
        r.result[src - r.first_src] = pfn


cdef void run_alloc(ReplayState *r, ReplayRow *row) noexcept nogil:
    cdef MMState *s = r.s
    cdef uint32_t pfn
    cdef bint is_inferred = False
    cdef bint is_forced = False
    row.done = 1
    if unlikely(row.order >= MAX_ORDER or row.cpu >= s.g.nr_cpus or row.node >= s.g.nr_nodes
                or gfp_zone(row.gfp) == GFP_ZONE_BAD or gfp_migratetype(row.gfp) > MIGRATE_RECLAIMABLE):
        r.c.bad_rows += 1
        return
    if r.is_inferring:
        is_forced = not mm_settle_zone(r, row)
        is_inferred = mm_infer_before_alloc(r, row) or is_forced
    set_claims(s, row)
    if unlikely(is_forced):
        pfn = PFN_NONE
        if is_pfn(s, row.pfn):
            pfn = mm_alloc_in_zone(s, <int32_t>(zone_of(s, row.pfn) - s.zones), row.gfp, row.order, row.cpu)
    else:
        pfn = mm_alloc_pages(s, row.gfp, row.order, row.node if row.node >= 0 else -1, row.cpu)
    s.g.nr_claim_hints = 0
    if unlikely(pfn == PFN_NONE):
        pfn = PFN_FAILED
    if row.pfn != PFN_NONE:
        if r.is_guided and row.time_ns < r.guided_until_ns:
            follow_recording(r, row, is_inferred, &pfn)
        else:
            r.c.pfn_known += 1
            r.c.pfn_equal += pfn == row.pfn
            if unlikely(row.pfn == PFN_FAILED and pfn != PFN_FAILED):
                mm_give_page_back(s, pfn, row.order, row_mt(row), row.cpu)
    r.c.allocs += 1
    r.c.alloc_failures += pfn == PFN_FAILED
    note_result(r, row.src, pfn)
    if row.handle < r.nr_handles:
        r.pfn_of[row.handle] = pfn


cdef int32_t make_freeable(ReplayState *r, uint32_t pfn, uint32_t order) noexcept nogil:
    """A free that the checks refuse: split the block that the page is a part of, or adopt a page that the start state
    shows without references.  Returns what the checks say then."""
    cdef MMState *s = r.s
    cdef uint32_t head = s.page[pfn].next if s.page[pfn].flags & PG_tail else pfn
    cdef int32_t why = mm_free_pages_check(s, pfn, order)
    cdef uint32_t i
    if why == FREE_TAIL or (why == FREE_WRONG_ORDER and page_order(s.page, pfn) > order):
        mm_split_page(s, head, page_order(s.page, head))
        r.c.splits += 1
        if order:
            s.page[pfn].flags &= ~<uint32_t>PG_order_known
            for i in range(pfn + 1, pfn + (<uint32_t>1 << order)):
                s.page[i].flags &= ~<uint32_t>PG_order_known
        return mm_free_pages_check(s, pfn, order)
    if why == FREE_NOT_ALLOCATED and not s.page[pfn].flags & (PG_buddy | PG_pcp):
        if not mm_is_inside_block(s, pfn):
            s.page[pfn].refcount = 1
            return mm_free_pages_check(s, pfn, order)
    return why


cdef void run_free(ReplayState *r, ReplayRow *row) noexcept nogil:
    cdef MMState *s = r.s
    cdef uint32_t pfn = row.pfn
    cdef int64_t on_lists
    row.done = 1
    if unlikely(row.order >= MAX_ORDER or row.cpu >= s.g.nr_cpus):
        r.c.bad_rows += 1
        return
    if row.handle < r.nr_handles and r.pfn_of[row.handle] != PFN_NONE:
        pfn = r.pfn_of[row.handle]
        r.pfn_of[row.handle] = PFN_NONE
    else:
        r.c.unknown_frees += 1
    if pfn == PFN_FAILED:
        r.c.refused_frees += 1
        return
    if unlikely(not is_pfn(s, pfn) or (mm_free_pages_check(s, pfn, row.order) != FREE_OK
                                       and make_freeable(r, pfn, row.order) != FREE_OK)):
        r.c.bad_frees += 1
        return
    on_lists = 0
    if r.is_inferring and pcp_allowed_order(s, row.order):
        on_lists = pages_on_pcp_lists(s) + (<int64_t>1 << row.order) if row.drained else 1
        if on_lists > row.drained:
            mm_infer_before_free(r, row, zone_of(s, pfn))
    mm_free_pages(s, pfn, row.order, row.cpu)
    r.c.frees += 1
    note_result(r, row.src, pfn)
    if row.drained and on_lists == row.drained and pages_on_pcp_lists(s):
        run_drained(r, row)


cdef void run_drained(ReplayState *r, const ReplayRow *row) noexcept nogil:
    """A drain that no free caused: all lists if that is what was drained, else those of this CPU in one zone."""
    cdef MMState *s = r.s
    cdef zone *z
    cdef int64_t everything
    if not r.is_inferring or not is_pfn(s, row.pfn) or row.cpu >= s.g.nr_cpus:
        return
    r.c.drains_alone += 1
    z = zone_of(s, row.pfn)
    everything = pages_on_pcp_lists(s)
    if row.drained >= everything and everything != pcp_of(s, z, row.cpu).count:
        mm_drain_all_pages(s, -1, row.cpu)
    else:
        mm_drain_pages_zone(s, z, row.cpu, row.cpu)


cdef void run_split(ReplayState *r, const ReplayRow *row) noexcept nogil:
    """A held block became two of half its size; `flags` is the handle of the upper half."""
    cdef MMState *s = r.s
    cdef uint32_t pfn, upper, i, flags
    if row.handle >= r.nr_handles or row.flags >= r.nr_handles or row.order >= MAX_ORDER - 1:
        r.c.bad_rows += 1
        return
    pfn = r.pfn_of[row.handle]
    if not is_pfn(s, pfn) or mm_free_pages_check(s, pfn, row.order + 1) != FREE_OK:
        return
    upper = pfn + (<uint32_t>1 << row.order)
    flags = (s.page[pfn].flags & (PG_ZONE_MASK | PG_valid)) | PG_order_known | row.order
    for i in range(pfn, upper + (<uint32_t>1 << row.order)):
        s.page[i].flags &= PG_ZONE_MASK | PG_valid
    s.page[pfn].flags = flags
    s.page[upper].flags = flags
    s.page[upper].refcount = 1
    r.pfn_of[row.flags] = upper
    r.c.splits += 1


cdef void alloc_seen_late(ReplayState *r, ReplayRow *rows, int64_t at, int64_t total) noexcept nogil:
    """An interrupt may come between an allocation and its event: run the allocation first if it got the head."""
    cdef MMState *s = r.s
    cdef int64_t j
    cdef ReplayRow *row
    cdef uint32_t head
    for j in range(at + 1, min(at + IRQ_LOOK, total)):
        row = &rows[j]
        if row.cpu != rows[at].cpu or row.in_irq:
            continue
        if row.op == TRACE_ALLOC and not row.done and row.nr_refilled == 0 and row.cpu < s.g.nr_cpus:
            if pcp_allowed_order(s, row.order) and is_pfn(s, row.pfn):
                head = pcp_of(s, zone_of(s, row.pfn), row.cpu).first_list + order_to_pindex(row_mt(row), row.order)
                if s.page[head].next == row.pfn:
                    r.c.late_allocs += 1
                    run_alloc(r, row)
        return


cdef void run_rows(ReplayState *r, ReplayRow *rows, int64_t end, int64_t total) noexcept nogil:
    """Run rows[0:end); those up to `total` are looked at."""
    cdef int64_t i
    cdef uint8_t op
    for i in range(end):
        if rows[i].done:
            continue
        r.log.time_ns = rows[i].time_ns
        op = rows[i].op
        if rows[i].in_irq and r.is_inferring:
            alloc_seen_late(r, rows, i, total)
        if op == TRACE_ALLOC or op == TRACE_BULK_ALLOC:
            run_alloc(r, &rows[i])
        elif op == TRACE_FREE:
            run_free(r, &rows[i])
        elif op == ROW_BULK:
            mm_infer_bulk(r, &rows[i])
        elif op == ROW_DRAINED:
            run_drained(r, &rows[i])
        else:
            run_other(r, &rows[i])


cdef void run_other(ReplayState *r, const ReplayRow *row) noexcept nogil:
    if row.op == TRACE_SPLIT:
        run_split(r, row)
    elif row.op == TRACE_RECLAIM_BEGIN or row.op == TRACE_RECLAIM_END:
        mm_infer_kswapd(r, row)
    elif row.op == TRACE_GAP:
        r.c.gaps += 1
        r.c.lost_events += row.pfn if row.pfn != PFN_NONE else 0
    elif row.op != TRACE_REFILL and row.op != TRACE_DRAIN and row.op != TRACE_EXTFRAG:
        r.c.other_rows += 1


cdef inline void fetch_ahead(const page_hot *p, const uint32_t *pfn_of, uint32_t nr_handles, const TraceColumns *t,
                             int64_t i) noexcept nogil:
    """Start loading the page that a later row frees, and before that the entry that names it."""
    cdef uint32_t handle = t.handle[i + 2 * PREFETCH_ROWS]
    if handle < nr_handles:
        prefetchw(&pfn_of[handle])
    handle = t.handle[i + PREFETCH_ROWS]
    if t.op[i + PREFETCH_ROWS] == TRACE_FREE and handle < nr_handles:
        prefetchw(&p[pfn_of[handle]])       # a hint: no address is too wild for it


cdef int64_t run_plain(ReplayState *r, const TraceColumns *t, int64_t i, int64_t n, uint32_t gfp) noexcept nogil:
    """Rows [i, n) of a trace without refills and drains, the model deciding freely, as long as they are plain: frees of
    held blocks, allocations with mask `gfp` and nothing recorded.  Returns the first row that is not."""
    cdef MMState *s = r.s
    cdef uint32_t *pfn_of = r.pfn_of
    cdef uint32_t *result = r.result
    cdef uint32_t nr_handles = r.nr_handles
    cdef uint32_t nr_cpus = <uint32_t>s.g.nr_cpus
    cdef int64_t frees = 0
    cdef int64_t allocs = 0
    cdef int64_t fetch_end = n - 2 * PREFETCH_ROWS
    cdef uint32_t pfn, handle
    cdef bint is_logging = s.extfrag != NULL
    while i < n:
        if i < fetch_end:
            fetch_ahead(s.page, pfn_of, nr_handles, t, i)
        handle = t.handle[i]
        if unlikely(handle >= nr_handles or t.cpu[i] >= nr_cpus or t.order[i] >= MAX_ORDER):
            break
        if t.op[i] == TRACE_FREE:
            pfn = pfn_of[handle]
            if unlikely(pfn >= PFN_FAILED) or unlikely(mm_try_free_pages(s, pfn, t.order[i], t.cpu[i]) != FREE_OK):
                break
            pfn_of[handle] = PFN_NONE
            frees += 1
        elif t.op[i] == TRACE_ALLOC and t.pfn[i] == PFN_NONE and t.gfp[i] == gfp and t.node[i] < 0:
            if is_logging:
                r.log.time_ns = t.time_ns[i]
            pfn = mm_alloc_pages(s, gfp, t.order[i], -1, t.cpu[i])
            if unlikely(pfn == PFN_NONE):
                pfn = PFN_FAILED
                r.c.alloc_failures += 1
            pfn_of[handle] = pfn
            allocs += 1
        else:
            break
        if result != NULL:
            result[i] = pfn
        i += 1
    r.c.frees += frees
    r.c.allocs += allocs
    return i


cdef void run_all_plain(ReplayState *r, const TraceColumns *t, int64_t n) noexcept nogil:
    """Plain stretches at full speed, the rows between them one by one."""
    cdef int64_t i = 0
    cdef uint32_t gfp = PFN_NONE            # no mask is that: it has contradictory zone bits
    cdef ReplayRow row
    while True:
        i = run_plain(r, t, i, n, gfp)
        if i >= n:
            return
        fill_row(&row, t, i, r.first_src)
        r.log.time_ns = row.time_ns
        if row.op == TRACE_ALLOC or row.op == TRACE_BULK_ALLOC:
            run_alloc(r, &row)
            if gfp_zone(row.gfp) != GFP_ZONE_BAD and gfp_migratetype(row.gfp) <= MIGRATE_RECLAIMABLE:
                gfp = row.gfp
        elif row.op == TRACE_FREE:
            run_free(r, &row)
        else:
            run_other(r, &row)
        i += 1


COLUMNS = {"op": np.uint8, "order": np.uint8, "migratetype": np.uint8, "cpu": np.uint16, "node": np.int16,
           "gfp": np.uint32, "handle": np.uint32, "pfn": np.uint32, "flags": np.uint32, "time_ns": np.int64}
EXTFRAG_EVENT = np.dtype([("time_ns", np.int64), ("pfn", np.uint32), ("alloc_order", np.uint8),
                          ("fallback_order", np.uint8), ("alloc_migratetype", np.uint8),
                          ("fallback_migratetype", np.uint8), ("change_ownership", np.uint8), ("pad_", np.uint8, 7)])
assert EXTFRAG_EVENT.itemsize == sizeof(extfrag_event)


cdef class Replayer:
    """Runs windows of a trace on one machine.

    Parameters
    ----------
    core : MachineCore
    is_guided, is_inferring : bool
    guided_until_ns : int
        Guided up to this time of the trace, free from there on.
    extfrag_events : int
        Thefts of blocks of other types that are kept between two calls of `take_extfrag`; 0: none.
    """

    cdef ReplayState r
    cdef readonly object core
    cdef object pfn_of, noted_boost, kswapd, window, done, rows, extfrag
    cdef int64_t nr_rows, nr_history, first_src

    def __init__(self, core, bint is_guided=False, bint is_inferring=False, int64_t guided_until_ns=0x7fffffffffffffff,
                 uint32_t extfrag_events=0):
        self.core = core
        self.r.s = <MMState *><uintptr_t>core.address
        self.r.is_guided = is_guided
        self.r.is_inferring = is_inferring
        self.r.guided_until_ns = guided_until_ns
        self.pfn_of = np.empty(0, np.uint32)
        self.noted_boost = np.zeros(len(core.zones), np.int64)
        self.r.noted_boost = <int64_t *><uintptr_t>self.noted_boost.ctypes.data
        self.kswapd = np.zeros(len(core.nodes), np.int8)
        self.r.kswapd = <int8_t *><uintptr_t>self.kswapd.ctypes.data
        self.window = {name: np.empty(0, dtype) for name, dtype in COLUMNS.items()}
        self.done = np.empty(0, np.uint8)
        self.rows = np.empty(0, np.uint8)
        self.extfrag = np.zeros(extfrag_events, EXTFRAG_EVENT)
        self.r.log.events = <extfrag_event *><uintptr_t>self.extfrag.ctypes.data
        self.r.log.size = extfrag_events

    @property
    def counts(self):
        """What was counted so far, by name."""
        return self.r.c

    def take_extfrag(self):
        """Thefts since the last call, a structured array with the fields of extfrag_event."""
        cdef uint32_t nr = min(self.r.log.nr, self.r.log.size)
        self.r.c.extfrag_dropped += self.r.log.nr - nr
        self.r.log.nr = 0
        return self.extfrag[:nr].copy()

    cdef void _attach_log(self, bint is_on) noexcept:
        """The machine sees the log only while rows run: it may outlive this object."""
        self.r.s.extfrag = &self.r.log if is_on and self.r.log.size else NULL

    def reserve_handles(self, nr_handles):
        """Make room for handles 0 to nr_handles - 1."""
        if nr_handles > len(self.pfn_of):
            grown = np.full(max(nr_handles, 2 * len(self.pfn_of)), 0xffffffff, np.uint32)
            grown[:len(self.pfn_of)] = self.pfn_of
            self.pfn_of = grown
            self.r.pfn_of = <uint32_t *><uintptr_t>self.pfn_of.ctypes.data
            self.r.nr_handles = <uint32_t>len(self.pfn_of)

    cdef TraceColumns _columns(self, columns) except *:
        cdef TraceColumns t
        t.op = <const uint8_t *><uintptr_t>columns["op"].ctypes.data
        t.order = <const uint8_t *><uintptr_t>columns["order"].ctypes.data
        t.migratetype = <const uint8_t *><uintptr_t>columns["migratetype"].ctypes.data
        t.cpu = <const uint16_t *><uintptr_t>columns["cpu"].ctypes.data
        t.node = <const int16_t *><uintptr_t>columns["node"].ctypes.data
        t.gfp = <const uint32_t *><uintptr_t>columns["gfp"].ctypes.data
        t.handle = <const uint32_t *><uintptr_t>columns["handle"].ctypes.data
        t.pfn = <const uint32_t *><uintptr_t>columns["pfn"].ctypes.data
        t.flags = <const uint32_t *><uintptr_t>columns["flags"].ctypes.data
        t.time_ns = <const int64_t *><uintptr_t>columns["time_ns"].ctypes.data
        return t

    cdef uint32_t *_result(self, result) except? NULL:
        return NULL if result is None else <uint32_t *><uintptr_t>result.ctypes.data

    def run_plain(self, columns, result):
        """Run all rows of `columns` (arrays of COLUMNS' types) without stage one; `result` gets a PFN a row, or None."""
        cdef TraceColumns t = self._columns(columns)
        cdef int64_t n = len(columns["op"])
        self.r.result = self._result(result)
        self._attach_log(True)
        with nogil:
            run_all_plain(&self.r, &t, n)
        self._attach_log(False)
        self.r.c.events += n
        self.r.first_src += n

    def push(self, columns, result, bint is_last):
        """Take the next rows; runs all operations that need no look beyond them.

        Parameters
        ----------
        columns : dict of str to ndarray
        result : uint32 ndarray or None
            PFNs by row from the start of the trace to the end of these rows.
        """
        cdef TraceColumns t
        cdef int64_t total, begin, end, emitted, run
        cdef uint8_t[::1] done
        cdef int32_t[::1] nxt, prv, last
        self.window = {name: np.concatenate([old, columns[name]]) for name, old in self.window.items()}
        self.done = np.concatenate([self.done, np.zeros(len(columns["op"]), np.uint8)])
        total = len(self.done)
        begin = self.nr_history
        end = total if is_last else max(begin, total - HISTORY_ROWS)
        t = self._columns(self.window)
        done = self.done
        links = np.empty((2, total + 1), np.int32)
        nxt, prv = links[0], links[1]
        last = np.full(65536, -1, np.int32)
        rows = np.empty((self.nr_rows + end - begin + 1) * sizeof(ReplayRow), np.uint8)
        rows[:self.nr_rows * sizeof(ReplayRow)] = self.rows[:self.nr_rows * sizeof(ReplayRow)]
        self.rows = rows
        cdef ReplayRow *out = <ReplayRow *><uintptr_t>rows.ctypes.data
        self.r.result = self._result(result)
        self.r.first_src = 0
        self._attach_log(True)
        with nogil:
            emitted = self.nr_rows
            if total:
                emitted += mm_attach_rows(&t, begin, end, total, self.first_src, &nxt[0], &prv[0], &last[0], &done[0],
                                          &out[self.nr_rows])
            run = emitted if is_last else max(<int64_t>0, emitted - IRQ_LOOK)
            run_rows(&self.r, out, run, emitted)
        self._attach_log(False)
        self._slide(begin, end, run, emitted)

    def _slide(self, begin, end, run, emitted):
        """Forget what no later row looks at."""
        keep = max(0, end - HISTORY_ROWS)
        self.r.c.events += end - begin
        self.window = {name: column[keep:] for name, column in self.window.items()}
        self.done = self.done[keep:]
        self.first_src += keep
        self.nr_history = end - keep
        self.rows = self.rows[run * sizeof(ReplayRow):emitted * sizeof(ReplayRow)]
        self.nr_rows = emitted - run
