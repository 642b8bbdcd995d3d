# gfp bits and masks with the values of Linux 6.1 on x86-64: the one list; Python names are derived from it.
#
# Linux: include/linux/gfp_types.h.

cpdef enum gfp_bits:
    __GFP_DMA = 0x01
    __GFP_HIGHMEM = 0x02
    __GFP_DMA32 = 0x04
    __GFP_MOVABLE = 0x08
    __GFP_RECLAIMABLE = 0x10
    __GFP_HIGH = 0x20
    __GFP_IO = 0x40
    __GFP_FS = 0x80
    __GFP_ZERO = 0x100
    __GFP_ATOMIC = 0x200
    __GFP_DIRECT_RECLAIM = 0x400
    __GFP_KSWAPD_RECLAIM = 0x800
    __GFP_WRITE = 0x1000
    __GFP_NOWARN = 0x2000
    __GFP_RETRY_MAYFAIL = 0x4000
    __GFP_NOFAIL = 0x8000
    __GFP_NORETRY = 0x10000
    __GFP_MEMALLOC = 0x20000
    __GFP_COMP = 0x40000
    __GFP_NOMEMALLOC = 0x80000
    __GFP_HARDWALL = 0x100000
    __GFP_THISNODE = 0x200000
    __GFP_ACCOUNT = 0x400000
    __GFP_ZEROTAGS = 0x800000       # arm64 MTE; without effect on x86-64

# The masks callers use.  __GFP_SKIP_KASAN_* and __GFP_NOLOCKDEP are 0 in the reference configuration, as in Debian's.
cpdef enum gfp_masks:
    __GFP_RECLAIM = 0xc00           # DIRECT_RECLAIM | KSWAPD_RECLAIM
    GFP_ATOMIC = 0xa20              # HIGH | ATOMIC | KSWAPD_RECLAIM
    GFP_KERNEL = 0xcc0              # RECLAIM | IO | FS
    GFP_KERNEL_ACCOUNT = 0x400cc0   # GFP_KERNEL | ACCOUNT
    GFP_NOWAIT = 0x800              # KSWAPD_RECLAIM
    GFP_NOIO = 0xc00                # RECLAIM
    GFP_NOFS = 0xc40                # RECLAIM | IO
    GFP_USER = 0x100cc0             # GFP_KERNEL | HARDWALL
    GFP_DMA = 0x01
    GFP_DMA32 = 0x04
    GFP_HIGHUSER = 0x100cc2         # GFP_USER | HIGHMEM
    GFP_HIGHUSER_MOVABLE = 0x100cca  # GFP_HIGHUSER | MOVABLE
    GFP_TRANSHUGE_LIGHT = 0x1c20ca  # (GFP_HIGHUSER_MOVABLE | COMP | NOMEMALLOC | NOWARN) without RECLAIM
    GFP_TRANSHUGE = 0x1c24ca        # GFP_TRANSHUGE_LIGHT | DIRECT_RECLAIM

# Bits of a request's alloc_flags (mm/internal.h of 6.1.192).
cpdef enum alloc_flags:
    ALLOC_WMARK_MIN = 0
    ALLOC_WMARK_LOW = 1
    ALLOC_WMARK_HIGH = 2
    ALLOC_WMARK_MASK = 3
    ALLOC_NO_WATERMARKS = 0x04
    ALLOC_OOM = 0x08
    ALLOC_NON_BLOCK = 0x10
    ALLOC_MIN_RESERVE = 0x20        # the same bit as __GFP_HIGH
    ALLOC_CPUSET = 0x40
    ALLOC_CMA = 0x80
    ALLOC_NOFRAGMENT = 0x100
    ALLOC_HIGHATOMIC = 0x200
    ALLOC_KSWAPD = 0x800            # the same bit as __GFP_KSWAPD_RECLAIM
    ALLOC_RESERVES = 0x238          # OOM | NON_BLOCK | MIN_RESERVE | HIGHATOMIC
