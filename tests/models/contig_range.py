"""Contiguous ranges on the slow model: `alloc_contig_range` and `alloc_contig_pages` of Linux 6.1.192.

Models `mm/page_isolation.c` and the end of `mm/page_alloc.c`: isolate the pageblocks, drain the zone, take the free
blocks out, give back what lies outside the range, undo the isolation. Not modelled: migration. A range with pages on
an LRU list (which the kernel would move away) raises `NeedsMigration`.

Invariant: while a pageblock is isolated its free blocks are on the ISOLATE lists and not counted as free.
"""

from page_alloc import (
    EBUSY,
    ISOLATE,
    MAX_ORDER,
    MOVABLE,
    PAGE_EXISTS,
    PAGE_HEAD,
    PAGE_IN_USE,
    PAGE_LRU,
    PAGE_RESERVED,
    PAGE_TAIL,
    PAGEBLOCK_ORDER,
    PAGEBLOCK_PAGES,
    PageAllocModel,
)

MAX_ORDER_PAGES = 1 << (MAX_ORDER - 1)
SECTION_SHIFT = 15  # pages of a memory section, the unit in which memory is online
GFP_COMP = 0x40000


class NeedsMigration(NotImplementedError):
    """The range holds pages that the kernel would migrate."""


class ContigAllocModel(PageAllocModel):
    """A page allocator that also knows which pages are in use, reserved, compound or on an LRU list."""

    def load_pages(self, snap):
        super().load_pages(snap)
        self.online = {pfn >> SECTION_SHIFT for pfn in self.page_flags}

    # ---- page flags follow what is allocated ----------------------------------------------------------------------

    def alloc_pages(self, gfp, order, cpu=0, nid=-1):
        pfn = super().alloc_pages(gfp, order, cpu, nid)
        if pfn is not None:
            compound = bool(gfp & GFP_COMP and order)
            self.mark(pfn + 1, (1 << order) - 1, PAGE_TAIL * compound)
            self.mark(pfn, 1, PAGE_IN_USE | PAGE_HEAD * compound)
        return pfn

    def alloc_pages_bulk(self, gfp, n, cpu=0, nid=-1):
        pfns = super().alloc_pages_bulk(gfp, n, cpu, nid)
        for pfn in pfns:
            self.mark(pfn, 1, PAGE_IN_USE)
        return pfns

    def split_page(self, pfn, order):
        self.mark(pfn, 1 << order, PAGE_IN_USE)
        return super().split_page(pfn, order)

    def free_pages(self, pfn, order, cpu=0):
        self.mark(pfn, 1 << order, 0)
        super().free_pages(pfn, order, cpu)

    def free_unref_page_list(self, pfns, cpu):
        for pfn in pfns:
            self.mark(pfn, 1, 0)
        super().free_unref_page_list(pfns, cpu)

    def mark(self, pfn, n, flags):
        for page in range(pfn, pfn + n):
            self.page_flags[page] = PAGE_EXISTS | flags
            self.lru.discard(page)

    # ---- isolation of pageblocks ----------------------------------------------------------------------------------

    def is_online(self, pfn):
        return pfn >> SECTION_SHIFT in self.online

    def compound_range(self, pfn):
        """Return (head, end) of the compound page that a page belongs to."""
        head = pfn
        while not self.page_flags[head] & PAGE_HEAD:
            head -= 1
        end = head + 1
        while self.page_flags.get(end, 0) & PAGE_TAIL:
            end += 1
        return head, end

    def has_unmovable_pages(self, start, end):
        pfn = start
        while pfn < end:
            flags = self.page_flags.get(pfn, PAGE_RESERVED)
            if flags & PAGE_RESERVED:
                return True
            if flags & (PAGE_HEAD | PAGE_TAIL):
                head, pfn = self.compound_range(pfn)
                if not self.page_flags[head] & PAGE_LRU:
                    return True
            elif not flags & PAGE_IN_USE:  # free, on a pcp list, or the rest of a block that is not compound
                pfn += 1 << self.buddy[pfn][0] if pfn in self.buddy else 1
            elif flags & PAGE_LRU:
                pfn += 1
            else:
                return True
        return False

    def set_migratetype_isolate(self, pfn, start, end, cpu):
        zone = self.zone_of(pfn)
        block_end = (pfn | PAGEBLOCK_PAGES - 1) + 1
        if self.block_type(pfn) == ISOLATE or self.has_unmovable_pages(max(pfn, start), min(block_end, end)):
            return -EBUSY
        self.set_block_type(pfn, ISOLATE)
        zone.nr_isolate_pageblock += 1
        moved, _ = self.move_freepages_block(zone, pfn, ISOLATE)
        self.mod_free_pages(zone, cpu, -moved)
        return 0

    def unset_migratetype_isolate(self, pfn, migratetype, cpu):
        zone = self.zone_of(pfn)
        if self.block_type(pfn) != ISOLATE:
            return
        order, _ = self.buddy.get(pfn, (0, None))
        buddy = self.find_buddy(zone, pfn, order) if PAGEBLOCK_ORDER <= order < MAX_ORDER - 1 else None
        if buddy is not None and self.block_type(buddy) != ISOLATE:  # take it out, so that it merges
            self.del_page_from_free_list(zone, pfn)
            self.set_block_type(pfn, migratetype)
            self._PageAllocModel__free_one_page(zone, cpu, pfn, order, migratetype, to_tail=True)
        else:
            moved, _ = self.move_freepages_block(zone, pfn, migratetype)
            self.mod_free_pages(zone, cpu, moved)
            self.set_block_type(pfn, migratetype)
        zone.nr_isolate_pageblock -= 1

    def split_free_page(self, pfn, boundary, cpu):
        """Free a block again in parts, so that none lies across `boundary`."""
        zone, (order, _) = self.zone_of(pfn), self.buddy[pfn]
        if self.block_type(pfn) != ISOLATE:
            self.mod_free_pages(zone, cpu, -(1 << order))
        self.del_page_from_free_list(zone, pfn)
        end, left = pfn + (1 << order), boundary - pfn
        while pfn < end:
            part = min((pfn & -pfn).bit_length() - 1 if pfn else order, left.bit_length() - 1)
            self._PageAllocModel__free_one_page(zone, cpu, pfn, part, self.block_type(pfn))
            pfn += 1 << part
            left -= 1 << part
            if left == 0:
                left = end - pfn

    def isolate_single_pageblock(self, boundary, before, skip, migratetype, cpu):
        """Isolate the pageblock before or behind a boundary and split the free block that lies across it."""
        block = boundary - PAGEBLOCK_PAGES if before else boundary
        zone = self.zone_of(block)
        if not skip and self.set_migratetype_isolate(block, block, block + PAGEBLOCK_PAGES, cpu):
            return -EBUSY
        if not self.is_online(boundary if before else boundary - 1):
            return 0
        pfn = max(block & -MAX_ORDER_PAGES, zone.start_pfn)
        while pfn < boundary:
            if not self.is_online(pfn):
                pfn = ((pfn >> SECTION_SHIFT) + 1) << SECTION_SHIFT
            elif pfn in self.buddy:
                end = pfn + (1 << self.buddy[pfn][0])
                if end > boundary:
                    self.split_free_page(pfn, boundary, cpu)
                pfn = end
            elif self.page_flags.get(pfn, 0) & (PAGE_HEAD | PAGE_TAIL):
                head, pfn = self.compound_range(pfn)
                if pfn > boundary:
                    if self.page_flags[head] & PAGE_LRU:
                        raise NeedsMigration(f"compound page at {head:#x} lies across {boundary:#x}")
                    if not skip:
                        self.unset_migratetype_isolate(block, migratetype, cpu)
                    return -EBUSY
            else:
                pfn += 1
        return 0

    def start_isolate_page_range(self, start, end, migratetype, cpu):
        first = start & -PAGEBLOCK_PAGES
        last = (end + PAGEBLOCK_PAGES - 1 & -PAGEBLOCK_PAGES) - PAGEBLOCK_PAGES
        if self.isolate_single_pageblock(first, False, False, migratetype, cpu):
            return -EBUSY
        if self.isolate_single_pageblock(last + PAGEBLOCK_PAGES, True, first == last, migratetype, cpu):
            self.unset_migratetype_isolate(first, migratetype, cpu)
            return -EBUSY
        for block in range(first + PAGEBLOCK_PAGES, last, PAGEBLOCK_PAGES):
            if self.set_migratetype_isolate(block, start, end, cpu):
                self.undo_isolate_page_range(first, block, migratetype, cpu)
                self.unset_migratetype_isolate(last, migratetype, cpu)
                return -EBUSY
        return 0

    def undo_isolate_page_range(self, start, end, migratetype, cpu):
        for block in range(start & -PAGEBLOCK_PAGES, end, PAGEBLOCK_PAGES):
            if self.is_online(block):
                self.unset_migratetype_isolate(block, migratetype, cpu)

    # ---- ranges -----------------------------------------------------------------------------------------------------

    def outer_start(self, start):
        """Return the start of the free block that covers `start`, or `start` if there is none."""
        for order in range(MAX_ORDER):
            head = start & -(1 << order)
            if head in self.buddy:
                return head if head + (1 << self.buddy[head][0]) > start else start
        return start

    def isolate_freepages_range(self, start, end):
        """Take the free blocks of an isolated range off their lists. Return the end reached, None if one is missing."""
        pfn = start
        while pfn < end:
            if pfn not in self.buddy or self.block_type(pfn) != ISOLATE:
                return None
            pfn += 1 << self.buddy[pfn][0]
        pfn = start
        while pfn < end:
            pfn += 1 << self.del_page_from_free_list(self.zone_of(pfn), pfn)
        return pfn

    def alloc_contig_range(self, start, end, migratetype=MOVABLE, cpu=0):
        """Allocate all pages of [start, end). Return 0 or -EBUSY; on success each page is freed by itself."""
        if self.start_isolate_page_range(start, end, migratetype, cpu):
            self.undo_isolate_page_range(start, end, migratetype, cpu)
            return -EBUSY
        self.drain_all_pages(self.zone_of(start), cpu)
        if any(self.page_flags[pfn] & PAGE_LRU for pfn in range(start, end)):
            raise NeedsMigration(f"pages on an LRU list in [{start:#x}, {end:#x})")
        outer_start = self.outer_start(start)
        outer_end = self.isolate_freepages_range(outer_start, end)
        if outer_end is not None:
            self.mark(outer_start, outer_end - outer_start, PAGE_IN_USE)
            self.free_contig_range(outer_start, start - outer_start, cpu)
            self.free_contig_range(end, outer_end - end, cpu)
        self.undo_isolate_page_range(start, end, migratetype, cpu)
        return 0 if outer_end is not None else -EBUSY

    def free_contig_range(self, start, n, cpu=0):
        for pfn in range(start, start + n):
            self.free_pages(pfn, 0, cpu)

    def alloc_contig_pages(self, n, gfp, cpu=0, nid=-1):
        """Try all aligned windows of n pages, zone by zone. Return the first PFN, or None."""
        for zone in self.zones_for(gfp, self.cpu_node[cpu] if nid < 0 else nid):
            first = zone.start_pfn + n - 1 & ~(n - 1)  # the kernel's ALIGN(), also where n is not a power of two
            for start in range(first, zone.end_pfn - n + 1, n):
                valid = all(self.is_usable(zone, pfn) for pfn in range(start, start + n))
                if valid and self.alloc_contig_range(start, start + n, MOVABLE, cpu) == 0:
                    return start
        return None

    def is_usable(self, zone, pfn):
        return pfn in self.page_flags and self.zone_of(pfn) is zone and not self.page_flags[pfn] & PAGE_RESERVED
