# The state of one simulated machine: every struct, its fields, who may write them.
#
# Linux: include/linux/mm_types.h, mmzone.h, mm/internal.h.
# A machine is a set of flat arrays (each one NumPy array, its dtype derived from the struct here) and one
# MMState of pointers and scalars.  Data inside the arrays names other data by index, never by address, so a
# copy of the arrays and of MMState.g is a copy of the machine.
#
# Reading order: page_hot, zone, per_cpu_pages, MMState, MMOps.

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from mm._fast.vm_event_item cimport (NR_VM_ZONE_STAT_ITEMS, NR_VM_NODE_STAT_ITEMS, NR_VM_NUMA_EVENT_ITEMS,
                              NR_VM_EVENT_ITEMS, NR_ZONE_EVENT_ITEMS)

# Limits of the modelled kernel (Debian's 6.1 configuration, x86-64).
cpdef enum mm_limits:
    MAX_ORDER = 11                  # orders 0..10
    pageblock_order = 9
    pageblock_nr_pages = 512
    MAX_ORDER_NR_PAGES = 1024
    PAGE_ALLOC_COSTLY_ORDER = 3
    MIGRATE_PCPTYPES = 3
    NR_PCP_LISTS = 14               # 3 types x orders 0..3, then order 9 not movable, order 9 movable
    NR_LOWORDER_PCP_LISTS = 12
    PCP_BATCH_SCALE_MAX = 5         # CONFIG_PCP_BATCH_SCALE_MAX
    SWAP_CLUSTER_MAX = 32
    MAX_NR_ZONES = 5
    MAX_NUMNODES = 48               # zone numbers must fit the eight zone bits of page_hot.flags
    FAST_REQUEST_MASK = 31          # zone and type bits of a mask: index of a fast_request
    FAST_FREE = 32                  # index of the fast_request that names the list of the CPU's last fast free
    NR_FAST_REQUESTS = 64           # entries of a CPU
    NR_FREE_LISTS = 55              # MAX_ORDER x MIGRATE_TYPES heads a zone

cpdef enum migratetype:
    MIGRATE_UNMOVABLE, MIGRATE_MOVABLE, MIGRATE_RECLAIMABLE, MIGRATE_HIGHATOMIC, MIGRATE_ISOLATE, MIGRATE_TYPES

cpdef enum zone_type:
    ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE, ZONE_DEVICE

cpdef enum zone_watermarks:
    WMARK_MIN, WMARK_LOW, WMARK_HIGH, WMARK_PROMO, NR_WMARK

# zone.flags, bit masks
cpdef enum zone_flags:
    ZONE_BOOSTED_WATERMARK = 1      # set by a boost, cleared by the allocation that then wakes kswapd
    ZONE_RECLAIM_ACTIVE = 2         # kswapd works here: pcp high is lowered

# Answers that are not a PFN.
cdef extern from *:
    """
    #define PFN_NONE 0xffffffffu
    #define PFN_FAILED 0xfffffffeu
    #define NODEMASK_ALL (~(uint64_t)0)
    """
    const uint32_t PFN_NONE           # the only missing value; in traces: not known
    const uint32_t PFN_FAILED       # in traces and replay results: the allocation failed
    const uint64_t NODEMASK_ALL     # no restriction of nodes

# page_hot.flags.  Bits 0-3: order, of a free block, a pcp page, or an allocated block whose order is known.
# Bits 4-6: migratetype of the list that holds it (buddy) or that it will return to (pcp).
# Bits 16-23: number of the zone (node * MAX_NR_ZONES + zone index).
cpdef enum pageflags:
    PG_ORDER_MASK = 0x0000000f
    PG_MT_SHIFT = 4
    PG_MT_MASK = 0x00000070
    PG_buddy = 0x00000080           # head of a block on a buddy free list
    PG_pcp = 0x00000100             # head of a block on a per-cpu list
    PG_order_known = 0x00000200     # allocated by this machine as a block of the order in bits 0-3
    PG_reserved = 0x00000400        # never given to the allocator
    PG_lru = 0x00000800
    PG_slab = 0x00001000
    PG_head = 0x00002000            # head of a compound page
    PG_tail = 0x00004000            # tail of a compound page: `next` holds the head's PFN
    PG_cold = 0x00008000            # fields of page_cold are not at rest: a free must look at them
    PG_ZONE_SHIFT = 16
    PG_ZONE_MASK = 0x00ff0000
    PG_valid = 0x01000000           # the frame has a struct page (it is no hole)
    PG_pfmemalloc = 0x02000000      # given out without watermarks
    PG_isolated_free = 0x04000000   # taken off the free lists by an isolation, not yet owned

