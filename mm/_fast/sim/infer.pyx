"""What a trace does not show, inferred from what it does: hidden bulk allocations, kswapd's state, zone choices.

Linux: mm/page_alloc.c (alloc_pages_bulk has no event), mm/vmscan.c (kswapd lowers the pcp limit, takes boosts back),
mm/vmstat.c (counters are folded without an event).  Every inference is counted in ReplayCounts.
Invariant: what explains nothing is undone.  Cost: the length of a pcp list where a page is below its head.
"""

from libc.stdint cimport int8_t, int32_t, int64_t, uint32_t

from mm._fast.core cimport mm_expected_zone, mm_refresh_zone, mm_take_pcp_pages
from mm._fast.sim.replay_rows cimport (is_pfn, KSWAPD_ACTIVE, KSWAPD_ENDED, pcp_of, ReplayRow, ReplayState, row_mt,
                                       set_claims, zone_of, zone_pcp)
from mm._fast.sim.trace_ops cimport RECLAIM_KSWAPD, TRACE_RECLAIM_BEGIN
from mm._fast.state cimport (MAX_NR_ZONES, MIGRATE_UNMOVABLE, MMState, PAGE_ALLOC_COSTLY_ORDER, per_cpu_pages,
                             PFN_FAILED, PG_pcp, zone, ZONE_RECLAIM_ACTIVE)
from mm._fast.vm_event_item cimport NR_FREE_PAGES
from mm._fast.vmstat cimport pcp_page_state, set_page_state, zone_page_state, zone_pcp


cdef enum:
    STACK_PAGES = 4             # a kernel stack: what hidden bulk allocations nearly always are

# What settle_zone may have to undo: the state of a node's zones that decides a zone choice.
cdef struct zone_choice_state:
    int64_t watermark_boost[MAX_NR_ZONES]
    int64_t nr_free_pages[MAX_NR_ZONES]
    int64_t diff[MAX_NR_ZONES]
    int64_t noted_boost[MAX_NR_ZONES]
    uint32_t flags[MAX_NR_ZONES]
    int8_t kswapd


cdef public int64_t list_length "mm_list_length"(const MMState *s, uint32_t head, uint32_t stop) noexcept nogil:
    """Blocks on a list before `stop` (the head: all); -1 if it is not there."""
    cdef int64_t n = 0
    cdef uint32_t pfn = s.page[head].next
    while pfn != stop:
        if pfn == head:
            return -1
        n += 1
        pfn = s.page[pfn].next
    return n


cdef public bint infer_before_alloc "mm_infer_before_alloc"(ReplayState *r, const ReplayRow *row) noexcept nogil:
    """A refill means that the list was empty, a page below the head that those above are gone.  True: pages inferred."""
    cdef MMState *s = r.s
    cdef zone *z
    cdef uint32_t head
    cdef int64_t n
    if row.order or not is_pfn(s, row.pfn):
        return False
    z = zone_of(s, row.pfn)
    head = pcp_of(s, z, row.cpu).first_list + <uint32_t>row_mt(row)
    if row.nr_refilled:
        n = list_length(s, head, head)
        r.c.inferred_list_empty += mm_take_pcp_pages(s, z, row_mt(row), <uint32_t>n, row.cpu)
    elif s.page[head].next != row.pfn and s.page[row.pfn].flags & PG_pcp:
        n = list_length(s, head, row.pfn)
        if n > 0:
            r.c.inferred_below_head += mm_take_pcp_pages(s, z, row_mt(row), <uint32_t>n, row.cpu)
        return n > 0
    else:
        return False
    return n > 0


cdef public void infer_bulk "mm_infer_bulk"(ReplayState *r, const ReplayRow *row) noexcept nogil:
    """A refill that no allocation owns: the list ran empty and at least one page more was taken."""
    cdef MMState *s = r.s
    cdef zone *z
    cdef uint32_t head
    if not r.is_inferring or not is_pfn(s, row.pfn) or row.nr_refilled == 0:
        return
    if row.order:
        r.c.bulk_high_order += 1
        return
    z = zone_of(s, row.pfn)
    head = pcp_of(s, z, row.cpu).first_list + <uint32_t>row_mt(row)
    set_claims(s, row)
    r.c.inferred_refill += mm_take_pcp_pages(s, z, row_mt(row), <uint32_t>list_length(s, head, head) + 1, row.cpu)
    s.g.nr_claim_hints = 0


