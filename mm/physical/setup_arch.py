"""What boot takes before the page allocator exists: kernel image, initrd, memory map, per-CPU areas, hash tables.

Linux: setup_arch (arch/x86/kernel/setup.c), sparse_init (mm/sparse.c), pcpu_embed_first_chunk (mm/percpu.c),
alloc_large_system_hash (mm/page_alloc.c), swiotlb_init (kernel/dma/swiotlb.c).
Modelled: the reservations of Debian's 6.1.0-56 on a PC in the order of boot, each placed by memblock, so that the
reserved page frames of the recorded machines (256 MiB to 6 GiB, 1 to 2 CPUs and nodes) come out one by one; what is
given back before and after the initcalls.  Not modelled: address randomisation (the image lies at 16 MiB), devices,
crash kernel, the log buffer of machines with many CPUs.
Simplification: seven pages of small early allocations are two figures measured on those machines, not a list.
"""

import collections
import dataclasses

from mm.physical.memblock import NUMA_NO_NODE, PAGE_SHIFT, PAGE_SIZE, SMP_CACHE_BYTES, round_up

MIB, GIB = 1 << 20, 1 << 30
LOW_MEMORY = MIB                        # all below is reserved (reserve_real_mode)
MAX_DMA_PFN = 16 * MIB >> PAGE_SHIFT
MAX_DMA32_PFN = 4 * GIB >> PAGE_SHIFT
SECTION_SIZE_BITS = 27
PAGES_PER_SECTION = 1 << (SECTION_SIZE_BITS - PAGE_SHIFT)
SIZEOF_STRUCT_PAGE = 64
SECTION_MAP_BYTES = PAGES_PER_SECTION * SIZEOF_STRUCT_PAGE      # 2 MiB, mapped by one PMD
SECTION_USAGE_BYTES = 56                # struct mem_section_usage with its pageblock bits
SECTIONS_PER_ROOT = 128                 # struct mem_section in a page
SECTION_ROOTS_BYTES = 2 * MIB           # pointers to the roots of a 52-bit address space
PMD_SIZE = 2 * MIB
IO_TLB_DEFAULT_BYTES = 64 * MIB
IO_TLB_SLOT_BYTES, IO_TLB_SLOT_SIZE = 24, 2048
ADAPT_SCALE_NPAGES = 64 * GIB >> PAGE_SHIFT
ADAPT_SCALE_SHIFT = 2
HASH_BUCKET_BYTES = 8
HASHES = (("Dentry cache", 13), ("Inode-cache", 14))            # name, log2 of the bytes of memory a bucket

KEPT, EARLY, LATE = "kept", "early", "late"


@dataclasses.dataclass(frozen=True)
class BootReserve:
    """Sizes of what a kernel build takes at boot.

    Attributes
    ----------
    kernel : tuple of (name, start, end, fate)
        Parts of the image in physical memory, bytes, whole pages.  Fate: "kept"; "early", freed before the initcalls
        that compute watermarks; "late", freed after them.
    initrd_bytes : int
        At the end of memory below 4 GiB; freed late.
    node_data_bytes : int
        NODE_DATA of each node.
    percpu_bytes : tuple of int
        Static, reserved and dynamic part of one CPU's first chunk.
    boot_node_pages, any_node_pages : int
        Small early allocations, measured: on the first node beside the memory map's tables; wherever there is room.
    """

    kernel: tuple
    initrd_bytes: int
    node_data_bytes: int
    percpu_bytes: tuple
    boot_node_pages: int
    any_node_pages: int


# linux-image-6.1.0-56-amd64; dmesg, iomem and the reserved page frames of the recorded machines.
DEBIAN_6_1 = BootReserve(
    kernel=(("text", 0x1000000, 0x1E02000, KEPT), ("text/rodata gap", 0x1E02000, 0x2000000, LATE),
            ("rodata", 0x2000000, 0x28EB000, KEPT), ("rodata/data gap", 0x28EB000, 0x2A00000, LATE),
            ("data", 0x2A00000, 0x3044000, KEPT), ("initmem", 0x3044000, 0x3306000, LATE),
            ("SMP alternatives", 0x3306000, 0x330F000, EARLY), ("bss", 0x330F000, 0x4203000, KEPT),
            ("decrypted", 0x4203000, 0x4400000, LATE), ("brk", 0x4400000, 0x4411000, KEPT)),
    initrd_bytes=0x140000,
    node_data_bytes=0x2B000,
    percpu_bytes=(217088, 8192, 28672),
    boot_node_pages=2,
    any_node_pages=5,
)


