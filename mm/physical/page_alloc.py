"""The page allocator's sizes: watermarks, reserves, per-CPU list limits, computed at boot and on sysctl writes.

Linux: mm/page_alloc.c (calculate_min_free_kbytes to percpu_pagelist_high_fraction_sysctl_handler), mm/khugepaged.c
(set_recommended_min_free_kbytes).
Modelled: all of it, with C's truncating division.  Not modelled: highmem zones, CPU hotplug.
Each function reads and writes the arrays of a core (zones, nodes, pageset, g); a *_sysctl_handler is what a write to
/proc/sys/vm does after its range was checked.  Whoever calls another function of this module calls core.refresh() last.
Cost: Python, tens of microseconds a zone; nothing here runs on a hot path.
"""

import math

import numpy as np

from mm._fast.state import migratetype, mm_limits, zone_type, zone_watermarks

MAX_NR_ZONES = int(mm_limits.MAX_NR_ZONES)
PAGEBLOCK_NR_PAGES = int(mm_limits.pageblock_nr_pages)
PCPTYPES = int(mm_limits.MIGRATE_PCPTYPES)
MIGRATE_TYPES = int(migratetype.MIGRATE_TYPES)
ZONE_NORMAL = int(zone_type.ZONE_NORMAL)
WMARK_MIN, WMARK_LOW, WMARK_HIGH, WMARK_PROMO = (int(zone_watermarks(i)) for i in range(4))

KIB_PER_PAGE = 4
MIN_FREE_KBYTES_MIN, MIN_FREE_KBYTES_MAX = 128, 262144
PCP_BATCH_MAX_PAGES = 256                       # 1 MiB
MIN_PERCPU_PAGELIST_HIGH_FRACTION = 8
LOWMEM_RESERVE_RATIO = (256, 256, 32, 0, 0)     # DMA, DMA32, Normal, Movable, Device
WATERMARK_BOOST_FACTOR = 15000
WATERMARK_SCALE_FACTOR = 10
MIN_UNMAPPED_RATIO, MIN_SLAB_RATIO = 1, 5       # percent
THP_MIN_PAGES = 512 << 20 >> 12                 # with less memory huge pages are off (hugepage_init)


# -------------------------------------------------------------------------------------------------- zones of a core

def populated_zones(core):
    """Numbers of the zones with present pages, ascending by node and type."""
    return np.flatnonzero(core.zones["present_pages"]).tolist()


def zone_managed_pages(core, nr):
    """Pages that boot gave to the allocator."""
    return int(core.zones["managed_pages"][nr])


def wmark_pages(core, nr, mark):
    """A watermark as requests see it: with the boost."""
    return int(core.zones["watermark"][nr, mark]) + int(core.zones["watermark_boost"][nr])


def nr_free_zone_pages(core, highest_zoneidx, nid=0):
    """Pages above the high watermark in all zones up to a type, over the fallback list of a node."""
    total = 0
    for nr in core.zonelists[nid, 0].tolist():
        if nr < 0:
            break
        if nr % MAX_NR_ZONES <= highest_zoneidx:
            total += max(zone_managed_pages(core, nr) - wmark_pages(core, nr, WMARK_HIGH), 0)
    return total


def nr_free_buffer_pages(core):
    """Pages above the high watermark that kernel and user data may use (zones up to Normal)."""
    return nr_free_zone_pages(core, ZONE_NORMAL)


# ------------------------------------------------------------------------------------------------ min_free_kbytes

def calculate_min_free_kbytes(core):
    """min_free_kbytes by the size of memory: sqrt(16 * KiB), 128 to 262144, unless the user asked for more."""
    kbytes = math.isqrt(nr_free_buffer_pages(core) * KIB_PER_PAGE * 16)
    if kbytes > int(core.g["user_min_free_kbytes"][0]):
        core.g["min_free_kbytes"] = min(max(kbytes, MIN_FREE_KBYTES_MIN), MIN_FREE_KBYTES_MAX)


