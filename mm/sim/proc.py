"""The text of /proc and debugfs that tells the state of memory.

Linux: mm/vmstat.c (frag_show, pagetypeinfo_show, zoneinfo_show, vmstat_start, unusable_show, extfrag_show),
mm/page-writeback.c (global_dirty_limits).  Files: buddyinfo, pagetypeinfo, zoneinfo, vmstat; under sys:
kernel/debug/extfrag/unusable_index and extfrag_index.
Modelled: every line of the reference configuration, byte for byte, from counters and lists of the machine; names come
from the counters' enums.  Not modelled: the counters of subsystems that a machine lacks stay at their start values;
the dirty thresholds are those of the default vm.dirty_ratio and vm.dirty_background_ratio; the mixed block counts
of pagetypeinfo, which Linux prints only with page_owner=on.
Cost: zoneinfo, vmstat and buddyinfo read counters; pagetypeinfo walks all free lists.
"""

from collections.abc import Mapping

import numpy as np

from mm._fast.state import migratetype, mm_limits, pageflags
from mm._fast.vm_event_item import node_stat_item, numa_stat_item, vm_event_item, zone_stat_item
from mm.physical import fragmentation
from mm.physical.mm_init import ZONE_NAMES

MAX_ORDER = int(mm_limits.MAX_ORDER)
MAX_NR_ZONES = int(mm_limits.MAX_NR_ZONES)
MIGRATE_TYPES = int(migratetype.MIGRATE_TYPES)
PAGEBLOCK_NR_PAGES = int(mm_limits.pageblock_nr_pages)
MIGRATETYPE_NAMES = tuple({"HIGHATOMIC": "HighAtomic"}.get(name, name.capitalize()) for name in
                          (item.name.removeprefix("MIGRATE_") for item in sorted(migratetype, key=int)[:-1]))
PAGE_SIZE = 4096
HPAGE_PMD_NR = 512

# A longer free list is not counted to its end (pagetypeinfo_showfree_print).
FREE_LIST_CAP = 100000
# Failed runs of kswapd until a node counts as unreclaimable (mm/internal.h).
MAX_RECLAIM_RETRIES = 16
# Percent of the dirtyable pages: the defaults of vm.dirty_ratio and vm.dirty_background_ratio.
DIRTY_RATIO = 20
DIRTY_BACKGROUND_RATIO = 10

# Node counters kept in pages and printed in huge pages (vmstat_item_print_in_thp).
_IN_THP = ("NR_ANON_TRANSPARENT_HUGEPAGES", "NR_FILE_HUGEPAGES", "NR_SHMEM_HUGEPAGES", "NR_SHMEM_PMDMAPPED",
           "NR_FILE_PMDMAPPED")
# Event counters kept in sectors and printed in kilobytes (vmstat_start).
_IN_SECTORS = ("PGPGIN", "PGPGOUT")


def _items(enum):
    """(name in the text, index) of the counters of an enum, in order, without its closing NR_ item."""
    return [(item.name.lower(), int(item)) for item in sorted(enum, key=int)[:-1]]


class TextFiles(Mapping):
    """Read-only mapping of file names to their text at this moment.

    Parameters
    ----------
    machine : mm.Machine
    """

    _files = {}
    _root = ""

    def __init__(self, machine):
        self._machine = machine

    def __getitem__(self, name):
        try:
            show = self._files[name]
        except (KeyError, TypeError):
            raise KeyError(f"{self._root}{name}: not modelled; there are {', '.join(self._files)}") from None
        self._machine.fold_counters()
        return "".join(line + "\n" for line in show(self._machine))

    def __iter__(self):
        return iter(self._files)

    def __len__(self):
        return len(self._files)

    def __repr__(self):
        return f"<{self._root}: {', '.join(self._files)}>"


def _online_nodes(machine):
    """Nodes that have memory or CPUs."""
    return np.flatnonzero((machine.nodes["is_online"] != 0) | (machine.nodes["nr_cpus"] > 0)).tolist()


def _zones(machine, is_populated=True):
    """(node, number, record) of the zones, in the order in which Linux walks them."""
    for nid in _online_nodes(machine):
        for nr in range(nid * MAX_NR_ZONES, (nid + 1) * MAX_NR_ZONES):
            if not is_populated or machine.zones["present_pages"][nr]:
                yield nid, nr, machine.zones[nr]


def _zone_title(nid, nr):
    return f"Node {nid}, zone {ZONE_NAMES[nr % MAX_NR_ZONES]:>8}"


