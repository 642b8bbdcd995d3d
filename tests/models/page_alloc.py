"""The page allocator of Linux 6.1.192 as a small, slow and obvious Python model.

Models `mm/page_alloc.c`: buddy free lists, per-cpu page lists, watermarks, fallback between migratetypes, the
HIGHATOMIC reserve, bulk allocation and contiguous ranges, with the order of every list. It is the oracle that the fast
core is compared with, and a text to learn the allocator from: read `__rmqueue_smallest`, `__free_one_page`,
`free_unref_page_commit`, `__rmqueue_fallback`, `get_page_from_freelist`, in this order.

Not modelled: reclaim, compaction and the OOM killer (they never make progress), memory cgroups, cpusets, CMA,
debugging of pages, races between CPUs.

Invariants: `buddy[pfn]` names the list on which the free block starting at pfn stands, and only heads of free blocks
are keys; a pcp's `count` is the number of pages (not blocks) on its lists; the free pages of a zone are its global
counter plus the parts (`pcp.diff`) which the CPUs have not folded in.
Cost: O(1) per list operation, O(512) per stolen pageblock; about 10 microseconds an operation.
"""

from collections import OrderedDict, deque

import numpy as np

MAX_ORDER = 11
PAGEBLOCK_ORDER = 9
PAGEBLOCK_PAGES = 1 << PAGEBLOCK_ORDER
COSTLY_ORDER = 3  # the highest "cheap" order; orders up to it, and pageblocks, are kept on pcp lists

UNMOVABLE, MOVABLE, RECLAIMABLE, HIGHATOMIC, ISOLATE = range(5)
PCPTYPES = 3  # the first three migratetypes have pcp lists, may fall back to each other and may merge
FALLBACKS = {
    UNMOVABLE: (RECLAIMABLE, MOVABLE),
    MOVABLE: (RECLAIMABLE, UNMOVABLE),
    RECLAIMABLE: (UNMOVABLE, MOVABLE),
}

NR_PCP_LISTS = 14
NR_LOWORDER_PCP_LISTS = 12
PCP_BATCH_SCALE_MAX = 5
SWAP_CLUSTER_MAX = 32

ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE = range(4)
ZONE_NAMES = ("dma", "dma32", "normal", "movable")
ZONE_BOOSTED_WATERMARK, ZONE_RECLAIM_ACTIVE = 1, 2

GFP_DMA, GFP_HIGHMEM, GFP_DMA32, GFP_MOVABLE, GFP_RECLAIMABLE = 0x1, 0x2, 0x4, 0x8, 0x10
GFP_HIGH, GFP_ATOMIC_BIT, GFP_DIRECT_RECLAIM, GFP_KSWAPD_RECLAIM = 0x20, 0x200, 0x400, 0x800
GFP_MEMALLOC, GFP_NOMEMALLOC, GFP_THISNODE = 0x20000, 0x80000, 0x200000

WMARK_MIN, WMARK_LOW, WMARK_HIGH = range(3)
ALLOC_WMARK_MASK = 0x3
ALLOC_NO_WATERMARKS, ALLOC_OOM, ALLOC_NON_BLOCK, ALLOC_MIN_RESERVE = 0x4, 0x8, 0x10, 0x20
ALLOC_NOFRAGMENT, ALLOC_HIGHATOMIC, ALLOC_KSWAPD = 0x100, 0x200, 0x800
ALLOC_RESERVES = ALLOC_OOM | ALLOC_NON_BLOCK | ALLOC_MIN_RESERVE

PAGE_EXISTS, PAGE_RESERVED, PAGE_LRU, PAGE_HEAD, PAGE_TAIL, PAGE_IN_USE = 1, 4, 8, 32, 64, 128

EBUSY = 16


def gfp_zone(gfp):
    """Return the highest zone index that a mask allows (x86-64: no highmem zone)."""
    if gfp & GFP_DMA:
        return ZONE_DMA
    if gfp & GFP_DMA32:
        return ZONE_DMA32
    return ZONE_MOVABLE if gfp & GFP_MOVABLE and gfp & GFP_HIGHMEM else ZONE_NORMAL


def gfp_migratetype(gfp):
    return (gfp & (GFP_MOVABLE | GFP_RECLAIMABLE)) >> 3


def pcp_allowed_order(order):
    return order <= COSTLY_ORDER or order == PAGEBLOCK_ORDER


def order_to_pindex(migratetype, order):
    if order == PAGEBLOCK_ORDER:
        return NR_LOWORDER_PCP_LISTS + (migratetype == MOVABLE)
    return PCPTYPES * order + migratetype