class SetupArch:
    """The reservations of one boot.

    Parameters
    ----------
    memblock : Memblock
        With memory registered and nodes set.
    reserve : BootReserve
    cpu_node : sequence of int
        Node of each CPU.

    Attributes
    ----------
    freed : dict of str to list of (start PFN, end PFN)
        "early" and "late": page frames reserved now and given to the page allocator at these times.
    dma_reserve : int
        Pages below 16 MiB that are reserved when zones are sized (memblock_find_dma_reserve).
    log : list of str
        Lines as in dmesg.
    """

    def __init__(self, memblock, reserve, cpu_node):
        self.memblock = memblock
        self.reserve = reserve
        self.cpu_node = list(cpu_node)
        self.freed = {EARLY: [], LATE: []}
        self.dma_reserve = 0
        self.log = []

    def _alloc(self, what, size, align, **kwargs):
        addr = self.memblock.alloc_try_nid(size, align, **kwargs)
        if not addr:
            raise ValueError(f"memory too small to boot: no place for {size >> 10} KiB of {what}; "
                             "give more memory, or zones=[...] for a machine whose pages are all free")
        return addr

    def setup_arch(self):
        """Kernel image, initrd, low memory, page tables, NODE_DATA: all before zones are sized."""
        self._reserve_kernel()
        self._reserve_initrd()
        self.memblock.reserve(0, LOW_MEMORY)
        low_end = max((r.end for r in self.memblock.memory if r.base < 4 * GIB), default=0)
        if low_end > GIB:       # the last GiB is mapped in small pages: a PMD and a PTE table; others lie in brk
            self._alloc("page tables", 2 * PAGE_SIZE, PAGE_SIZE)
        for nid in sorted({nid for _, _, nid in self.memblock.mem_pfn_ranges()}):
            size = self.reserve.node_data_bytes
            addr = self._alloc("NODE_DATA", size, SMP_CACHE_BYTES, nid=nid)
            self.log.append(f"NODE_DATA({nid}) allocated [mem {addr:#010x}-{addr + size - 1:#010x}]")
        self.dma_reserve = self._find_dma_reserve()

    def _reserve_kernel(self):
        start, end = self.reserve.kernel[0][1], self.reserve.kernel[-1][2]
        if not self._is_memory(start, end):
            raise ValueError(f"memory map: the kernel image needs [{start:#x}, {end:#x}) to be RAM; "
                             "give such a map, or zones=[...] for a machine whose pages are all free")
        self.memblock.reserve(start, end - start)
        for _, base, stop, fate in self.reserve.kernel:
            if fate != KEPT:
                self.freed[fate].append((base >> PAGE_SHIFT, stop >> PAGE_SHIFT))

    def _is_memory(self, start, end):
        """Is every byte memory, be it of several nodes?"""
        inside = self.memblock.memory.regions[self.memblock.memory.overlapping(start, end)]
        return sum(min(r.end, end) - max(r.base, start) for r in inside) == end - start

    def _reserve_initrd(self):
        size = round_up(self.reserve.initrd_bytes, PAGE_SIZE)
        if not size:
            return
        addr = self.memblock.find_in_range(LOW_MEMORY, 4 * GIB, size, PAGE_SIZE)
        if not addr:
            raise ValueError(f"memory too small to boot: no place for an initrd of {size >> 10} KiB below 4 GiB")
        self.memblock.reserve(addr, size)
        self.freed[LATE].insert(0, (addr >> PAGE_SHIFT, (addr + size) >> PAGE_SHIFT))
        self.log.append(f"RAMDISK: [mem {addr:#010x}-{addr + size - 1:#010x}]")

    def _find_dma_reserve(self):
        ranges = [(min(start, MAX_DMA_PFN), min(end, MAX_DMA_PFN)) for start, end, _ in self.memblock.mem_pfn_ranges()]
        free = [(round_up(start, PAGE_SIZE) >> PAGE_SHIFT, end >> PAGE_SHIFT)
                for start, end, _ in self.memblock.free_mem_ranges()]
        nr_free = sum(max(min(end, MAX_DMA_PFN) - min(start, MAX_DMA_PFN), 0) for start, end in free)
        return sum(end - start for start, end in ranges) - nr_free

    def sparse_init(self):
        """The memory map: 2 MiB of struct pages a section, in one piece a node, and its tables."""
        self._alloc("section roots", SECTION_ROOTS_BYTES, SMP_CACHE_BYTES)
        end_pfn = self.memblock.end_of_DRAM() >> PAGE_SHIFT
        nr_roots = round_up(end_pfn, SECTIONS_PER_ROOT * PAGES_PER_SECTION) // (SECTIONS_PER_ROOT * PAGES_PER_SECTION)
        nr_pmd_pages = round_up(end_pfn * SIZEOF_STRUCT_PAGE, GIB) // GIB
        nodes = present_sections(self.memblock)
        for i, (nid, nr_sections) in enumerate(sorted(nodes.items())):
            pages = round_up(nr_sections * SECTION_USAGE_BYTES, PAGE_SIZE) >> PAGE_SHIFT
            if i == 0:
                pages += nr_roots + nr_pmd_pages + self.reserve.boot_node_pages
            self._alloc("section tables", pages << PAGE_SHIFT, PAGE_SIZE, nid=nid)
            self._alloc("memory map", nr_sections * SECTION_MAP_BYTES, SECTION_MAP_BYTES, nid=nid)
        self._alloc("boot data", self.reserve.any_node_pages << PAGE_SHIFT, PAGE_SIZE)

    def setup_per_cpu_areas(self):
        """A unit for each CPU, a group of units a node; the unused end of each unit is free again."""
        groups = list(collections.Counter(self.cpu_node).items())
        static, reserved, dynamic = self.reserve.percpu_bytes
        size_sum = round_up(static + reserved + dynamic, PAGE_SIZE)
        units_per_alloc, unit_size = pcpu_units(size_sum, [n for _, n in groups])
        has_memory = {nid for _, _, nid in self.memblock.mem_pfn_ranges()}
        bases = []
        for nid, nr_cpus in groups:
            nr_units = round_up(nr_cpus, units_per_alloc)
            addr = self._alloc("per-CPU areas", nr_units * unit_size, PMD_SIZE,
                               nid=nid if nid in has_memory else NUMA_NO_NODE)
            bases.append((addr, nr_cpus, nr_units))
        for addr, nr_cpus, nr_units in bases:
            for unit in range(nr_units):
                used = size_sum if unit < nr_cpus else 0
                self.memblock.phys_free(addr + unit * unit_size + used, unit_size - used)
        self.log.append(f"percpu: Embedded {size_sum >> PAGE_SHIFT} pages/cpu s{static} r{reserved} "
                        f"d{size_sum - static - reserved} u{unit_size}")

    def vfs_caches_init_early(self, nr_kernel_pages, nr_all_pages):
        """Dentry and inode hash tables; with memory on several nodes they come later, from vmalloc."""
        if len(present_sections(self.memblock)) > 1:
            return
        for name, scale in HASHES:
            log2qty = large_system_hash_log2(nr_kernel_pages, nr_all_pages, scale)
            size = HASH_BUCKET_BYTES << log2qty
            self._alloc(name, size, SMP_CACHE_BYTES)
            order = max(size.bit_length() - 1 - PAGE_SHIFT, 0)
            self.log.append(f"{name} hash table entries: {1 << log2qty} (order: {order}, {size} bytes, linear)")

    def swiotlb_init(self):
        """Bounce buffers below 4 GiB for machines with memory above."""
        if self.memblock.end_of_DRAM() >> PAGE_SHIFT <= MAX_DMA32_PFN:
            return
        self._alloc("bounce buffers", IO_TLB_DEFAULT_BYTES, PAGE_SIZE, max_addr=4 * GIB)
        nr_slots = IO_TLB_DEFAULT_BYTES // IO_TLB_SLOT_SIZE
        self._alloc("bounce buffer slots", round_up(nr_slots * IO_TLB_SLOT_BYTES, PAGE_SIZE) + PAGE_SIZE, PAGE_SIZE)


