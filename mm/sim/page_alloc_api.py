"""What a Machine offers around its page allocator: exact sizes, what a mask means, what a page is.

Linux: mm/page_alloc.c (alloc_pages_exact, free_pages_exact), mm/debug.c (dump_page).
Modelled: the calls as thin wrappers of the core's.  Not modelled: kernel addresses; a page is named by its PFN.
Invariant: `dump_page` and `mem_map` change nothing.  Cost: `dump_page` of one on a per-cpu list walks that list.
"""

import dataclasses
import operator
import types
from typing import NamedTuple

import numpy as np

from mm._fast.gfp import alloc_flags, gfp_bits
from mm._fast.physical import request
from mm._fast.state import migratetype, mm_limits, pageflags, zone_type
from mm.physical.memblock import PAGE_SIZE
from mm.physical.mm_init import ZONE_NAMES

MAX_ORDER = int(mm_limits.MAX_ORDER)
MAX_NR_ZONES = int(mm_limits.MAX_NR_ZONES)
LARGEST_BLOCK = 1 << (MAX_ORDER - 1)
NAMED_FLAGS = tuple(flag for flag in pageflags if flag.name not in ("PG_ORDER_MASK", "PG_MT_SHIFT", "PG_MT_MASK",
                                                                    "PG_ZONE_SHIFT", "PG_ZONE_MASK"))
NOT_EXACT = int(gfp_bits["__GFP_COMP"] | gfp_bits["__GFP_HIGHMEM"])     # such pages are never compound


class DecodedGfp(NamedTuple):
    """What a mask asks for."""

    zone: zone_type             # highest zone it allows
    migratetype: migratetype
    alloc_flags: frozenset      # names of the rights that the slow path begins with


@dataclasses.dataclass(frozen=True)
class PageInfo:
    """One page frame, described.

    Attributes
    ----------
    pfn, node : int
    zone : str
    flags : tuple of str
        Names of pageflags.
    order : int or None
        Of the free, listed or allocated block that the page heads, where it is known.
    refcount : int
    pageblock : str
        Type of its pageblock.
    list : str or None
        The list that the page heads a block on.
    """

    pfn: int
    node: int
    zone: str
    flags: tuple
    order: int | None
    refcount: int
    pageblock: str
    list: str | None

    def __str__(self):
        where = f", on {self.list}" if self.list else ""
        order = "" if self.order is None else f" order {self.order}"
        return (f"page {self.pfn}{order}: node {self.node} zone {self.zone} refcount {self.refcount} "
                f"pageblock {self.pageblock} flags {'|'.join(self.flags) or 'none'}{where}")


