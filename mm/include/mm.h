/* The core of linux-mm for C: layout of the state, and every function of it that C can call.
 *
 * Made by docs/generate from mm/_fast/core.pxd, which with state.pxd is the reading copy.  Link libmm.a, or the library
 * that mm.get_library() names; or take addresses from mm._fast.capi.  See docs/embedding.md.
 * A state comes from mm_image_load() or, inside a Python process, from Machine.address.  No function here needs Python,
 * allocates, or keeps anything outside the state.  Arguments are not checked: orders 0 to 10, CPUs, nodes and frames
 * that exist, gfp masks that name one zone and one mobility type. */
#ifndef MM_H
#define MM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Per-zone gauges, in the order of /proc/vmstat; the text name is the lower-case item. */
enum mm_zone_stat_item {
    NR_FREE_PAGES,
    NR_ZONE_INACTIVE_ANON,
    NR_ZONE_ACTIVE_ANON,
    NR_ZONE_INACTIVE_FILE,
    NR_ZONE_ACTIVE_FILE,
    NR_ZONE_UNEVICTABLE,
    NR_ZONE_WRITE_PENDING,
    NR_MLOCK,
    NR_BOUNCE,
    NR_ZSPAGES,
    NR_FREE_CMA,
    NR_VM_ZONE_STAT_ITEMS,
};

/* Per-node gauges. */
enum mm_node_stat_item {
    NR_INACTIVE_ANON,
    NR_ACTIVE_ANON,
    NR_INACTIVE_FILE,
    NR_ACTIVE_FILE,
    NR_UNEVICTABLE,
    NR_SLAB_RECLAIMABLE,
    NR_SLAB_UNRECLAIMABLE,
    NR_ISOLATED_ANON,
    NR_ISOLATED_FILE,
    WORKINGSET_NODES,
    WORKINGSET_REFAULT_ANON,
    WORKINGSET_REFAULT_FILE,
    WORKINGSET_ACTIVATE_ANON,
    WORKINGSET_ACTIVATE_FILE,
    WORKINGSET_RESTORE_ANON,
    WORKINGSET_RESTORE_FILE,
    WORKINGSET_NODERECLAIM,
    NR_ANON_PAGES,
    NR_MAPPED,
    NR_FILE_PAGES,
    NR_DIRTY,
    NR_WRITEBACK,
    NR_WRITEBACK_TEMP,
    NR_SHMEM,
    NR_SHMEM_HUGEPAGES,
    NR_SHMEM_PMDMAPPED,
    NR_FILE_HUGEPAGES,
    NR_FILE_PMDMAPPED,
    NR_ANON_TRANSPARENT_HUGEPAGES,
    NR_VMSCAN_WRITE,
    NR_VMSCAN_IMMEDIATE_RECLAIM,
    NR_DIRTIED,
    NR_WRITTEN,
    NR_THROTTLED_WRITTEN,
    NR_KERNEL_MISC_RECLAIMABLE,
    NR_FOLL_PIN_ACQUIRED,
    NR_FOLL_PIN_RELEASED,
    NR_KERNEL_STACK,
    NR_PAGE_TABLE_PAGES,
    NR_SEC_PAGE_TABLE_PAGES,
    NR_SWAPCACHED,
    PGPROMOTE_SUCCESS,
    PGPROMOTE_CANDIDATE,
    NR_VM_NODE_STAT_ITEMS,
};

/* Per-zone NUMA event counters. */
enum mm_numa_stat_item {
    NUMA_HIT,
    NUMA_MISS,
    NUMA_FOREIGN,
    NUMA_INTERLEAVE,
    NUMA_LOCAL,
    NUMA_OTHER,
    NR_VM_NUMA_EVENT_ITEMS,
};