# Fields of struct page that the allocator, the pcp lists and the scanners touch: one 16-byte record.
cdef struct page_hot:
    uint32_t next                   # list link (PFN or head slot); of a tail page: the head.  Owner: page_list.pxd
    uint32_t prev                   # list link.  Owner: page_list.pxd
    int32_t refcount                # 0 while free; 1 after allocation.  Owner: page_ref.pxd
    uint32_t flags                  # pageflags.  Owner: whoever holds the page

# The rest of struct page, at rest (all as below) while the page is free or plainly allocated.  Owners: the
# subsystem that maps or caches the page; it sets PG_cold with the first field it changes.
cdef struct page_cold:
    int32_t mapcount                # page table entries - 1; stored + 1, so that rest is 0
    uint32_t mapping                # id of the address space or anon_vma, 0 none
    uint64_t index                  # offset in it, in pages
    uint64_t private_               # owner's own value
    uint32_t memcg                  # id of the memory cgroup charged, 0 none
    uint32_t pincount               # pins of a compound head

# struct free_area: the heads of the lists live behind the last page (zone.first_list).
cdef struct zone:
    # read by every allocation
    int64_t vm_stat[NR_VM_ZONE_STAT_ITEMS]      # global part of the counters.  Owner: vmstat
    int64_t watermark[NR_WMARK]                 # pages, without the boost.  Owner: setup_per_zone_wmarks
    int64_t watermark_boost                     # pages.  Owner: boost_watermark, kswapd
    int64_t lowmem_reserve[MAX_NR_ZONES]        # pages.  Owner: setup_per_zone_lowmem_reserve
    int64_t nr_reserved_highatomic              # pages in HIGHATOMIC pageblocks
    int64_t nr_free[MAX_ORDER]                  # blocks
    uint32_t flags                              # zone_flags
    uint32_t page_bits                          # page_hot.flags of a plain page of this zone
    uint32_t first_list                         # slot of the head of (order 0, type 0); then by order, type
    uint32_t nr_isolate_pageblock
    int32_t nid
    int32_t zid                                 # zone_type
    int64_t zone_start_pfn
    int64_t spanned_pages                       # 0: the zone does not exist here
    int64_t present_pages
    int64_t managed_pages
    int64_t pageset_high                        # pages; of every CPU's per_cpu_pages
    int64_t pageset_batch
    int64_t percpu_drift_mark                   # pages; 0 none
    int64_t fast_mark[MAX_NR_ZONES]             # derived: above this many free pages an order-0 request of that highest
                                                # zone needs no further look.  Owner: refresh_zone
    int64_t numa_event[NR_VM_NUMA_EVENT_ITEMS]
    int64_t event[NR_ZONE_EVENT_ITEMS]          # the model's own counters (vm_event_item.pxd)

# struct per_cpu_pages and per_cpu_zonestat of one zone and CPU: 128 bytes, the first 64 of them hot.
cdef struct per_cpu_pages:
    int32_t count                   # pages on the lists
    int32_t limit                   # derived: pages at which a free drains, `high` or less under reclaim.  Owner: refresh_zone
    int32_t free_factor             # doublings of the next drain, 0..PCP_BATCH_SCALE_MAX
    uint32_t first_list             # slot of the head of list 0
    int64_t nr_alloc                # order-0 requests served by the fast path, not yet in the counters (fold_counters)
    int64_t nr_free                 # order-0 frees by the fast path, not yet in the counters (fold_counters)
    int32_t high                    # pages
    int32_t batch                   # pages
    int32_t stat_threshold          # |vm_stat_diff| above this is folded in
    int32_t expire
    int32_t vm_stat_diff[NR_VM_ZONE_STAT_ITEMS]
    int32_t pad_[9]