def pindex_to_order(pindex):
    return PAGEBLOCK_ORDER if pindex >= NR_LOWORDER_PCP_LISTS else pindex // PCPTYPES


def pcp_list_type(migratetype):
    return migratetype if migratetype < PCPTYPES else MOVABLE


class Pcp:
    """The lists of one CPU in one zone. The left end of each deque is its head."""

    def __init__(self, row):
        self.count, self.high, self.batch = row["count"], row["high"], row["batch"]
        self.free_factor = row["free_factor"]
        self.stat_threshold, self.diff = row["stat_threshold"], row["diff_nr_free_pages"]
        self.lists = [deque() for _ in range(NR_PCP_LISTS)]


class Zone:
    """Counters, watermarks and free lists of one zone. The first key of each list is its head."""

    def __init__(self, row):
        self.nid, self.idx = row["nid"], row["zid"]
        self.start_pfn = row["zone_start_pfn"]
        self.end_pfn = self.start_pfn + row["spanned_pages"]
        self.managed = row["managed_pages"]
        self.wmark = [row["wmark_min"], row["wmark_low"], row["wmark_high"], row["wmark_promo"]]
        self.watermark_boost = row["watermark_boost"]
        self.lowmem_reserve = [row[f"lowmem_reserve{i}"] for i in range(4)]
        self.nr_reserved_highatomic = row["nr_reserved_highatomic"]
        self.nr_isolate_pageblock = row["nr_isolate_pageblock"]
        self.nr_free_pages = row["nr_free_pages"]
        self.flags = row["flags"]
        self.free = [[OrderedDict() for _ in range(ISOLATE + 1)] for _ in range(MAX_ORDER)]
        self.pcp = {}

    def spans(self, pfn):
        return self.start_pfn <= pfn < self.end_pfn