/* Per-CPU event counters, summed for /proc/vmstat. */
enum mm_vm_event_item {
    PGPGIN,
    PGPGOUT,
    PSWPIN,
    PSWPOUT,
    PGALLOC_DMA,
    PGALLOC_DMA32,
    PGALLOC_NORMAL,
    PGALLOC_MOVABLE,
    PGALLOC_DEVICE,
    ALLOCSTALL_DMA,
    ALLOCSTALL_DMA32,
    ALLOCSTALL_NORMAL,
    ALLOCSTALL_MOVABLE,
    ALLOCSTALL_DEVICE,
    PGSKIP_DMA,
    PGSKIP_DMA32,
    PGSKIP_NORMAL,
    PGSKIP_MOVABLE,
    PGSKIP_DEVICE,
    PGFREE,
    PGACTIVATE,
    PGDEACTIVATE,
    PGLAZYFREE,
    PGFAULT,
    PGMAJFAULT,
    PGLAZYFREED,
    PGREFILL,
    PGREUSE,
    PGSTEAL_KSWAPD,
    PGSTEAL_DIRECT,
    PGDEMOTE_KSWAPD,
    PGDEMOTE_DIRECT,
    PGSCAN_KSWAPD,
    PGSCAN_DIRECT,
    PGSCAN_DIRECT_THROTTLE,
    PGSCAN_ANON,
    PGSCAN_FILE,
    PGSTEAL_ANON,
    PGSTEAL_FILE,
    ZONE_RECLAIM_FAILED,
    PGINODESTEAL,
    SLABS_SCANNED,
    KSWAPD_INODESTEAL,
    KSWAPD_LOW_WMARK_HIT_QUICKLY,
    KSWAPD_HIGH_WMARK_HIT_QUICKLY,
    PAGEOUTRUN,
    PGROTATED,
    DROP_PAGECACHE,
    DROP_SLAB,
    OOM_KILL,
    NUMA_PTE_UPDATES,
    NUMA_HUGE_PTE_UPDATES,
    NUMA_HINT_FAULTS,
    NUMA_HINT_FAULTS_LOCAL,
    NUMA_PAGES_MIGRATED,
    PGMIGRATE_SUCCESS,
    PGMIGRATE_FAIL,
    THP_MIGRATION_SUCCESS,
    THP_MIGRATION_FAIL,
    THP_MIGRATION_SPLIT,
    COMPACT_MIGRATE_SCANNED,
    COMPACT_FREE_SCANNED,
    COMPACT_ISOLATED,
    COMPACT_STALL,
    COMPACT_FAIL,
    vm_event_item_COMPACT_SUCCESS,
    COMPACT_DAEMON_WAKE,
    COMPACT_DAEMON_MIGRATE_SCANNED,
    COMPACT_DAEMON_FREE_SCANNED,
    HTLB_BUDDY_ALLOC_SUCCESS,
    HTLB_BUDDY_ALLOC_FAIL,
    UNEVICTABLE_PGS_CULLED,
    UNEVICTABLE_PGS_SCANNED,
    UNEVICTABLE_PGS_RESCUED,
    UNEVICTABLE_PGS_MLOCKED,
    UNEVICTABLE_PGS_MUNLOCKED,
    UNEVICTABLE_PGS_CLEARED,
    UNEVICTABLE_PGS_STRANDED,
    THP_FAULT_ALLOC,
    THP_FAULT_FALLBACK,
    THP_FAULT_FALLBACK_CHARGE,
    THP_COLLAPSE_ALLOC,
    THP_COLLAPSE_ALLOC_FAILED,
    THP_FILE_ALLOC,
    THP_FILE_FALLBACK,
    THP_FILE_FALLBACK_CHARGE,
    THP_FILE_MAPPED,
    THP_SPLIT_PAGE,
    THP_SPLIT_PAGE_FAILED,
    THP_DEFERRED_SPLIT_PAGE,
    THP_SPLIT_PMD,
    THP_SCAN_EXCEED_NONE_PTE,
    THP_SCAN_EXCEED_SWAP_PTE,
    THP_SCAN_EXCEED_SHARE_PTE,
    THP_SPLIT_PUD,
    THP_ZERO_PAGE_ALLOC,
    THP_ZERO_PAGE_ALLOC_FAILED,
    THP_SWPOUT,
    THP_SWPOUT_FALLBACK,
    BALLOON_INFLATE,
    BALLOON_DEFLATE,
    BALLOON_MIGRATE,
    SWAP_RA,
    SWAP_RA_HIT,
    KSM_SWPIN_COPY,
    COW_KSM,
    ZSWPIN,
    ZSWPOUT,
    DIRECT_MAP_LEVEL2_SPLITS,
    DIRECT_MAP_LEVEL3_SPLITS,
    NR_VM_EVENT_ITEMS,
};

/* What the model counts beside Linux: how often each layer of the allocator was entered. Owner: page_alloc. One row
 * a zone; PA-20's shares and the results of a run are sums of these. */
enum mm_zone_event_item {
    PCP_HIT,                            /* order allowed on pcp lists and the list was not empty (allocations) */
    PCP_REFILL,                         /* refills of an empty pcp list (zone lock taken) */
    PCP_REFILL_PAGES,                   /* pages that refills moved to pcp lists */
    PCP_DRAIN,                          /* bulk frees from pcp lists (zone lock taken) */
    PCP_DRAIN_PAGES,                    /* pages that bulk frees moved to buddy */
    PCP_DRAIN_WHOLE,                    /* of PCP_DRAIN: those of the whole pcp set on a high-order free */
    BUDDY_ALLOC,                        /* allocations straight from buddy */
    BUDDY_FREE,                         /* frees straight to buddy */
    EXTFRAG,                            /* fallbacks to another migratetype (mm_page_alloc_extfrag) */
    EXTFRAG_FRAGMENTING,                /* of EXTFRAG: of an order below pageblock_order */
    EXTFRAG_CLAIM,                      /* of EXTFRAG: the pageblock changed its type */
    EXTFRAG_SMALLEST,                   /* of EXTFRAG: the search was turned round to the smallest block */
    BOOST,                              /* watermark boosts */
    HIGHATOMIC_RESERVE,                 /* pageblocks reserved for high-order atomic requests */
    HIGHATOMIC_UNRESERVE,
    WMARK_LOW_FAIL,                     /* watermark tests that failed at the low mark */
    WMARK_MIN_FAIL,                     /* watermark tests that failed at the min mark */
    WMARK_HIGH_FAIL,                    /* watermark tests that failed at the high mark */
    ALLOC_FALLBACK,                     /* allocations at the low mark for which a block of another type was taken */
    ALLOC_SLOW,                         /* allocations below the low mark: those of the slow path */
    ALLOC_SLOW_HIT,                     /* of ALLOC_SLOW: those that PCP_HIT counts too */
    NR_ZONE_EVENT_ITEMS,
};