# What an order-0 request with these zone and type bits needs on one CPU; derived, rebuilt by start().  The entry FAST_FREE
# remembers where the last fast free went: the next one most likely goes there too and need not wait to find out.
cdef struct fast_request:
    const int64_t *free_pages       # its first zone's NR_FREE_PAGES
    const int64_t *mark             # that zone's fast_mark for the highest zone of the mask
    per_cpu_pages *pcp              # NULL: the request needs the long way
    uint32_t head                   # slot of the head of its pcp list
    uint32_t page_bits              # page_hot.flags of a page handed out

cdef struct pglist_data:
    int64_t node_start_pfn
    int64_t node_spanned_pages
    int64_t node_present_pages
    int64_t totalreserve_pages
    int64_t min_unmapped_pages
    int64_t min_slab_pages
    int64_t kswapd_failures
    int32_t kswapd_order
    int32_t kswapd_highest_zoneidx
    int32_t nr_cpus                 # CPUs of this node
    int32_t is_online               # has memory
    int64_t vm_stat[NR_VM_NODE_STAT_ITEMS]

# Who asks: what the allocator reads of `current` on a CPU.
cpdef enum task_flags:
    PF_MEMALLOC = 0x1               # may use all reserves, may not reclaim
    PF_MEMALLOC_NOIO = 0x2
    PF_MEMALLOC_NOFS = 0x4
    PF_MEMALLOC_PIN = 0x8
    PF_RT = 0x10                    # real-time scheduling policy
    PF_INTERRUPT = 0x20             # in interrupt context: current means nothing
    PF_OOM_VICTIM = 0x40            # chosen by the OOM killer, has access to reserves
    PF_DUMPCORE = 0x80
    PF_FATAL_SIGNAL = 0x100

cdef struct task_context:
    uint32_t flags                  # task_flags
    int32_t mpol_mode               # mempolicy: enum mpol_mode
    uint64_t mpol_nodes             # nodemask
    uint64_t mems_allowed           # cpuset's nodemask, 0 no cpuset
    int32_t il_prev                 # last node of an interleave
    int32_t is_plain                # nothing of the above is set: the fast path may skip it

cpdef enum mpol_mode:
    MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL, MPOL_PREFERRED_MANY

# One request on its way through the allocator.
cdef struct alloc_context:
    const int32_t *zonelist         # zone numbers in the order of trial, -1 ends
    int32_t preferred               # index into zonelist of the first usable zone, -1 none
    int32_t preferred_zone          # its number
    int32_t highest_zoneidx
    int32_t migratetype
    int32_t nid
    int32_t cpu
    int32_t spread_dirty_pages
    uint64_t nodemask               # bit n: node n allowed

# What a run could not decide by itself: calls through MMOps that nothing answered.
cpdef enum mm_op:
    OP_WAKEUP_KSWAPD, OP_TRY_TO_FREE_PAGES, OP_TRY_TO_COMPACT_PAGES, OP_OUT_OF_MEMORY, OP_NODE_RECLAIM
    OP_ALLOC_CONTIG_MIGRATE_RANGE, NR_MM_OPS

cpdef enum compact_result:
    COMPACT_NOT_SUITABLE_ZONE, COMPACT_SKIPPED, COMPACT_DEFERRED, COMPACT_NO_SUITABLE_PAGE, COMPACT_CONTINUE
    COMPACT_COMPLETE, COMPACT_PARTIAL_SKIPPED, COMPACT_CONTENDED, COMPACT_SUCCESS

cpdef enum compact_priority:
    COMPACT_PRIO_SYNC_FULL, COMPACT_PRIO_SYNC_LIGHT, COMPACT_PRIO_ASYNC