def set_recommended_min_free_kbytes(core, is_thp_enabled=True):
    """khugepaged's wish: two free pageblocks a zone and room for types to fall back to; at most 5 % of memory.

    Notes
    -----
    11 pageblocks a zone up to Normal.  It only ever raises; with huge pages off the plain value is computed anew.
    Watermarks follow either way.
    """
    if not is_thp_enabled:
        calculate_min_free_kbytes(core)
    else:
        nr_zones = sum(nr % MAX_NR_ZONES <= ZONE_NORMAL for nr in populated_zones(core))
        pages = PAGEBLOCK_NR_PAGES * nr_zones * (2 + PCPTYPES * PCPTYPES)
        kbytes = min(pages, nr_free_buffer_pages(core) // 20) * KIB_PER_PAGE
        core.g["min_free_kbytes"] = max(kbytes, int(core.g["min_free_kbytes"][0]))
    setup_per_zone_wmarks(core)


# ----------------------------------------------------------------------------------------- watermarks, reserves, pcp

def setup_per_zone_wmarks(core):
    """Watermarks of every zone in proportion to its pages; boosts end; totalreserve and pcp limits follow."""
    pages_min = int(core.g["min_free_kbytes"][0]) // KIB_PER_PAGE
    scale = int(core.g["watermark_scale_factor"][0])
    lowmem_pages = int(core.zones["managed_pages"].sum())
    for nr in populated_zones(core):
        managed = zone_managed_pages(core, nr)
        low_min = pages_min * managed // lowmem_pages if lowmem_pages else 0
        gap = max(low_min >> 2, managed * scale // 10000)
        core.zones["watermark"][nr] = [low_min + i * gap for i in range(4)]
        core.zones["watermark_boost"][nr] = 0
    calculate_totalreserve_pages(core)
    for nr in populated_zones(core):
        zone_set_pageset_high_and_batch(core, nr)


def setup_per_zone_lowmem_reserve(core):
    """Pages a zone keeps from requests that could use higher zones: their pages divided by its ratio."""
    managed = core.zones["managed_pages"].reshape(-1, MAX_NR_ZONES)
    reserve = core.zones["lowmem_reserve"].reshape(-1, MAX_NR_ZONES, MAX_NR_ZONES)
    ratios = core.g["lowmem_reserve_ratio"][0].tolist()
    for zid in range(MAX_NR_ZONES - 1):
        above = np.cumsum(managed[:, zid + 1:], axis=1)
        share = above // ratios[zid] if ratios[zid] else np.zeros_like(above)
        reserve[:, zid, zid + 1:] = np.where(managed[:, zid, None] > 0, share, 0)
    core.zones["lowmem_reserve"] = reserve.reshape(-1, MAX_NR_ZONES)
    calculate_totalreserve_pages(core)


def calculate_totalreserve_pages(core):
    """Pages that ordinary requests cannot get: high watermark and greatest reserve of each zone, by node and in all."""
    zones = core.zones
    zid = np.arange(len(zones)) % MAX_NR_ZONES
    is_own_or_higher = np.arange(MAX_NR_ZONES) >= zid[:, None]
    most = np.where(is_own_or_higher, zones["lowmem_reserve"], 0).max(axis=1)
    kept = np.minimum(most + zones["watermark"][:, WMARK_HIGH] + zones["watermark_boost"], zones["managed_pages"])
    core.nodes["totalreserve_pages"] = kept.reshape(-1, MAX_NR_ZONES).sum(axis=1)
    core.g["totalreserve_pages"] = kept.sum()


def zone_batchsize(managed_pages):
    """Pages moved to or from a per-CPU list at a time: about 1/1000 of the zone, up to 63, of the form 2^n - 1."""
    batch = max(min(managed_pages >> 10, PCP_BATCH_MAX_PAGES) // 4, 1)
    return (1 << ((batch + batch // 2).bit_length() - 1)) - 1


def zone_highsize(core, nr, batch):
    """Pages on a per-CPU list at which it drains: the low mark or a part of the zone, shared by the node's CPUs."""
    fraction = int(core.g["percpu_pagelist_high_fraction"][0])
    total = zone_managed_pages(core, nr) // fraction if fraction else wmark_pages(core, nr, WMARK_LOW)
    nr_split_cpus = int(core.nodes["nr_cpus"][nr // MAX_NR_ZONES]) or int(core.g["nr_cpus"][0])
    return max(total // nr_split_cpus, batch << 2)


def pageset_update(core, nr, high, batch):
    """Set the limits of every CPU's per-CPU pages of a zone."""
    core.pageset["high"][nr] = high
    core.pageset["batch"][nr] = batch


def zone_set_pageset_high_and_batch(core, nr):
    """Recompute a zone's per-CPU limits from its present size and marks."""
    batch = max(1, zone_batchsize(zone_managed_pages(core, nr)))
    high = zone_highsize(core, nr, batch)
    core.zones["pageset_high"][nr] = high
    core.zones["pageset_batch"][nr] = batch
    pageset_update(core, nr, high, batch)


# ----------------------------------------------------------------------------------------------------- node reclaim

def setup_min_unmapped_ratio(core, ratio=MIN_UNMAPPED_RATIO):
    """Pages of unmapped file cache below which a node is not reclaimed for locality: percent of each zone, summed."""
    _set_node_percent(core, "min_unmapped_pages", ratio)


def setup_min_slab_ratio(core, ratio=MIN_SLAB_RATIO):
    """The same for reclaimable slab pages."""
    _set_node_percent(core, "min_slab_pages", ratio)


def _set_node_percent(core, field, ratio):
    pages = core.zones["managed_pages"] * ratio // 100
    core.nodes[field] = pages.reshape(-1, MAX_NR_ZONES).sum(axis=1)


def node_percent(core, field):
    """The percentage behind min_unmapped_pages or min_slab_pages.

    Notes
    -----
    The state keeps the pages, not the percentage.  Each zone's share was rounded down, so the nearest whole percentage
    is the one that was set on any machine of at least 1000 managed pages.
    """
    managed = int(core.zones["managed_pages"].sum())
    return (int(core.nodes[field].sum()) * 200 + managed) // (2 * managed) if managed else 0


# ------------------------------------------------------------------------------------------------- boot and handlers

def set_defaults(core):
    """The knobs' values at the start of boot."""
    core.g["user_min_free_kbytes"] = -1
    core.g["min_free_kbytes"] = 1024
    core.g["watermark_boost_factor"] = WATERMARK_BOOST_FACTOR
    core.g["watermark_scale_factor"] = WATERMARK_SCALE_FACTOR
    core.g["percpu_pagelist_high_fraction"] = 0
    core.g["lowmem_reserve_ratio"] = LOWMEM_RESERVE_RATIO
    core.g["node_reclaim_mode"] = 0


def min_free_kbytes_sysctl_handler(core, value):
    """vm.min_free_kbytes: the value holds, also against later automatic ones; marks follow."""
    core.g["min_free_kbytes"] = value
    core.g["user_min_free_kbytes"] = value
    setup_per_zone_wmarks(core)
    core.refresh()


def watermark_scale_factor_sysctl_handler(core, value):
    """vm.watermark_scale_factor: marks follow."""
    core.g["watermark_scale_factor"] = value
    setup_per_zone_wmarks(core)
    core.refresh()


def lowmem_reserve_ratio_sysctl_handler(core, values):
    """vm.lowmem_reserve_ratio: reserves follow; a ratio below 1 means no reserve."""
    core.g["lowmem_reserve_ratio"][0, :len(values)] = values
    core.g["lowmem_reserve_ratio"] = np.maximum(core.g["lowmem_reserve_ratio"], 0)
    setup_per_zone_lowmem_reserve(core)
    core.refresh()


def percpu_pagelist_high_fraction_sysctl_handler(core, value):
    """vm.percpu_pagelist_high_fraction: per-CPU limits follow if the value is a new one.

    Raises
    ------
    ValueError
        1 to 7 (EINVAL).
    """
    if 0 < value < MIN_PERCPU_PAGELIST_HIGH_FRACTION:
        raise ValueError(f"vm.percpu_pagelist_high_fraction = {value}: 0, or "
                         f"at least {MIN_PERCPU_PAGELIST_HIGH_FRACTION}")
    if value == int(core.g["percpu_pagelist_high_fraction"][0]):
        return
    core.g["percpu_pagelist_high_fraction"] = value
    for nr in populated_zones(core):
        zone_set_pageset_high_and_batch(core, nr)
    core.refresh()