#define PFN_NONE 0xffffffffu
#define PFN_FAILED 0xfffffffeu
#define NODEMASK_ALL (~(uint64_t)0)

/* Limits of the modelled kernel (Debian's 6.1 configuration, x86-64). */
enum mm_limits {
    MAX_ORDER = 11,                     /* orders 0..10 */
    pageblock_order = 9,
    pageblock_nr_pages = 512,
    MAX_ORDER_NR_PAGES = 1024,
    PAGE_ALLOC_COSTLY_ORDER = 3,
    MIGRATE_PCPTYPES = 3,
    NR_PCP_LISTS = 14,                  /* 3 types x orders 0..3, then order 9 not movable, order 9 movable */
    NR_LOWORDER_PCP_LISTS = 12,
    PCP_BATCH_SCALE_MAX = 5,            /* CONFIG_PCP_BATCH_SCALE_MAX */
    SWAP_CLUSTER_MAX = 32,
    MAX_NR_ZONES = 5,
    MAX_NUMNODES = 48,                  /* zone numbers must fit the eight zone bits of page_hot.flags */
    FAST_REQUEST_MASK = 31,             /* zone and type bits of a mask: index of a fast_request */
    FAST_FREE = 32,                     /* index of the fast_request that names the list of the CPU's last fast free */
    NR_FAST_REQUESTS = 64,              /* entries of a CPU */
    NR_FREE_LISTS = 55,                 /* MAX_ORDER x MIGRATE_TYPES heads a zone */
};

enum mm_migratetype {
    MIGRATE_UNMOVABLE,
    MIGRATE_MOVABLE,
    MIGRATE_RECLAIMABLE,
    MIGRATE_HIGHATOMIC,
    MIGRATE_ISOLATE,
    MIGRATE_TYPES,
};

enum mm_zone_type {
    ZONE_DMA,
    ZONE_DMA32,
    ZONE_NORMAL,
    ZONE_MOVABLE,
    ZONE_DEVICE,
};

enum mm_zone_watermarks {
    WMARK_MIN,
    WMARK_LOW,
    WMARK_HIGH,
    WMARK_PROMO,
    NR_WMARK,
};

/* zone.flags, bit masks */
enum mm_zone_flags {
    ZONE_BOOSTED_WATERMARK = 1,         /* set by a boost, cleared by the allocation that then wakes kswapd */
    ZONE_RECLAIM_ACTIVE = 2,            /* kswapd works here: pcp high is lowered */
};

/* page_hot.flags. Bits 0-3: order, of a free block, a pcp page, or an allocated block whose order is known. Bits
 * 4-6: migratetype of the list that holds it (buddy) or that it will return to (pcp). Bits 16-23: number of the zone
 * (node * MAX_NR_ZONES + zone index). */
enum mm_pageflags {
    PG_ORDER_MASK = 0x0000000f,
    PG_MT_SHIFT = 4,
    PG_MT_MASK = 0x00000070,
    PG_buddy = 0x00000080,              /* head of a block on a buddy free list */
    PG_pcp = 0x00000100,                /* head of a block on a per-cpu list */
    PG_order_known = 0x00000200,        /* allocated by this machine as a block of the order in bits 0-3 */
    PG_reserved = 0x00000400,           /* never given to the allocator */
    PG_lru = 0x00000800,
    PG_slab = 0x00001000,
    PG_head = 0x00002000,               /* head of a compound page */
    PG_tail = 0x00004000,               /* tail of a compound page: `next` holds the head's PFN */
    PG_cold = 0x00008000,               /* fields of page_cold are not at rest: a free must look at them */
    PG_ZONE_SHIFT = 16,
    PG_ZONE_MASK = 0x00ff0000,
    PG_valid = 0x01000000,              /* the frame has a struct page (it is no hole) */
    PG_pfmemalloc = 0x02000000,         /* given out without watermarks */
    PG_isolated_free = 0x04000000,      /* taken off the free lists by an isolation, not yet owned */
};

/* Who asks: what the allocator reads of `current` on a CPU. */
enum mm_task_flags {
    PF_MEMALLOC = 0x1,                  /* may use all reserves, may not reclaim */
    PF_MEMALLOC_NOIO = 0x2,
    PF_MEMALLOC_NOFS = 0x4,
    PF_MEMALLOC_PIN = 0x8,
    PF_RT = 0x10,                       /* real-time scheduling policy */
    PF_INTERRUPT = 0x20,                /* in interrupt context: current means nothing */
    PF_OOM_VICTIM = 0x40,               /* chosen by the OOM killer, has access to reserves */
    PF_DUMPCORE = 0x80,
    PF_FATAL_SIGNAL = 0x100,
};

