"""From memblock to zones to the buddy allocator: every frame becomes free, reserved or a hole exactly once.

Linux: free_area_init and memmap_init (mm/page_alloc.c), mm/mm_init.c, mm/sparse.c, memblock_free_all.
Modelled: zone and node spans with holes; Movable by kernelcore= and movablecore=; sections of 128 MiB; struct pages and
pageblock types, those of unavailable frames too; the memory map's cost; the hand-over of free ranges; which frames the
deferred initialisation leaves for later, as far as later results depend on it; the order in which limits are computed
while memory is still being freed.  Not modelled: mirrored memory, movable_node, deferred threads running in parallel.
Simplification: all frames are handed over in one go, then limits are computed with the counts they had at each stage;
nothing is allocated during boot, so free lists hold every frame that is not reserved.
"""

import bisect
import dataclasses

from mm._fast.state import migratetype, mm_limits, zone_type
from mm.physical import mmzone, page_alloc, vmstat
from mm.physical.e820 import memparse
from mm.physical.memblock import PAGE_SHIFT, round_up
from mm.physical.setup_arch import (
    EARLY,
    LATE,
    MAX_DMA32_PFN,
    MAX_DMA_PFN,
    PAGES_PER_SECTION,
    SIZEOF_STRUCT_PAGE,
    SetupArch,
)

MAX_NR_ZONES = int(mm_limits.MAX_NR_ZONES)
MAX_ORDER_NR_PAGES = int(mm_limits.MAX_ORDER_NR_PAGES)
PAGEBLOCK_NR_PAGES = int(mm_limits.pageblock_nr_pages)
MIGRATE_MOVABLE, MIGRATE_TYPES = int(migratetype.MIGRATE_MOVABLE), int(migratetype.MIGRATE_TYPES)
ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE, ZONE_DEVICE = (int(zone_type(i)) for i in range(5))
ZONE_NAMES = ("DMA", "DMA32", "Normal", "Movable", "Device")
GFP_ALLOWED_MASK = 0x7FFFFFF            # __GFP_BITS_MASK


@dataclasses.dataclass
class ZoneSpan:
    """One zone of one node: first PFN, frames spanned and present, and an estimate of the managed ones."""

    nid: int
    zid: int
    start: int = 0
    spanned: int = 0
    present: int = 0
    estimate: int = 0

    @property
    def end(self):
        """First PFN behind."""
        return self.start + self.spanned

    @property
    def number(self):
        """Its number in the core's arrays."""
        return self.nid * MAX_NR_ZONES + self.zid