cpdef enum node_reclaim_result:
    NODE_RECLAIM_NOSCAN = -2, NODE_RECLAIM_FULL = -1, NODE_RECLAIM_SOME = 0, NODE_RECLAIM_SUCCESS = 1

# Broken invariants.  The first one is kept in MMState.bug and raised as mm.VMBug.
cpdef enum vm_bug:
    BUG_NONE, BUG_BAD_PFN_ALIGN, BUG_PAGE_NOT_FREE, BUG_PAGE_REFCOUNT, BUG_BUDDY_RANGE, BUG_LIST_BROKEN
    BUG_PCP_COUNT, BUG_PCP_ISOLATE, BUG_NO_FALLBACK, BUG_ZONE_MISMATCH, BUG_NR_FREE, BUG_DERIVED

# Why an image was refused (mm_image_load).
cpdef enum image_error:
    IMAGE_OK, IMAGE_TOO_SHORT, IMAGE_BAD_MAGIC, IMAGE_OTHER_LAYOUT, IMAGE_MISALIGNED, IMAGE_BAD_SIZE, IMAGE_BAD_INDEX
    IMAGE_BAD_STATE

# Why a free was refused (free_pages_check).
cpdef enum free_error:
    FREE_OK, FREE_BAD_PFN, FREE_HOLE, FREE_RESERVED, FREE_NOT_ALLOCATED, FREE_TAIL, FREE_WRONG_ORDER, FREE_UNALIGNED
    FREE_COLD, FREE_BAD_TAIL

cdef struct MMBug:
    int32_t code                    # vm_bug
    int32_t line
    uint32_t pfn
    page_hot page                   # as it was
    uint64_t step

# Scalars of a machine.  Copied with the arrays.
cdef struct MMGlobals:
    uint32_t nr_pages               # page slots, a multiple of MAX_ORDER_NR_PAGES; list heads follow
    uint32_t nr_lists               # list head slots
    int32_t nr_zones                # nr_nodes * MAX_NR_ZONES
    int32_t nr_nodes
    int32_t nr_online_nodes         # nodes with memory or CPUs
    int32_t nr_cpus
    int32_t node_reclaim_mode       # vm.zone_reclaim_mode
    int32_t page_group_by_mobility_disabled
    uint32_t gfp_allowed_mask
    int32_t is_cpusets_enabled
    int32_t is_pcp_disabled         # the allocator skips per-cpu lists (a policy of experiments)
    int32_t is_exact_start          # the state began as a recorded one: PFNs may be judged
    int64_t seed                    # of everything random in this machine
    int32_t nr_claim_hints          # answers left in claim_hints
    uint64_t claim_hints            # recorded answers to 'does the pageblock change its type', the next in bit 0
    int64_t watermark_boost_factor
    int64_t watermark_scale_factor
    int64_t min_free_kbytes
    int64_t user_min_free_kbytes
    int64_t percpu_pagelist_high_fraction
    int64_t lowmem_reserve_ratio[MAX_NR_ZONES]
    int64_t totalreserve_pages
    int64_t totalram_pages
    uint64_t step                   # operations since boot: names the moment in a bug report
    uint64_t nr_op_calls[NR_MM_OPS] # calls that fell to the default answer of MMOps
    uint64_t nr_order_unknown       # frees accepted though the order could not be checked
    MMBug bug

cdef struct MMState


# One way up: what a lower layer asks of a higher one.  Filled at boot; NULL means 'no progress', counted.
ctypedef void (*wakeup_kswapd_fn)(MMState *, int32_t, uint32_t, uint32_t, int32_t) noexcept nogil
ctypedef int64_t (*try_to_free_pages_fn)(MMState *, const alloc_context *, uint32_t, uint32_t) noexcept nogil
ctypedef int32_t (*try_to_compact_pages_fn)(MMState *, const alloc_context *, uint32_t, uint32_t, uint32_t, int32_t,
                                            uint32_t *) noexcept nogil