cdef int64_t drain_size(const per_cpu_pages *pcp, int64_t count, bint is_active) noexcept nogil:
    """Pages that a free drains when kswapd is active in the zone or not."""
    cdef int64_t high = min(4 * pcp.batch, pcp.high) if is_active else pcp.high
    if count < high:
        return 0
    return 1 if high < pcp.batch else min(<int64_t>pcp.batch << pcp.free_factor, high - pcp.batch)


cdef public void infer_before_free "mm_infer_before_free"(ReplayState *r, const ReplayRow *row,
                                                             zone *z) noexcept nogil:
    """Compare the drain that the model would do with the recorded one; hidden pages make ours larger."""
    cdef MMState *s = r.s
    cdef per_cpu_pages *pcp = pcp_of(s, z, row.cpu)
    cdef int64_t count = pcp.count + (<int64_t>1 << row.order)
    cdef bint is_active = z.flags & ZONE_RECLAIM_ACTIVE != 0
    cdef int64_t ours, other, missing
    if pcp.free_factor and 1 <= row.order <= PAGE_ALLOC_COSTLY_ORDER:
        if 0 < row.drained < count:
            r.c.inferred_drain += mm_take_pcp_pages(s, z, MIGRATE_UNMOVABLE, <uint32_t>(count - row.drained), row.cpu)
        return
    ours = drain_size(pcp, count, is_active)
    if ours == row.drained:
        return
    other = drain_size(pcp, count, not is_active)
    if distance(other, row.drained) < distance(ours, row.drained):
        r.c.kswapd_toggles += 1
        z.flags ^= ZONE_RECLAIM_ACTIVE
        mm_refresh_zone(s, <int32_t>(z - s.zones))
    elif ours and row.drained == 0:
        missing = count - pcp.high + 1
        missing = (missing + STACK_PAGES - 1) // STACK_PAGES * STACK_PAGES
        r.c.inferred_drain += mm_take_pcp_pages(s, z, MIGRATE_UNMOVABLE, <uint32_t>missing, row.cpu)


cdef inline int64_t distance(int64_t a, int64_t b) noexcept nogil:
    return a - b if a > b else b - a


# ---------------------------------------------------------------------------------------------------------- kswapd

cdef void kswapd_end(ReplayState *r, int32_t nid) noexcept nogil:
    """kswapd's run ends: it takes back the boosts that it found at its begin."""
    cdef int32_t nr
    if r.kswapd[nid] != KSWAPD_ACTIVE:
        return
    r.kswapd[nid] = KSWAPD_ENDED
    for nr in range(nid * MAX_NR_ZONES, (nid + 1) * MAX_NR_ZONES):
        r.s.zones[nr].flags &= ~<uint32_t>ZONE_RECLAIM_ACTIVE
        r.s.zones[nr].watermark_boost -= min(r.s.zones[nr].watermark_boost, r.noted_boost[nr])
        mm_refresh_zone(r.s, nr)


cdef void kswapd_start(ReplayState *r, int32_t nid) noexcept nogil:
    cdef int32_t nr
    kswapd_end(r, nid)
    r.kswapd[nid] = KSWAPD_ACTIVE
    for nr in range(nid * MAX_NR_ZONES, (nid + 1) * MAX_NR_ZONES):
        if r.s.zones[nr].managed_pages:
            r.s.zones[nr].flags |= ZONE_RECLAIM_ACTIVE
            r.noted_boost[nr] = r.s.zones[nr].watermark_boost
            mm_refresh_zone(r.s, nr)


cdef void kswapd_not_yet_ended(ReplayState *r, int32_t nid) noexcept nogil:
    """Take an end back that was guessed too early."""
    cdef int32_t nr
    r.kswapd[nid] = KSWAPD_ACTIVE
    for nr in range(nid * MAX_NR_ZONES, (nid + 1) * MAX_NR_ZONES):
        if r.s.zones[nr].managed_pages:
            r.s.zones[nr].flags |= ZONE_RECLAIM_ACTIVE
            r.s.zones[nr].watermark_boost += r.noted_boost[nr]
            mm_refresh_zone(r.s, nr)