def _clamped(value):
    """A gauge as Linux shows it: parts that CPUs have not folded in may leave it below 0 for a while."""
    return max(int(value), 0)


def _buddyinfo(machine):
    for nid, nr, zone in _zones(machine):
        yield f"{_zone_title(nid, nr)} " + "".join(f"{blocks:6d} " for blocks in zone["nr_free"].tolist())


def _pagetypeinfo(machine):
    for nid in _online_nodes(machine):
        if not machine.nodes["is_online"][nid]:
            continue
        yield f"Page block order: {int(mm_limits.pageblock_order)}"
        yield f"Pages per block:  {PAGEBLOCK_NR_PAGES}"
        yield ""
        yield f"{'Free pages count per migrate type at order':<43} " + "".join(f"{o:6d} " for o in range(MAX_ORDER))
        zones = [(nr, zone) for n, nr, zone in _zones(machine) if n == nid]
        for nr, zone in zones:
            yield from _pagetypeinfo_free(machine, nid, nr, zone)
        yield ""
        yield "Number of blocks type  " + "".join(f"{name:>12} " for name in MIGRATETYPE_NAMES)
        for nr, zone in zones:
            counts = _pageblock_counts(machine, nr, zone)
            yield f"{_zone_title(nid, nr)} " + "".join(f"{count:12d} " for count in counts)


def _pagetypeinfo_free(machine, nid, nr, zone):
    first = int(zone["first_list"])
    for mt, name in enumerate(MIGRATETYPE_NAMES):
        line = f"Node {nid:4d}, zone {ZONE_NAMES[nr % MAX_NR_ZONES]:>8}, type {name:>12} "
        for order in range(MAX_ORDER):
            count = len(machine.list_pfns(first + order * MIGRATE_TYPES + mt)) if zone["nr_free"][order] else 0
            line += f"{'>' if count >= FREE_LIST_CAP else ''}{min(count, FREE_LIST_CAP):6d} "
        yield line