ctypedef int32_t (*out_of_memory_fn)(MMState *, const alloc_context *, uint32_t, uint32_t) noexcept nogil
ctypedef int32_t (*node_reclaim_fn)(MMState *, int32_t, uint32_t, uint32_t, int32_t) noexcept nogil
ctypedef int64_t (*zone_reclaimable_pages_fn)(MMState *, int32_t) noexcept nogil
ctypedef int32_t (*node_dirty_ok_fn)(MMState *, int32_t) noexcept nogil
ctypedef int32_t (*compaction_zonelist_suitable_fn)(MMState *, const alloc_context *, uint32_t, uint32_t) noexcept nogil
ctypedef int32_t (*alloc_contig_migrate_range_fn)(MMState *, uint32_t, uint32_t) noexcept nogil

cdef struct MMOps:
    wakeup_kswapd_fn wakeup_kswapd                                  # (zone, gfp, order, highest_zoneidx)
    try_to_free_pages_fn try_to_free_pages                          # (ac, order, gfp) -> pages
    try_to_compact_pages_fn try_to_compact_pages                    # (ac, order, gfp, alloc_flags, prio, &captured)
    out_of_memory_fn out_of_memory                                  # (ac, order, gfp) -> did it make progress
    node_reclaim_fn node_reclaim                                    # (nid, gfp, order, cpu) -> node_reclaim_result
    zone_reclaimable_pages_fn zone_reclaimable_pages                # (zone) -> pages
    node_dirty_ok_fn node_dirty_ok                                  # (nid) -> bool
    compaction_zonelist_suitable_fn compaction_zonelist_suitable    # (ac, order, alloc_flags) -> bool
    alloc_contig_migrate_range_fn alloc_contig_migrate_range        # (start, end) -> 0 or -errno

# What the event mm_page_alloc_extfrag tells of one theft.
cdef struct extfrag_event:
    int64_t time_ns
    uint32_t pfn                    # of the block taken
    uint8_t alloc_order
    uint8_t fallback_order
    uint8_t alloc_migratetype
    uint8_t fallback_migratetype
    uint8_t change_ownership        # the pageblock has the requested type now
    uint8_t pad_[7]

# Where thefts are recorded; whoever attaches it stamps the time and empties it.  Full: events are counted, not kept.
cdef struct extfrag_log:
    int64_t time_ns                 # of the operation under way
    extfrag_event *events           # [size]
    uint32_t size
    uint32_t nr                     # events since it was emptied

cdef struct MMState:
    page_hot *page                  # [nr_pages + nr_lists]
    page_cold *cold                 # [nr_pages]
    uint8_t *buddy                  # [nr_pages]: 1 + order of the free block that the page heads, 0 none; says again what
                                    # page_hot.flags says, in a sixteenth of the cache: merge tests read only this
    uint8_t *pageblock_flags        # [nr_pages / pageblock_nr_pages]: bits 0-2 migratetype, bit 3 skip
    uint32_t *pageblock_bits        # [nr_pages / pageblock_nr_pages]: page_hot.flags of an order-0 page of this block on a pcp
                                    # list; without PG_pcp: several zones, or a type without pcp lists; derived, so that
                                    # a free finds zone and list without waiting for the page's own line
    zone *zones                     # [nr_zones]
    per_cpu_pages *pageset          # [nr_zones][nr_cpus]
    pglist_data *nodes              # [nr_nodes]
    int64_t *vm_event               # [nr_cpus][NR_VM_EVENT_ITEMS]
    int32_t *zonelists              # [nr_nodes][2: fallback, this node only][nr_zones + 1]
    int32_t *first_zone             # [nr_nodes][MAX_NR_ZONES]: first zone up to that type in the fallback list, -1 none
    int32_t *node_distance          # [nr_nodes][nr_nodes]
    int32_t *cpu_node               # [nr_cpus]
    task_context *current           # [nr_cpus]
    fast_request *fast              # [nr_cpus][NR_FAST_REQUESTS]
    extfrag_log *extfrag            # NULL: thefts are only counted; not copied with the machine
    MMOps ops
    MMGlobals g