class PageAllocApi:
    """Methods of Machine; needs MachineCore beside it."""

    @property
    def mem_map(self):
        """Struct pages as a mapping of read-only column views, zero copy; one element a page frame.

        Columns: next, prev, refcount, flags, and mapcount, mapping, index, private_, memcg, pincount; and
        pageblock_flags with one element a pageblock, its type in the low three bits.
        """
        nr_pages = int(self.g["nr_pages"][0])
        views = {name: record[name] for record in (self.page[:nr_pages], self.cold) for name in record.dtype.names}
        views["pageblock_flags"] = self.pageblock_flags.view()
        for view in views.values():
            view.flags.writeable = False
        return types.MappingProxyType(views)

    def alloc_pages_exact(self, nbytes, gfp, cpu=0, node=None):
        """First PFN of just enough pages for `nbytes`: the smallest sufficient block, split, its rest freed.

        __GFP_COMP and __GFP_HIGHMEM are left out of the mask, as in Linux.

        Raises
        ------
        ValueError
            No bytes, or more than the largest block.
        """
        pages = _pages(nbytes)
        order = (pages - 1).bit_length()
        pfn = self.alloc_pages(operator.index(gfp) & ~NOT_EXACT, order, cpu, node)
        self.split_page(pfn, order)
        for page in range(pfn + pages, pfn + (1 << order)):
            self.free_pages(page, 0, cpu)
        return pfn

    def free_pages_exact(self, pfn, nbytes, cpu=0):
        """Free the pages of alloc_pages_exact, of the same size.

        Raises
        ------
        ValueError
            As above, or pages that do not exist.
        mm.BadFree
            A page that is not allocated singly; nothing is freed then.
        """
        pages, pfn = _pages(nbytes), operator.index(pfn)
        if not 0 <= pfn <= int(self.g["nr_pages"][0]) - pages:
            raise ValueError(f"pfn {pfn}: {pages} pages from there, of {int(self.g['nr_pages'][0])}")
        self.free_unref_page_list(np.arange(pfn, pfn + pages, dtype=np.uint32), cpu)

    def decode_gfp(self, gfp, order=0, cpu=0):
        """What a mask asks for on a CPU: highest zone, migratetype, and the rights with which the slow path begins.

        Raises
        ------
        ValueError
            A mask that names no zone or two types, an order or a CPU that does not exist.
        """
        gfp, order, cpu = operator.index(gfp), operator.index(order), operator.index(cpu)
        if not 0 <= gfp <= 0xffffffff:
            raise ValueError(f"gfp {gfp}: a 32-bit mask")
        if not 0 <= order < MAX_ORDER:
            raise ValueError(f"order {order}: 0 to {MAX_ORDER - 1}")
        if not 0 <= cpu < len(self.current):
            raise ValueError(f"cpu {cpu}: 0 to {len(self.current) - 1}")
        zone, mt, bits = request.decode(self.address, gfp, order, cpu)
        if zone >= MAX_NR_ZONES or mt > migratetype.MIGRATE_RECLAIMABLE:
            raise ValueError(f"gfp {gfp:#x}: zone bits or mobility bits that exclude each other")
        names = {flag.name for flag in alloc_flags if flag.name not in ("ALLOC_WMARK_MASK", "ALLOC_RESERVES")
                 and int(flag) > int(alloc_flags.ALLOC_WMARK_MASK) and bits & int(flag)}
        return DecodedGfp(zone_type(zone), migratetype(mt), frozenset(names))

    def dump_page(self, pfn):
        """PageInfo of a page frame; its text is for error messages.

        Raises
        ------
        ValueError
            No such page frame.
        """
        pfn = operator.index(pfn)
        if not 0 <= pfn < int(self.g["nr_pages"][0]):
            raise ValueError(f"pfn {pfn}: 0 to {int(self.g['nr_pages'][0]) - 1}")
        flags = int(self.mem_map["flags"][pfn])
        nr = (flags & int(pageflags.PG_ZONE_MASK)) >> int(pageflags.PG_ZONE_SHIFT)
        is_head = flags & int(pageflags.PG_buddy | pageflags.PG_pcp | pageflags.PG_order_known)
        return PageInfo(pfn, nr // MAX_NR_ZONES, ZONE_NAMES[nr % MAX_NR_ZONES],
                        tuple(flag.name for flag in NAMED_FLAGS if flags & int(flag)),
                        flags & int(pageflags.PG_ORDER_MASK) if is_head else None,
                        int(self.mem_map["refcount"][pfn]),
                        _type_name(int(self.pageblock_flags[pfn >> int(mm_limits.pageblock_order)]) & 7),
                        self._list_of(pfn, flags, nr))

    def _list_of(self, pfn, flags, nr):
        """Name of the list that a page is linked on, None if it is on none."""
        mt = _type_name((flags & int(pageflags.PG_MT_MASK)) >> int(pageflags.PG_MT_SHIFT))
        order = flags & int(pageflags.PG_ORDER_MASK)
        if flags & int(pageflags.PG_buddy):
            return f"free list order {order} type {mt}"
        if not flags & int(pageflags.PG_pcp):
            return None
        links, nr_pages = self.mem_map["next"], int(self.g["nr_pages"][0])
        while pfn < nr_pages:
            pfn = int(links[pfn])
        first = self.pageset["first_list"][nr]
        cpu = int((first <= pfn).nonzero()[0][-1])
        return f"per-cpu list {pfn - int(first[cpu])} of cpu {cpu}, returns to type {mt}"


def _pages(nbytes):
    pages = -(-operator.index(nbytes) // PAGE_SIZE)
    if not 0 < pages <= LARGEST_BLOCK:
        raise ValueError(f"nbytes {nbytes}: 1 to {LARGEST_BLOCK * PAGE_SIZE}")
    return pages


def _type_name(mt):
    return migratetype(mt).name.removeprefix("MIGRATE_").lower()