enum mm_mpol_mode {
    MPOL_DEFAULT,
    MPOL_PREFERRED,
    MPOL_BIND,
    MPOL_INTERLEAVE,
    MPOL_LOCAL,
    MPOL_PREFERRED_MANY,
};

/* What a run could not decide by itself: calls through MMOps that nothing answered. */
enum mm_op {
    OP_WAKEUP_KSWAPD,
    OP_TRY_TO_FREE_PAGES,
    OP_TRY_TO_COMPACT_PAGES,
    OP_OUT_OF_MEMORY,
    OP_NODE_RECLAIM,
    OP_ALLOC_CONTIG_MIGRATE_RANGE,
    NR_MM_OPS,
};

enum mm_compact_result {
    COMPACT_NOT_SUITABLE_ZONE,
    COMPACT_SKIPPED,
    COMPACT_DEFERRED,
    COMPACT_NO_SUITABLE_PAGE,
    COMPACT_CONTINUE,
    COMPACT_COMPLETE,
    COMPACT_PARTIAL_SKIPPED,
    COMPACT_CONTENDED,
    compact_result_COMPACT_SUCCESS,
};

enum mm_compact_priority {
    COMPACT_PRIO_SYNC_FULL,
    COMPACT_PRIO_SYNC_LIGHT,
    COMPACT_PRIO_ASYNC,
};

enum mm_node_reclaim_result {
    NODE_RECLAIM_NOSCAN = -2,
    NODE_RECLAIM_FULL = -1,
    NODE_RECLAIM_SOME = 0,
    NODE_RECLAIM_SUCCESS = 1,
};

/* Broken invariants. The first one is kept in MMState.bug and raised as mm.VMBug. */
enum mm_vm_bug {
    BUG_NONE,
    BUG_BAD_PFN_ALIGN,
    BUG_PAGE_NOT_FREE,
    BUG_PAGE_REFCOUNT,
    BUG_BUDDY_RANGE,
    BUG_LIST_BROKEN,
    BUG_PCP_COUNT,
    BUG_PCP_ISOLATE,
    BUG_NO_FALLBACK,
    BUG_ZONE_MISMATCH,
    BUG_NR_FREE,
    BUG_DERIVED,
};

/* Why an image was refused (mm_image_load). */
enum mm_image_error {
    IMAGE_OK,
    IMAGE_TOO_SHORT,
    IMAGE_BAD_MAGIC,
    IMAGE_OTHER_LAYOUT,
    IMAGE_MISALIGNED,
    IMAGE_BAD_SIZE,
    IMAGE_BAD_INDEX,
    IMAGE_BAD_STATE,
};

/* Why a free was refused (free_pages_check). */
enum mm_free_error {
    FREE_OK,
    FREE_BAD_PFN,
    FREE_HOLE,
    FREE_RESERVED,
    FREE_NOT_ALLOCATED,
    FREE_TAIL,
    FREE_WRONG_ORDER,
    FREE_UNALIGNED,
    FREE_COLD,
    FREE_BAD_TAIL,
};

enum mm_gfp_bits {
    __GFP_DMA = 0x01,
    __GFP_HIGHMEM = 0x02,
    __GFP_DMA32 = 0x04,
    __GFP_MOVABLE = 0x08,
    __GFP_RECLAIMABLE = 0x10,
    __GFP_HIGH = 0x20,
    __GFP_IO = 0x40,
    __GFP_FS = 0x80,
    __GFP_ZERO = 0x100,
    __GFP_ATOMIC = 0x200,
    __GFP_DIRECT_RECLAIM = 0x400,
    __GFP_KSWAPD_RECLAIM = 0x800,
    __GFP_WRITE = 0x1000,
    __GFP_NOWARN = 0x2000,
    __GFP_RETRY_MAYFAIL = 0x4000,
    __GFP_NOFAIL = 0x8000,
    __GFP_NORETRY = 0x10000,
    __GFP_MEMALLOC = 0x20000,
    __GFP_COMP = 0x40000,
    __GFP_NOMEMALLOC = 0x80000,
    __GFP_HARDWALL = 0x100000,
    __GFP_THISNODE = 0x200000,
    __GFP_ACCOUNT = 0x400000,
    __GFP_ZEROTAGS = 0x800000,          /* arm64 MTE; without effect on x86-64 */
};

/* The masks callers use. __GFP_SKIP_KASAN_* and __GFP_NOLOCKDEP are 0 in the reference configuration, as in
 * Debian's. */
