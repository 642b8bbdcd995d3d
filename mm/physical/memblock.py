"""memblock: which physical ranges are memory, which are taken, before the page allocator exists.

Linux: mm/memblock.c, include/linux/memblock.h.
Modelled: the arrays `memory` and `reserved` of disjoint regions with flags and node; adding, removing, reserving and
freeing ranges; marks; free ranges upward and downward; searching from the top or the bottom; allocation with node,
mirror and lower-limit fallbacks.  Not modelled: the memory that a doubled region array itself takes (the kernel gives
it back before boot ends), physmem, debugfs.
Invariants: regions are sorted, disjoint and not empty; two that touch differ in node or flags.
Cost: a binary search plus the regions touched; addresses and sizes are bytes.
"""

import bisect
import dataclasses
import enum

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
PHYS_ADDR_MAX = (1 << 64) - 1
NUMA_NO_NODE = -1                   # any node; a region without node has it too
INIT_MEMBLOCK_REGIONS = 128
SMP_CACHE_BYTES = 64
MEMBLOCK_ALLOC_ACCESSIBLE = 0       # as `end`: up to current_limit


class memblock_flags(enum.IntFlag):
    """Attributes of a memory region, values of Linux."""

    MEMBLOCK_NONE = 0
    MEMBLOCK_HOTPLUG = 1
    MEMBLOCK_MIRROR = 2
    MEMBLOCK_NOMAP = 4
    MEMBLOCK_DRIVER_MANAGED = 8


MEMBLOCK_NONE, MEMBLOCK_HOTPLUG, MEMBLOCK_MIRROR, MEMBLOCK_NOMAP, MEMBLOCK_DRIVER_MANAGED = (
    memblock_flags(value) for value in (0, 1, 2, 4, 8))


