"""Memory policy of a task: the preferred node and the nodemask of a request that names neither.

Linux: mm/mempolicy.c (`alloc_pages`, `policy_node`, `policy_nodemask`, `alloc_pages_preferred_many`).
Modelled: DEFAULT, PREFERRED, BIND, INTERLEAVE, LOCAL and PREFERRED_MANY of the task (task_context).
Not modelled here: policies of address ranges, relative and static nodemask flags.  Cost: the number of nodes.
"""

from libc.stdint cimport int32_t, uint32_t, uint64_t

from mm._fast.core cimport mm_alloc_pages_nodemask
from mm._fast.gfp cimport __GFP_DIRECT_RECLAIM, __GFP_NOFAIL, __GFP_NOWARN, __GFP_THISNODE
from mm._fast.physical.gfp_zone cimport gfp_zone
from mm._fast.state cimport (MAX_NUMNODES, MMState, MPOL_BIND, MPOL_DEFAULT, MPOL_INTERLEAVE, mpol_mode, MPOL_PREFERRED,
                             MPOL_PREFERRED_MANY, NODEMASK_ALL, PF_INTERRUPT, PFN_NONE, PG_ZONE_MASK, PG_ZONE_SHIFT,
                             task_context, ZONE_MOVABLE)
from mm._fast.vm_event_item cimport NUMA_INTERLEAVE
from mm._fast.vmstat cimport count_numa_event


cdef bint apply_policy_zone(const MMState *s, uint64_t nodes, int32_t highest_zoneidx) noexcept nogil:
    """Does a BIND to `nodes` bind requests of this highest zone?

    Only those that may use the machine's highest zone below Movable; nodes of movable memory bind movable requests.
    """
    cdef int32_t nr
    cdef int32_t policy_zone = 0
    cdef bint is_movable_only = True
    for nr in range(s.g.nr_zones):
        if s.zones[nr].managed_pages and s.zones[nr].zid < ZONE_MOVABLE:
            policy_zone = max(policy_zone, s.zones[nr].zid)
            if (nodes >> s.zones[nr].nid) & 1:
                is_movable_only = False
    return highest_zoneidx >= (ZONE_MOVABLE if is_movable_only else policy_zone)


cdef uint64_t policy_nodemask(const MMState *s, uint32_t gfp, int32_t highest_zoneidx, int32_t cpu) noexcept nogil:
    """Nodes that a BIND allows for this mask; one to other nodes than the cpuset's is ignored."""
    cdef const task_context *current = &s.current[cpu]
    if not apply_policy_zone(s, current.mpol_nodes, highest_zoneidx):
        return NODEMASK_ALL
    if current.mems_allowed and not current.mems_allowed & current.mpol_nodes:
        return NODEMASK_ALL
    return current.mpol_nodes


cdef int32_t interleave_next(const MMState *s, task_context *current) noexcept nogil:
    """Node of the task's interleave set after the last one, round the end; -1 from an empty set."""
    cdef int32_t i, nid
    for i in range(1, MAX_NUMNODES + 1):
        nid = (current.il_prev + i) % MAX_NUMNODES
        if (current.mpol_nodes >> nid) & 1:
            current.il_prev = nid
            return nid
    return -1


cdef int32_t nearest_node(const MMState *s, int32_t nid, uint64_t nodes) noexcept nogil:
    """The node of the set that the fallback list of `nid` names first."""
    cdef int32_t i = 0
    cdef const int32_t *zonelist = &s.zonelists[nid * 2 * (s.g.nr_zones + 1)]
    while zonelist[i] >= 0:
        if (nodes >> s.zones[zonelist[i]].nid) & 1:
            return s.zones[zonelist[i]].nid
        i += 1
    return nid


cdef public uint32_t alloc_pages_policy "mm_alloc_pages_policy"(MMState *s, uint32_t gfp, uint32_t order, int32_t nid,
                                                               int32_t cpu) noexcept nogil:
    """`alloc_pages` of a task with a memory policy: the policy chooses the preferred node and the nodemask."""
    cdef task_context *current = &s.current[cpu]
    cdef uint32_t pfn
    cdef int32_t mode = current.mpol_mode
    if current.flags & PF_INTERRUPT or gfp & __GFP_THISNODE:
        mode = MPOL_DEFAULT
    if mode == MPOL_INTERLEAVE and current.mpol_nodes:
        nid = interleave_next(s, current)
        pfn = mm_alloc_pages_nodemask(s, gfp, order, nid, NODEMASK_ALL, cpu)
        if pfn != PFN_NONE and s.zones[(s.page[pfn].flags & PG_ZONE_MASK) >> PG_ZONE_SHIFT].nid == nid:
            count_numa_event(&s.zones[(s.page[pfn].flags & PG_ZONE_MASK) >> PG_ZONE_SHIFT], NUMA_INTERLEAVE, 1)
        return pfn
    if mode == MPOL_PREFERRED and current.mpol_nodes:
        return mm_alloc_pages_nodemask(s, gfp, order, nearest_node(s, nid, current.mpol_nodes), NODEMASK_ALL, cpu)
    if mode == MPOL_PREFERRED_MANY and current.mpol_nodes:
        pfn = mm_alloc_pages_nodemask(s, (gfp | __GFP_NOWARN) & ~<uint32_t>(__GFP_DIRECT_RECLAIM | __GFP_NOFAIL), order,
                                   nid, current.mpol_nodes, cpu)
        if pfn != PFN_NONE:
            return pfn
        return mm_alloc_pages_nodemask(s, gfp, order, nid, NODEMASK_ALL, cpu)
    if mode == MPOL_BIND:
        return mm_alloc_pages_nodemask(s, gfp, order, nid, policy_nodemask(s, gfp, gfp_zone(gfp), cpu), cpu)
    return mm_alloc_pages_nodemask(s, gfp, order, nid, NODEMASK_ALL, cpu)


cdef public uint32_t alloc_pages_long "mm_alloc_pages_long"(MMState *s, uint32_t gfp, uint32_t order, int32_t nid,
                                                           int32_t cpu) noexcept nogil:
    """`alloc_pages` past the fast path: a named node, or what the task's policy says."""
    if nid >= 0:
        return mm_alloc_pages_nodemask(s, gfp, order, nid, NODEMASK_ALL, cpu)
    if s.current[cpu].is_plain:
        return mm_alloc_pages_nodemask(s, gfp, order, s.cpu_node[cpu], NODEMASK_ALL, cpu)
    return alloc_pages_policy(s, gfp, order, s.cpu_node[cpu], cpu)


cdef public uint32_t alloc_page_local "mm_alloc_page_local"(MMState *s, uint32_t gfp, int32_t cpu) noexcept nogil:
    """One page by the task's policy."""
    return alloc_pages_long(s, gfp, 0, -1, cpu)