enum mm_gfp_masks {
    __GFP_RECLAIM = 0xc00,              /* DIRECT_RECLAIM | KSWAPD_RECLAIM */
    GFP_ATOMIC = 0xa20,                 /* HIGH | ATOMIC | KSWAPD_RECLAIM */
    GFP_KERNEL = 0xcc0,                 /* RECLAIM | IO | FS */
    GFP_KERNEL_ACCOUNT = 0x400cc0,      /* GFP_KERNEL | ACCOUNT */
    GFP_NOWAIT = 0x800,                 /* KSWAPD_RECLAIM */
    GFP_NOIO = 0xc00,                   /* RECLAIM */
    GFP_NOFS = 0xc40,                   /* RECLAIM | IO */
    GFP_USER = 0x100cc0,                /* GFP_KERNEL | HARDWALL */
    GFP_DMA = 0x01,
    GFP_DMA32 = 0x04,
    GFP_HIGHUSER = 0x100cc2,            /* GFP_USER | HIGHMEM */
    GFP_HIGHUSER_MOVABLE = 0x100cca,    /* GFP_HIGHUSER | MOVABLE */
    GFP_TRANSHUGE_LIGHT = 0x1c20ca,     /* (GFP_HIGHUSER_MOVABLE | COMP | NOMEMALLOC | NOWARN) without RECLAIM */
    GFP_TRANSHUGE = 0x1c24ca,           /* GFP_TRANSHUGE_LIGHT | DIRECT_RECLAIM */
};

/* Bits of a request's alloc_flags (mm/internal.h of 6.1.192). */
enum mm_alloc_flags {
    ALLOC_WMARK_MIN = 0,
    ALLOC_WMARK_LOW = 1,
    ALLOC_WMARK_HIGH = 2,
    ALLOC_WMARK_MASK = 3,
    ALLOC_NO_WATERMARKS = 0x04,
    ALLOC_OOM = 0x08,
    ALLOC_NON_BLOCK = 0x10,
    ALLOC_MIN_RESERVE = 0x20,           /* the same bit as __GFP_HIGH */
    ALLOC_CPUSET = 0x40,
    ALLOC_CMA = 0x80,
    ALLOC_NOFRAGMENT = 0x100,
    ALLOC_HIGHATOMIC = 0x200,
    ALLOC_KSWAPD = 0x800,               /* the same bit as __GFP_KSWAPD_RECLAIM */
    ALLOC_RESERVES = 0x238,             /* OOM | NON_BLOCK | MIN_RESERVE | HIGHATOMIC */
};

typedef struct mm_page_hot mm_page_hot;
typedef struct mm_page_cold mm_page_cold;
typedef struct mm_zone mm_zone;
typedef struct mm_per_cpu_pages mm_per_cpu_pages;
typedef struct mm_fast_request mm_fast_request;
typedef struct mm_pglist_data mm_pglist_data;
typedef struct mm_task_context mm_task_context;
typedef struct mm_alloc_context mm_alloc_context;
typedef struct MMBug MMBug;
typedef struct MMGlobals MMGlobals;
typedef struct MMOps MMOps;
typedef struct mm_extfrag_event mm_extfrag_event;
typedef struct mm_extfrag_log mm_extfrag_log;
typedef struct MMState MMState;

typedef void (*mm_wakeup_kswapd_fn)(MMState *, int32_t, uint32_t, uint32_t, int32_t);
typedef int64_t (*mm_try_to_free_pages_fn)(MMState *, const mm_alloc_context *, uint32_t, uint32_t);
typedef int32_t (*mm_try_to_compact_pages_fn)(MMState *, const mm_alloc_context *, uint32_t, uint32_t, uint32_t, int32_t, uint32_t *);
typedef int32_t (*mm_out_of_memory_fn)(MMState *, const mm_alloc_context *, uint32_t, uint32_t);
typedef int32_t (*mm_node_reclaim_fn)(MMState *, int32_t, uint32_t, uint32_t, int32_t);
typedef int64_t (*mm_zone_reclaimable_pages_fn)(MMState *, int32_t);
typedef int32_t (*mm_node_dirty_ok_fn)(MMState *, int32_t);
typedef int32_t (*mm_compaction_zonelist_suitable_fn)(MMState *, const mm_alloc_context *, uint32_t, uint32_t);
typedef int32_t (*mm_alloc_contig_migrate_range_fn)(MMState *, uint32_t, uint32_t);

/* Fields of struct page that the allocator, the pcp lists and the scanners touch: one 16-byte record. */
struct mm_page_hot {
    uint32_t next;                      /* list link (PFN or head slot); of a tail page: the head.  Owner: page_list.pxd */
    uint32_t prev;                      /* list link.  Owner: page_list.pxd */
    int32_t refcount;                   /* 0 while free; 1 after allocation.  Owner: page_ref.pxd */
    uint32_t flags;                     /* pageflags.  Owner: whoever holds the page */
};

/* The rest of struct page, at rest (all as below) while the page is free or plainly allocated. Owners: the subsystem
 * that maps or caches the page; it sets PG_cold with the first field it changes. */
struct mm_page_cold {
    int32_t mapcount;                   /* page table entries - 1; stored + 1, so that rest is 0 */
    uint32_t mapping;                   /* id of the address space or anon_vma, 0 none */
    uint64_t index;                     /* offset in it, in pages */
    uint64_t private_;                  /* owner's own value */
    uint32_t memcg;                     /* id of the memory cgroup charged, 0 none */
    uint32_t pincount;                  /* pins of a compound head */
};

