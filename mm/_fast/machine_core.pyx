"""MachineCore: the arrays of one simulated machine and the calls on them.

It owns every array (NumPy) and the one MMState that points into them; nothing else in the package holds state of a
machine.  Calls check their arguments here, at the boundary, so the C functions behind need not.
Not here: how a machine is booted or loaded (mm.sim.machine), the rules of the allocator (physical/).
Cost: one Python call of alloc_pages or free_pages is tens of nanoseconds; batches run without the GIL.
"""

import ctypes
import difflib

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t

from mm._fast.core cimport (mm_alloc_contig_pages, mm_alloc_contig_range, mm_alloc_pages, mm_alloc_pages_bulk,
                            mm_drain_pages_zone, mm_fold_counters, mm_free_one_page, mm_free_pages_check,
                            mm_free_unref_page_list, mm_refresh_fast_requests, mm_refresh_zone, mm_split_page,
                            mm_try_free_pages, mm_verify)
from mm._fast.debug cimport MM_IS_CANARY, MM_IS_DEBUG_VM
from mm._fast.page_list cimport INIT_LIST_HEAD, list_add_tail
from mm._fast.page_ref cimport put_page_testzero
from mm._fast.physical.buddy cimport add_to_free_list_tail, free_list, refresh_pageblock
from mm._fast.physical.gfp_zone cimport gfp_migratetype, gfp_zone, GFP_ZONE_BAD
from mm._fast.state cimport (fast_request, FREE_OK, FREE_WRONG_ORDER, MAX_NR_ZONES, MAX_NUMNODES, MAX_ORDER,
                             MAX_ORDER_NR_PAGES, MIGRATE_HIGHATOMIC, MIGRATE_MOVABLE, MIGRATE_TYPES, MMGlobals,
                             MMOps,
                             MMState, NODEMASK_ALL, NR_FAST_REQUESTS, NR_FREE_LISTS, NR_MM_OPS, NR_PCP_LISTS,
                             page_cold, page_hot, pageblock_nr_pages, per_cpu_pages, PFN_NONE, PG_MT_SHIFT, PG_pcp,
                             PG_reserved, PG_valid, PG_ZONE_SHIFT, pglist_data, task_context, zone)
from mm._fast.vm_event_item cimport NR_VM_EVENT_ITEMS

from mm._fast import state as state_names
from mm._fast.state import free_error, mm_op
from mm.errors import AllocationFailed, BadFree, VMBug

# The fields of MMOps in their order.
cdef tuple OPS = ("wakeup_kswapd", "try_to_free_pages", "try_to_compact_pages", "out_of_memory", "node_reclaim",
                  "zone_reclaimable_pages", "node_dirty_ok", "compaction_zonelist_suitable", "alloc_contig_migrate_range")
assert len(OPS) * sizeof(void *) == sizeof(MMOps)

cdef dict FREE_STATES = {
    "FREE_BAD_PFN": "no such page frame", "FREE_HOLE": "a hole without struct page", "FREE_RESERVED": "a reserved page",
    "FREE_NOT_ALLOCATED": "it is free", "FREE_TAIL": "a tail of a compound page",
    "FREE_WRONG_ORDER": "it was allocated with order {order}", "FREE_UNALIGNED": "not aligned to its order",
    "FREE_COLD": "it is still mapped or in use", "FREE_BAD_TAIL": "a page of the block is free, reserved or foreign",
}


def _dtypes():
    """The NumPy dtype of every record of the state, from the C structs."""
    cdef page_hot hot
    cdef page_cold cold
    cdef zone z
    cdef per_cpu_pages pcp
    cdef pglist_data node
    cdef task_context task
    cdef MMGlobals g
    return {"page": np.asarray(<page_hot[:1]>&hot).dtype, "cold": np.asarray(<page_cold[:1]>&cold).dtype,
            "zones": np.asarray(<zone[:1]>&z).dtype, "pageset": np.asarray(<per_cpu_pages[:1]>&pcp).dtype,
            "nodes": np.asarray(<pglist_data[:1]>&node).dtype, "current": np.asarray(<task_context[:1]>&task).dtype,
            "g": np.asarray(<MMGlobals[:1]>&g).dtype}


