"""Stage one of a replay: trace events to operations, in the order in which they took the zone lock.

Linux: none; the events are those of include/trace/events/kmem.h, their order that of mm/page_alloc.c.
An allocation's event comes after the refill it caused, so it acts where its refill stands; a free acts where its drains
stand; a run of refills without an allocation was a bulk allocation, which has no event.  Events of an interrupt between
those of a task are left in place.  Invariant: every allocation and free is emitted exactly once.
Cost: linear; lookahead is bounded by BATCH_LOOK and IRQ_LOOK rows of the CPU.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from mm._fast.sim.replay_rows cimport (BATCH_LOOK, IRQ_LOOK, ROW_BULK, ROW_DRAINED, ReplayRow, TraceColumns, fill_row,
                                       in_irq)
from mm._fast.sim.trace_ops cimport (EXTFRAG_CHANGE_OWNERSHIP, TRACE_ALLOC, TRACE_DRAIN, TRACE_EXTFRAG, TRACE_FREE,
                                     TRACE_REFILL)


cdef void link_cpus(const TraceColumns *t, int64_t n, int32_t *nxt, int32_t *prv, int32_t *last) noexcept nogil:
    """Chain the rows of each CPU; `last`: one -1 a CPU."""
    cdef int64_t i
    cdef int32_t before
    for i in range(n):
        before = last[t.cpu[i]]
        prv[i] = before
        nxt[i] = -1
        if before >= 0:
            nxt[before] = <int32_t>i
        last[t.cpu[i]] = <int32_t>i


cdef void take_run(const TraceColumns *t, int64_t at, int64_t first_src, const int32_t *nxt, uint8_t *done,
                   ReplayRow *out) noexcept nogil:
    """A run of refills and thefts: the row of the allocation that caused it, else ROW_BULK."""
    cdef int64_t first = at
    cdef int64_t owner = -1
    cdef int64_t j = at
    cdef int32_t look = 0
    cdef uint32_t nr_refilled = 0
    cdef uint32_t nr_claims = 0
    cdef uint64_t claims = 0
    while j >= 0 and look < BATCH_LOOK:
        look += 1
        if done[j] or (in_irq(t, j) and not in_irq(t, first)):
            j = nxt[j]
            continue
        if t.op[j] == TRACE_EXTFRAG:
            if nr_claims < 64:
                claims |= <uint64_t>(t.flags[j] & EXTFRAG_CHANGE_OWNERSHIP != 0) << nr_claims
                nr_claims += 1
        elif t.op[j] == TRACE_REFILL and (nr_refilled == 0 or (t.order[j] == t.order[first]
                                                               and t.migratetype[j] == t.migratetype[first])):
            if nr_refilled == 0:
                first = j
            nr_refilled += 1
        else:
            if t.op[j] == TRACE_ALLOC and nr_refilled and t.pfn[j] == t.pfn[first] and t.order[j] == t.order[first]:
                owner = j
            break
        done[j] = 1
        j = nxt[j]
    fill_row(out, t, first if owner < 0 else owner, first_src)
    if owner < 0:
        out.op = ROW_BULK
    else:
        done[owner] = 1
    out.nr_refilled = nr_refilled
    out.claims = claims
    out.nr_claims = <uint8_t>nr_claims


cdef bint drains_follow(const TraceColumns *t, int64_t at, const int32_t *nxt) noexcept nogil:
    """Do this free's drains come next on its CPU?"""
    cdef int64_t j = nxt[at]
    cdef int32_t look = 0
    while j >= 0 and look < IRQ_LOOK:
        if not in_irq(t, j) or in_irq(t, at):
            return t.op[j] == TRACE_DRAIN and in_irq(t, j) == in_irq(t, at)
        j = nxt[j]
        look += 1
    return False


cdef void drain_cause(const TraceColumns *t, int64_t at, int64_t first_src, const int32_t *nxt, const int32_t *prv,
                      uint8_t *done, ReplayRow *out) noexcept nogil:
    """A run of drains: the row of the free before it with the pages drained, else ROW_DRAINED."""
    cdef int64_t before = prv[at]
    cdef int64_t j = at
    cdef uint32_t drained = 0
    while before >= 0 and in_irq(t, before) and not in_irq(t, at):
        before = prv[before]
    if before >= 0 and t.op[before] == TRACE_FREE:
        fill_row(out, t, before, first_src)
    else:
        fill_row(out, t, at, first_src)
        out.op = ROW_DRAINED
    while j >= 0:
        if not in_irq(t, j) or in_irq(t, at):
            if t.op[j] != TRACE_DRAIN:
                break
            drained += <uint32_t>1 << t.order[j]
            done[j] = 1
        j = nxt[j]
    out.drained = drained


cdef public int64_t attach_rows "mm_attach_rows"(
        const TraceColumns *t, int64_t begin, int64_t end, int64_t total, int64_t first_src, int32_t *nxt, int32_t *prv,
        int32_t *last, uint8_t *done, ReplayRow *out) noexcept nogil:
    """Operations of the rows [begin, end) of a window of `total` rows, of which those before `begin` are history and
    those from `end` on are looked at only.  `done` is carried from window to window.  Returns the rows emitted."""
    cdef int64_t n = 0
    cdef int64_t i
    link_cpus(t, total, nxt, prv, last)
    for i in range(begin, end):
        if done[i]:
            continue
        if t.op[i] == TRACE_REFILL or t.op[i] == TRACE_EXTFRAG:
            take_run(t, i, first_src, nxt, done, &out[n])
        elif t.op[i] == TRACE_DRAIN:
            drain_cause(t, i, first_src, nxt, prv, done, &out[n])
        elif t.op[i] == TRACE_FREE and drains_follow(t, i, nxt):
            continue
        else:
            fill_row(&out[n], t, i, first_src)
        n += 1
    return n