/* struct free_area: the heads of the lists live behind the last page (zone.first_list). */
struct mm_zone {
    int64_t vm_stat[NR_VM_ZONE_STAT_ITEMS];/* global part of the counters.  Owner: vmstat */
    int64_t watermark[NR_WMARK];        /* pages, without the boost.  Owner: setup_per_zone_wmarks */
    int64_t watermark_boost;            /* pages.  Owner: boost_watermark, kswapd */
    int64_t lowmem_reserve[MAX_NR_ZONES];/* pages.  Owner: setup_per_zone_lowmem_reserve */
    int64_t nr_reserved_highatomic;     /* pages in HIGHATOMIC pageblocks */
    int64_t nr_free[MAX_ORDER];         /* blocks */
    uint32_t flags;                     /* zone_flags */
    uint32_t page_bits;                 /* page_hot.flags of a plain page of this zone */
    uint32_t first_list;                /* slot of the head of (order 0, type 0); then by order, type */
    uint32_t nr_isolate_pageblock;
    int32_t nid;
    int32_t zid;                        /* zone_type */
    int64_t zone_start_pfn;
    int64_t spanned_pages;              /* 0: the zone does not exist here */
    int64_t present_pages;
    int64_t managed_pages;
    int64_t pageset_high;               /* pages; of every CPU's per_cpu_pages */
    int64_t pageset_batch;
    int64_t percpu_drift_mark;          /* pages; 0 none */
    /* derived: above this many free pages an order-0 request of that highest zone needs no further look. Owner:
     * refresh_zone */
    int64_t fast_mark[MAX_NR_ZONES];
    int64_t numa_event[NR_VM_NUMA_EVENT_ITEMS];
    int64_t event[NR_ZONE_EVENT_ITEMS]; /* the model's own counters (vm_event_item.pxd) */
};

/* struct per_cpu_pages and per_cpu_zonestat of one zone and CPU: 128 bytes, the first 64 of them hot. */
struct mm_per_cpu_pages {
    int32_t count;                      /* pages on the lists */
    int32_t limit;                      /* derived: pages at which a free drains, `high` or less under reclaim.  Owner: refresh_zone */
    int32_t free_factor;                /* doublings of the next drain, 0..PCP_BATCH_SCALE_MAX */
    uint32_t first_list;                /* slot of the head of list 0 */
    int64_t nr_alloc;                   /* order-0 requests served by the fast path, not yet in the counters (fold_counters) */
    int64_t nr_free;                    /* order-0 frees by the fast path, not yet in the counters (fold_counters) */
    int32_t high;                       /* pages */
    int32_t batch;                      /* pages */
    int32_t stat_threshold;             /* |vm_stat_diff| above this is folded in */
    int32_t expire;
    int32_t vm_stat_diff[NR_VM_ZONE_STAT_ITEMS];
    int32_t pad_[9];
};

/* What an order-0 request with these zone and type bits needs on one CPU; derived, rebuilt by start(). The entry
 * FAST_FREE remembers where the last fast free went: the next one most likely goes there too and need not wait to
 * find out. */
struct mm_fast_request {
    const int64_t *free_pages;          /* its first zone's NR_FREE_PAGES */
    const int64_t *mark;                /* that zone's fast_mark for the highest zone of the mask */
    mm_per_cpu_pages *pcp;              /* NULL: the request needs the long way */
    uint32_t head;                      /* slot of the head of its pcp list */
    uint32_t page_bits;                 /* page_hot.flags of a page handed out */
};

struct mm_pglist_data {
    int64_t node_start_pfn;
    int64_t node_spanned_pages;
    int64_t node_present_pages;
    int64_t totalreserve_pages;
    int64_t min_unmapped_pages;
    int64_t min_slab_pages;
    int64_t kswapd_failures;
    int32_t kswapd_order;
    int32_t kswapd_highest_zoneidx;
    int32_t nr_cpus;                    /* CPUs of this node */
    int32_t is_online;                  /* has memory */
    int64_t vm_stat[NR_VM_NODE_STAT_ITEMS];
};

struct mm_task_context {
    uint32_t flags;                     /* task_flags */
    int32_t mpol_mode;                  /* mempolicy: enum mpol_mode */
    uint64_t mpol_nodes;                /* nodemask */
    uint64_t mems_allowed;              /* cpuset's nodemask, 0 no cpuset */
    int32_t il_prev;                    /* last node of an interleave */
    int32_t is_plain;                   /* nothing of the above is set: the fast path may skip it */
};

/* One request on its way through the allocator. */
struct mm_alloc_context {
    const int32_t *zonelist;            /* zone numbers in the order of trial, -1 ends */
    int32_t preferred;                  /* index into zonelist of the first usable zone, -1 none */
    int32_t preferred_zone;             /* its number */
    int32_t highest_zoneidx;
    int32_t migratetype;
    int32_t nid;
    int32_t cpu;
    int32_t spread_dirty_pages;
    uint64_t nodemask;                  /* bit n: node n allowed */
};