cdef class MachineCore:
    """State of one machine.

    Parameters
    ----------
    nr_pages : int
        Page frames from PFN 0 to the end of memory, holes included.
    nr_nodes, nr_cpus : int
    cpu_node : sequence of int
        Node of each CPU.

    Notes
    -----
    A new core has no zone and no page; its arrays are filled by a boot or from a snapshot, then `start()` is called.
    """

    cdef MMState state
    cdef readonly object page, cold, buddy, pageblock_flags, zones, pageset, nodes, vm_event, zonelists, first_zone
    cdef readonly object node_distance, cpu_node, current, g
    cdef object fast, pageblock_bits, op_functions

    is_debug_vm = bool(MM_IS_DEBUG_VM)
    is_canary = bool(MM_IS_CANARY)

    def __init__(self, nr_pages, nr_nodes, nr_cpus, cpu_node):
        if not 0 < nr_pages < 0xfff00000:
            raise ValueError(f"nr_pages {nr_pages}: 1 to {0xfff00000 - 1} page frames")
        if not 1 <= nr_nodes <= MAX_NUMNODES:
            raise ValueError(f"nodes {nr_nodes}: 1 to {MAX_NUMNODES}")
        if not 1 <= nr_cpus <= 4096:
            raise ValueError(f"cpus {nr_cpus}: 1 to 4096")
        if len(cpu_node) != nr_cpus or not all(0 <= n < nr_nodes for n in cpu_node):
            raise ValueError(f"cpu_node {list(cpu_node)!r}: {nr_cpus} nodes of 0 to {nr_nodes - 1}")
        self._allocate(nr_pages, nr_nodes, nr_cpus)
        self.cpu_node[:] = cpu_node
        self._init_lists()

    def _allocate(self, nr_pages, nr_nodes, nr_cpus):
        dtypes = _dtypes()
        nr_pages = -(-nr_pages // MAX_ORDER_NR_PAGES) * MAX_ORDER_NR_PAGES
        nr_zones = nr_nodes * MAX_NR_ZONES
        nr_lists = nr_zones * (NR_FREE_LISTS + nr_cpus * NR_PCP_LISTS)
        cdef uint8_t[::1] g = <uint8_t[:sizeof(MMGlobals)]><uint8_t *>&self.state.g
        self.g = np.asarray(g).view(dtypes["g"])
        self.g["nr_pages"], self.g["nr_lists"], self.g["nr_zones"] = nr_pages, nr_lists, nr_zones
        self.g["nr_nodes"], self.g["nr_cpus"] = nr_nodes, nr_cpus
        self.page = np.zeros(nr_pages + nr_lists, dtypes["page"])
        self.cold = np.zeros(nr_pages, dtypes["cold"])
        self.buddy = np.zeros(nr_pages, np.uint8)
        self.pageblock_flags = np.zeros(nr_pages // pageblock_nr_pages, np.uint8)
        self.pageblock_bits = np.zeros(nr_pages // pageblock_nr_pages, np.uint32)
        self.zones = np.zeros(nr_zones, dtypes["zones"])
        self.pageset = np.zeros((nr_zones, nr_cpus), dtypes["pageset"])
        self.nodes = np.zeros(nr_nodes, dtypes["nodes"])
        self.vm_event = np.zeros((nr_cpus, NR_VM_EVENT_ITEMS), np.int64)
        self.zonelists = np.full((nr_nodes, 2, nr_zones + 1), -1, np.int32)
        self.first_zone = np.full((nr_nodes, MAX_NR_ZONES), -1, np.int32)
        self.node_distance = np.full((nr_nodes, nr_nodes), 20, np.int32)
        np.fill_diagonal(self.node_distance, 10)
        self.cpu_node = np.zeros(nr_cpus, np.int32)
        self.current = np.zeros(nr_cpus, dtypes["current"])
        self.fast = np.zeros(nr_cpus * NR_FAST_REQUESTS * sizeof(fast_request), np.uint8)
        self.op_functions = {}
        self._point()

    cdef _point(self):
        """Set the pointers of MMState to the arrays."""
        self.state.page = <page_hot *><uintptr_t>self.page.ctypes.data
        self.state.cold = <page_cold *><uintptr_t>self.cold.ctypes.data
        self.state.buddy = <uint8_t *><uintptr_t>self.buddy.ctypes.data
        self.state.fast = <fast_request *><uintptr_t>self.fast.ctypes.data
        self.state.pageblock_flags = <uint8_t *><uintptr_t>self.pageblock_flags.ctypes.data
        self.state.pageblock_bits = <uint32_t *><uintptr_t>self.pageblock_bits.ctypes.data
        self.state.zones = <zone *><uintptr_t>self.zones.ctypes.data
        self.state.pageset = <per_cpu_pages *><uintptr_t>self.pageset.ctypes.data
        self.state.nodes = <pglist_data *><uintptr_t>self.nodes.ctypes.data
        self.state.vm_event = <int64_t *><uintptr_t>self.vm_event.ctypes.data
        self.state.zonelists = <int32_t *><uintptr_t>self.zonelists.ctypes.data
        self.state.first_zone = <int32_t *><uintptr_t>self.first_zone.ctypes.data
        self.state.node_distance = <int32_t *><uintptr_t>self.node_distance.ctypes.data
        self.state.cpu_node = <int32_t *><uintptr_t>self.cpu_node.ctypes.data
        self.state.current = <task_context *><uintptr_t>self.current.ctypes.data

    def _init_lists(self):
        """Give every zone and CPU its list heads, all empty, behind the last page."""
        cdef MMState *s = &self.state
        cdef uint32_t slot = s.g.nr_pages
        cdef uint32_t i
        cdef int32_t nr, cpu
        for nr in range(s.g.nr_zones):
            s.zones[nr].nid = nr // MAX_NR_ZONES
            s.zones[nr].zid = nr % MAX_NR_ZONES
            s.zones[nr].page_bits = PG_valid | (<uint32_t>nr << PG_ZONE_SHIFT)
            s.zones[nr].first_list = slot
            slot += NR_FREE_LISTS
            for cpu in range(s.g.nr_cpus):
                s.pageset[nr * s.g.nr_cpus + cpu].first_list = slot
                slot += NR_PCP_LISTS
        for i in range(s.g.nr_pages, slot):
            INIT_LIST_HEAD(s.page, i)

    def start(self):
        """Derive what the hot paths read from the arrays that a boot or a snapshot filled."""
        cdef MMState *s = &self.state
        cdef int32_t nid, zid, i, nr
        s.g.nr_online_nodes = 0
        for nid in range(s.g.nr_nodes):
            s.g.nr_online_nodes += s.nodes[nid].is_online != 0
            for zid in range(MAX_NR_ZONES):
                s.first_zone[nid * MAX_NR_ZONES + zid] = -1
                for i in range(s.g.nr_zones + 1):
                    nr = s.zonelists[nid * 2 * (s.g.nr_zones + 1) + i]
                    if nr < 0 or s.zones[nr].zid <= zid:
                        s.first_zone[nid * MAX_NR_ZONES + zid] = nr
                        break
        self._find_block_zones()
        self.refresh()
        self.update_current()

    def _find_block_zones(self):
        """Note the zone of every pageblock that lies in one, and the pcp list of its pages."""
        cdef uint32_t block
        self.pageblock_bits[:] = 0
        for nr in np.flatnonzero(self.zones["spanned_pages"]):
            start = int(self.zones["zone_start_pfn"][nr])
            end = start + int(self.zones["spanned_pages"][nr])
            self.pageblock_bits[-(-start // pageblock_nr_pages):end // pageblock_nr_pages] = self.zones["page_bits"][nr]
        for block in range(self.state.g.nr_pages // pageblock_nr_pages):
            refresh_pageblock(&self.state, block)

    def copy(self):
        """An independent machine in the same state."""
        cdef MachineCore other = type(self).__new__(type(self))
        other._allocate(int(self.state.g.nr_pages), int(self.state.g.nr_nodes), int(self.state.g.nr_cpus))
        for name in ("page", "cold", "buddy", "pageblock_flags", "pageblock_bits", "zones", "pageset", "nodes", "vm_event",
                     "zonelists", "first_zone", "node_distance", "cpu_node", "current"):
            np.copyto(self._array(other, name), self._array(self, name))
        other.state.g = self.state.g
        other.state.ops, other.op_functions = self.state.ops, dict(self.op_functions)
        other.update_current()
        if hasattr(self, "__dict__"):
            other.__dict__.update(self.__dict__)
        return other

    @staticmethod
    def _array(MachineCore core, name):
        return core.pageblock_bits if name == "pageblock_bits" else getattr(core, name)

    def check_bug(self):
        """Raise VMBug if an invariant was seen broken."""
        if self.state.g.bug.code:
            self._raise_bug()

    def register_op(self, name, function):
        """Let `function` answer the calls `name` that the allocator makes upward, a field of MMOps (state.pxd, mm.h).

        The function is a ctypes function object, kept alive with the machine and its copies, or an address.  Its C
        signature is the field's, the MMState first; it must not raise.  A checkpoint holds no functions.  ValueError
        for an unknown name, one that is taken, or address 0.
        """
        if name not in OPS:
            near = difflib.get_close_matches(str(name), OPS, 1, 0)[0]
            raise ValueError(f"operation {name!r} does not exist; did you mean {near!r}?")
        if name in self.op_functions:
            raise ValueError(f"operation {name!r} is registered already")
        address = function if isinstance(function, int) else ctypes.cast(function, ctypes.c_void_p).value
        if not address:
            raise ValueError(f"operation {name!r}: address 0")
        (<uintptr_t *>&self.state.ops)[<int32_t>OPS.index(name)] = address
        self.op_functions[name] = function
        self.update_current()

    def op_calls(self):
        """{operation: calls that no subsystem was there to answer}, those with calls."""
        cdef int32_t i
        return {mm_op(i).name[3:].lower(): int(self.state.g.nr_op_calls[i]) for i in range(NR_MM_OPS)
                if self.state.g.nr_op_calls[i]}

    def update_current(self):
        """Note which CPUs' requests need nothing beyond the plain rules."""
        cdef MMState *s = &self.state
        cdef task_context *t
        cdef int32_t cpu
        cdef bint is_plain = not (s.g.page_group_by_mobility_disabled or s.g.is_pcp_disabled or s.g.is_cpusets_enabled)
        for cpu in range(s.g.nr_cpus):
            t = &s.current[cpu]
            t.is_plain = is_plain and t.flags == 0 and t.mpol_mode == 0 and t.mems_allowed == 0
        mm_refresh_fast_requests(s)

    def refresh(self):
        """Derive anew what hot paths read from marks, reserves, zone flags and pcp sizes; call after changing these."""
        cdef int32_t nr
        for nr in range(self.state.g.nr_zones):
            mm_refresh_zone(&self.state, nr)

    def fold_counters(self):
        """Bring vm_event and the zones' NUMA and model counters up to date; call before reading them."""
        mm_fold_counters(&self.state)

    # ------------------------------------------------------------------------------------------------- filling

    def init_page_range(self, int64_t start, int64_t end, int64_t zone_nr, bint is_reserved=False):
        """Give the frames [start, end) a struct page of a zone, reserved or plainly owned by nobody."""
        cdef page_hot *page = self.state.page
        cdef uint32_t pfn, bits
        self._check_range(start, end)
        self._check_zone(zone_nr)
        bits = self.state.zones[zone_nr].page_bits | (PG_reserved if is_reserved else 0)
        with nogil:     # one pass: on a large machine the frames' first touch is the whole cost of boot
            for pfn in range(<uint32_t>start, <uint32_t>end):
                page[pfn].flags = bits
                page[pfn].refcount = is_reserved

    def free_range_to_buddy(self, int64_t start, int64_t end, int64_t cpu=0):
        """Hand [start, end) to the allocator as boot does: largest aligned blocks, ascending, at the tails."""
        cdef uint32_t pfn, stop
        cdef uint32_t order
        self._check_range(start, end)
        self._check_cpu(cpu)
        pfn, stop = <uint32_t>start, <uint32_t>end
        with nogil:
            while pfn < stop:
                order = MAX_ORDER - 1
                while order > 0 and (pfn & ((<uint32_t>1 << order) - 1) or pfn + (<uint32_t>1 << order) > stop):
                    order -= 1
                mm_free_one_page(&self.state, pfn, order, self.state.pageblock_flags[pfn // pageblock_nr_pages] & 7,
                                 <int32_t>cpu, True)
                pfn += <uint32_t>1 << order

    def load_free_list(self, int64_t zone_nr, int64_t order, int64_t mt, const uint32_t[::1] pfns):
        """Fill one empty free list, head first."""
        cdef uint32_t pfn, i
        cdef MMState *s = &self.state
        cdef zone *z
        self._check_zone(zone_nr)
        self._check_order(order)
        if not 0 <= mt < MIGRATE_TYPES:
            raise ValueError(f"migratetype {mt}: 0 to {MIGRATE_TYPES - 1}")
        z = &s.zones[zone_nr]
        if z.nr_free[order] and s.page[free_list(z, order, mt)].next != free_list(z, order, mt):
            raise ValueError(f"free list zone {zone_nr} order {order} type {mt} is given twice")
        for i in range(<uint32_t>pfns.shape[0]):
            pfn = pfns[i]
            self._check_loaded_block(pfn, order, zone_nr)
            add_to_free_list_tail(s, z, pfn, <uint32_t>order, <int32_t>mt)

    def load_pcp_list(self, int64_t zone_nr, int64_t cpu, int64_t pindex, const uint32_t[::1] pfns,
                      const uint8_t[::1] mts):
        """Fill one empty pcp list, head first; `mts`: the type each block returns to."""
        cdef MMState *s = &self.state
        cdef uint32_t i, pfn, head
        cdef int64_t order = pindex // 3 if pindex < 12 else 9
        self._check_zone(zone_nr)
        self._check_cpu(cpu)
        if not 0 <= pindex < NR_PCP_LISTS or mts.shape[0] != pfns.shape[0]:
            raise ValueError(f"pcp list {pindex}: 0 to {NR_PCP_LISTS - 1}, one type a block")
        head = s.pageset[zone_nr * s.g.nr_cpus + cpu].first_list + <uint32_t>pindex
        if s.page[head].next != head:
            raise ValueError(f"pcp list {pindex} of zone {zone_nr} cpu {cpu} is given twice")
        for i in range(<uint32_t>pfns.shape[0]):
            pfn = pfns[i]
            self._check_loaded_block(pfn, order, zone_nr)
            if mts[i] > MIGRATE_HIGHATOMIC:
                raise ValueError(f"pcp page {pfn}: migratetype {mts[i]}, 0 to {MIGRATE_HIGHATOMIC}")
            s.page[pfn].flags = s.zones[zone_nr].page_bits | PG_pcp | <uint32_t>order | (<uint32_t>mts[i] << PG_MT_SHIFT)
            list_add_tail(s.page, head, pfn)

    cdef _check_loaded_block(self, uint32_t pfn, int64_t order, int64_t zone_nr):
        cdef MMState *s = &self.state
        cdef uint32_t i
        if pfn + (<uint64_t>1 << order) > s.g.nr_pages or pfn & ((<uint32_t>1 << order) - 1):
            raise ValueError(f"free block {pfn} order {order}: outside memory or not aligned")
        for i in range(pfn, pfn + (<uint32_t>1 << order)):
            if s.page[i].flags != s.zones[zone_nr].page_bits or s.page[i].refcount:
                raise ValueError(f"free block {pfn} order {order}: page {i} is in use, on a list, or of another zone")

    # ------------------------------------------------------------------------------------------------- checks

    cdef int _check_range(self, int64_t start, int64_t end) except -1:
        if not 0 <= start <= end <= self.state.g.nr_pages:
            raise ValueError(f"page range [{start}, {end}): within 0 to {self.state.g.nr_pages}")
        return 0

    cdef int _check_zone(self, int64_t nr) except -1:
        if not 0 <= nr < self.state.g.nr_zones:
            raise ValueError(f"zone {nr}: 0 to {self.state.g.nr_zones - 1}")
        return 0

    cdef int _check_order(self, int64_t order) except -1:
        if not 0 <= order < MAX_ORDER:
            raise ValueError(f"order {order}: 0 to {MAX_ORDER - 1}")
        return 0

    cdef int _check_cpu(self, int64_t cpu) except -1:
        if not 0 <= cpu < self.state.g.nr_cpus:
            raise ValueError(f"cpu {cpu}: 0 to {self.state.g.nr_cpus - 1}")
        return 0

    cdef int _check_gfp(self, int64_t gfp) except -1:
        if not 0 <= gfp <= 0xffffffff:
            raise ValueError(f"gfp {gfp}: a 32-bit mask")
        if gfp_zone(<uint32_t>gfp) == GFP_ZONE_BAD:
            raise ValueError(f"gfp {gfp:#x}: at most one of __GFP_DMA, __GFP_DMA32 and __GFP_HIGHMEM, "
                             "and __GFP_MOVABLE with neither DMA32 nor DMA and HIGHMEM")
        if gfp_migratetype(<uint32_t>gfp) > 2:
            raise ValueError(f"gfp {gfp:#x}: __GFP_MOVABLE and __GFP_RECLAIMABLE exclude each other")
        return 0

    cdef int32_t _node(self, node) except -2:
        if node is None or node == -1:
            return -1
        cdef int64_t nid = node
        if not 0 <= nid < self.state.g.nr_nodes:
            raise ValueError(f"node {nid}: 0 to {self.state.g.nr_nodes - 1}, or None for the CPU's own")
        return <int32_t>nid

    cdef int _raise_bug(self) except -1:
        b = self.state.g.bug
        raise VMBug(f"invariant {b.code} broken at line {b.line}, step {b.step}: pfn {b.pfn} next {b.page.next} "
                    f"prev {b.page.prev} refcount {b.page.refcount} flags {b.page.flags:#x}")

    cdef int _check_free(self, int64_t pfn, int64_t order) except -1:
        cdef int32_t why
        if not 0 <= pfn < PFN_NONE:
            raise BadFree(pfn, order, FREE_STATES["FREE_BAD_PFN"])
        self._check_order(order)
        why = mm_free_pages_check(&self.state, <uint32_t>pfn, <uint32_t>order)
        if why == FREE_OK:
            return 0
        state = FREE_STATES[state_names.free_error(why).name]
        if why == FREE_WRONG_ORDER:
            state = state.format(order=self.state.page[pfn].flags & 15)
        raise BadFree(pfn, order, state)

    # ---------------------------------------------------------------------------------------------- allocation

    def alloc_pages(self, int64_t gfp, int64_t order=0, int64_t cpu=0, node=None):
        """Allocate 2^order pages.

        Parameters
        ----------
        gfp : int
            Mask with Linux 6.1's bits (mm.GFP_*).
        order : int
            0 to 10.
        cpu : int
            CPU that asks.
        node : int, optional
            Preferred node; None: the CPU's own, by the task's memory policy.

        Returns
        -------
        int
            First PFN.

        Raises
        ------
        AllocationFailed
            The simulated kernel has no such block for this mask.
        ValueError
            An order, CPU, node or mask that does not exist.
        """
        cdef uint32_t pfn
        cdef int32_t nid = -1
        if node is not None:
            nid = self._node(node)
        self._check_order(order)
        self._check_cpu(cpu)
        self._check_gfp(gfp)
        pfn = mm_alloc_pages(&self.state, <uint32_t>gfp, <uint32_t>order, nid, <int32_t>cpu)
        if self.state.g.bug.code:
            self._raise_bug()
        if pfn == PFN_NONE:
            raise AllocationFailed(order, gfp)
        return pfn

    def free_pages(self, int64_t pfn, int64_t order=0, int64_t cpu=0):
        """Drop one reference of an allocated block and free it with the last (`__free_pages`).

        Raises BadFree, naming the page and its state, if the block is not allocated with this order.
        """
        self._check_cpu(cpu)
        if not 0 <= pfn < PFN_NONE or not 0 <= order < MAX_ORDER:
            self._check_free(pfn, order)
        if mm_try_free_pages(&self.state, <uint32_t>pfn, <uint32_t>order, <int32_t>cpu) != FREE_OK:
            self._check_free(pfn, order)
        if self.state.g.bug.code:
            self._raise_bug()

    def alloc_pages_bulk(self, int64_t gfp, int64_t n, int64_t cpu=0, node=None):
        """Up to `n` order-0 pages in one go (`alloc_pages_bulk_array`); a uint32 array of PFNs, maybe shorter."""
        cdef uint32_t got
        cdef uint32_t[::1] pfns
        cdef int32_t nid = self._node(node)
        self._check_cpu(cpu)
        self._check_gfp(gfp)
        if not 0 <= n <= self.state.g.nr_pages:
            raise ValueError(f"n {n}: 0 to {self.state.g.nr_pages} pages")
        result = np.empty(n, np.uint32)
        if n == 0:
            return result
        pfns = result
        with nogil:
            got = mm_alloc_pages_bulk(&self.state, <uint32_t>gfp, nid, <uint32_t>n, <int32_t>cpu, &pfns[0])
        if self.state.g.bug.code:
            self._raise_bug()
        return result[:got]

    def free_unref_page_list(self, pfns, int64_t cpu=0):
        """Free order-0 pages in list order as one batch; all are checked before the first is freed."""
        cdef const uint32_t[::1] view = np.ascontiguousarray(pfns, np.uint32)
        cdef int64_t i, k
        self._check_cpu(cpu)
        for i in range(view.shape[0]):
            try:
                self._check_free(view[i], 0)
                if self.state.page[view[i]].refcount != 1:
                    raise BadFree(view[i], 0, "it has more than one reference")
            except BadFree:
                for k in range(i):
                    self.state.page[view[k]].refcount = 1
                raise
            put_page_testzero(self.state.page, view[i])
        if view.shape[0]:
            with nogil:
                mm_free_unref_page_list(&self.state, &view[0], <uint32_t>view.shape[0], <int32_t>cpu)
        if self.state.g.bug.code:
            self._raise_bug()

    def split_page(self, int64_t pfn, int64_t order):
        """Make an allocated block, not compound, into 2^order single pages."""
        self._check_free(pfn, order)
        if self.state.page[pfn].flags & 0x2000:
            raise ValueError(f"pfn {pfn} is a compound page; only plain blocks can be split")
        mm_split_page(&self.state, <uint32_t>pfn, <uint32_t>order)

    def drain_local_pages(self, int64_t cpu=0):
        """Empty the per-cpu lists of a CPU in all zones."""
        cdef int32_t nr
        self._check_cpu(cpu)
        for nr in range(self.state.g.nr_zones):
            if self.state.zones[nr].spanned_pages:
                mm_drain_pages_zone(&self.state, &self.state.zones[nr], <int32_t>cpu, <int32_t>cpu)

    def alloc_contig_range(self, int64_t start, int64_t end, int64_t cpu=0):
        """Allocate exactly the pages [start, end), to be freed one by one.

        Raises
        ------
        OSError
            EBUSY if a page of the range cannot be had, EINVAL for a range outside memory.
        """
        cdef int32_t ret
        self._check_range(start, end)
        self._check_cpu(cpu)
        ret = mm_alloc_contig_range(&self.state, <uint32_t>start, <uint32_t>end, MIGRATE_MOVABLE, <int32_t>cpu)
        if self.state.g.bug.code:
            self._raise_bug()
        if ret:
            raise OSError(-ret, f"alloc_contig_range [{start}, {end})")

    def alloc_contig_pages(self, int64_t n, int64_t gfp=0xcc0, node=None, int64_t cpu=0):
        """First PFN of `n` contiguous pages, aligned to n where that is a power of two (`alloc_contig_pages`)."""
        cdef uint32_t pfn
        cdef int32_t nid = self._node(node)
        self._check_cpu(cpu)
        self._check_gfp(gfp)
        if not 0 < n <= self.state.g.nr_pages:
            raise ValueError(f"n {n}: 1 to {self.state.g.nr_pages} pages")
        if nid < 0:
            nid = self.state.cpu_node[cpu]
        pfn = mm_alloc_contig_pages(&self.state, <uint32_t>n, <uint32_t>gfp, nid, NODEMASK_ALL, <int32_t>cpu)
        if self.state.g.bug.code:
            self._raise_bug()
        if pfn == PFN_NONE:
            raise AllocationFailed(-1, gfp)
        return pfn

    # --------------------------------------------------------------------------------------------- inspection

    def list_pfns(self, int64_t slot):
        """PFNs on the list whose head is at `slot`, head first; a uint32 array."""
        cdef MMState *s = &self.state
        cdef uint32_t pfn, n = 0
        cdef uint32_t[::1] view
        if not s.g.nr_pages <= slot < <int64_t>s.g.nr_pages + s.g.nr_lists:
            raise ValueError(f"slot {slot} is no list head")
        pfn = s.page[slot].next
        while pfn != slot and n <= s.g.nr_pages:
            n += 1
            pfn = s.page[pfn].next
        result = np.empty(n, np.uint32)
        view = result
        pfn = s.page[slot].next
        for n in range(<uint32_t>view.shape[0]):
            view[n] = pfn
            pfn = s.page[pfn].next
        return result

    def free_lists(self):
        """{(node, zone, order, migratetype): uint32 array of PFNs, head first}, empty lists left out."""
        lists = {}
        for nr in np.flatnonzero(self.zones["spanned_pages"]):
            z = self.zones[nr]
            for k in range(NR_FREE_LISTS):
                pfns = self.list_pfns(int(z["first_list"]) + k)
                if len(pfns):
                    lists[int(z["nid"]), int(z["zid"]), k // MIGRATE_TYPES, k % MIGRATE_TYPES] = pfns
        return lists

    def pcp_lists(self):
        """{(node, zone, cpu, list): uint32 array of PFNs, head first}; list = 3 * order + type, 12 and 13 order 9."""
        lists = {}
        for nr in np.flatnonzero(self.zones["spanned_pages"]):
            z = self.zones[nr]
            for cpu in range(self.pageset.shape[1]):
                for k in range(NR_PCP_LISTS):
                    pfns = self.list_pfns(int(self.pageset["first_list"][nr, cpu]) + k)
                    if len(pfns):
                        lists[int(z["nid"]), int(z["zid"]), cpu, k] = pfns
        return lists

    def verify(self):
        """Audit the whole state: every list, page, counter; raises VMBug at the first broken invariant."""
        cdef int32_t code
        with nogil:
            code = mm_verify(&self.state)
        if code or self.state.g.bug.code:
            self._raise_bug()

    @property
    def address(self):
        """Address of the MMState, for C code and numba; valid while this object lives."""
        return <uintptr_t>&self.state