cdef public void infer_kswapd "mm_infer_kswapd"(ReplayState *r, const ReplayRow *row) noexcept nogil:
    """kswapd of a node wakes or sleeps."""
    if row.flags & RECLAIM_KSWAPD and 0 <= row.node < r.s.g.nr_nodes and r.is_inferring:
        if row.op == TRACE_RECLAIM_BEGIN:
            kswapd_start(r, row.node)
        else:
            kswapd_end(r, row.node)


# ----------------------------------------------------------------------------------------------------- zone choice

cdef void save_choice(const ReplayState *r, int32_t nid, int32_t cpu, zone_choice_state *saved) noexcept nogil:
    cdef int32_t zid, nr
    saved.kswapd = r.kswapd[nid]
    for zid in range(MAX_NR_ZONES):
        nr = nid * MAX_NR_ZONES + zid
        saved.watermark_boost[zid] = r.s.zones[nr].watermark_boost
        saved.nr_free_pages[zid] = zone_page_state(&r.s.zones[nr], NR_FREE_PAGES)
        saved.diff[zid] = pcp_page_state(zone_pcp(r.s, nr, cpu), NR_FREE_PAGES)
        saved.noted_boost[zid] = r.noted_boost[nr]
        saved.flags[zid] = r.s.zones[nr].flags


cdef void restore_choice(ReplayState *r, int32_t nid, int32_t cpu, const zone_choice_state *saved) noexcept nogil:
    cdef int32_t zid, nr
    r.kswapd[nid] = saved.kswapd
    for zid in range(MAX_NR_ZONES):
        nr = nid * MAX_NR_ZONES + zid
        r.s.zones[nr].watermark_boost = saved.watermark_boost[zid]
        set_page_state(&r.s.zones[nr], zone_pcp(r.s, nr, cpu), NR_FREE_PAGES, saved.nr_free_pages[zid], saved.diff[zid])
        r.noted_boost[nr] = saved.noted_boost[zid]
        r.s.zones[nr].flags = saved.flags[zid]
        mm_refresh_zone(r.s, nr)


cdef void fold_diffs(ReplayState *r, int32_t nid, int32_t cpu) noexcept nogil:
    """vmstat's worker folded this CPU's counters."""
    cdef int32_t nr
    cdef zone *z
    cdef per_cpu_pages *pcp
    for nr in range(nid * MAX_NR_ZONES, (nid + 1) * MAX_NR_ZONES):
        z = &r.s.zones[nr]
        pcp = zone_pcp(r.s, nr, cpu)
        set_page_state(z, pcp, NR_FREE_PAGES,
                       zone_page_state(z, NR_FREE_PAGES) + pcp_page_state(pcp, NR_FREE_PAGES), 0)


cdef void apply_explanation(ReplayState *r, int32_t nid, int32_t cpu, int32_t which) noexcept nogil:
    """0 counters folded; 1 kswapd has ended, or has not; 2 both; 3 a run of kswapd that no event shows; 4 0 and 3."""
    if which == 0 or which == 2 or which == 4:
        fold_diffs(r, nid, cpu)
    if which == 1 or which == 2:
        if r.kswapd[nid] == KSWAPD_ENDED:
            kswapd_not_yet_ended(r, nid)
        else:
            kswapd_end(r, nid)
    if which >= 3:
        kswapd_start(r, nid)
        kswapd_end(r, nid)


cdef public bint settle_zone "mm_settle_zone"(ReplayState *r, const ReplayRow *row) noexcept nogil:
    """Learn from the zone of a recorded page what no event shows; the mildest explanation is kept.

    False: nothing explains it, the zone has to be taken from the recording.
    """
    cdef MMState *s = r.s
    cdef zone_choice_state saved
    cdef int32_t nid = row.node if row.node >= 0 else s.cpu_node[row.cpu]
    cdef int32_t want = -1
    cdef int32_t which
    if is_pfn(s, row.pfn):
        want = <int32_t>(zone_of(s, row.pfn) - s.zones)
    elif row.pfn != PFN_FAILED:
        return True
    if mm_expected_zone(s, row.gfp, row.order, nid, row.cpu) == want:
        return True
    save_choice(r, nid, row.cpu, &saved)
    for which in range(5):
        apply_explanation(r, nid, row.cpu, which)
        if mm_expected_zone(s, row.gfp, row.order, nid, row.cpu) == want:
            r.c.zones_explained += 1
            return True
        restore_choice(r, nid, row.cpu, &saved)
    r.c.zones_forced += 1
    return False