struct MMBug {
    int32_t code;                       /* vm_bug */
    int32_t line;
    uint32_t pfn;
    mm_page_hot page;                   /* as it was */
    uint64_t step;
};

/* Scalars of a machine. Copied with the arrays. */
struct MMGlobals {
    uint32_t nr_pages;                  /* page slots, a multiple of MAX_ORDER_NR_PAGES; list heads follow */
    uint32_t nr_lists;                  /* list head slots */
    int32_t nr_zones;                   /* nr_nodes * MAX_NR_ZONES */
    int32_t nr_nodes;
    int32_t nr_online_nodes;            /* nodes with memory or CPUs */
    int32_t nr_cpus;
    int32_t node_reclaim_mode;          /* vm.zone_reclaim_mode */
    int32_t page_group_by_mobility_disabled;
    uint32_t gfp_allowed_mask;
    int32_t is_cpusets_enabled;
    int32_t is_pcp_disabled;            /* the allocator skips per-cpu lists (a policy of experiments) */
    int32_t is_exact_start;             /* the state began as a recorded one: PFNs may be judged */
    int64_t seed;                       /* of everything random in this machine */
    int32_t nr_claim_hints;             /* answers left in claim_hints */
    uint64_t claim_hints;               /* recorded answers to 'does the pageblock change its type', the next in bit 0 */
    int64_t watermark_boost_factor;
    int64_t watermark_scale_factor;
    int64_t min_free_kbytes;
    int64_t user_min_free_kbytes;
    int64_t percpu_pagelist_high_fraction;
    int64_t lowmem_reserve_ratio[MAX_NR_ZONES];
    int64_t totalreserve_pages;
    int64_t totalram_pages;
    uint64_t step;                      /* operations since boot: names the moment in a bug report */
    uint64_t nr_op_calls[NR_MM_OPS];    /* calls that fell to the default answer of MMOps */
    uint64_t nr_order_unknown;          /* frees accepted though the order could not be checked */
    MMBug bug;
};

struct MMOps {
    mm_wakeup_kswapd_fn wakeup_kswapd;  /* (zone, gfp, order, highest_zoneidx) */
    mm_try_to_free_pages_fn try_to_free_pages;/* (ac, order, gfp) -> pages */
    mm_try_to_compact_pages_fn try_to_compact_pages;/* (ac, order, gfp, alloc_flags, prio, &captured) */
    mm_out_of_memory_fn out_of_memory;  /* (ac, order, gfp) -> did it make progress */
    mm_node_reclaim_fn node_reclaim;    /* (nid, gfp, order, cpu) -> node_reclaim_result */
    mm_zone_reclaimable_pages_fn zone_reclaimable_pages;/* (zone) -> pages */
    mm_node_dirty_ok_fn node_dirty_ok;  /* (nid) -> bool */
    mm_compaction_zonelist_suitable_fn compaction_zonelist_suitable;/* (ac, order, alloc_flags) -> bool */
    mm_alloc_contig_migrate_range_fn alloc_contig_migrate_range;/* (start, end) -> 0 or -errno */
};

/* What the event mm_page_alloc_extfrag tells of one theft. */
struct mm_extfrag_event {
    int64_t time_ns;
    uint32_t pfn;                       /* of the block taken */
    uint8_t alloc_order;
    uint8_t fallback_order;
    uint8_t alloc_migratetype;
    uint8_t fallback_migratetype;
    uint8_t change_ownership;           /* the pageblock has the requested type now */
    uint8_t pad_[7];
};

/* Where thefts are recorded; whoever attaches it stamps the time and empties it. Full: events are counted, not kept. */
struct mm_extfrag_log {
    int64_t time_ns;                    /* of the operation under way */
    mm_extfrag_event *events;           /* [size] */
    uint32_t size;
    uint32_t nr;                        /* events since it was emptied */
};

struct MMState {
    mm_page_hot *page;                  /* [nr_pages + nr_lists] */
    mm_page_cold *cold;                 /* [nr_pages] */
    /* [nr_pages]: 1 + order of the free block that the page heads, 0 none; says again what page_hot.flags says, in a
     * sixteenth of the cache: merge tests read only this */
    uint8_t *buddy;
    uint8_t *pageblock_flags;           /* [nr_pages / pageblock_nr_pages]: bits 0-2 migratetype, bit 3 skip */
    /* [nr_pages / pageblock_nr_pages]: page_hot.flags of an order-0 page of this block on a pcp list; without
     * PG_pcp: several zones, or a type without pcp lists; derived, so that a free finds zone and list without
     * waiting for the page's own line */
    uint32_t *pageblock_bits;
    mm_zone *zones;                     /* [nr_zones] */
    mm_per_cpu_pages *pageset;          /* [nr_zones][nr_cpus] */
    mm_pglist_data *nodes;              /* [nr_nodes] */
    int64_t *vm_event;                  /* [nr_cpus][NR_VM_EVENT_ITEMS] */
    int32_t *zonelists;                 /* [nr_nodes][2: fallback, this node only][nr_zones + 1] */
    int32_t *first_zone;                /* [nr_nodes][MAX_NR_ZONES]: first zone up to that type in the fallback list, -1 none */
    int32_t *node_distance;             /* [nr_nodes][nr_nodes] */
    int32_t *cpu_node;                  /* [nr_cpus] */
    mm_task_context *current;           /* [nr_cpus] */
    mm_fast_request *fast;              /* [nr_cpus][NR_FAST_REQUESTS] */
    mm_extfrag_log *extfrag;            /* NULL: thefts are only counted; not copied with the machine */
    MMOps ops;
    MMGlobals g;
};