class MemoryLayout:
    """Zones and nodes of a machine, computed from memblock before any array exists.

    Parameters
    ----------
    memblock : Memblock
        With nodes set on all memory.
    cpu_node : sequence of int
        Node of each CPU.
    nr_nodes : int
    zones : sequence of str, optional
        Names of the zones this machine has, of DMA, DMA32, Normal and Movable; default: all that hold memory.
    kernelcore, movablecore : int or str, optional
        Memory that may not, or shall, be Movable: bytes, "512M", or a share of all "30%".
    reserve : BootReserve or None
        What boot takes; None: every page is managed and the memory map costs nothing.

    Attributes
    ----------
    zones : dict of int to ZoneSpan
        By zone number; zones that span nothing are left out.
    free_ranges : list of (start PFN, end PFN)
        Frames that memblock gives to the allocator, ascending.
    late_ranges : dict of str to list of (start PFN, end PFN)
        Reserved frames given to it later: "early" before the initcalls, "late" after.
    nr_kernel_pages : int
        Pages boot expects to have for the kernel: present ones without memory map and DMA reserve.
    log : list of str
        Lines as in dmesg.

    Raises
    ------
    ValueError
        A zone list that leaves memory without zone, options that contradict each other, memory too small to boot.
    """

    def __init__(self, memblock, cpu_node, nr_nodes, zones=None, kernelcore=None, movablecore=None, reserve=None):
        self.memblock = memblock
        self.cpu_node = list(cpu_node)
        self.nr_nodes = nr_nodes
        self.log = []
        self.dma_reserve = 0
        self.late_ranges = {EARLY: [], LATE: []}
        self.is_all_managed = reserve is None
        arch = SetupArch(memblock, reserve, cpu_node) if reserve is not None else None
        if arch:
            arch.setup_arch()
            self.dma_reserve = arch.dma_reserve
            self.late_ranges = arch.freed
        self.max_zone_pfn = arch_zone_limits(memblock, zones)
        self.lowest, self.highest = possible_pfns(memblock, self.max_zone_pfn)
        self.zone_movable_pfn = find_zone_movable_pfns(
            memblock, self.lowest, self.highest, *required_cores(memblock, zones, kernelcore, movablecore))
        self.zones = {}
        for nid in range(nr_nodes):
            self._size_node(nid)
        self._pieces = sorted(((max(lo, z.start), min(hi, z.end), z) for z in self.zones.values()
                               for lo, hi, _ in memblock.mem_pfn_ranges(z.nid) if max(lo, z.start) < min(hi, z.end)),
                              key=lambda piece: piece[0])
        self.nr_kernel_pages = sum(z.estimate for z in self.zones.values())
        self.nr_pages = max(end for _, end, _ in memblock.mem_pfn_ranges())
        if arch:
            arch.sparse_init()
            arch.setup_per_cpu_areas()
            arch.vfs_caches_init_early(self.nr_kernel_pages, self.nr_kernel_pages)
            arch.swiotlb_init()
        self.free_ranges = [(-(-start >> PAGE_SHIFT), end >> PAGE_SHIFT)
                            for start, end, _ in memblock.free_mem_ranges()]
        self._log_zones(arch.log if arch else [])

    def _size_node(self, nid):
        """Spans of one node's zones (calculate_node_totalpages) and what they will manage (free_area_init_core)."""
        ranges = [(start, end) for start, end, _ in self.memblock.mem_pfn_ranges(nid)]
        if not ranges:
            return
        node_start, node_end = ranges[0][0], ranges[-1][1]
        for zid in range(MAX_NR_ZONES):
            start, end = self._zone_bounds(nid, zid, node_start, node_end)
            present = frames_within(ranges, start, end)
            if end <= start:
                continue
            z = ZoneSpan(nid, zid, start, end - start, present)
            memmap_pages = 0 if self.is_all_managed else calc_memmap_size(z.spanned, present)
            z.estimate = present - memmap_pages if present >= memmap_pages else present
            if zid == ZONE_DMA and z.estimate > self.dma_reserve:
                z.estimate -= self.dma_reserve
            self.zones[z.number] = z

    def _zone_bounds(self, nid, zid, node_start, node_end):
        """[start, end) of a zone in a node, empty if it has none; Movable takes the end of other zones."""
        low, high = self.lowest[zid], self.highest[zid]
        movable = self.zone_movable_pfn.get(nid, 0)
        start, end = min(max(node_start, low), high), min(max(node_end, low), high)
        if movable and zid == ZONE_MOVABLE:
            start, end = movable, min(node_end, max(self.highest))
        elif movable and start >= movable:
            return 0, 0
        elif movable:
            end = min(end, movable)
        if end < node_start or start > node_end:
            return 0, 0
        return max(start, node_start), min(end, node_end)

    def zones_of(self, nid):
        """A node's zones, ascending."""
        return [z for _, z in sorted(self.zones.items()) if z.nid == nid]

    def split_by_zone(self, start, end):
        """Pieces (start, end, zone) of a range of frames that are memory, cut where zones meet; ascending."""
        i = bisect.bisect_right(self._pieces, start, key=lambda piece: piece[1])
        while i < len(self._pieces) and self._pieces[i][0] < end:
            lo, hi, z = self._pieces[i]
            yield max(lo, start), min(hi, end), z
            i += 1

    def managed(self, *stages, before=None):
        """{zone number: frames given to the allocator} by memblock and the named later stages.

        With `before`, a {node: PFN}, only frames below that of their node count.
        """
        counts = dict.fromkeys(self.zones, 0)
        ranges = self.free_ranges + [r for stage in stages for r in self.late_ranges[stage]]
        for start, end in ranges:
            for lo, hi, z in self.split_by_zone(start, end):
                limit = hi if before is None else min(hi, before.get(z.nid, hi))
                counts[z.number] += max(limit - lo, 0)
        return counts

    def first_deferred_pfns(self):
        """{node: PFN from which struct pages wait for the late part of boot} (defer_init).

        The highest zone of a node starts with at least a section of frames; all from the next section on waits.
        """
        first = {}
        for nid in range(self.nr_nodes):
            zones = self.zones_of(nid)
            nr_counted = 0
            for start, end, _ in self.memblock.mem_pfn_ranges(nid):
                if not zones:
                    break
                start, end = max(start, zones[-1].start), min(end, zones[-1].end)
                pfn = round_up(start + max(PAGES_PER_SECTION - nr_counted, 0), PAGES_PER_SECTION)
                if start < end and pfn < end:
                    first[nid] = pfn
                    break
                nr_counted += max(end - start, 0)
        return first

    def unavailable_ranges(self):
        """(start, end, zone) of frames with a struct page but no memory (memmap_init, init_unavailable_range).

        Holes of a present section; they belong to the zone of the memory behind, the last to that of the memory before.
        """
        sections = {pfn // PAGES_PER_SECTION for start, end, _ in self.memblock.mem_pfn_ranges()
                    for pfn in (*range(start, end, PAGES_PER_SECTION), end - 1)}
        hole, last = 0, None
        for start, end, _ in self.memblock.mem_pfn_ranges():
            for lo, hi, z in self.split_by_zone(start, end):
                yield from ((a, b, z) for a, b in _in_sections(hole, lo, sections))
                hole, last = hi, z
        yield from ((a, b, last) for a, b in _in_sections(hole, round_up(hole, PAGES_PER_SECTION), sections))

    def _log_zones(self, arch_lines):
        log = self.log
        log.extend(arch_lines)
        log.append("Zone ranges:")
        for zid, name in enumerate(ZONE_NAMES):
            low, high = self.lowest[zid], self.highest[zid]
            if zid != ZONE_MOVABLE:
                log.append(f"  {name:<8} " + ("empty" if low >= high else _mem(low, high)))
        log.append("Movable zone start for each node")
        log.extend(f"  Node {nid}: {pfn << PAGE_SHIFT:#018x}"
                   for nid, pfn in sorted(self.zone_movable_pfn.items()) if pfn)
        log.append("Early memory node ranges")
        log.extend(f"  node {nid:3}: {_mem(start, end)}" for start, end, nid in self.memblock.mem_pfn_ranges())
        for nid in range(self.nr_nodes):
            ranges = list(self.memblock.mem_pfn_ranges(nid))
            log.append(f"Initmem setup node {nid} {_mem(ranges[0][0], ranges[-1][1])}" if ranges
                       else f"Initmem setup node {nid} as memoryless")
        for start, end, z in self.unavailable_ranges():
            log.append(f"On node {z.nid}, zone {ZONE_NAMES[z.zid]}: {end - start} pages in unavailable ranges")