def round_up(x, align):
    """The least multiple of `align` not below x."""
    return -(-x // align) * align


def round_down(x, align):
    """The greatest multiple of `align` not above x."""
    return x // align * align


@dataclasses.dataclass(slots=True)
class Region:
    """[base, base + size) bytes, with memblock_flags and node (NUMA_NO_NODE: none)."""

    base: int
    size: int
    flags: memblock_flags = MEMBLOCK_NONE
    nid: int = NUMA_NO_NODE

    @property
    def end(self):
        """First byte behind."""
        return self.base + self.size

    def continues(self, before):
        """Does this region touch the one before it, alike in node and flags?"""
        return before.end == self.base and before.nid == self.nid and before.flags == self.flags


class MemblockType:
    """One array of regions.

    Attributes
    ----------
    name : str
    regions : list of Region
        Sorted by base, disjoint.
    max : int
        Slots of the kernel's array: 128, doubled as often as needed.
    """

    def __init__(self, name):
        self.name = name
        self.regions = []
        self.max = INIT_MEMBLOCK_REGIONS

    def __iter__(self):
        return iter(self.regions)

    def __len__(self):
        return len(self.regions)

    @property
    def total_size(self):
        """Bytes in all regions."""
        return sum(r.size for r in self.regions)

    def _first_ending_after(self, addr):
        return bisect.bisect_right(self.regions, addr, key=lambda r: r.end)

    def _first_from(self, addr):
        return bisect.bisect_left(self.regions, addr, key=lambda r: r.base)

    def overlapping(self, base, end):
        """Slice of the regions that share a byte with [base, end)."""
        return slice(self._first_ending_after(base), self._first_from(end))

    def _make_room(self, nr_more):
        while len(self.regions) + nr_more > self.max:
            self.max *= 2

    def add_range(self, base, size, nid=NUMA_NO_NODE, flags=MEMBLOCK_NONE):
        """Add the parts of [base, base + size) that no region covers (memblock_add_range)."""
        end = _checked_end(base, size)
        if base == end:
            return
        old = self.overlapping(base, end)
        pieces = []
        for r in self.regions[old]:
            if base < r.base:
                pieces.append(Region(base, r.base - base, flags, nid))
            pieces.append(r)
            base = max(base, r.end)
        if base < end:
            pieces.append(Region(base, end - base, flags, nid))
        self._make_room(len(pieces) - (old.stop - old.start))
        self.regions[old] = pieces
        self._merge(old.start, old.start + len(pieces))

    def _merge(self, first, last):
        """Join regions that continue each other, from the one before `first` to the one at `last`."""
        first, last = max(first - 1, 0), min(last + 1, len(self.regions))
        merged = []
        for r in self.regions[first:last]:
            if merged and r.continues(merged[-1]):
                merged[-1].size += r.size
            else:
                merged.append(r)
        self.regions[first:last] = merged

    def isolate_range(self, base, size):
        """Split regions at both ends of the range; the slice of those inside (memblock_isolate_range)."""
        end = _checked_end(base, size)
        if base == end:
            return slice(0, 0)
        self._make_room(2)
        for addr in (base, end):
            i = self._first_ending_after(addr)
            if i < len(self.regions) and self.regions[i].base < addr:
                r = self.regions[i]
                self.regions.insert(i + 1, Region(addr, r.end - addr, r.flags, r.nid))
                r.size = addr - r.base
        return self.overlapping(base, end)

    def remove_range(self, base, size):
        """Take the range out, whatever part of it is there."""
        del self.regions[self.isolate_range(base, size)]

    def update_range(self, base, size, change):
        """Apply `change(region)` to exactly the range, then join what became alike."""
        inside = self.isolate_range(base, size)
        for r in self.regions[inside]:
            change(r)
        self._merge(inside.start, inside.stop)

    def search(self, addr):
        """The region that holds the byte, or None."""
        i = self._first_ending_after(addr)
        return self.regions[i] if i < len(self.regions) and self.regions[i].base <= addr else None

    def overlaps_region(self, base, size):
        """Does any region share a byte with the range?"""
        found = self.overlapping(base, _checked_end(base, size))
        return found.start < found.stop


def _checked_end(base, size):
    """End of a range, capped at the end of the address space (memblock_cap_size)."""
    if not 0 <= base <= PHYS_ADDR_MAX or size < 0:
        raise ValueError(f"range of {size} bytes at {base:#x}: a start of 0 to {PHYS_ADDR_MAX:#x}, no negative size")
    return min(base + size, PHYS_ADDR_MAX)


class Memblock:
    """Physical memory during boot.

    Parameters
    ----------
    is_bottom_up : bool
        Search free ranges from the lowest address (memblock_set_bottom_up).
    is_movable_node : bool
        The boot option movable_node: hot-pluggable memory is not allocated from.

    Attributes
    ----------
    memory, reserved : MemblockType
    current_limit : int
        Allocations that name no end stay below this address.
    """

    def __init__(self, *, is_bottom_up=False, is_movable_node=False):
        self.memory = MemblockType("memory")
        self.reserved = MemblockType("reserved")
        self.is_bottom_up = is_bottom_up
        self.is_movable_node = is_movable_node
        self.has_mirror = False
        self.current_limit = PHYS_ADDR_MAX

    # ---------------------------------------------------------------------------------------------- both arrays

    def add(self, base, size):
        """Register memory of no node yet."""
        self.memory.add_range(base, size)

    def add_node(self, base, size, nid, flags=MEMBLOCK_NONE):
        """Register memory of a node."""
        self.memory.add_range(base, size, nid, flags)

    def remove(self, base, size):
        """Forget memory."""
        self.memory.remove_range(base, size)

    def reserve(self, base, size):
        """Take a range, be it memory or not."""
        self.reserved.add_range(base, size)

    def phys_free(self, base, size):
        """Give back a reserved range (memblock_phys_free)."""
        self.reserved.remove_range(base, size)

    def set_node(self, base, size, nid):
        """Say which node the memory in a range belongs to."""
        def change(r):
            r.nid = nid
        self.memory.update_range(base, size, change)

    def _set_flag(self, base, size, flag, is_set):
        def change(r):
            r.flags = r.flags | flag if is_set else r.flags & ~flag
        self.memory.update_range(base, size, change)

    def mark_hotplug(self, base, size):
        self._set_flag(base, size, MEMBLOCK_HOTPLUG, True)

    def clear_hotplug(self, base, size):
        self._set_flag(base, size, MEMBLOCK_HOTPLUG, False)

    def mark_mirror(self, base, size):
        """Mark mirrored memory; from now on allocations want such."""
        self.has_mirror = True
        self._set_flag(base, size, MEMBLOCK_MIRROR, True)

    def mark_nomap(self, base, size):
        self._set_flag(base, size, MEMBLOCK_NOMAP, True)

    def clear_nomap(self, base, size):
        self._set_flag(base, size, MEMBLOCK_NOMAP, False)

    def trim_memory(self, align=PAGE_SIZE):
        """Cut memory regions to multiples of `align`; what is smaller goes."""
        kept = []
        for r in self.memory:
            base, end = round_up(r.base, align), round_down(r.end, align)
            if base < end:
                kept.append(Region(base, end - base, r.flags, r.nid))
        self.memory.regions = kept

    def enforce_memory_limit(self, limit):
        """Keep only the first `limit` bytes of memory (the boot option mem=); nothing if there is not more."""
        left = limit
        for r in self.memory:
            if left <= r.size:
                cut = r.base + left
                self.memory.remove_range(cut, PHYS_ADDR_MAX - cut)
                self.reserved.remove_range(cut, PHYS_ADDR_MAX - cut)
                return
            left -= r.size

    def cap_memory_range(self, base, size):
        """Keep only memory inside the range; NOMAP regions outside stay."""
        inside = self.memory.isolate_range(base, size)
        self.memory.regions = [r for i, r in enumerate(self.memory)
                               if inside.start <= i < inside.stop or r.flags & MEMBLOCK_NOMAP]
        self.reserved.remove_range(0, base)
        self.reserved.remove_range(base + size, PHYS_ADDR_MAX - base - size)

    # ------------------------------------------------------------------------------------------------ questions

    def phys_mem_size(self):
        return self.memory.total_size

    def reserved_size(self):
        return self.reserved.total_size

    def start_of_DRAM(self):
        return self.memory.regions[0].base

    def end_of_DRAM(self):
        return self.memory.regions[-1].end

    def is_memory(self, addr):
        return self.memory.search(addr) is not None

    def is_map_memory(self, addr):
        r = self.memory.search(addr)
        return r is not None and not r.flags & MEMBLOCK_NOMAP

    def is_reserved(self, addr):
        return self.reserved.search(addr) is not None

    def is_region_memory(self, base, size):
        """Does one memory region hold the whole range?"""
        r = self.memory.search(base)
        return r is not None and r.end >= _checked_end(base, size)

    def is_region_reserved(self, base, size):
        """Is any byte of the range reserved?"""
        return self.reserved.overlaps_region(base, size)

    def search_pfn_nid(self, pfn):
        """(first PFN, end PFN, node) of the memory region of a page frame, or None."""
        r = self.memory.search(pfn << PAGE_SHIFT)
        return None if r is None else (r.base >> PAGE_SHIFT, r.end >> PAGE_SHIFT, r.nid)

    def mem_pfn_ranges(self, nid=None):
        """(first PFN, end PFN, node) of each memory region that holds a whole page, ascending; of one node or all."""
        for r in self.memory:
            start, end = -(-r.base >> PAGE_SHIFT), r.end >> PAGE_SHIFT
            if start < end and nid in (None, r.nid):
                yield start, end, r.nid

    # -------------------------------------------------------------------------------------- free ranges, search

    def _is_skipped(self, r, nid, flags):
        """Is a memory region left out of an iteration (should_skip_region)?"""
        return (nid not in (NUMA_NO_NODE, r.nid)
                or bool(self.is_movable_node and r.flags & MEMBLOCK_HOTPLUG and not flags & MEMBLOCK_HOTPLUG)
                or bool(flags & MEMBLOCK_MIRROR and not r.flags & MEMBLOCK_MIRROR)
                or bool(r.flags & MEMBLOCK_NOMAP and not flags & MEMBLOCK_NOMAP)
                or bool(r.flags & MEMBLOCK_DRIVER_MANAGED and not flags & MEMBLOCK_DRIVER_MANAGED))

    def _gaps(self, r):
        """Unreserved parts of one memory region, ascending."""
        start = r.base
        for taken in self.reserved.regions[self.reserved.overlapping(r.base, r.end)]:
            if start < taken.base:
                yield start, taken.base
            start = taken.end
        if start < r.end:
            yield start, r.end

    def free_mem_ranges(self, nid=NUMA_NO_NODE, flags=MEMBLOCK_NONE, *, is_reverse=False):
        """Iterate over memory that is not reserved (for_each_free_mem_range).

        Yields
        ------
        (start, end, node) : tuple of int
            Bytes; a range never crosses a memory region's border.
        """
        regions = list(self.memory)
        for r in reversed(regions) if is_reverse else regions:
            if self._is_skipped(r, nid, flags):
                continue
            gaps = list(self._gaps(r))
            for start, end in reversed(gaps) if is_reverse else gaps:
                yield start, end, r.nid

    def find_in_range_node(self, size, align, start, end, nid, flags):
        """Address of the last fitting place (bottom-up: the first), 0 if there is none; page 0 is never used."""
        if end == MEMBLOCK_ALLOC_ACCESSIBLE:
            end = self.current_limit
        start = max(start, PAGE_SIZE)
        end = max(start, end)
        for this_start, this_end, _ in self.free_mem_ranges(nid, flags, is_reverse=not self.is_bottom_up):
            this_start, this_end = max(this_start, start), min(this_end, end)
            if self.is_bottom_up:
                found = round_up(this_start, align)
                is_fitting = found < this_end and this_end - found >= size
            else:
                found = round_down(this_end - size, align)
                is_fitting = this_end >= size and found >= this_start
            if is_fitting:
                return found
        return 0

    def _wanted_flags(self):
        return MEMBLOCK_MIRROR if self.has_mirror else MEMBLOCK_NONE

    def find_in_range(self, start, end, size, align):
        """As find_in_range_node on any node; unmirrored memory if no mirrored fits."""
        found = self.find_in_range_node(size, align, start, end, NUMA_NO_NODE, self._wanted_flags())
        if not found and self.has_mirror:
            found = self.find_in_range_node(size, align, start, end, NUMA_NO_NODE, MEMBLOCK_NONE)
        return found

    # ---------------------------------------------------------------------------------------------- allocation

    def alloc_range_nid(self, size, align, start, end, nid=NUMA_NO_NODE, *, is_exact_nid=False):
        """Find and reserve a place.

        Parameters
        ----------
        size, align : int
            Bytes; an align of 0 means one cache line.
        start, end : int
            The place lies in [start, end); end 0: current_limit.
        nid : int
            Node wanted, others as a fallback unless `is_exact_nid`.

        Returns
        -------
        int
            Address, 0 if nothing fits.

        Notes
        -----
        Source: memblock_alloc_range_nid.  Order of trial: the node, any node; then both again without mirroring.
        """
        if size <= 0 or align < 0:
            raise ValueError(f"allocation of {size} bytes aligned to {align}: a size above 0, no negative alignment")
        nodes = [nid] if is_exact_nid or nid == NUMA_NO_NODE else [nid, NUMA_NO_NODE]
        for flags in dict.fromkeys((self._wanted_flags(), MEMBLOCK_NONE)):
            for node in nodes:
                found = self.find_in_range_node(size, align or SMP_CACHE_BYTES, start, end, node, flags)
                if found:
                    self.reserve(found, size)
                    return found
        return 0

    def phys_alloc_range(self, size, align, start, end):
        """Address of a reserved place in [start, end), 0 if none."""
        return self.alloc_range_nid(size, align, start, end)

    def phys_alloc_try_nid(self, size, align, nid):
        """Address of a reserved place, on the node if possible; 0 if none."""
        return self.alloc_range_nid(size, align, 0, MEMBLOCK_ALLOC_ACCESSIBLE, nid)

    def alloc_try_nid(self, size, align=SMP_CACHE_BYTES, min_addr=0, max_addr=MEMBLOCK_ALLOC_ACCESSIBLE,
                      nid=NUMA_NO_NODE, *, is_exact_nid=False):
        """As alloc_range_nid, at most up to current_limit, and without the lower limit if nothing else is left."""
        max_addr = min(max_addr, self.current_limit)
        found = self.alloc_range_nid(size, align, min_addr, max_addr, nid, is_exact_nid=is_exact_nid)
        if not found and min_addr:
            found = self.alloc_range_nid(size, align, 0, max_addr, nid, is_exact_nid=is_exact_nid)
        return found

    def alloc_exact_nid(self, size, align, min_addr, max_addr, nid):
        """alloc_try_nid on this node only (memblock_alloc_exact_nid_raw)."""
        return self.alloc_try_nid(size, align, min_addr, max_addr, nid, is_exact_nid=True)

    def dump(self):
        """The text of memblock=debug (memblock_dump_all)."""
        lines = ["MEMBLOCK configuration:",
                 f" memory size = {self.phys_mem_size():#018x} reserved size = {self.reserved_size():#018x}"]
        for kind in (self.memory, self.reserved):
            lines.append(f" {kind.name}.cnt  = {max(len(kind), 1):#x}")
            for i, r in enumerate(kind):
                node = "" if r.nid == NUMA_NO_NODE else f" on node {r.nid}"
                lines.append(f" {kind.name}[{i:#x}]\t[{r.base:#018x}-{r.end - 1:#018x}], {r.size:#018x} bytes{node} "
                             f"flags: {int(r.flags):#x}")
        return "\n".join(lines) + "\n"