uint32_t mm_alloc_pages(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, int32_t cpu);
int32_t mm_try_free_pages(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu);
void mm_refresh_zone(MMState *s, int32_t nr);
void mm_refresh_fast_requests(MMState *s);
void mm_fold_counters(MMState *s);
uint32_t mm_alloc_pages_policy(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, int32_t cpu);
uint32_t mm_alloc_pages_long(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, int32_t cpu);
uint32_t mm_alloc_page_local(MMState *s, uint32_t gfp, int32_t cpu);
uint32_t mm_alloc_pages_nodemask(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, uint64_t nodemask,
                                 int32_t cpu);
uint32_t mm_alloc_pages_bulk(MMState *s, uint32_t gfp, int32_t nid, uint32_t nr_pages, int32_t cpu, uint32_t *pfns);
uint32_t mm_get_page_from_freelist(MMState *s, uint32_t gfp, uint32_t order, uint32_t alloc_flags,
                                   const mm_alloc_context *ac);
void mm_first_zones_zonelist(const MMState *s, mm_alloc_context *ac);
void mm_prep_new_page(MMState *s, uint32_t pfn, uint32_t order, uint32_t gfp, uint32_t alloc_flags);
int mm_zone_watermark_ok(const MMState *s, const mm_zone *z, uint32_t order, int64_t mark, int32_t highest_zoneidx,
                         uint32_t alloc_flags, int64_t free_pages);
int32_t mm_expected_zone(MMState *s, uint32_t gfp, uint32_t order, int32_t nid, int32_t cpu);
uint32_t mm_alloc_in_zone(MMState *s, int32_t zone_nr, uint32_t gfp, uint32_t order, int32_t cpu);
uint32_t mm_take_pcp_pages(MMState *s, mm_zone *z, int32_t mt, uint32_t nr_pages, int32_t cpu);
int mm_rmqueue_fallback(MMState *s, mm_zone *z, uint32_t order, int32_t start_mt, uint32_t alloc_flags);
int64_t mm_move_freepages_block(MMState *s, mm_zone *z, uint32_t pfn, int32_t mt, int32_t *num_movable);
void mm_reserve_highatomic_pageblock(MMState *s, mm_zone *z, uint32_t pfn);
int mm_unreserve_highatomic_pageblock(MMState *s, const mm_alloc_context *ac, int force);
int32_t mm_free_pages_check(const MMState *s, uint32_t pfn, uint32_t order);
void mm_free_pages(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu);
void mm_free_one_page(MMState *s, uint32_t pfn, uint32_t order, int32_t mt, int32_t cpu, int to_tail);
int32_t mm_try_free_pages_long(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu);
void mm_free_unref_page_list(MMState *s, const uint32_t *pfns, uint32_t nr, int32_t cpu);
void mm_split_page(MMState *s, uint32_t pfn, uint32_t order);
void mm_drain_pages_zone(MMState *s, mm_zone *z, int32_t cpu, int32_t on_cpu);
void mm_drain_all_pages(MMState *s, int32_t zone_nr, int32_t on_cpu);
uint32_t mm_slowpath_alloc_flags(const MMState *s, uint32_t gfp, uint32_t order, int32_t cpu);
uint32_t mm_alloc_pages_slowpath(MMState *s, uint32_t gfp, uint32_t order, mm_alloc_context *ac);
int32_t mm_set_migratetype_isolate(MMState *s, uint32_t pfn, uint32_t start, uint32_t end, int32_t cpu);
void mm_unset_migratetype_isolate(MMState *s, uint32_t pfn, int32_t mt, int32_t cpu);
uint32_t mm_isolate_free_page(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu);
int32_t mm_alloc_contig_range(MMState *s, uint32_t start, uint32_t end, int32_t mt, int32_t cpu);
uint32_t mm_alloc_contig_pages(MMState *s, uint32_t nr_pages, uint32_t gfp, int32_t nid, uint64_t nodemask,
                               int32_t cpu);
int mm_take_page(MMState *s, uint32_t pfn, uint32_t order, int32_t cpu);
void mm_give_page_back(MMState *s, uint32_t pfn, uint32_t order, int32_t mt, int32_t cpu);
int mm_is_inside_block(const MMState *s, uint32_t pfn);
int32_t mm_verify(MMState *s);
uint64_t mm_image_bytes(const MMState *s);
int32_t mm_image_save(const MMState *s, void *image, uint64_t nbytes);
int32_t mm_image_load(MMState *s, void *image, uint64_t nbytes);

#ifdef __cplusplus
}
#endif
#endif