class PageAllocModel:
    """One machine's page allocator.

    Attributes
    ----------
    zones : dict of (nid, zone index) to Zone
    buddy : dict of pfn to (order, migratetype) of the free block that starts there
    pageblock : dict of pageblock number to migratetype
    pcp_mt : dict of pfn to the migratetype that a page on a pcp list carries
    lru : set of pfn whose pages are on an LRU list; decides whether a pageblock is claimed
    trace : callable(event, pfn, order, migratetype, extra) or None; the kernel's `kmem` tracepoints
    """

    def __init__(self):
        self.zones, self.buddy, self.pageblock, self.pcp_mt = {}, {}, {}, {}
        self.lru, self.page_flags = set(), {}
        self.zone_of_block, self.zonelist, self.cpu_node = {}, {}, {}
        self.nr_nodes, self.boost_factor = 1, 15000
        self.group_by_mobility_disabled = False
        self.vm_event = {}
        self.trace = None
        self.claims_pageblock = self.has_enough_alike

    # ---- free lists ---------------------------------------------------------------------------------------------

    def zone_of(self, pfn):
        return self.zone_of_block[pfn >> PAGEBLOCK_ORDER]

    def block_type(self, pfn):
        return self.pageblock[pfn >> PAGEBLOCK_ORDER]

    def set_block_type(self, pfn, migratetype):
        self.pageblock[pfn >> PAGEBLOCK_ORDER] = migratetype

    def add_to_free_list(self, zone, pfn, order, migratetype, to_tail=False):
        head_first = zone.free[order][migratetype]
        head_first[pfn] = None
        if not to_tail:
            head_first.move_to_end(pfn, last=False)
        self.buddy[pfn] = (order, migratetype)

    def del_page_from_free_list(self, zone, pfn):
        order, migratetype = self.buddy.pop(pfn)
        del zone.free[order][migratetype][pfn]
        return order

    def move_to_free_list(self, zone, pfn, migratetype):
        order = self.del_page_from_free_list(zone, pfn)
        self.add_to_free_list(zone, pfn, order, migratetype, to_tail=True)

    def mod_free_pages(self, zone, cpu, delta):
        """Count free pages as the kernel does: in the CPU's part first, folded in when that grows too large."""
        pcp = zone.pcp[cpu]
        pcp.diff += delta
        if abs(pcp.diff) > pcp.stat_threshold:
            zone.nr_free_pages += pcp.diff
            pcp.diff = 0

    def __rmqueue_smallest(self, zone, order, migratetype):
        for current in range(order, MAX_ORDER):
            if zone.free[current][migratetype]:
                break
        else:
            return None
        pfn = next(iter(zone.free[current][migratetype]))
        self.del_page_from_free_list(zone, pfn)
        while current > order:  # expand(): the upper half goes back, the lower half is split on
            current -= 1
            self.add_to_free_list(zone, pfn + (1 << current), current, migratetype)
        self.pcp_mt[pfn] = migratetype
        self.emit("zone_locked", pfn, order, migratetype, pcp_allowed_order(order) and migratetype < PCPTYPES)
        return pfn

    def find_buddy(self, zone, pfn, order):
        buddy = pfn ^ (1 << order)
        entry = self.buddy.get(buddy)
        if entry and entry[0] == order and self.zone_of(buddy) is zone:
            return buddy
        return None

    def __free_one_page(self, zone, cpu, pfn, order, migratetype, to_tail=False):
        if migratetype != ISOLATE:
            self.mod_free_pages(zone, cpu, 1 << order)
        while order < MAX_ORDER - 1:
            buddy = self.find_buddy(zone, pfn, order)
            if buddy is None:
                break
            if order >= PAGEBLOCK_ORDER:
                theirs = self.block_type(buddy)
                if theirs != migratetype and max(theirs, migratetype) >= PCPTYPES:
                    break
            self.del_page_from_free_list(zone, buddy)
            pfn &= buddy
            order += 1
        if not to_tail and order < MAX_ORDER - 2:  # buddy_merge_likely(): keep it for a merge that may come
            to_tail = self.find_buddy(zone, pfn & ~(1 << order), order + 1) is not None
        self.add_to_free_list(zone, pfn, order, migratetype, to_tail)

    def free_one_page(self, zone, cpu, pfn, order, migratetype):
        if zone.nr_isolate_pageblock or migratetype == ISOLATE:
            migratetype = self.block_type(pfn)
        self.__free_one_page(zone, cpu, pfn, order, migratetype)

    # ---- fallback -----------------------------------------------------------------------------------------------

    def move_freepages_block(self, zone, pfn, migratetype):
        """Move the free blocks of a pageblock to another type's lists. Return (pages moved, LRU pages seen)."""
        start = pfn & -PAGEBLOCK_PAGES
        end = start + PAGEBLOCK_PAGES
        if not zone.spans(start):
            start = pfn
        if not zone.spans(end - 1):
            return 0, 0
        moved = movable = 0
        while start < end:
            entry = self.buddy.get(start)
            if entry:
                self.move_to_free_list(zone, start, migratetype)
                moved += 1 << entry[0]
                start += 1 << entry[0]
            else:
                movable += start in self.lru
                start += 1
        return moved, movable

    def boost_watermark(self, zone):
        if not self.boost_factor or PAGEBLOCK_PAGES * 4 > zone.managed:
            return False
        max_boost = zone.wmark[WMARK_HIGH] * self.boost_factor // 10000
        if not max_boost:
            return False
        zone.watermark_boost = min(zone.watermark_boost + PAGEBLOCK_PAGES, max(max_boost, PAGEBLOCK_PAGES))
        return True

    def has_enough_alike(self, start_type, old_type, free, movable):
        """Whether a pageblock whose free pages were stolen changes its type: half of it is free or alike."""
        if start_type == MOVABLE:
            alike = movable
        else:
            alike = PAGEBLOCK_PAGES - free - movable if old_type == MOVABLE else 0
        return free + alike >= PAGEBLOCK_PAGES // 2 or self.group_by_mobility_disabled

    def steal_suitable_fallback(self, zone, pfn, alloc_flags, start_type, whole_block):
        order = self.buddy[pfn][0]
        old_type = self.block_type(pfn)
        if old_type != HIGHATOMIC:
            if order >= PAGEBLOCK_ORDER:
                for block in range(pfn, pfn + (1 << order), PAGEBLOCK_PAGES):
                    self.set_block_type(block, start_type)
            else:
                if self.boost_watermark(zone) and alloc_flags & ALLOC_KSWAPD:
                    zone.flags |= ZONE_BOOSTED_WATERMARK
                if whole_block:
                    free, movable = self.move_freepages_block(zone, pfn, start_type)
                    if free:
                        if self.claims_pageblock(start_type, old_type, free, movable):
                            self.set_block_type(pfn, start_type)
                        return
        self.move_to_free_list(zone, pfn, start_type)

    def find_suitable_fallback(self, zone, order, migratetype):
        for other in FALLBACKS[migratetype]:
            if zone.free[order][other]:
                return other
        return None

    def can_steal_fallback(self, order, start_type):
        return order >= PAGEBLOCK_ORDER // 2 or start_type != MOVABLE or self.group_by_mobility_disabled

    def __rmqueue_fallback(self, zone, order, start_type, alloc_flags):
        min_order = order
        if order < PAGEBLOCK_ORDER and alloc_flags & ALLOC_NOFRAGMENT:
            min_order = PAGEBLOCK_ORDER
        for current in range(MAX_ORDER - 1, min_order - 1, -1):  # the largest block, to steal seldom and much
            other = self.find_suitable_fallback(zone, current, start_type)
            if other is not None:
                break
        else:
            return False
        can_steal = self.can_steal_fallback(current, start_type)
        if not can_steal and current > order:  # only one block can be had: the smallest then
            for current in range(order, MAX_ORDER):
                other = self.find_suitable_fallback(zone, current, start_type)
                if other is not None:
                    break
            can_steal = self.can_steal_fallback(current, start_type)
        pfn = next(iter(zone.free[current][other]))
        self.steal_suitable_fallback(zone, pfn, alloc_flags, start_type, can_steal)
        self.emit("extfrag", pfn, order, start_type, (current, other, self.block_type(pfn) == start_type))
        return True

    def __rmqueue(self, zone, order, migratetype, alloc_flags):
        while True:
            pfn = self.__rmqueue_smallest(zone, order, migratetype)
            if pfn is not None or not self.__rmqueue_fallback(zone, order, migratetype, alloc_flags):
                return pfn

    # ---- the HIGHATOMIC reserve -----------------------------------------------------------------------------------

    def reserve_highatomic_pageblock(self, zone, pfn):
        if zone.nr_reserved_highatomic >= zone.managed // 100 + PAGEBLOCK_PAGES:
            return
        if self.block_type(pfn) < PCPTYPES:
            zone.nr_reserved_highatomic += PAGEBLOCK_PAGES
            self.set_block_type(pfn, HIGHATOMIC)
            self.move_freepages_block(zone, pfn, HIGHATOMIC)

    def unreserve_highatomic_pageblock(self, gfp, nid, force):
        migratetype = self.migratetype(gfp)
        for zone in self.zones_for(gfp, nid):
            if not force and zone.nr_reserved_highatomic <= PAGEBLOCK_PAGES:
                continue
            for order in range(MAX_ORDER):
                if not zone.free[order][HIGHATOMIC]:
                    continue
                pfn = next(iter(zone.free[order][HIGHATOMIC]))
                if self.block_type(pfn) == HIGHATOMIC:
                    zone.nr_reserved_highatomic -= min(PAGEBLOCK_PAGES, zone.nr_reserved_highatomic)
                self.set_block_type(pfn, migratetype)
                if self.move_freepages_block(zone, pfn, migratetype)[0]:
                    return True
        return False

    # ---- per-cpu lists ----------------------------------------------------------------------------------------------

    def free_pcppages_bulk(self, zone, cpu, count, pindex, on_cpu=None):
        """Give `count` pages back, from the tails: the list `pindex` as far as it goes, then the next ones.

        The lists are those of `cpu`; the work, and so the counting, may be done by another CPU, `on_cpu`.
        """
        on_cpu = cpu if on_cpu is None else on_cpu
        pcp = zone.pcp[cpu]
        count = min(pcp.count, count)
        pindex -= 1
        lowest, highest = 0, NR_PCP_LISTS - 1  # shrink as lists at the ends turn out empty
        while count > 0:
            while True:
                pindex = pindex + 1 if pindex < highest else lowest
                if pcp.lists[pindex]:
                    break
                if pindex == highest:
                    highest -= 1
                if pindex == lowest:
                    lowest += 1
            order = pindex_to_order(pindex)
            while count > 0 and pcp.lists[pindex]:
                pfn = pcp.lists[pindex].pop()
                count -= 1 << order
                pcp.count -= 1 << order
                migratetype = self.block_type(pfn) if zone.nr_isolate_pageblock else self.pcp_mt[pfn]
                self.__free_one_page(zone, on_cpu, pfn, order, migratetype)
                self.emit("pcpu_drain", pfn, order, migratetype)

    def nr_pcp_free(self, pcp, high, free_high):
        if free_high:
            return pcp.count
        if high < pcp.batch:
            return 1
        batch, most = pcp.batch << pcp.free_factor, high - pcp.batch
        if batch < most and pcp.free_factor < PCP_BATCH_SCALE_MAX:
            pcp.free_factor += 1
        return min(batch, most)

    def free_unref_page_commit(self, zone, cpu, pfn, migratetype, order):
        pcp = zone.pcp[cpu]
        self.count_event(cpu, "pgfree", 1 << order)
        pindex = order_to_pindex(migratetype, order)
        pcp.lists[pindex].appendleft(pfn)
        pcp.count += 1 << order
        free_high = pcp.free_factor > 0 and 1 <= order <= COSTLY_ORDER
        high = 0 if free_high else pcp.high
        if high and zone.flags & ZONE_RECLAIM_ACTIVE:
            high = min(4 * pcp.batch, high)
        if pcp.count >= high:
            self.free_pcppages_bulk(zone, cpu, self.nr_pcp_free(pcp, high, free_high), pindex)

    def free_unref_page(self, pfn, order, cpu):
        zone = self.zone_of(pfn)
        migratetype = self.pcp_mt[pfn] = self.block_type(pfn)
        if migratetype == ISOLATE:
            self.free_one_page(zone, cpu, pfn, order, migratetype)
        else:  # HIGHATOMIC pages are kept with the movable ones, but remember where they belong
            self.free_unref_page_commit(zone, cpu, pfn, pcp_list_type(migratetype), order)

    def free_unref_page_list(self, pfns, cpu):
        """Free single pages together: all their types are read before the first one is put on a list."""
        kept = []
        for pfn in pfns:
            migratetype = self.pcp_mt[pfn] = self.block_type(pfn)
            if migratetype == ISOLATE:
                self.free_one_page(self.zone_of(pfn), cpu, pfn, 0, migratetype)
            else:
                kept.append(pfn)
        for pfn in kept:
            self.free_unref_page_commit(self.zone_of(pfn), cpu, pfn, pcp_list_type(self.pcp_mt[pfn]), 0)

    def rmqueue_bulk(self, zone, cpu, order, migratetype, alloc_flags, into):
        pcp = zone.pcp[cpu]
        wanted = max(pcp.batch >> order, 2) if pcp.batch > 1 else pcp.batch
        taken = 0
        while taken < wanted:
            pfn = self.__rmqueue(zone, order, migratetype, alloc_flags)
            if pfn is None:
                break
            into.append(pfn)
            taken += 1
        self.mod_free_pages(zone, cpu, -(taken << order))
        pcp.count += taken << order

    def __rmqueue_pcplist(self, zone, cpu, order, migratetype, alloc_flags):
        pcp = zone.pcp[cpu]
        pages = pcp.lists[order_to_pindex(migratetype, order)]
        if not pages:
            self.rmqueue_bulk(zone, cpu, order, migratetype, alloc_flags, pages)
            if not pages:
                return None
        pcp.count -= 1 << order
        return pages.popleft()

    def drain_pages_zone(self, zone, cpu, on_cpu=None):
        pcp = zone.pcp[cpu]
        while pcp.count:
            self.free_pcppages_bulk(zone, cpu, min(pcp.count, pcp.batch << PCP_BATCH_SCALE_MAX), 0, on_cpu)

    def drain_local_pages(self, cpu):
        for zone in self.zones.values():
            self.drain_pages_zone(zone, cpu)

    def drain_all_pages(self, zone, on_cpu):
        """Drain all CPUs' lists of one zone, or of all (zone None). The caller's CPU does the work."""
        for cpu in self.cpu_node:
            for each in self.zones.values() if zone is None else (zone,):
                self.drain_pages_zone(each, cpu, on_cpu)

    # ---- allocation -----------------------------------------------------------------------------------------------

    def rmqueue_buddy(self, zone, cpu, order, migratetype, alloc_flags):
        pfn = None
        if alloc_flags & ALLOC_HIGHATOMIC:
            pfn = self.__rmqueue_smallest(zone, order, HIGHATOMIC)
        if pfn is None:
            pfn = self.__rmqueue(zone, order, migratetype, alloc_flags)
        if pfn is None and alloc_flags & (ALLOC_OOM | ALLOC_NON_BLOCK):
            pfn = self.__rmqueue_smallest(zone, order, HIGHATOMIC)
        if pfn is not None:
            self.mod_free_pages(zone, cpu, -(1 << order))
        return pfn

    def rmqueue(self, zone, cpu, order, migratetype, alloc_flags):
        pfn = None
        if pcp_allowed_order(order):
            zone.pcp[cpu].free_factor >>= 1
            pfn = self.__rmqueue_pcplist(zone, cpu, order, migratetype, alloc_flags)
        if pfn is None:
            pfn = self.rmqueue_buddy(zone, cpu, order, migratetype, alloc_flags)
        if pfn is not None:
            self.count_event(cpu, "pgalloc_" + ZONE_NAMES[zone.idx], 1 << order)
        zone.flags &= ~ZONE_BOOSTED_WATERMARK  # kswapd is woken here
        return pfn

    def zone_watermark_ok(self, zone, order, mark, highest_zoneidx, alloc_flags):
        """Compare the global counter with a mark; the parts that CPUs hold back are not seen."""
        free = zone.nr_free_pages - ((1 << order) - 1)
        if not alloc_flags & ALLOC_RESERVES:
            free -= zone.nr_reserved_highatomic
        if alloc_flags & ALLOC_MIN_RESERVE:
            mark -= mark // 2
            if alloc_flags & ALLOC_NON_BLOCK:
                mark -= mark // 4
        if alloc_flags & ALLOC_OOM:
            mark -= mark // 2
        if free <= mark + zone.lowmem_reserve[highest_zoneidx]:
            return False
        if order == 0:
            return True
        types = PCPTYPES + bool(alloc_flags & (ALLOC_HIGHATOMIC | ALLOC_OOM))
        return any(zone.free[o][mt] for o in range(order, MAX_ORDER) for mt in range(types))

    def zone_watermark_fast(self, zone, order, mark, highest_zoneidx, alloc_flags, gfp):
        if order == 0:
            reserved = 0 if alloc_flags & ALLOC_RESERVES else zone.nr_reserved_highatomic
            if max(zone.nr_free_pages - reserved, 0) > mark + zone.lowmem_reserve[highest_zoneidx]:
                return True
        if self.zone_watermark_ok(zone, order, mark, highest_zoneidx, alloc_flags):
            return True
        if (order == 0 and gfp & GFP_ATOMIC_BIT and zone.watermark_boost
                and alloc_flags & ALLOC_WMARK_MASK == WMARK_MIN):
            return self.zone_watermark_ok(zone, order, zone.wmark[WMARK_MIN], highest_zoneidx, alloc_flags)
        return False

    def zones_for(self, gfp, nid):
        highest = gfp_zone(gfp)
        return [z for z in self.zonelist[nid, bool(gfp & GFP_THISNODE)] if z.idx <= highest]

    def migratetype(self, gfp):
        return UNMOVABLE if self.group_by_mobility_disabled else gfp_migratetype(gfp)

    def alloc_flags_nofragment(self, zone):
        if zone.idx != ZONE_NORMAL:
            return 0
        if self.nr_nodes > 1 and (zone.nid, ZONE_DMA32) not in self.zones:
            return 0
        return ALLOC_NOFRAGMENT

    def get_page_from_freelist(self, gfp, order, cpu, nid, alloc_flags):
        zones = self.zones_for(gfp, nid)
        highest = gfp_zone(gfp)
        while True:
            leave_node = False
            for zone in zones:
                if alloc_flags & ALLOC_NOFRAGMENT and zone.nid != zones[0].nid:
                    leave_node = True  # a local page that fragments is better than a remote one
                    break
                mark = zone.wmark[alloc_flags & ALLOC_WMARK_MASK] + zone.watermark_boost
                if (not self.zone_watermark_fast(zone, order, mark, highest, alloc_flags, gfp)
                        and not alloc_flags & ALLOC_NO_WATERMARKS):
                    continue
                pfn = self.rmqueue(zone, cpu, order, self.migratetype(gfp), alloc_flags)
                if pfn is not None:
                    if alloc_flags & ALLOC_HIGHATOMIC:
                        self.reserve_highatomic_pageblock(zone, pfn)
                    return pfn
            if not alloc_flags & ALLOC_NOFRAGMENT and not leave_node:
                return None
            alloc_flags &= ~ALLOC_NOFRAGMENT

    def gfp_to_alloc_flags(self, gfp, order):
        alloc_flags = WMARK_MIN | gfp & (GFP_HIGH | GFP_KSWAPD_RECLAIM)  # the same bits in both worlds
        if not gfp & GFP_DIRECT_RECLAIM and not gfp & GFP_NOMEMALLOC:
            alloc_flags |= ALLOC_NON_BLOCK
            if order > 0 and alloc_flags & ALLOC_MIN_RESERVE:
                alloc_flags |= ALLOC_HIGHATOMIC
        return alloc_flags

    def alloc_pages_slowpath(self, gfp, order, cpu, nid):
        alloc_flags = self.gfp_to_alloc_flags(gfp, order)
        pfn = self.get_page_from_freelist(gfp, order, cpu, nid, alloc_flags)
        if pfn is not None:
            return pfn
        if gfp & GFP_MEMALLOC and not gfp & GFP_NOMEMALLOC:
            alloc_flags = ALLOC_NO_WATERMARKS | alloc_flags & ALLOC_KSWAPD
        pfn = self.get_page_from_freelist(gfp, order, cpu, nid, alloc_flags)
        if pfn is None and gfp & GFP_DIRECT_RECLAIM:
            pfn = self.alloc_pages_reclaim(gfp, order, cpu, nid, alloc_flags)
        return pfn

    def alloc_pages_reclaim(self, gfp, order, cpu, nid, alloc_flags):
        """Direct reclaim and compaction: not modelled, they find nothing."""
        return None

    def alloc_pages(self, gfp, order, cpu=0, nid=-1):
        """Allocate 2^order pages. Return the first PFN, or None."""
        if nid < 0:
            nid = self.cpu_node[cpu]
        zones = self.zones_for(gfp, nid)
        if not zones:
            return None
        alloc_flags = WMARK_LOW | gfp & GFP_KSWAPD_RECLAIM | self.alloc_flags_nofragment(zones[0])
        pfn = self.get_page_from_freelist(gfp, order, cpu, nid, alloc_flags)
        if pfn is None:
            pfn = self.alloc_pages_slowpath(gfp, order, cpu, nid)
        return pfn

    def alloc_pages_bulk(self, gfp, n, cpu=0, nid=-1):
        """Allocate up to n single pages from the CPU's list. Return their PFNs."""
        if nid < 0:
            nid = self.cpu_node[cpu]
        zones = self.zones_for(gfp, nid)
        got = []
        for zone in zones if n > 1 else ():
            if zone.nid != zones[0].nid:
                break
            mark = zone.wmark[WMARK_LOW] + zone.watermark_boost + n
            if not self.zone_watermark_fast(zone, 0, mark, zones[0].idx, WMARK_LOW, gfp):
                continue
            while len(got) < n:
                pfn = self.__rmqueue_pcplist(zone, cpu, 0, self.migratetype(gfp), WMARK_LOW)
                if pfn is None:
                    break
                got.append(pfn)
            self.count_event(cpu, "pgalloc_" + ZONE_NAMES[zone.idx], len(got))
            break
        if not got and n > 0:
            pfn = self.alloc_pages(gfp, 0, cpu, nid)
            got = [] if pfn is None else [pfn]
        return got

    def free_pages(self, pfn, order, cpu=0):
        if pcp_allowed_order(order):
            self.free_unref_page(pfn, order, cpu)
        else:
            self.free_one_page(self.zone_of(pfn), cpu, pfn, order, self.block_type(pfn))
            self.count_event(cpu, "pgfree", 1 << order)

    def split_page(self, pfn, order):
        """Turn a block into single pages, each freed by itself. The allocator's own state does not change."""
        return list(range(pfn, pfn + (1 << order)))

    def count_event(self, cpu, name, delta):
        self.vm_event[cpu, name] = self.vm_event.get((cpu, name), 0) + delta

    def emit(self, event, pfn, order, migratetype, extra=None):
        if self.trace:
            self.trace(event, pfn, order, migratetype, extra)

    # ---- recorded states ------------------------------------------------------------------------------------------

    @classmethod
    def from_snapshot(cls, path, fields, cpu_node):
        """Build a model in a recorded state.

        Parameters
        ----------
        path : path of a `snap-*.npz`
        fields : dict of table name to column names, as in the recording's meta.json
        cpu_node : list, the node of each CPU
        """
        model, snap = cls(), np.load(path)
        rows = {name: table_rows(snap, fields, name) for name in ("glob", "node", "zone", "pcp", "vmev")}
        glob = rows["glob"][0]
        model.boost_factor = glob["watermark_boost_factor"]
        model.group_by_mobility_disabled = bool(glob["page_group_by_mobility_disabled"])
        model.nr_nodes, model.cpu_node = len(rows["node"]), dict(enumerate(cpu_node))
        for row in rows["zone"]:
            model.zones[row["nid"], row["zid"]] = Zone(row)
        for row in rows["pcp"]:
            model.zones[row["nid"], row["zid"]].pcp[row["cpu"]] = Pcp(row)
        for row in rows["vmev"]:
            for name in EVENTS_COUNTED:
                model.vm_event[row["cpu"], name] = row[name]
        model.load_lists(snap)
        model.load_pages(snap)
        return model

    def load_lists(self, snap):
        for (nid, zid, order, migratetype, _), pfns in segments(snap, "free"):
            for pfn in pfns:
                self.add_to_free_list(self.zones[nid, zid], pfn, order, migratetype, to_tail=True)
        for (nid, zid, cpu, pindex, _), pfns in segments(snap, "pcpl"):
            self.zones[nid, zid].pcp[cpu].lists[pindex].extend(pfns)
        self.pcp_mt.update(zip(snap["pcpl_pfn"].tolist(), snap["pcpl_mt"].tolist()))
        for (nid, thisnode, _), entries in segments(snap, "zlst"):
            self.zonelist[nid, bool(thisnode)] = [self.zones[tuple(entry)] for entry in entries]

    def load_pages(self, snap):
        for (nid, zid, pfn, _), types in segments(snap, "pblk"):
            for block, byte in enumerate(types, pfn >> PAGEBLOCK_ORDER):
                if byte != 255:
                    self.pageblock[block] = byte & 7
                self.zone_of_block[block] = self.zones[nid, zid]
        for (_, _, start, _), flags in segments(snap, "page"):
            flags = np.array(flags, np.uint8)
            self.page_flags.update(zip(range(start, start + len(flags)), flags.tolist()))
            self.lru.update((start + np.flatnonzero(flags & PAGE_LRU)).tolist())

    def compare_snapshot(self, path, fields, counters=True):
        """Return the differences from a recorded state as a list of (what, ours, theirs)."""
        snap, found = np.load(path), []

        def compare(what, ours, theirs):
            if ours != theirs:
                found.append((what, ours, theirs))

        free = {tuple(key[:4]): pfns for key, pfns in segments(snap, "free")}
        pcpl = {tuple(key[:4]): pfns for key, pfns in segments(snap, "pcpl")}
        pcp_mt = dict(zip(snap["pcpl_pfn"].tolist(), snap["pcpl_mt"].tolist()))
        for row in table_rows(snap, fields, "zone"):
            key = row["nid"], row["zid"]
            zone = self.zones[key]
            for order in range(MAX_ORDER):
                for mt in range(ISOLATE + 1):
                    compare(("free",) + key + (order, mt), list(zone.free[order][mt]), free.get(key + (order, mt), []))
            compare(("zone",) + key, [zone.nr_free_pages, zone.watermark_boost, zone.nr_reserved_highatomic,
                                      zone.nr_isolate_pageblock, zone.wmark[:3]],
                    [row["nr_free_pages"], row["watermark_boost"], row["nr_reserved_highatomic"],
                     row["nr_isolate_pageblock"], [row["wmark_min"], row["wmark_low"], row["wmark_high"]]])
        for row in table_rows(snap, fields, "pcp"):
            key = row["nid"], row["zid"], row["cpu"]
            pcp = self.zones[key[:2]].pcp[key[2]]
            compare(("pcp",) + key, [pcp.count, pcp.free_factor, pcp.diff, pcp.high, pcp.batch],
                    [row[c] for c in ("count", "free_factor", "diff_nr_free_pages", "high", "batch")])
            for pindex, pfns in enumerate(pcp.lists):
                compare(("pcp list",) + key + (pindex,), list(pfns), pcpl.get(key + (pindex,), []))
                compare(("pcp types",) + key + (pindex,), [self.pcp_mt[p] for p in pfns],
                        [pcp_mt[p] for p in pcpl.get(key + (pindex,), [])])
        for (_, _, pfn, _), types in segments(snap, "pblk"):
            for block, byte in enumerate(types, pfn >> PAGEBLOCK_ORDER):
                if byte != 255:
                    compare(("pageblock", block), self.pageblock[block], byte & 7)
        if counters:
            for row in table_rows(snap, fields, "vmev"):
                for name in EVENTS_COUNTED:
                    compare(("vm_event", row["cpu"], name), self.vm_event[row["cpu"], name], row[name])
        return found


EVENTS_COUNTED = ("pgalloc_dma", "pgalloc_dma32", "pgalloc_normal", "pgalloc_movable", "pgfree")


def table_rows(snap, fields, name):
    table = snap[name].reshape(-1, len(fields[name]))
    return [dict(zip(fields[name], row)) for row in table.tolist()]


def segments(snap, name):
    """Yield (key columns, values) of a segmented array; the last key column is the number of values."""
    values = {"free": "free_pfn", "pcpl": "pcpl_pfn"}.get(name, name)
    values, at = snap[values].tolist(), 0
    for key in snap[name + "_seg"].tolist():
        yield key, values[at:at + key[-1]]
        at += key[-1]