def _pageblock_counts(machine, nr, zone):
    """Pageblocks of a zone by type, by the first page of each step from the zone's start, as Linux looks."""
    start = int(zone["zone_start_pfn"])
    pfns = np.arange(start, start + int(zone["spanned_pages"]), PAGEBLOCK_NR_PAGES)
    mask = int(pageflags.PG_valid) | int(pageflags.PG_ZONE_MASK)
    pfns = pfns[(machine.page["flags"][pfns] & mask) == (int(zone["page_bits"]) & mask)]
    types = machine.pageblock_flags[pfns // PAGEBLOCK_NR_PAGES] & 7
    return np.bincount(types, minlength=MIGRATE_TYPES)[:MIGRATE_TYPES].tolist()


def _zoneinfo(machine):
    node_shown = set()
    for nid, nr, zone in _zones(machine, is_populated=False):
        yield _zone_title(nid, nr)
        if zone["present_pages"] and nid not in node_shown:
            node_shown.add(nid)
            yield "  per-node stats"
            for name, value in _node_stats(machine, [nid]):
                yield f"      {name:<12} {value}"
        yield from _zoneinfo_marks(zone)
        if zone["present_pages"]:
            yield from _zoneinfo_populated(machine, nid, nr, zone)


def _zoneinfo_marks(zone):
    boost = int(zone["watermark_boost"])
    marks = zone["watermark"].tolist()
    yield f"  pages free     {_clamped(zone['vm_stat'][int(zone_stat_item.NR_FREE_PAGES)])}"
    yield f"        boost    {boost}"
    for name, mark in zip(("min", "low", "high"), marks, strict=False):
        yield f"        {name:<8} {mark + boost}"
    for name in ("spanned", "present", "managed"):
        yield f"        {name:<8} {int(zone[name + '_pages'])}"
    yield "        cma      0"
    yield f"        protection: ({', '.join(str(pages) for pages in zone['lowmem_reserve'].tolist())})"


def _zoneinfo_populated(machine, nid, nr, zone):
    for name, i in _items(zone_stat_item):
        yield f"      {name:<12} {_clamped(zone['vm_stat'][i])}"
    for name, i in _items(numa_stat_item):
        yield f"      {name:<12} {int(zone['numa_event'][i])}"
    yield "  pagesets"
    for cpu, pcp in enumerate(machine.pageset[nr]):
        yield f"    cpu: {cpu}"
        yield f"              count: {int(pcp['count'])}"
        yield f"              high:  {int(pcp['high'])}"
        yield f"              batch: {int(pcp['batch'])}"
        yield f"  vm stats threshold: {int(pcp['stat_threshold'])}"
    yield f"  node_unreclaimable:  {int(machine.nodes['kswapd_failures'][nid] >= MAX_RECLAIM_RETRIES)}"
    yield f"  start_pfn:           {int(zone['zone_start_pfn'])}"


def _node_stats(machine, nids):
    """(name, value) of the node counters as printed, summed over nodes."""
    total = machine.nodes["vm_stat"][nids].sum(axis=0)
    in_thp = {int(node_stat_item[name]) for name in _IN_THP}
    for name, i in _items(node_stat_item):
        yield name, _clamped(total[i]) // (HPAGE_PMD_NR if i in in_thp else 1)


def global_dirty_limits(machine):
    """(threshold, background threshold) of dirty pages, in pages, at the default ratios.

    Source: global_dirtyable_memory, domain_dirty_limits in mm/page-writeback.c.
    """
    free = _clamped(machine.zones["vm_stat"][:, int(zone_stat_item.NR_FREE_PAGES)].sum())
    node = machine.nodes["vm_stat"].sum(axis=0)
    available = max(free - int(machine.g["totalreserve_pages"][0]), 0) + 1
    for item in (node_stat_item.NR_INACTIVE_FILE, node_stat_item.NR_ACTIVE_FILE):
        available += _clamped(node[int(item)])
    threshold = DIRTY_RATIO * PAGE_SIZE // 100 * available // PAGE_SIZE
    background = DIRTY_BACKGROUND_RATIO * PAGE_SIZE // 100 * available // PAGE_SIZE
    return threshold, background if background < threshold else threshold // 2


def vm_events(machine):
    """{name: value} of the event counters as /proc/vmstat prints them, summed over CPUs."""
    total = machine.vm_event.sum(axis=0)
    in_sectors = {int(vm_event_item[name]) for name in _IN_SECTORS}
    return {name: int(total[i]) // (2 if i in in_sectors else 1) for name, i in _items(vm_event_item)}


def _vmstat(machine):
    zone_total = machine.zones["vm_stat"].sum(axis=0)
    numa_total = machine.zones["numa_event"].sum(axis=0)
    for name, i in _items(zone_stat_item):
        yield f"{name} {_clamped(zone_total[i])}"
    for name, i in _items(numa_stat_item):
        yield f"{name} {int(numa_total[i])}"
    for name, value in _node_stats(machine, slice(None)):
        yield f"{name} {value}"
    threshold, background = global_dirty_limits(machine)
    yield f"nr_dirty_threshold {threshold}"
    yield f"nr_dirty_background_threshold {background}"
    for name, value in vm_events(machine).items():
        yield f"{name} {value}"
    yield "nr_unstable 0"


def thousandths(index, width=1):
    """An index in thousandths as the kernel prints it: by C's division, so a small one has its sign behind the dot."""
    sign = -1 if index < 0 else 1
    whole, rest = sign * (abs(index) // 1000), sign * (abs(index) % 1000)
    return f"{whole:{width}d}.{rest:03d}"


def _unusable_index(machine):
    for nid, nr, zone in _zones(machine):
        index = fragmentation.unusable_free_index(zone["nr_free"]).tolist()
        yield f"{_zone_title(nid, nr)} " + "".join(thousandths(i) + " " for i in index)


def _extfrag_index(machine):
    for nid, nr, zone in _zones(machine):
        index = fragmentation.fragmentation_index(zone["nr_free"]).tolist()
        yield f"{_zone_title(nid, nr)} " + "".join(thousandths(i, 2) + " " for i in index)


class Proc(TextFiles):
    """`m.proc`: the files of /proc about memory, as text of this moment.

    Keys: ``buddyinfo``, ``pagetypeinfo``, ``zoneinfo``, ``vmstat``.
    """

    _files = {"buddyinfo": _buddyinfo, "pagetypeinfo": _pagetypeinfo, "zoneinfo": _zoneinfo, "vmstat": _vmstat}
    _root = "/proc/"


class Sys(TextFiles):
    """`m.sys`: the files of /sys about memory, as text of this moment.

    Keys: ``kernel/debug/extfrag/unusable_index``, ``kernel/debug/extfrag/extfrag_index``.
    """

    _files = {"kernel/debug/extfrag/unusable_index": _unusable_index,
              "kernel/debug/extfrag/extfrag_index": _extfrag_index}
    _root = "/sys/"