def _mem(start, end):
    return f"[mem {start << PAGE_SHIFT:#018x}-{(end << PAGE_SHIFT) - 1:#018x}]"


def _in_sections(start, end, sections):
    """Parts of [start, end) in one of the sections, neighbours joined."""
    parts = []
    while start < end:
        stop = min(end, (start // PAGES_PER_SECTION + 1) * PAGES_PER_SECTION)
        if start // PAGES_PER_SECTION in sections:
            if parts and parts[-1][1] == start:
                parts[-1] = (parts[-1][0], stop)
            else:
                parts.append((start, stop))
        start = stop
    return parts


def frames_within(ranges, start, end):
    """Frames of (start, end) ranges that lie in [start, end)."""
    return sum(max(min(hi, end) - max(lo, start), 0) for lo, hi in ranges)


def calc_memmap_size(spanned_pages, present_pages):
    """Pages of memory map a zone is charged with; holes of more than a sixteenth cost nothing."""
    pages = present_pages if spanned_pages > present_pages + (present_pages >> 4) else spanned_pages
    return -(-pages * SIZEOF_STRUCT_PAGE >> PAGE_SHIFT)


def arch_zone_limits(memblock, zones=None):
    """End PFN of each zone type on x86-64, those not wanted being empty.

    Raises
    ------
    ValueError
        A name that is no zone, or memory beyond the end of the zones named.
    """
    max_pfn = memblock.end_of_DRAM() >> PAGE_SHIFT
    ends = {ZONE_DMA: MAX_DMA_PFN, ZONE_DMA32: MAX_DMA32_PFN, ZONE_NORMAL: max_pfn}
    if zones is None:
        return [min(ends.get(zid, 0), max_pfn) for zid in range(MAX_NR_ZONES)]
    if isinstance(zones, str) or not zones or not set(zones) <= set(ZONE_NAMES[:4]) or len(set(zones)) != len(zones):
        raise ValueError(f"zones {zones!r}: a list of different names of {', '.join(ZONE_NAMES[:4])}")
    limits = [min(ends.get(zid, 0), max_pfn) if name in zones else 0 for zid, name in enumerate(ZONE_NAMES)]
    if max(limits) < max_pfn:
        raise ValueError(f"zones {list(zones)!r}: they end at pfn {max(limits)}, memory at {max_pfn}; add 'Normal'")
    return limits


def possible_pfns(memblock, max_zone_pfn):
    """(lowest, highest) PFN that each zone type may have: a type begins where the one before ends."""
    lowest, highest = [0] * MAX_NR_ZONES, [0] * MAX_NR_ZONES
    start = memblock.start_of_DRAM() >> PAGE_SHIFT
    for zid, limit in enumerate(max_zone_pfn):
        if zid != ZONE_MOVABLE:
            lowest[zid], highest[zid] = start, max(limit, start)
            start = highest[zid]
    return lowest, highest


# ------------------------------------------------------------------------------------------------ the Movable zone

def required_cores(memblock, zones, kernelcore, movablecore):
    """kernelcore= and movablecore= in pages, 0 if not given.

    Raises
    ------
    ValueError
        No size or percentage; Movable wanted without a size, or a size without Movable.
    """
    total = sum(end - start for start, end, _ in memblock.mem_pfn_ranges())
    if zones is not None and ("Movable" in zones) != (kernelcore is not None or movablecore is not None):
        raise ValueError("zones: 'Movable' needs kernelcore= or movablecore=, and these need 'Movable'")
    return _core_pages("kernelcore", kernelcore, total), _core_pages("movablecore", movablecore, total)


def _core_pages(name, value, total_pages):
    if value is None:
        return 0
    if isinstance(value, str) and value.strip().endswith("%"):
        percent = value.strip()[:-1]
        if not percent.isdigit() or int(percent) > 100:
            raise ValueError(f"{name} {value!r}: 0% to 100%")
        return total_pages * int(percent) // 100
    if value == "mirror":
        raise ValueError(f"{name} 'mirror': mirrored memory is not modelled; give a size or a percentage")
    return memparse(value) >> PAGE_SHIFT


def find_zone_movable_pfns(memblock, lowest, highest, kernelcore, movablecore):
    """{node: first PFN of its Movable zone, 0 or missing: none} (find_zone_movable_pfns_for_nodes).

    Kernel pages are spread evenly over the nodes; what a small node cannot hold is spread again over one node fewer
    until all are placed.  Movable begins at a multiple of MAX_ORDER_NR_PAGES.
    """
    total = sum(end - start for start, end, _ in memblock.mem_pfn_ranges())
    nodes = sorted({nid for _, _, nid in memblock.mem_pfn_ranges()})
    if movablecore:
        kernelcore = max(kernelcore, total - min(total, round_up(movablecore, MAX_ORDER_NR_PAGES)))
    if not kernelcore or kernelcore >= total:
        return {}
    movable_zone = max(zid for zid in range(ZONE_MOVABLE) if highest[zid] > lowest[zid])
    movable_pfn = dict.fromkeys(nodes, 0)
    for usable_nodes in range(len(nodes), 0, -1):
        if usable_nodes < len(nodes) and kernelcore <= usable_nodes:
            break
        share = kernelcore // usable_nodes
        for nid in nodes:
            share = kernelcore // usable_nodes if kernelcore < share else share
            kernelcore = _place_kernelcore(memblock, nid, lowest[movable_zone], share, kernelcore, movable_pfn)
    for nid in nodes:
        movable_pfn[nid] = round_up(movable_pfn[nid], MAX_ORDER_NR_PAGES)
        if movable_pfn[nid] >= max(end for _, end, _ in memblock.mem_pfn_ranges(nid)):
            movable_pfn[nid] = 0
    return movable_pfn


def _place_kernelcore(memblock, nid, usable_start, left_in_node, left, movable_pfn):
    """Move a node's Movable start up over the share of kernel pages it takes; the kernel pages still to place."""
    for start, end, _ in memblock.mem_pfn_ranges(nid):
        start = max(start, movable_pfn[nid])
        if start >= end:
            continue
        if start < usable_start:        # zones below can only be kernel memory
            kernel_pages = min(end, usable_start) - start
            left_in_node = max(left_in_node - kernel_pages, 0)
            left = max(left - kernel_pages, 0)
            if end <= usable_start:
                movable_pfn[nid] = end
                continue
            start = usable_start
        pages = min(end - start, left_in_node)
        movable_pfn[nid] = start + pages
        left = max(left - pages, 0)
        left_in_node -= pages
        if not left_in_node:
            break
    return left


# -------------------------------------------------------------------------------------------------- into the core

def boot(core, layout, is_thp_enabled):
    """Bring a fresh core up to the state after boot and start it.

    Parameters
    ----------
    core : MachineCore
        New, of the layout's size; node distances set.
    layout : MemoryLayout
    is_thp_enabled : bool
        Huge pages wanted (their default in Debian); with less than 512 MiB of RAM they are off anyway.
    """
    free_area_init(core, layout)
    memmap_init(core, layout)
    page_alloc.set_defaults(core)
    core.g["gfp_allowed_mask"] = GFP_ALLOWED_MASK
    _build_zonelists(core, layout)
    memblock_free_all(core, layout)
    # Limits as boot computes them, each with the pages freed so far.
    if not layout.is_all_managed and int(core.g["nr_cpus"][0]) > 1:
        # each CPU that comes up renews thresholds, while marks are still 0 and deferred pages wait
        set_managed_pages(core, layout.managed(before=layout.first_deferred_pfns()))
        vmstat.refresh_zone_stat_thresholds(core)
    set_managed_pages(core, layout.managed(EARLY))
    init_per_zone_wmark_min(core, is_thp_enabled and int(core.g["totalram_pages"][0]) >= page_alloc.THP_MIN_PAGES)
    set_managed_pages(core, layout.managed(EARLY, LATE))
    core.start()


def free_area_init(core, layout):
    """Spans, present pages and estimated managed pages of zones and nodes."""
    for nr, z in layout.zones.items():
        core.zones["zone_start_pfn"][nr] = z.start
        core.zones["spanned_pages"][nr] = z.spanned
        core.zones["present_pages"][nr] = z.present
        core.zones["managed_pages"][nr] = z.estimate
    for nid in range(layout.nr_nodes):
        zones = layout.zones_of(nid)
        node = core.nodes[nid:nid + 1]
        node["node_start_pfn"] = min((start for start, _, _ in layout.memblock.mem_pfn_ranges(nid)), default=0)
        node["node_spanned_pages"] = sum(z.spanned for z in zones)
        node["node_present_pages"] = sum(z.present for z in zones)
        node["nr_cpus"] = layout.cpu_node.count(nid)
        node["is_online"] = any(z.present for z in zones) or nid in layout.cpu_node
        node["kswapd_highest_zoneidx"] = MAX_NR_ZONES


def memmap_init(core, layout):
    """Struct pages of all memory, of reserved frames and of holes in present sections; types of pageblocks."""
    for start, end, _ in layout.memblock.mem_pfn_ranges():
        for lo, hi, z in layout.split_by_zone(start, end):
            core.init_page_range(lo, hi, z.number)
    for r in layout.memblock.reserved:
        for lo, hi, z in layout.split_by_zone(r.base >> PAGE_SHIFT, -(-r.end >> PAGE_SHIFT)):
            core.init_page_range(lo, hi, z.number, True)
    nr_pages = int(core.g["nr_pages"][0])
    for lo, hi, z in layout.unavailable_ranges():
        if lo < nr_pages:
            core.init_page_range(lo, min(hi, nr_pages), z.number, True)
    _init_pageblocks(core, layout)


def _init_pageblocks(core, layout):
    """A pageblock is MOVABLE if its first frame is initialised as memory; the rest keeps UNMOVABLE, which is 0.

    Frames of the deferred part are initialised only if they are free.
    """
    deferred = layout.first_deferred_pfns()
    ranges = [(start, min(end, deferred.get(nid, end))) for start, end, nid in layout.memblock.mem_pfn_ranges()]
    for start, end in layout.free_ranges:
        ranges.extend((max(lo, deferred.get(z.nid, hi)), hi) for lo, hi, z in layout.split_by_zone(start, end))
    for start, end in ranges:
        if start < end:
            first, last = -(-start // PAGEBLOCK_NR_PAGES), (end - 1) // PAGEBLOCK_NR_PAGES
            core.pageblock_flags[first:last + 1] = MIGRATE_MOVABLE


def _build_zonelists(core, layout):
    """Zonelists as boot builds them, and whether pages are grouped by mobility."""
    orders = mmzone.build_all_zonelists(core, has_cpus=[False] * layout.nr_nodes)
    total = page_alloc.nr_free_zone_pages(core, ZONE_MOVABLE)
    is_disabled = total < PAGEBLOCK_NR_PAGES * MIGRATE_TYPES
    core.g["page_group_by_mobility_disabled"] = is_disabled
    layout.log.extend(f"Fallback order for Node {nid}: {' '.join(map(str, order))} "
                      for nid, order in enumerate(orders))
    layout.log.append(f"Built {sum(any(True for _ in layout.zones_of(n)) for n in range(layout.nr_nodes))} zonelists, "
                      f"mobility grouping {'off' if is_disabled else 'on'}.  Total pages: {total}")


def memblock_free_all(core, layout):
    """Hand every free frame to the allocator, ascending; then what boot gives back, in the order it does."""
    for start, end in layout.free_ranges:
        for lo, hi, _ in layout.split_by_zone(start, end):
            core.free_range_to_buddy(lo, hi)
    for stage in (EARLY, LATE):
        for start, end in layout.late_ranges[stage]:
            for lo, hi, z in layout.split_by_zone(start, end):
                core.init_page_range(lo, hi, z.number)
                core.free_range_to_buddy(lo, hi)


def set_managed_pages(core, managed):
    """Note how many pages each zone has got so far."""
    for nr, pages in managed.items():
        core.zones["managed_pages"][nr] = pages
    core.g["totalram_pages"] = sum(managed.values())


def init_per_zone_wmark_min(core, is_thp_enabled):
    """All limits that follow from the size of memory, then khugepaged's demand."""
    page_alloc.calculate_min_free_kbytes(core)
    page_alloc.setup_per_zone_wmarks(core)
    vmstat.refresh_zone_stat_thresholds(core)
    page_alloc.setup_per_zone_lowmem_reserve(core)
    page_alloc.setup_min_unmapped_ratio(core)
    page_alloc.setup_min_slab_ratio(core)
    if is_thp_enabled:
        page_alloc.set_recommended_min_free_kbytes(core)