def present_sections(memblock):
    """{node: sections of 128 MiB that hold memory}; a section that two nodes share counts for the first."""
    owner = {}
    for start, end, nid in memblock.mem_pfn_ranges():
        for section in range(start // PAGES_PER_SECTION, -(-end // PAGES_PER_SECTION)):
            owner.setdefault(section, nid)
    return dict(collections.Counter(owner.values()))


def pcpu_units(size_sum, group_counts, atom_size=PMD_SIZE):
    """How per-CPU units share allocations of whole 2 MiB pages (pcpu_build_alloc_info).

    Parameters
    ----------
    size_sum : int
        Bytes one CPU needs.
    group_counts : sequence of int
        CPUs of each node.

    Returns
    -------
    (int, int)
        Units an allocation, bytes a unit.

    Notes
    -----
    Of the numbers of units that divide an allocation into whole pages, the smallest that needs no more allocations than
    a larger one and wastes at most a third of the CPUs' number of units.
    """
    alloc_size = round_up(size_sum, atom_size)
    best, last_allocs = 1, None
    for units in range(alloc_size // size_sum, 0, -1):
        if alloc_size % (units * PAGE_SIZE):
            continue
        allocs = [-(-n // units) for n in group_counts]
        wasted = sum(a * units - n for a, n in zip(allocs, group_counts, strict=True))
        if wasted > sum(group_counts) // 3:
            continue
        if last_allocs is not None and sum(allocs) > last_allocs:
            break
        best, last_allocs = units, sum(allocs)
    return best, alloc_size // best


def large_system_hash_log2(nr_kernel_pages, nr_all_pages, scale):
    """log2 of the buckets of a hash table that has one a 2^scale bytes of memory (alloc_large_system_hash)."""
    entries = round_up(nr_kernel_pages, MIB >> PAGE_SHIFT)
    adapt = ADAPT_SCALE_NPAGES
    while adapt < entries:
        scale += 1
        adapt <<= ADAPT_SCALE_SHIFT
    entries = max(entries >> (scale - PAGE_SHIFT), PAGE_SIZE // HASH_BUCKET_BYTES)
    most = min((nr_all_pages << PAGE_SHIFT >> 4) // HASH_BUCKET_BYTES, 0x80000000)
    return min((entries - 1).bit_length(), most.bit_length() - 1)
